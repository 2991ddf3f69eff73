//! The memory a program runs on: arena, states, inputs and outputs. Anonymous maps: zeroed, page-aligned, and pages
//! that are never touched cost nothing, so everything is as large as its bounds allow.

use crate::error::RunError;
use bloomery_artifact::{Artifact, sizes};
use bloomery_ir::program::{Buffer, Place, View};
use bloomery_ir::run_program::Memory;
use bloomery_ir::{Bindings, Program};
use memmap2::MmapMut;

/// Zeroed bytes at a page's start.
pub(crate) struct Block {
    map: MmapMut,
    length: usize,
}

impl Block {
    pub(crate) fn new(what: &'static str, bytes: u64) -> Result<Block, RunError> {
        let length = bytes as usize;
        let map = MmapMut::map_anon(length.max(1)).map_err(|source| RunError::Memory { what, bytes, source })?;
        Ok(Block { map, length })
    }

    /// The same on huge pages, where the system has them.
    pub(crate) fn huge(what: &'static str, bytes: u64) -> Result<Block, RunError> {
        let block = Block::new(what, bytes)?;
        advise_pages(&block.map, true);
        Ok(block)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map[..self.length]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.map[..self.length]
    }

    /// Its address, for code that is not Rust.
    pub(crate) fn address(&mut self) -> usize {
        self.map.as_mut_ptr().expose_provenance()
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

/// Everything a program reads and writes besides its weights.
pub(crate) struct Buffers {
    pub(crate) arena: Block,
    pub(crate) states: Vec<Held>,
    pub(crate) ios: Vec<Held>,
}

impl Buffers {
    /// For the largest values symbols will have.
    pub(crate) fn new(program: &Program, most: &Bindings) -> Result<Buffers, RunError> {
        let all = |what, buffers: &[Buffer]| -> Result<Vec<Held>, RunError> {
            buffers.iter().map(|buffer| hold(what, buffer, most)).collect()
        };
        Ok(Buffers {
            arena: Block::new("the arena", program.arena_bytes())?,
            states: all("the cache", &program.states)?,
            ios: all("inputs and outputs", &program.ios)?,
        })
    }
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
    fn read(&self, view: &View, layer: u64, bytes: usize) -> &[u8] {
        let layer = if view.per_layer { layer } else { 0 };
        let at = |held: &Held| (layer * held.stride) as usize;
        match view.place {
            Place::Arena { offset, stride } => {
                &self.buffers.arena.bytes()[(offset + layer * stride) as usize..][..bytes]
            }
            Place::Parameter(i) => &self.artifact.parameter(i, layer)[..bytes],
            Place::State(i) => &self.buffers.states[i].block.bytes()[at(&self.buffers.states[i])..][..bytes],
            Place::Io(i) => &self.buffers.ios[i].block.bytes()[at(&self.buffers.ios[i])..][..bytes],
        }
    }

    fn write(&mut self, view: &View, layer: u64, bytes: usize) -> &mut [u8] {
        let layer = if view.per_layer { layer } else { 0 };
        let held = match view.place {
            Place::Arena { offset, stride } => {
                return &mut self.buffers.arena.bytes_mut()[(offset + layer * stride) as usize..][..bytes];
            }
            Place::Parameter(_) => unreachable!("a checked program writes no weight"),
            Place::State(i) => &mut self.buffers.states[i],
            Place::Io(i) => &mut self.buffers.ios[i],
        };
        &mut held.block.bytes_mut()[(layer * held.stride) as usize..][..bytes]
    }
}
