//! Profiles: what each kernel took, computed and touched, and how near that is to what the machine could do.
//!
//! The runtime says when ([`bloomery_runtime::profile`]), the program what ([`bloomery_ir::work`]); here both meet.
//! A *bound* is the least time for some work: its products at the peak of multiply-adds, or of matrix tiles where they run
//! on those, or its weights and cache at the bandwidth of reading, whichever is longer. Pages of the cache that attention
//! proved it need not read are no work where every row was alone in its sequence, as in decoding; rows together share
//! pages, and count all of them.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use bloomery_artifact::Artifact;
use bloomery_ir::work::{Sizes, Work, entry_work, page_work};
use bloomery_ir::{Bindings, Program};
use bloomery_runtime::limits::Reading;
use bloomery_runtime::profile::{Call, KernelTime, PageCount, Profile, StageKind};
use serde::Serialize;

/// Where the time of a run went.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Profiled {
    /// From the first call to the last, everything included.
    pub total_ms: f64,
    /// How many threads worked.
    pub threads: usize,
    /// The limits that fractions refer to, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<ProfileLimits>,
    /// Kernels that ran, the longest first.
    pub kernels: Vec<KernelProfile>,
    /// What was no kernel.
    pub outside: Outside,
}

/// What the machine could do, measured after the run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ProfileLimits {
    /// f32 multiply-adds of the class, all threads together.
    pub fma_gflops: f64,
    /// Products of bf16 on matrix tiles, where the class has them.
    #[serde(skip_serializing_if = "is_zero")]
    pub tiles_gflops: f64,
    /// Reading the weights where they are mapped.
    pub read_gb_per_s: f64,
}

/// One kernel, all its launches together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelProfile {
    /// Its name in the program; `copy` for buffers copied as they are.
    pub name: String,
    /// How often it was launched.
    pub calls: u64,
    /// Wall time, until its last tile is done. Launches that run side by side share the time of their wave in the proportion
    /// in which they kept threads busy.
    pub ms: f64,
    /// Of the total, 0 to 1.
    pub share: f64,
    /// How much of the time threads waited for the slowest, on the average.
    pub waiting_ms: f64,
    /// Operations of products: matrices and attention.
    pub flop: u64,
    /// All other operations.
    pub other_flop: u64,
    /// Bytes of weights read.
    pub weight_bytes: u64,
    /// Bytes of the cache read or written.
    pub cache_bytes: u64,
    /// All bytes, those of intermediate values included.
    pub bytes: u64,
    /// Products over time.
    pub gflop_per_s: f64,
    /// All bytes over time.
    pub gb_per_s: f64,
    /// Pages of the cache, for attention in machine code.
    #[serde(flatten)]
    pub pages: Option<PagesProfile>,
    /// The bound over the time, for work that has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fraction_of_bound: Option<f64>,
}

/// Pages of the cache that a kernel came to: a head's part of one counts once for each of the kernel's tiles.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PagesProfile {
    /// All of them.
    pub pages: u64,
    /// Those that ALiBi proved to change nothing, which were not read.
    pub pages_skipped: u64,
    /// The part of them, 0 to 1.
    pub pages_skipped_share: f64,
}

impl PagesProfile {
    fn of(count: PageCount) -> Option<PagesProfile> {
        let (pages, pages_skipped) = (count.seen, count.skipped);
        count.skipped_share().map(|pages_skipped_share| PagesProfile { pages, pages_skipped, pages_skipped_share })
    }
}

/// Time outside of kernels, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Outside {
    /// Starting calls on all threads, and walking their steps.
    pub calls_ms: f64,
    /// Comparing weights with their hashes before their first use.
    pub check_ms: f64,
    /// Reading logits and picking tokens.
    pub sampling_ms: f64,
    /// Everything else: the tables of each step, the text.
    pub host_ms: f64,
}

