//! The `bloomery` binary: parses arguments (`args`), calls the library, prints (`print`), exits.
//!
//! Exit codes: 0; 1 when something is refused, with one message on stderr; 2 for a wrong command line (clap's).

mod args;
mod print;

use std::fmt::Write;
use std::process::ExitCode;

use args::{Cli, Command, Ir, Tokenize};
use bloomery::{Error, ir_file, tokenize};
use clap::Parser;

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
        Command::Tokenize(args) => tokenize(&args),
        Command::Ir(args) => ir(&args),
    }
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
