//! One phase of a repeat, prompts or decoding: what it took, what it did, and what its bound is.

use bloomery_artifact::Artifact;
use bloomery_ir::work::Work;
use bloomery_runtime::limits::Reading;
use bloomery_runtime::profile::{Call, PageCount};

use crate::profile::{Load, tile_pieces, works};

/// What was done in a phase.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Phase {
    /// Tokens of all sequences.
    pub(super) tokens: usize,
    /// How long they took.
    pub(super) seconds: f64,
    /// All kernels' work together.
    pub(super) work: Work,
    /// The pages of the cache that attention came to.
    pub(super) pages: PageCount,
    /// What of it its bound is made of.
    load: Load,
}

impl Phase {
    /// From the calls that were made in it.
    pub(super) fn new(artifact: &Artifact, class: &str, calls: &[Call], tokens: usize, seconds: f64) -> Phase {
        let pieces = tile_pieces(artifact, class);
        let mut phase = Phase { tokens, seconds, ..Phase::default() };
        for (kernel, work) in works(artifact.program(), calls) {
            phase.work += work;
            phase.load += Load::of(&work, kernel, &pieces);
        }
        calls.iter().for_each(|call| phase.pages += call.pages);
        phase
    }

    pub(super) fn tokens_per_s(&self) -> f64 {
        over(self.tokens as f64, self.seconds)
    }

    /// Operations of products in a second.
    pub(super) fn gflops(&self) -> f64 {
        over(self.work.product_flops() as f64 / 1e9, self.seconds)
    }

    /// Weights and cache in a second.
    pub(super) fn gb_per_s(&self) -> f64 {
        over(self.work.streamed_bytes() as f64 / 1e9, self.seconds)
    }

    /// Tokens in a second that a machine of these limits could do at most.
    pub(super) fn bound_tokens_per_s(&self, limits: &Reading) -> f64 {
        over(self.tokens as f64, self.load.seconds(limits))
    }
}

/// A rate; 0 of nothing.
pub(super) fn over(amount: f64, by: f64) -> f64 {
    if amount > 0.0 && by > 0.0 { amount / by } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_what_the_slower_limit_allows() {
        let work = Work {
            matmul_flops: 90_000_000_000,
            attention_flops: 10_000_000_000,
            weight_bytes: 4_000_000_000,
            ..Work::default()
        };
        let load = Load::of(&work, None, &[]);
        let phase = Phase { tokens: 50, seconds: 2.0, work, load, ..Phase::default() };
        assert_eq!((phase.tokens_per_s(), phase.gflops(), phase.gb_per_s()), (25.0, 50.0, 2.0));
        let limits = |fma_gflops, read_gb_per_s| Reading { fma_gflops, tiles_gflops: 0.0, read_gb_per_s };
        assert_eq!(phase.bound_tokens_per_s(&limits(100.0, 8.0)), 50.0);
        assert_eq!(phase.bound_tokens_per_s(&limits(100.0, 2.0)), 25.0);
        assert_eq!(Phase::default().bound_tokens_per_s(&limits(100.0, 2.0)), 0.0);
    }
}
