//! Names of targets: what `--target` and `--cpu` take, and which classes of processor there is code for. An artifact is for
//! processors or for one generation of Ascend chips: their weights lie otherwise.

use std::fmt;
use std::str::FromStr;

use bloomery_codegen::ascend::Ascend;
use bloomery_codegen::cpu::{CLASSES, Class, Cpu};
use bloomery_ir::ascend::Chip;
use bloomery_runtime::runs_here;

use crate::Error;

/// What a program is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every class of x86-64 processors; what the compiler at hand does not know of them is left out.
    AllX86,
    /// The best class that this processor runs and the compiler at hand knows; no code where it runs none.
    Native,
    /// One class.
    Cpu(Class),
    /// No code at all: the interpreter runs the program, slowly, anywhere.
    Interpreter,
    /// A generation of Ascend chips: a plan of calls.
    Ascend(Chip),
}

/// A target that there is not.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("there is no target `{name}`; there are {}", known().join(", "))]
pub struct UnknownTarget {
    /// The name as given.
    pub name: String,
}

impl FromStr for Target {
    type Err = UnknownTarget;

    fn from_str(name: &str) -> Result<Target, UnknownTarget> {
        let named = |target: &Target| target.name() == name;
        all().find(named).ok_or_else(|| UnknownTarget { name: name.to_owned() })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl Target {
    /// What is compiled for when nothing is said: every class of this family of processors.
    pub fn default_here() -> Target {
        match std::env::consts::ARCH {
            "x86_64" => Target::AllX86,
            "aarch64" => Target::Cpu(Class::Aarch64),
            _ => Target::Interpreter,
        }
    }

    /// Its name, as `--target` takes it.
    pub fn name(self) -> String {
        match self {
            Target::AllX86 => "cpu:all-x86".to_owned(),
            Target::Native => "cpu:native".to_owned(),
            Target::Cpu(class) => format!("cpu:{}", class.name()),
            Target::Interpreter => "interpreter".to_owned(),
            Target::Ascend(chip) => format!("ascend:{chip}"),
        }
    }

    /// What images are made for: of each choice, the first class that the compiler at hand knows.
    pub(crate) fn choices(self) -> Vec<Vec<Class>> {
        match self {
            Target::AllX86 => vec![vec![Class::V3], vec![Class::V4], vec![Class::Amx]],
            Target::Native => {
                let here: Vec<Class> = CLASSES.iter().rev().copied().filter(|class| runs_here(class.name())).collect();
                if here.is_empty() { vec![] } else { vec![here] }
            }
            Target::Cpu(class) => vec![vec![class]],
            Target::Interpreter | Target::Ascend(_) => vec![],
        }
    }
}

/// The chips that an artifact with these targets is for; none where it is for processors.
///
/// # Errors
/// Chips beside anything else.
pub(crate) fn chip(targets: &[Target]) -> Result<Option<Chip>, Error> {
    match targets {
        [Target::Ascend(chip)] => Ok(Some(*chip)),
        _ if !targets.iter().any(|target| matches!(target, Target::Ascend(_))) => Ok(None),
        _ => {
            let names: Vec<String> = targets.iter().map(ToString::to_string).collect();
            Err(Error::Refused(format!(
                "--target is {}: an artifact for Ascend chips is for one generation and nothing else, compile twice",
                names.join(",")
            )))
        }
    }
}

/// What passes ask about where a program will run.
pub(crate) fn passes_target(chip: Option<Chip>, context: u64) -> Box<dyn bloomery_ir::Target> {
    match chip {
        Some(chip) => Box::new(Ascend { chip, context }),
        None => Box::new(Cpu),
    }
}

/// Classes as an artifact notes them: its targets.
pub(crate) fn names<'a>(classes: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = classes.map(|class| format!("cpu:{class}")).collect();
    if names.is_empty() { Target::Interpreter.name() } else { names.join(",") }
}

/// All targets.
fn all() -> impl Iterator<Item = Target> {
    let classes = CLASSES.iter().map(|class| Target::Cpu(*class));
    let chips = Chip::ALL.into_iter().map(Target::Ascend);
    [Target::AllX86, Target::Native].into_iter().chain(classes).chain([Target::Interpreter]).chain(chips)
}

/// Names of all targets.
fn known() -> Vec<String> {
    all().map(Target::name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_printed() {
        for name in known() {
            assert_eq!(name.parse::<Target>().unwrap().to_string(), name);
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = "cpu:x86-64-v9".parse::<Target>().unwrap_err().to_string();
        let known = "cpu:all-x86, cpu:native, cpu:x86-64-v3, cpu:x86-64-v4, cpu:x86-64-amx, cpu:aarch64, interpreter, \
                     ascend:910a, ascend:910b";
        assert_eq!(error, format!("there is no target `cpu:x86-64-v9`; there are {known}"));
    }
}