/// Puts times and work together.
pub(crate) fn profiled(artifact: &Artifact, class: &str, profile: &Profile, limits: Option<&Reading>) -> Profiled {
    let (program, pieces) = (artifact.program(), tile_pieces(artifact, class));
    let works = works(program, &profile.calls);
    let kernel = |(i, time): (usize, &KernelTime)| {
        let key = (i < program.kernels.len()).then_some(i);
        let name = key.map_or("copy", |i| &program.kernels[i].name);
        let work = works.get(&key).copied().unwrap_or_default();
        let bound = limits.map(|limits| Load::of(&work, key, &pieces).seconds(limits));
        row(name, time, &work, profile, bound)
    };
    let mut kernels: Vec<KernelProfile> =
        profile.kernels.iter().enumerate().filter(|(_, time)| time.launches > 0).map(kernel).collect();
    kernels.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    let limits = limits.map(|&Reading { fma_gflops, tiles_gflops, read_gb_per_s }| ProfileLimits {
        fma_gflops,
        tiles_gflops,
        read_gb_per_s,
    });
    let total_ms = profile.elapsed as f64 / 1e6;
    Profiled { total_ms, threads: profile.threads, limits, kernels, outside: outside(profile) }
}

fn row(name: &str, time: &KernelTime, work: &Work, profile: &Profile, bound: Option<f64>) -> KernelProfile {
    debug_assert_eq!(work.launches, time.launches, "{name}: every launch was timed");
    let seconds = time.time / 1e9;
    let per_second = |amount: u64| if seconds > 0.0 { amount as f64 / 1e9 / seconds } else { 0.0 };
    let waiting = (time.time - time.busy / profile.threads as f64).max(0.0);
    let bound = bound.filter(|bound| *bound > 0.0 && seconds > 0.0);
    KernelProfile {
        name: name.to_owned(),
        calls: time.launches,
        ms: time.time / 1e6,
        share: time.time / (profile.elapsed as f64).max(1.0),
        waiting_ms: waiting / 1e6,
        flop: work.product_flops(),
        other_flop: work.other_flops,
        weight_bytes: work.weight_bytes,
        cache_bytes: work.state_bytes,
        bytes: work.bytes(),
        gflop_per_s: per_second(work.product_flops()),
        gb_per_s: per_second(work.bytes()),
        pages: PagesProfile::of(time.pages),
        fraction_of_bound: bound.map(|bound| bound / seconds),
    }
}

fn outside(profile: &Profile) -> Outside {
    let stages = |kind| {
        let of_kind = profile.stages.iter().filter(move |stage| stage.kind == kind);
        of_kind.map(|stage| (stage.end - stage.begin) as f64).sum::<f64>()
    };
    let calls: f64 = profile.calls.iter().map(|call| (call.end - call.begin) as f64).sum();
    let kernels: f64 = profile.kernels.iter().map(|kernel| kernel.time).sum();
    let (check, sampling) = (stages(StageKind::Check), stages(StageKind::Sampling));
    let host = profile.elapsed as f64 - calls - check - sampling;
    let ms = |nanoseconds: f64| nanoseconds.max(0.0) / 1e6;
    Outside { calls_ms: ms(calls - kernels), check_ms: ms(check), sampling_ms: ms(sampling), host_ms: ms(host) }
}

/// Pieces that a product of each kernel is multiplied in on tiles, as the class's code does it; none for the interpreter.
pub(crate) fn tile_pieces(artifact: &Artifact, class: &str) -> Vec<u32> {
    let kernels = artifact.image(class).map(|image| image.kernels);
    kernels.unwrap_or_default().iter().map(|kernel| kernel.tile_pieces).collect()
}

/// What of some work takes a least time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Load {
    /// Operations of products on vectors.
    pub(crate) vector_flops: u64,
    /// Those on tiles, every piece counted.
    pub(crate) tile_flops: u64,
    /// Bytes of weights and cache.
    pub(crate) bytes: u64,
}

