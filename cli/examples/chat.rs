//! A chat of one's own over an instruction-tuned model, with the template of Alpaca.
//!
//! `cargo run --release --example chat -- MODEL`; an empty line ends it. (`bloomery chat` does more: it keeps the cache
//! between turns.)

#![allow(clippy::print_stdout, reason = "an example shows what it found")]

use std::io::{self, Write};

use bloomery::generation::Generation;
use bloomery::template::Template;
use bloomery::{Error, GenerationConfig, pipeline};

fn main() -> Result<(), Error> {
    let model = std::env::args().nth(1).unwrap_or_else(|| "tests/fixtures/hf/trained-web/model".to_owned());
    let bloom = pipeline("text-generation", model)?;
    let config = GenerationConfig { max_new_tokens: 64, repetition_penalty: 1.1, ..Default::default() };
    let stop = vec!["### Instruction:".to_owned()];
    let generation = Generation { template: Template::AlpacaNoInput, stop, ..Generation::from(&config) };
    for question in io::stdin().lines().map_while(Result::ok).take_while(|line| !line.is_empty()) {
        for piece in bloom.stream_with(question, &generation)? {
            print!("{}", piece?);
            let _ = io::stdout().flush();
        }
        println!();
    }
    Ok(())
}
