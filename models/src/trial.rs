//! A model to be tried: all of its structure and nothing large, and inputs that come through all of it.
//!
//! What is proven or compared on the interpreter is proven on such a one: three sequences, one of them begun before, which
//! goes on from one page of keys to the next. Numbers are the caller's.

use bloomery_ir::{Bindings, DType, Graph, Input, Tensor, TensorType};

use crate::bloom::{BloomOptions, Model, bloom};
use crate::config::BloomConfig;

/// Tokens of the sequences.
const TOKENS: u64 = 7;

/// Sequences, pages of a sequence, pages of the cache, rows that logits are wanted of.
const SIZES: [(&str, u64); 4] = [("S", 3), ("P", 2), ("C", 6), ("R", 4)];

/// Tokens in a page: as few as any target takes.
const PAGE: u64 = 16;

/// The ids that indices may be, at most: every vocabulary has them, and every graph as many rows.
pub const INDEX_MOST: i64 = 6;

/// The graphs of a model, small in what may vary.
pub fn model(config: &BloomConfig) -> Model {
    let options =
        BloomOptions { page_tokens: PAGE, chunk: 128, sequences: 4, pages: 4, pool: 8, ..BloomOptions::default() };
    bloom(config, &options)
}

/// Inputs of one of its graphs: tables of sequences and pages, and what `fill` makes of each other type. Whole numbers must
/// be from 0 to [`INDEX_MOST`]. Ranks that share tokens want some multiple of them: rows of no sequence follow.
pub fn inputs(graph: &Graph, multiple: u64, mut fill: impl FnMut(&TensorType, &Bindings) -> Tensor) -> Vec<Tensor> {
    let tokens = ("N", TOKENS.next_multiple_of(multiple));
    let sizes: Bindings = SIZES.iter().chain([&tokens]).map(|(name, size)| ((*name).to_owned(), *size)).collect();
    let of = |input: &Input| match input.name.as_str() {
        "rows" => Tensor::new(DType::I32, &[3, 3], vec![0.0, 3.0, PAGE as f64 - 2.0, 3.0, 1.0, 0.0, 4.0, 3.0, 0.0]),
        "pages" => Tensor::new(DType::I32, &[3, 2], vec![5.0, 0.0, 2.0, 0.0, 1.0, 3.0]),
        _ => fill(&input.ty, &sizes),
    };
    graph.inputs.iter().map(of).collect()
}
