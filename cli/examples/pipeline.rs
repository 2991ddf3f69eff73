//! Text generation in five lines.
//!
//! `cargo run --release --example pipeline -- bigscience/bloom-560m`, or a folder, or an artifact.

#![allow(clippy::print_stdout, reason = "an example shows what it found")]

use bloomery::{Error, GenerationConfig, pipeline};

fn main() -> Result<(), Error> {
    let model = std::env::args().nth(1).unwrap_or_else(|| "tests/fixtures/hf/trained-web/model".to_owned());
    let bloom = pipeline("text-generation", model)?;
    let config = GenerationConfig { max_new_tokens: 32, ..Default::default() };
    for answer in bloom.generate(["And God said,", "In the beginning"], &config)? {
        println!("{}", answer.text.unwrap_or_default());
    }
    for piece in bloom.stream("And it came to pass", &config)? {
        print!("{}", piece?);
    }
    println!();
    Ok(())
}
