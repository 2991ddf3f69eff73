//! Code for each class that is asked for.

use bloomery_artifact::CodeImage;
use bloomery_codegen::cpu::cc::{CcError, Compiler};
use bloomery_codegen::cpu::image::{ImageError, code_image};
use bloomery_codegen::cpu::{self, Class};
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
    let compiler = Compiler::find();
    let version = compiler.version().map_err(ImageError::from)?;
    for target in targets {
        for class in target.classes() {
            if images.iter().any(|image| image.class == class.name()) {
                continue;
            }
            progress.begin("compile the kernels", 0);
            let made = code_image(&compiler, *class, program);
            progress.go_on()?;
            match made {
                Ok(image) => {
                    let (kernels, bytes) = (image.kernels.len(), image.bytes.len());
                    progress.end(&format!("{kernels} kernels for {}, {bytes} bytes", class.name()));
                    images.push(image);
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
            "the C compiler `{}` ({version}) compiles for none of the targets, as noted above: install a newer gcc or \
             clang, or use --target interpreter",
            compiler.name()
        )));
    }
    Ok((version, images))
}

/// The C of one class.
pub(super) fn source(program: &Program, targets: &[Target]) -> Result<String, Error> {
    let classes: Vec<Class> = targets.iter().flat_map(|target| target.classes()).copied().collect();
    match classes[..] {
        [class] => Ok(cpu::source(class, &cpu::emit_program(program).map_err(ImageError::from)?)),
        _ => Err(Error::Refused(format!(
            "--emit c wants one class of processors, the targets name {}: say --target cpu:CLASS",
            classes.len()
        ))),
    }
}
