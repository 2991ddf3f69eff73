//! The chips: names, sizes and rates, each with where it is known from.

use bloomery_ir::ascend::Chip;

/// Where a fact is known from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The list of kernels and chips that CANN 8.1 has.
    KernelList,
    /// Computed from others.
    Computed,
    /// The vendor's documents.
    Documents,
    /// The vendor's profiler.
    Profiler,
    /// Widely quoted, and not verified.
    Quoted,
}

impl Source {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Source::KernelList => "kernel list of CANN 8.1",
            Source::Computed => "computed",
            Source::Documents => "documents",
            Source::Profiler => "the vendor's profiler",
            Source::Quoted => "widely quoted, not verified",
        }
    }
}

/// A number with its source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fact {
    /// The number.
    pub value: f64,
    /// Where it is from.
    pub source: Source,
}

/// What is known of a generation, of the least of its chips.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Facts {
    /// What `aclrtGetSocName` returns on chips of this generation. Names are compared whole: `Ascend910B` is of the first.
    pub soc: &'static [&'static str],
    /// Products of 16-bit numbers, operations in a nanosecond.
    pub cube: Fact,
    /// Bytes of device memory in a nanosecond.
    pub memory: Fact,
    /// Bytes of device memory that a model may have; the rest is the system's.
    pub capacity: Fact,
    /// Bytes between two chips of a server in a nanosecond, each way.
    pub link: Fact,
    /// The same between servers.
    pub network: Fact,
}

const fn fact(value: f64, source: Source) -> Fact {
    Fact { value, source }
}

/// What is known of a chip.
pub fn facts(chip: Chip) -> Facts {
    match chip {
        Chip::A910 => Facts {
            soc: &["Ascend910A", "Ascend910ProA", "Ascend910ProB", "Ascend910PremiumA", "Ascend910B"],
            // 32 cores at 1 GHz, 16 x 16 x 16 products a cycle.
            cube: fact(262_000.0, Source::Computed),
            memory: fact(1_200.0, Source::Quoted),
            capacity: fact(31e9, Source::Quoted),
            link: fact(18.0, Source::Profiler),
            network: fact(12.5, Source::Profiler),
        },
        Chip::B910 => Facts {
            soc: &["Ascend910B1", "Ascend910B2", "Ascend910B3", "Ascend910B4", "Ascend910B2C", "Ascend910B4-1"],
            // The B4: 20 cores at 1.5 GHz, 32 GB at half the rate of the others.
            cube: fact(246_000.0, Source::Computed),
            memory: fact(800.0, Source::Quoted),
            capacity: fact(31e9, Source::KernelList),
            link: fact(28.0, Source::Profiler),
            network: fact(25.0, Source::Profiler),
        },
    }
}

/// Bytes of device memory that each communicator takes: two buffers of `HCCL_BUFFSIZE`, 200 MB where nobody says
/// otherwise.
pub const COMMUNICATOR_BYTES: u64 = 2 * 200 * 1_000_000;
