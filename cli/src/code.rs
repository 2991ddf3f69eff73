//! Code for each class that is asked for: what `compile` and `retarget` put into artifacts.
//!
//! Images depend on the program alone and lie in the artifact in the order of [`CLASSES`], so that it does not matter in
//! which order, or in how many steps, they were asked for.

use std::collections::BTreeSet;
use std::thread;

use bloomery_artifact::{Artifact, CodeImage, Maker, Provenance};
use bloomery_codegen::cpu::cc::{CcError, Compiler};
use bloomery_codegen::cpu::image::{ImageError, code_image};
use bloomery_codegen::cpu::{self, CLASSES, Class};
use bloomery_ir::Program;

use crate::targets::{self, Target};
use crate::{Error, Progress};

/// An image and what made it.
pub(crate) struct Made {
    pub(crate) image: CodeImage,
    maker: Maker,
}

/// Images for the targets; none when only the interpreter is asked for. They are compiled beside each other.
pub(crate) fn images(program: &Program, targets: &[Target], progress: &mut dyn Progress) -> Result<Vec<Made>, Error> {
    let choices: BTreeSet<Vec<Class>> = targets.iter().flat_map(|target| target.choices()).collect();
    if choices.is_empty() {
        if targets.contains(&Target::Native) {
            progress.note("no code: this processor runs none of the classes there are; the interpreter runs the model");
        }
        return Ok(Vec::new());
    }
    progress.begin("compile the kernels", 0);
    let first = |choice| first_known(program, choice, targets);
    let results = thread::scope(|scope| {
        let running: Vec<_> = choices.iter().map(|choice| scope.spawn(move || first(choice))).collect();
        running.into_iter().map(|one| one.join().expect("the compiler's door does not panic")).collect::<Vec<_>>()
    });
    progress.go_on()?;
    let (mut images, mut left_out) = (Vec::new(), Vec::new());
    for result in results {
        let (made, notes) = result?;
        images = merged(images, made.into_iter().collect());
        left_out.extend(notes);
    }
    progress.end(&summary(&images));
    left_out.iter().for_each(|note| progress.note(note));
    if images.is_empty() {
        return Err(Error::Refused(format!(
            "the C compiler {} compiles for none of the targets, as noted above: install a newer gcc or clang, or use \
             --target interpreter",
            compilers(choices.iter().flatten())
        )));
    }
    Ok(images)
}

/// An image of the first of these classes that the compiler knows, if it knows one, and notes on those before it. One that
/// was asked for by name has to be known.
fn first_known(
    program: &Program,
    choice: &[Class],
    targets: &[Target],
) -> Result<(Option<Made>, Vec<String>), ImageError> {
    let mut notes = Vec::new();
    for &class in choice {
        match made(program, class) {
            Err(ImageError::Compiler(error @ CcError::Refused { .. })) if !targets.contains(&Target::Cpu(class)) => {
                notes.push(format!("no code for {}: {error}", class.name()));
            }
            made => return Ok((Some(made?), notes)),
        }
    }
    Ok((None, notes))
}

fn made(program: &Program, class: Class) -> Result<Made, ImageError> {
    let compiler = Compiler::for_class(class);
    let maker = Maker { compiler: compiler.version()?, version: env!("CARGO_PKG_VERSION").to_owned() };
    Ok(Made { image: code_image(&compiler, class, program)?, maker })
}

/// The compilers of these classes, by name and version.
fn compilers<'a>(classes: impl Iterator<Item = &'a Class>) -> String {
    let name = |class: &Class| {
        let compiler = Compiler::for_class(*class);
        format!("`{}` ({})", compiler.name(), compiler.version().unwrap_or_default())
    };
    let names: BTreeSet<String> = classes.map(name).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

fn summary(images: &[Made]) -> String {
    let one = |made: &Made| {
        let CodeImage { class, bytes, kernels } = &made.image;
        format!("{} kernels for {class}, {} bytes", kernels.len(), bytes.len())
    };
    images.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// The images an artifact holds.
pub(crate) fn held(artifact: &Artifact) -> Vec<Made> {
    let one = |class: &str| {
        let image = artifact.image(class)?;
        let image = CodeImage { class: class.to_owned(), bytes: image.bytes.to_vec(), kernels: image.kernels.to_vec() };
        let maker = artifact.meta().provenance.images.get(class).cloned().unwrap_or_default();
        Some(Made { image, maker })
    };
    artifact.classes().into_iter().filter_map(one).collect()
}

/// Both, the new ones in place of old ones of the same class, in the order of artifacts.
pub(crate) fn merged(old: Vec<Made>, new: Vec<Made>) -> Vec<Made> {
    let replaced = |made: &Made| new.iter().any(|other| other.image.class == made.image.class);
    let mut all: Vec<Made> = old.into_iter().filter(|made| !replaced(made)).collect();
    all.extend(new);
    let place = |made: &Made| CLASSES.iter().position(|class| class.name() == made.image.class);
    // Classes of a later bloomery stay, at the end.
    all.sort_by_key(|made| (place(made).unwrap_or(CLASSES.len()), made.image.class.clone()));
    all
}

/// Notes in an artifact what its images are for and what made them.
pub(crate) fn describe(
    images: &[Made],
    options: &mut std::collections::BTreeMap<String, String>,
    made: &mut Provenance,
) {
    options.insert("target".to_owned(), targets::names(images.iter().map(|made| made.image.class.as_str())));
    made.images = images.iter().map(|made| (made.image.class.clone(), made.maker.clone())).collect();
}

/// The C of one class.
pub(crate) fn source(program: &Program, targets: &[Target]) -> Result<String, Error> {
    let choices: Vec<Vec<Class>> = targets.iter().flat_map(|target| target.choices()).collect();
    match choices.iter().map(|choice| choice[0]).collect::<Vec<Class>>()[..] {
        [class] => Ok(cpu::source(class, &cpu::emit_program(class, program).map_err(ImageError::from)?)),
        _ => Err(Error::Refused(format!(
            "--emit c wants one class of processors, the targets name {}: say --target cpu:CLASS",
            choices.len()
        ))),
    }
}
