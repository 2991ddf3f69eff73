//! The `bloomery` binary: parses arguments (`args`), calls the library, prints (`print`), exits.
//!
//! Exit codes: 0; 1 when something is refused, with one message on stderr; 2 for a wrong command line (clap's).

mod args;
mod print;

use std::fmt::Write;
use std::process::ExitCode;

use args::{Cli, Command, Compile, Ir, Tokenize};
use bloomery::{Error, Quiet, compile, ir_file, tokenize};
use clap::Parser;
use print::Shown;

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            print::error(&failure.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Why the program ends with 1.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Refused(#[from] Error),
    #[error("cannot write to standard output: {0}")]
    Output(#[from] std::io::Error),
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Compile(args) => compile(&args),
        Command::Tokenize(args) => tokenize(&args),
        Command::Ir(args) => ir(&args),
    }
}

fn compile(args: &Compile) -> Result<(), Failure> {
    let (options, mut progress) = (args.options(), Shown::new());
    if let Some((what, last)) = args.emit() {
        let text = compile::emit(&options, what, last, &mut Quiet)?;
        return match args.output() {
            Some(path) => Ok(compile::write_text(path, &text)?),
            None => Ok(print::out(&text)?),
        };
    }
    let output = args.output().expect("clap asks for it");
    let compiled = compile::compile(&options, output, &mut progress)?;
    let classes = if compiled.classes.is_empty() { "the interpreter".to_owned() } else { compiled.classes.join(", ") };
    let (path, size) = (output.display(), print::size(compiled.bytes));
    Ok(print::out(&format!("{path}: {size}, runs on {classes}\n"))?)
}

fn tokenize(args: &Tokenize) -> Result<(), Failure> {
    let tokens = tokenize::tokenize(&args.options())?;
    if args.json {
        return Ok(print::json(&tokens)?);
    }
    let mut text = String::new();
    for (id, piece) in tokens.ids.iter().zip(&tokens.pieces) {
        let _ = writeln!(text, "{id}\t{piece}");
    }
    Ok(print::out(&text)?)
}

fn ir(args: &Ir) -> Result<(), Failure> {
    let options = args.options();
    let text = ir_file::ir(&options)?;
    let shown = if options.check.is_some() { "as expected\n" } else { &text };
    Ok(print::out(shown)?)
}