impl Load {
    /// Of a kernel's work, by how the code does its product.
    pub(crate) fn of(work: &Work, kernel: Option<usize>, tile_pieces: &[u32]) -> Load {
        let pieces = kernel.and_then(|kernel| tile_pieces.get(kernel)).copied().unwrap_or_default();
        let on_vectors = if pieces == 0 { work.matmul_flops } else { 0 };
        Load {
            vector_flops: on_vectors + work.attention_flops,
            tile_flops: u64::from(pieces) * work.matmul_flops,
            bytes: work.streamed_bytes(),
        }
    }

    /// The least seconds it takes; 0 without limits.
    pub(crate) fn seconds(&self, limits: &Reading) -> f64 {
        let over = |amount: u64, rate: f64| if rate > 0.0 { amount as f64 / 1e9 / rate } else { 0.0 };
        let products = over(self.vector_flops, limits.fma_gflops) + over(self.tile_flops, limits.tiles_gflops);
        products.max(over(self.bytes, limits.read_gb_per_s))
    }
}

impl AddAssign for Load {
    fn add_assign(&mut self, other: Load) {
        self.vector_flops += other.vector_flops;
        self.tile_flops += other.tile_flops;
        self.bytes += other.bytes;
    }
}

fn is_zero(rate: &f64) -> bool {
    *rate == 0.0
}

/// The work of some calls, by kernel; under no kernel that of copies.
pub(crate) fn works(program: &Program, calls: &[Call]) -> BTreeMap<Option<usize>, Work> {
    let mut works: BTreeMap<Option<usize>, Work> = BTreeMap::new();
    for call in calls {
        let names = program.symbols.iter().map(|symbol| symbol.name.clone());
        let bindings: Bindings = names.zip(call.dims.iter().map(|&value| u64::from(value))).collect();
        let sizes = Sizes { bindings: &bindings, spans: &call.spans };
        let mut here = entry_work(program, &program.entries[call.entry], &sizes);
        leave_out_skipped(program, call, &sizes, &mut here);
        for (kernel, work) in here {
            *works.entry(kernel).or_default() += work;
        }
    }
    works
}

/// Takes what rows alone skipped off the work of the one kernel that attends.
fn leave_out_skipped(program: &Program, call: &Call, sizes: &Sizes<'_>, works: &mut BTreeMap<Option<usize>, Work>) {
    let page = |kernel: Option<usize>| page_work(&program.kernels[kernel?].graph, sizes);
    if call.spans.iter().any(|span| span.tokens != 1) {
        return;
    }
    let mut attending = works.iter_mut().filter_map(|(kernel, work)| Some((page(*kernel)?, work)));
    if let (Some((page, work)), None) = (attending.next(), attending.next()) {
        *work -= page.times(call.pages.skipped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_the_slower_of_both() {
        let limits = Reading { fma_gflops: 100.0, tiles_gflops: 0.0, read_gb_per_s: 10.0 };
        let load = |matmul_flops, weight_bytes| {
            Load::of(&Work { matmul_flops, weight_bytes, ..Work::default() }, Some(0), &[])
        };
        assert_eq!(load(200_000_000_000, 1_000_000_000).seconds(&limits), 2.0);
        assert_eq!(load(200_000_000_000, 30_000_000_000).seconds(&limits), 3.0);
        let unknown = Reading { fma_gflops: 0.0, ..limits };
        assert_eq!(load(200_000_000_000, 1_000_000_000).seconds(&unknown), 0.1);
    }

    #[test]
    fn pieces_on_tiles_count_each() {
        let limits = Reading { fma_gflops: 100.0, tiles_gflops: 3000.0, read_gb_per_s: 10.0 };
        let work = Work { matmul_flops: 1_000_000_000_000, attention_flops: 50_000_000_000, ..Work::default() };
        let seconds = |kernel| Load::of(&work, Some(kernel), &[0, 1, 3]).seconds(&limits);
        assert_eq!([0, 1, 2].map(seconds), [10.5, 0.5 + 1.0 / 3.0, 1.5]);
    }
}
