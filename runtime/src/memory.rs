//! The memory a program runs on: arena, states, inputs and outputs. Anonymous maps: zeroed, page-aligned, and pages
//! that are never touched cost nothing, so everything is as large as its bounds allow.

use crate::error::RunError;
use bloomery_artifact::{Artifact, WeightTable, sizes};
use bloomery_ir::program::{Buffer, Place, Step, View};
use bloomery_ir::run_program::Memory;
use bloomery_ir::{Bindings, Mesh, Program};
use memmap2::MmapMut;
use std::collections::BTreeSet;

/// A huge page of x86-64, and of aarch64 with pages of 4 KiB.
const HUGE_PAGE: usize = 2 << 20;

/// Zeroed bytes at a page's start.
pub(crate) struct Block {
    map: MmapMut,
    start: usize,
    length: usize,
}

impl Block {
    /// On huge pages, where it fills one and the system has them: 512 times fewer faults when it is first touched, and
    /// faster found afterwards. The block begins and ends at such a page's bounds, since the system takes small ones for
    /// what is left of a page.
    pub(crate) fn new(what: &'static str, bytes: u64) -> Result<Block, RunError> {
        let huge = bytes >= HUGE_PAGE as u64;
        // Room for a page's rest before it, and for one after it. Sizes that are too large stay so, and are refused.
        let mapped = if huge { bytes.saturating_add(2 * HUGE_PAGE as u64) } else { bytes.max(1) };
        let map = MmapMut::map_anon(mapped as usize).map_err(|source| RunError::Memory { what, bytes, source })?;
        let mut block = Block { map, start: 0, length: bytes as usize };
        if huge {
            advise_pages(&block.map, true);
            block.start = block.address().next_multiple_of(HUGE_PAGE) - block.address();
        }
        Ok(block)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map[self.start..][..self.length]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.map[self.start..][..self.length]
    }

    /// Its address, for code that is not Rust.
    pub(crate) fn address(&mut self) -> usize {
        self.bytes_mut().as_mut_ptr().expose_provenance()
    }
}

