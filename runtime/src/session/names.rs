//! A language model's program, as a session sees it: which inputs, outputs, states and bounds are what.

use crate::error::RunError;
use bloomery_ir::{Bindings, DType, Program};

/// Where a language model's program has what a session needs.
pub(super) struct Names {
    pub(super) ids: usize,
    pub(super) rows: usize,
    pub(super) pages: usize,
    pub(super) pick: usize,
    pub(super) logits: usize,
    /// States that are caches.
    pub(super) caches: Vec<usize>,
    pub(super) vocabulary: usize,
    pub(super) page_tokens: usize,
    /// Tokens come in multiples of this, which ranks share.
    pub(super) tokens_multiple: usize,
    pub(super) tokens_most: usize,
    pub(super) sequences_most: usize,
    pub(super) width_most: usize,
    pub(super) picks_most: usize,
}

impl Names {
    pub(super) fn of(program: &Program) -> Result<Names, RunError> {
        let io = |name: &str, dtype: DType| {
            let io = program.io(name).filter(|&io| program.ios[io].ty.dtype == dtype);
            io.ok_or_else(|| RunError::Program(format!("has no {dtype} input or output `{name}`")))
        };
        let most = |name: &str| {
            let symbol = program.symbols.iter().find(|symbol| symbol.name == name);
            symbol.map(|s| s.most as usize).ok_or_else(|| RunError::Program(format!("has no symbol {name}")))
        };
        let group = |name: &str| {
            let most = program.entries.iter().filter(|entry| entry.group == name).map(|entry| entry.most).max();
            most.map(|most| most as usize).ok_or_else(|| RunError::Program(format!("has no entry `{name}`")))
        };
        let is_cache = |&state: &usize| program.states[state].stacked && program.states[state].ty.rank() == 6;
        let caches: Vec<usize> = (0..program.states.len()).filter(is_cache).collect();
        let cache = caches.first().map(|&state| &program.states[state]);
        let page_tokens = cache.and_then(|state| state.ty.dims[4].extent.as_number()).filter(|tokens| *tokens > 0);
        let page_tokens = page_tokens.ok_or_else(|| RunError::Program("has no cache of pages".to_owned()))?;
        let logits = io("logits", DType::F32)?;
        let vocabulary = program.ios[logits].ty.dims.last().and_then(|dim| dim.extent.as_number());
        let vocabulary = vocabulary.filter(|vocabulary| (1..1 << 31).contains(vocabulary));
        // What programs call N is what a rank has of the tokens, where ranks share them.
        let ids = io("ids", DType::I32)?;
        let of_one = Bindings::from([("N".to_owned(), 1)]);
        let multiple = program.ios[ids].ty.elements(&of_one).ok().filter(|multiple| (1..1 << 16).contains(multiple));
        let multiple = multiple.ok_or_else(|| RunError::Program("has ids of no N tokens".to_owned()))? as usize;
        Ok(Names {
            ids,
            rows: io("rows", DType::I32)?,
            pages: io("pages", DType::I32)?,
            pick: io("pick", DType::I32)?,
            logits,
            caches,
            vocabulary: vocabulary.ok_or_else(|| RunError::Program("has no vocabulary".to_owned()))? as usize,
            page_tokens: page_tokens as usize,
            tokens_multiple: multiple,
            tokens_most: group("body")?.saturating_mul(multiple),
            sequences_most: most("S")?,
            width_most: most("P")?,
            picks_most: group("head")?,
        })
    }
}
