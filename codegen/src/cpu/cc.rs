//! The door to the C compiler: finds it, runs it in a fresh folder with relative names, reports what it says.
//!
//! Nothing of the machine gets into the output: no path, no time, no build id. Names in the folder are fixed.

use super::class::{Architecture, Class};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};

/// What can go wrong with the compiler.
#[derive(Debug, thiserror::Error)]
pub enum CcError {
    /// There is none.
    #[error(
        "no C compiler: `{0}` is not to be found; install one (Debian, Ubuntu: `apt install gcc`; Fedora: \
         `dnf install gcc`), name one in the variable CC, or use `--target interpreter`, which needs none"
    )]
    Missing(String),
    /// There is none for the processors of another machine.
    #[error(
        "no C compiler for {architecture}: `{name}` is not to be found; install one (Debian, Ubuntu: `apt install \
         {package}`; Fedora: `dnf install {package}`), name one in the variable {variable}, or name targets of this \
         machine only"
    )]
    MissingCross {
        /// The other machine's architecture.
        architecture: &'static str,
        /// What was looked for.
        name: String,
        /// The package that brings it.
        package: &'static str,
        /// The variable that names another.
        variable: &'static str,
    },
    /// It could not be started.
    #[error("cannot start the C compiler `{compiler}`: {source}; {WAYS_OUT}")]
    Start {
        /// Its name.
        compiler: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It did not do what it was asked.
    #[error("the C compiler `{compiler}` failed ({status}) when called with {options}{}", said(message))]
    Refused {
        /// Its name.
        compiler: String,
        /// How it ended.
        status: ExitStatus,
        /// How it was called.
        options: String,
        /// What it said, shortened.
        message: String,
    },
    /// It ended well and wrote nothing.
    #[error(
        "the C compiler `{compiler}` did not write {output} when called with {options}{}; {WAYS_OUT}",
        said(message)
    )]
    NoOutput {
        /// Its name.
        compiler: String,
        /// How it was called.
        options: String,
        /// The file that is not there.
        output: String,
        /// What it said, shortened.
        message: String,
    },
    /// The folder for its files.
    #[error("cannot use a temporary folder: {0}")]
    Folder(#[from] std::io::Error),
}

/// What to do about a compiler that is none.
const WAYS_OUT: &str = "name a working one in the variable CC, or use `--target interpreter`, which needs none";

/// A message as the rest of a sentence.
fn said(message: &str) -> String {
    if message.is_empty() { ", and said nothing".to_owned() } else { format!(":\n{message}") }
}

/// A C compiler.
#[derive(Clone, Debug)]
pub struct Compiler {
    name: String,
    /// Set where it compiles for another architecture than this machine's.
    cross: Option<&'static Architecture>,
}

/// The options of every image, besides `-march`: no library, no position, no contraction of a * b + c, no helper
/// that the compiler would call behind our back.
pub const FLAGS: &[&str] = &[
    "-std=gnu11",
    "-O3",
    "-ffreestanding",
    "-fPIC",
    "-fvisibility=hidden",
    "-nostdlib",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-builtin",
    "-fno-tree-loop-distribute-patterns",
    "-fno-stack-protector",
    "-fcf-protection=none",
    "-fno-asynchronous-unwind-tables",
    "-fno-ident",
    "-Wall",
    "-Wextra",
    "-Werror",
];

impl Compiler {
    /// The one named by the variable CC, else `cc`.
    pub fn find() -> Compiler {
        Compiler { name: from_variable("CC").unwrap_or("cc".into()), cross: None }
    }

    /// The one that compiles for a class: [`Compiler::find`]'s where the class is of this machine's architecture, else a
    /// cross compiler, named by CC_AARCH64 or CC_X86_64 or by its usual name.
    pub fn for_class(class: Class) -> Compiler {
        match class.architecture().filter(|_| !class.is_native()) {
            Some(cross) => {
                let name = from_variable(cross.variable).unwrap_or(cross.compiler.into());
                Compiler { name, cross: Some(cross) }
            }
            None => Compiler::find(),
        }
    }

    /// A compiler by its name.
    pub fn named(name: &str) -> Compiler {
        Compiler { name: name.into(), cross: None }
    }

    /// Its name, as it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first line of `--version`.
    pub fn version(&self) -> Result<String, CcError> {
        let options = ["--version".to_owned()];
        let output = self.succeed(Path::new("."), &options)?;
        let version = String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_string();
        Ok(if version.is_empty() { self.name.clone() } else { version })
    }

    /// Compiles `files` (name, text) in a fresh folder with these options and returns the file `out`.
    pub fn build(&self, files: &[(&str, &str)], options: &[String], out: &str) -> Result<Vec<u8>, CcError> {
        let folder = tempfile::tempdir()?;
        let output = self.compile(folder.path(), files, options)?;
        std::fs::read(folder.path().join(out)).map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                let (compiler, options, message) = (self.name.clone(), options.join(" "), message(&output));
                CcError::NoOutput { compiler, options, output: out.to_owned(), message }
            }
            _ => CcError::Folder(error),
        })
    }

    /// The same in a folder that stays: for programs that are to be run.
    pub fn build_in(&self, folder: &Path, files: &[(&str, &str)], options: &[String]) -> Result<PathBuf, CcError> {
        self.compile(folder, files, options)?;
        Ok(folder.to_path_buf())
    }

    fn compile(&self, folder: &Path, files: &[(&str, &str)], options: &[String]) -> Result<Output, CcError> {
        for (name, text) in files {
            std::fs::write(folder.join(name), text)?;
        }
        self.succeed(folder, options)
    }

    fn succeed(&self, folder: &Path, options: &[String]) -> Result<Output, CcError> {
        let output = self.run(folder, options)?;
        if output.status.success() {
            return Ok(output);
        }
        let (compiler, options, message) = (self.name.clone(), options.join(" "), message(&output));
        Err(CcError::Refused { compiler, status: output.status, options, message })
    }

    fn run(&self, folder: &Path, options: &[String]) -> Result<Output, CcError> {
        let mut words = self.name.split_whitespace();
        let program = words.next().unwrap_or("cc");
        let run = Command::new(program).args(words).args(options).current_dir(folder).env("LC_ALL", "C").output();
        run.map_err(|source| match source.kind() {
            ErrorKind::NotFound => self.missing(),
            _ => CcError::Start { compiler: self.name.clone(), source },
        })
    }

    /// The error of a compiler that is not there.
    fn missing(&self) -> CcError {
        let name = self.name.clone();
        match self.cross {
            None => CcError::Missing(name),
            Some(&Architecture { name: architecture, package, variable, .. }) => {
                CcError::MissingCross { architecture, name, package, variable }
            }
        }
    }
}

fn from_variable(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|name| !name.is_empty())
}

/// What a call said, the first lines of it.
fn message(output: &Output) -> String {
    let said = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
    let lines: Vec<String> = String::from_utf8_lossy(said).lines().take(20).map(str::to_owned).collect();
    lines.join("\n")
}
