//! Code for each class that is asked for.

use bloomery_artifact::{self as artifact, CodeImage, KernelCode};
use bloomery_codegen::cpu::cc::{CcError, Compiler};
use bloomery_codegen::cpu::image::{Image, ImageError, image};
use bloomery_codegen::cpu::spec::Count;
use bloomery_codegen::cpu::{self, Class, Kernel};
use bloomery_ir::Program;

use crate::targets::Target;
use crate::{Error, Progress};

/// Images for the targets, and the compiler's own name; neither when only the interpreter is asked for.
pub(super) fn images(
    program: &Program,
    targets: &[Target],
    progress: &mut dyn Progress,
) -> Result<(String, Vec<CodeImage>), Error> {
    let mut images: Vec<CodeImage> = Vec::new();
    if targets.iter().all(|target| target.classes().is_empty()) {
        return Ok((String::new(), images));
    }
    let kernels = kernels(program)?;
    let compiler = Compiler::find();
    let version = compiler.version().map_err(ImageError::from)?;
    for target in targets {
        for class in target.classes() {
            if images.iter().any(|image| image.class == class.name()) {
                continue;
            }
            progress.begin("compile the kernels", 0);
            match image(&compiler, *class, &kernels) {
                Ok(image) => {
                    progress.end(&format!(
                        "{} kernels for {}, {} bytes",
                        kernels.len(),
                        class.name(),
                        image.bytes.len()
                    ));
                    images.push(finish(*class, image, &kernels));
                }
                // Of a whole family, what this compiler does not know is left out.
                Err(ImageError::Compiler(error @ CcError::Refused { .. })) if *target == Target::AllX86 => {
                    progress.end("left out");
                    progress.note(&format!("no code for {}: {error}", class.name()));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    if images.is_empty() {
        return Err(Error::Refused(format!(
            "`{version}` compiles for none of the targets: install a newer gcc or clang, or use --target interpreter"
        )));
    }
    Ok((version, images))
}

/// The C of one class.
pub(super) fn source(program: &Program, targets: &[Target]) -> Result<String, Error> {
    let classes: Vec<Class> = targets.iter().flat_map(|target| target.classes()).copied().collect();
    match classes[..] {
        [class] => Ok(cpu::source(class, &kernels(program)?)),
        _ => Err(Error::Refused(format!(
            "--emit c wants one class of processors, the targets name {}: say --target cpu:CLASS",
            classes.len()
        ))),
    }
}

fn kernels(program: &Program) -> Result<Vec<Kernel>, Error> {
    cpu::emit_program(program).map_err(|refusal| Error::Refused(refusal.to_string()))
}

/// The image as the artifact keeps it.
fn finish(class: Class, image: Image, kernels: &[Kernel]) -> CodeImage {
    let phase =
        |phase: &cpu::Phase| artifact::Phase { offset: image.symbols[&phase.symbol], tiles: tiles(phase.tiles) };
    let kernels = kernels.iter().map(|kernel| KernelCode {
        prepare: kernel.prepare.as_ref().map(phase),
        main: phase(&kernel.main),
        shared: artifact::SharedScratch {
            fixed: kernel.shared.fixed as u64,
            per_row: kernel.shared.per_row as u64,
            count: count(kernel.shared.count),
        },
        local: kernel.local as u64,
    });
    let kernels = kernels.collect();
    CodeImage { class: class.name().to_owned(), bytes: image.bytes, kernels }
}

fn tiles(tiles: cpu::Tiles) -> artifact::Tiles {
    match tiles {
        cpu::Tiles::Rows { count: rows_in_all, rows, columns } => {
            artifact::Tiles::Rows { count: count(rows_in_all), rows, columns }
        }
        cpu::Tiles::Blocks { table, count: sequences, rows, columns } => {
            artifact::Tiles::Blocks { table, count: count(sequences), rows, columns }
        }
    }
}

fn count(Count { dim, times }: Count) -> artifact::Count {
    artifact::Count { dim, times }
}
