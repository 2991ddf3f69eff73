//! The loop beneath: a session, its steps, and what to do with logits.
//!
//! `cargo run --release --example low_level -- MODEL`

#![allow(clippy::print_stdout, reason = "an example shows what it found")]

use bloomery::{AutoModel, AutoTokenizer, Chunk, Error, Want};

const NEW_TOKENS: usize = 16;

fn main() -> Result<(), Error> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "tests/fixtures/hf/trained-web/model".to_owned());
    let (model, tokenizer) = (AutoModel::from_pretrained(&name)?, AutoTokenizer::from_pretrained(&name)?);
    let mut ids = tokenizer.encode("And God said,")?;
    let mut session = model.session([ids.len() + NEW_TOKENS])?;
    let sequence = session.start();
    let mut known = 0;
    for _ in 0..NEW_TOKENS {
        // The prompt at first, then one token at a time; the keys and values of all before are in the cache.
        let chunk = Chunk { sequence, ids: &ids[known..], want: Want::Last };
        let mut next = 0;
        session.step(&[chunk], |_, _, logits| next = likeliest(logits))?;
        known = ids.len();
        ids.push(next);
    }
    println!("{}", tokenizer.decode(&ids, true));
    Ok(())
}

fn likeliest(logits: &[f32]) -> u32 {
    let better = |best: usize, id: usize| if logits[id] > logits[best] { id } else { best };
    (0..logits.len()).fold(0, better) as u32
}
