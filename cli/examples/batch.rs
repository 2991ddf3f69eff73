//! Many prompts at once, drawn, several answers each; and two threads that share a model.
//!
//! `cargo run --release --example batch -- MODEL`

#![allow(clippy::print_stdout, reason = "an example shows what it found")]

use std::thread;

use bloomery::{AutoModel, Error, GenerationConfig, Pipeline};

fn main() -> Result<(), Error> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "tests/fixtures/hf/trained-web/model".to_owned());
    let bloom = Pipeline::new(AutoModel::from_pretrained(name)?);
    let config = GenerationConfig {
        do_sample: true,
        top_p: 0.9,
        num_return_sequences: 2,
        max_new_tokens: 16,
        seed: 7,
        ..Default::default()
    };
    let prompts = ["And he said", "The king of", "In those days"];
    for answer in bloom.generate(prompts, &config)? {
        println!("{}{}", prompts[answer.prompt.unwrap_or(0)], answer.text.unwrap_or_default());
    }
    thread::scope(|scope| {
        let ask = |prompt: &'static str| bloom.generate([prompt], &config);
        let others = ["And she said", "The sons of"].map(|prompt| scope.spawn(move || ask(prompt)));
        for other in others {
            println!("{} answers", other.join().expect("it does not panic")?.len());
        }
        Ok(())
    })
}