/// Asks for huge pages, or for small ones. A kernel without huge ones refuses, and small ones do.
#[cfg(target_os = "linux")]
pub(crate) fn advise_pages(map: &MmapMut, huge: bool) {
    let _ = map.advise(if huge { memmap2::Advice::HugePage } else { memmap2::Advice::NoHugePage });
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn advise_pages(_: &MmapMut, _: bool) {}

/// Bytes from a line of the kernel's, `NAME:  123 kB`, when it has this name.
pub(crate) fn kernel_bytes(line: &str, name: &str) -> Option<u64> {
    let number = line.strip_prefix(name)?.strip_prefix(':')?.trim().strip_suffix("kB")?;
    number.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// A buffer of a program.
pub(crate) struct Held {
    pub(crate) block: Block,
    /// From one layer to the next.
    pub(crate) stride: u64,
}

/// Everything a program reads and writes besides its weights, of every rank.
pub(crate) struct Buffers {
    /// By rank.
    pub(crate) arenas: Vec<Block>,
    /// By rank.
    pub(crate) states: Vec<Vec<Held>>,
    /// Of each input or output the one that all ranks read, or each rank's own if it is written.
    pub(crate) ios: Vec<Vec<Held>>,
    /// Every rank's place along every axis of the mesh, `i32[ranks, axes]`.
    coordinates: Block,
    axes: usize,
}

/// A place in memory: one of [`Buffers::bases`], and bytes from there, and from one layer to the next.
pub(crate) struct Found {
    pub(crate) base: usize,
    pub(crate) offset: u64,
    pub(crate) stride: u64,
}

impl Buffers {
    /// For the largest values symbols will have.
    pub(crate) fn new(program: &Program, most: &Bindings) -> Result<Buffers, RunError> {
        let ranks = program.mesh.ranks();
        let written = written(program);
        let states = |_| program.states.iter().map(|state| hold("the cache", state, most)).collect();
        let ios = program.ios.iter().enumerate().map(|(i, io)| {
            let own = if written.contains(&i) { ranks } else { 1 };
            (0..own).map(|_| hold("inputs and outputs", io, most)).collect()
        });
        let arena = |_| Block::new("the arena", program.arena_bytes());
        Ok(Buffers {
            arenas: (0..ranks).map(arena).collect::<Result<_, _>>()?,
            states: (0..ranks).map(states).collect::<Result<_, _>>()?,
            ios: ios.collect::<Result<_, _>>()?,
            coordinates: coordinates(&program.mesh)?,
            axes: program.mesh.axes.len(),
        })
    }

    /// An input or output as a rank has it.
    pub(crate) fn io(&self, rank: u64, io: usize) -> &Held {
        let held = &self.ios[io];
        &held[(rank as usize).min(held.len() - 1)]
    }

    fn io_mut(&mut self, rank: u64, io: usize) -> &mut Held {
        let held = &mut self.ios[io];
        let own = (rank as usize).min(held.len() - 1);
        &mut held[own]
    }

    /// Addresses of everything, weights first.
    pub(crate) fn bases(&mut self, weights: usize) -> Vec<usize> {
        let mut bases = vec![weights, self.coordinates.address()];
        bases.extend(self.arenas.iter_mut().map(Block::address));
        let held = self.states.iter_mut().chain(&mut self.ios).flatten();
        bases.extend(held.map(|held| held.block.address()));
        bases
    }

    /// Where a rank finds a place, of weights lying as the table says.
    pub(crate) fn find(&self, program: &Program, table: &WeightTable, rank: u64, place: Place) -> Found {
        let (ranks, states) = (self.arenas.len(), program.states.len());
        let own = rank as usize;
        let (base, offset, stride) = match place {
            Place::Parameter(i) => {
                let placement = &table.placements[i];
                let part = program.parameters[i].part(&program.mesh, rank);
                let of_stage = placement.stride * program.first_layer(rank);
                (0, placement.range(0, part).start + of_stage, placement.stride)
            }
            Place::Coordinate(axis) => (1, 4 * (own * self.axes + axis) as u64, 0),
            Place::Arena { offset, stride } => (2 + own, offset, stride),
            Place::State(i) => (2 + ranks + own * states + i, 0, self.states[own][i].stride),
            Place::Io(i) => {
                let before: usize = self.ios[..i].iter().map(Vec::len).sum();
                let own = own.min(self.ios[i].len() - 1);
                (2 + ranks + ranks * states + before + own, 0, self.ios[i][own].stride)
            }
        };
        Found { base, offset, stride }
    }

    /// Bytes of all of it.
    pub(crate) fn bytes(&self) -> u64 {
        let held = self.states.iter().chain(&self.ios).flatten().map(|held| &held.block);
        self.arenas.iter().chain(held).map(|block| block.length as u64).sum()
    }
}

/// Inputs and outputs that steps write.
fn written(program: &Program) -> BTreeSet<usize> {
    fn of(steps: &[Step], written: &mut BTreeSet<usize>) {
        for step in steps {
            let io = |view: &View| if let Place::Io(io) = view.place { Some(io) } else { None };
            written.extend(step.writes().iter().filter_map(io));
            of(step.inside(), written);
        }
    }
    let mut written = BTreeSet::new();
    program.entries.iter().for_each(|entry| of(&entry.steps, &mut written));
    written
}

fn coordinates(mesh: &Mesh) -> Result<Block, RunError> {
    let of = |rank| mesh.axes.iter().map(move |(axis, _)| mesh.coordinate(rank, axis).expect("it is an axis") as i32);
    let places: Vec<u8> = (0..mesh.ranks()).flat_map(of).flat_map(i32::to_le_bytes).collect();
    let mut block = Block::new("places of ranks", places.len() as u64)?;
    block.bytes_mut().copy_from_slice(&places);
    Ok(block)
}

fn hold(what: &'static str, buffer: &Buffer, most: &Bindings) -> Result<Held, RunError> {
    let layers = if buffer.stacked { buffer.ty.dims[0].extent.as_number().unwrap_or(1) } else { 1 };
    let ty = if buffer.stacked { buffer.ty.inner() } else { buffer.ty.clone() };
    let bytes = sizes::bytes_of(&ty, &buffer.layout, most);
    let whole = bytes.and_then(|bytes| bytes.checked_mul(layers)).filter(|bytes| *bytes < 1 << 46);
    let (Some(stride), Some(whole)) = (bytes, whole) else {
        return Err(RunError::Program(format!("has a buffer %{} too large for this machine", buffer.name)));
    };
    Ok(Held { block: Block::new(what, whole)?, stride })
}

/// An artifact's weights and a session's memory, as the interpreter sees them.
pub(crate) struct Interpreted<'a> {
    pub(crate) artifact: &'a Artifact,
    pub(crate) buffers: &'a mut Buffers,
}

impl Memory for Interpreted<'_> {
    fn read(&self, rank: u64, view: &View, layer: u64, bytes: usize) -> &[u8] {
        let layer = if view.per_layer { layer } else { 0 };
        let first = if view.per_layer { self.artifact.program().first_layer(rank) } else { 0 };
        let held = match view.place {
            Place::Arena { offset, stride } => {
                return &self.buffers.arenas[rank as usize].bytes()[(offset + layer * stride) as usize..][..bytes];
            }
            Place::Parameter(i) => return &self.artifact.parameter(i, first + layer, rank)[..bytes],
            Place::State(i) => &self.buffers.states[rank as usize][i],
            Place::Io(i) => self.buffers.io(rank, i),
            Place::Coordinate(_) => unreachable!("the interpreter knows them"),
        };
        &held.block.bytes()[(layer * held.stride) as usize..][..bytes]
    }

    fn write(&mut self, rank: u64, view: &View, layer: u64, bytes: usize) -> &mut [u8] {
        let layer = if view.per_layer { layer } else { 0 };
        let held = match view.place {
            Place::Arena { offset, stride } => {
                let arena = self.buffers.arenas[rank as usize].bytes_mut();
                return &mut arena[(offset + layer * stride) as usize..][..bytes];
            }
            Place::Parameter(_) | Place::Coordinate(_) => unreachable!("a checked program writes neither"),
            Place::State(i) => &mut self.buffers.states[rank as usize][i],
            Place::Io(i) => self.buffers.io_mut(rank, i),
        };
        &mut held.block.bytes_mut()[(layer * held.stride) as usize..][..bytes]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_blocks_begin_at_huge_pages_and_are_refused_where_they_are_too_large() {
        assert_eq!(Block::new("a test", 5).unwrap().bytes(), [0; 5]);
        let mut block = Block::new("a test", HUGE_PAGE as u64 + 5).unwrap();
        assert_eq!((block.address() % HUGE_PAGE, block.bytes()), (0, &[0; HUGE_PAGE + 5][..]));
        for bytes in [u64::MAX, u64::MAX - 1, 1 << 62] {
            assert!(matches!(Block::new("a test", bytes), Err(RunError::Memory { .. })), "{bytes}");
        }
    }
}
