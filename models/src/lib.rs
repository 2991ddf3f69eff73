//! What the models of the BLOOM family are: their settings, sizes, weights' names and tokenizers.
//!
//! What deliberately does not live here: files of weights (`formats`), passes and kernels. Start reading at [`config`].

pub mod config;
pub mod names;
pub mod sizes;
pub mod tokenizer;
