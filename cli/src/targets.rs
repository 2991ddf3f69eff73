//! Names of targets: what `--target` and `--cpu` take, and which classes of processor there is code for.

use std::fmt;
use std::str::FromStr;

use bloomery_codegen::cpu::Class;

/// Every class there is code for, best last.
const CLASSES: &[Class] = &[Class::V3];

/// What a program is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every class of x86-64 processors that the compiler at hand can compile for.
    AllX86,
    /// One class.
    Cpu(Class),
    /// No code at all: the interpreter runs the program, slowly, anywhere.
    Interpreter,
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
        let class = |class: &&Class| name.strip_prefix("cpu:") == Some(class.name());
        match name {
            "cpu:all-x86" => Ok(Target::AllX86),
            "interpreter" => Ok(Target::Interpreter),
            _ => CLASSES
                .iter()
                .find(class)
                .map(|class| Target::Cpu(*class))
                .ok_or_else(|| UnknownTarget { name: name.to_owned() }),
        }
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
        if cfg!(target_arch = "x86_64") { Target::AllX86 } else { Target::Interpreter }
    }

    /// Its name, as `--target` takes it.
    pub fn name(self) -> String {
        match self {
            Target::AllX86 => "cpu:all-x86".to_owned(),
            Target::Cpu(class) => format!("cpu:{}", class.name()),
            Target::Interpreter => "interpreter".to_owned(),
        }
    }

    /// The classes that an image is made for.
    pub(crate) fn classes(self) -> &'static [Class] {
        match self {
            Target::AllX86 => CLASSES,
            Target::Cpu(class) => CLASSES.iter().position(|known| *known == class).map_or(&[], |i| &CLASSES[i..=i]),
            Target::Interpreter => &[],
        }
    }
}

/// Names of all targets.
fn known() -> Vec<String> {
    let classes = CLASSES.iter().map(|class| Target::Cpu(*class));
    [Target::AllX86].into_iter().chain(classes).chain([Target::Interpreter]).map(Target::name).collect()
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
        assert_eq!(error, "there is no target `cpu:x86-64-v9`; there are cpu:all-x86, cpu:x86-64-v3, interpreter");
    }
}
