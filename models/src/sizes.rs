//! The published models' settings by name: BigScience's six sizes, and the 65B of MindFormers' configs.

use crate::config::{BloomConfig, Gate, SpecialIds, WeightType};

/// A size's name, hidden width, layers and heads.
type Size = (&'static str, usize, usize, usize);

/// All known sizes, smallest first.
const SIZES: &[Size] = &[
    ("560m", 1024, 24, 16),
    ("1b1", 1536, 24, 16),
    ("1b7", 2048, 24, 16),
    ("3b", 2560, 30, 32),
    ("7b1", 4096, 30, 32),
    ("65b", 8192, 80, 64),
    ("176b", 14336, 70, 112),
];

/// Rows of every published embedding table: the tokenizer's 250,680 padded for tensor parallelism.
const VOCAB: usize = 250_880;

/// A size that is not in the list.
#[derive(Debug, thiserror::Error)]
#[error("there is no BLOOM of size {name:?}; known sizes: {}", known.join(", "))]
pub struct UnknownSize {
    /// The name as given.
    pub name: String,
    /// The names there are.
    pub known: Vec<&'static str>,
}

/// The settings of a published size. Takes the names in use: `560m`, `7b1`, `7.1b`, `bloom-7b1`, `bloom_7.1b`, `bloomz-3b`.
///
/// # Errors
/// The name is not known; the error lists those that are.
pub fn by_name(name: &str) -> Result<BloomConfig, UnknownSize> {
    let wanted = plain(name);
    let size = SIZES.iter().find(|(name, ..)| *name == wanted);
    let unknown = || UnknownSize { name: name.to_owned(), known: names().collect() };
    size.map(config).ok_or_else(unknown)
}

/// The names of all sizes, smallest first.
pub fn names() -> impl Iterator<Item = &'static str> {
    SIZES.iter().map(|(name, ..)| *name)
}

/// The short form of a name: no family, and the letter where the point was.
fn plain(name: &str) -> String {
    let name = name.trim().to_ascii_lowercase();
    let name = ["bloomz", "bloom"].iter().find_map(|family| name.strip_prefix(family)).unwrap_or(&name);
    let name = name.trim_start_matches(['-', '_', ' ']);
    match name.strip_suffix('b').and_then(|number| number.split_once('.')) {
        Some((billions, tenths)) => format!("{billions}b{tenths}"),
        None => name.to_owned(),
    }
}

fn config(&(_, hidden, layers, heads): &Size) -> BloomConfig {
    BloomConfig {
        hidden,
        layers,
        heads,
        vocab: VOCAB,
        layer_norm_epsilon: 1e-5,
        residual_post_layernorm: false,
        tied_head: true,
        gate: Gate::Gelu,
        dtype: Some(WeightType::F16),
        trained_length: 2048,
        special: SpecialIds::default(),
        notes: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_counts_are_the_published_ones() {
        let counts: Vec<u64> = names().map(|name| by_name(name).unwrap().parameters()).collect();
        let expect =
            [559_214_592, 1_065_314_304, 1_722_408_960, 3_002_557_440, 7_069_016_064, 66_488_270_848, 176_247_271_424];
        assert_eq!(counts, expect);
    }

    #[test]
    fn names_are_taken_as_people_write_them() {
        for (written, hidden) in [("1.1b", 1536), ("7.1b", 4096), ("bloom_560m", 1024), ("bloom-560m", 1024)] {
            assert_eq!(by_name(written).unwrap().hidden, hidden, "{written}");
        }
        for (written, hidden) in [("BLOOMZ-7b1", 4096), ("bloom_7.1B", 4096), ("bloom-176b", 14336), ("3B", 2560)] {
            assert_eq!(by_name(written).unwrap().hidden, hidden, "{written}");
        }
    }

    #[test]
    fn unknown_names_list_the_known_ones() {
        for name in ["", "bloom", "13b", "7b", "bloom-"] {
            let message = by_name(name).unwrap_err().to_string();
            assert!(message.ends_with("known sizes: 560m, 1b1, 1b7, 3b, 7b1, 65b, 176b"), "{message}");
        }
    }
}
