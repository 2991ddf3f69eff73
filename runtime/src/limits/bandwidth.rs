//! Reading memory: anonymous on 4 KiB pages, anonymous on huge pages, a file in the page cache, an artifact's weights.
//!
//! A thread reads one part of the memory, as one stream or as several side by side, with or without a prefetch ahead:
//! which of these is fastest differs from processor to processor and between kinds of pages, so all are tried.

use super::Load;
use crate::memory::{advise_pages, kernel_bytes};
use crate::weights::Weights;
use memmap2::{Mmap, MmapMut, MmapOptions};
use std::fs::File;
use std::io;
use std::sync::Arc;

/// How to read: in how many streams, and how many bytes ahead to prefetch (0: not at all).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    streams: usize,
    ahead: usize,
}

/// The ways that were best somewhere.
pub(super) const WAYS: [Way; 8] = [
    Way { streams: 1, ahead: 0 },
    Way { streams: 1, ahead: 512 },
    Way { streams: 2, ahead: 0 },
    Way { streams: 4, ahead: 0 },
    Way { streams: 4, ahead: 256 },
    Way { streams: 4, ahead: 512 },
    Way { streams: 8, ahead: 0 },
    Way { streams: 8, ahead: 256 },
];

/// Bytes that one stream reads before the next one has its turn: two cache lines.
const TURN: usize = 128;

/// Memory to be read.
#[derive(Clone)]
pub(super) struct Memory {
    bytes: Arc<dyn AsRef<[u8]> + Send + Sync>,
    length: usize,
}

impl AsRef<[u8]> for Weights {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl Memory {
    /// Anonymous memory, each page written once.
    pub(super) fn anonymous(bytes: usize, huge: bool) -> io::Result<Memory> {
        let mut map = MmapMut::map_anon(bytes)?;
        // Where the kernel refuses, [`Memory::huge_share`] says so.
        advise_pages(&map, huge);
        map.fill(1);
        Ok(Memory { length: map.len(), bytes: Arc::new(map) })
    }

    /// At most so much of a file's beginning; a first pass brings it into memory.
    pub(super) fn mapped(file: &File, most: usize) -> io::Result<Memory> {
        let length = most.min(usize::try_from(file.metadata()?.len()).unwrap_or(most));
        #[allow(unsafe_code, reason = "maps a file to be read")]
        // SAFETY: what the bytes are does not matter to anybody; a file that is cut meanwhile ends the process.
        let map = unsafe { MmapOptions::new().len(length).map(file)? };
        touch(&map);
        Ok(Memory { length, bytes: Arc::new(map) })
    }

    /// At most so much of a session's weights.
    pub(super) fn weights(weights: Arc<Weights>, most: usize) -> Memory {
        let length = weights.bytes().len().min(most);
        Memory { bytes: weights, length }
    }

    fn bytes(&self) -> &[u8] {
        &(*self.bytes).as_ref()[..self.length]
    }

    /// Each of so many threads reads its part, once a round.
    pub(super) fn load(&self, way: Way, threads: usize) -> Load {
        let part = self.length / threads / (TURN * way.streams) * (TURN * way.streams);
        let memory = self.clone();
        let work = move |worker: usize, rounds: u64| {
            let part = &memory.bytes()[worker * part..][..part];
            (0..rounds).for_each(|_| read(part, way));
        };
        Load { name: "read", unit: "GB/s", per_round: part as f64 / 1e9, work: Arc::new(work) }
    }

    /// The share of it that lies on huge pages, 0 to 1, as the kernel says.
    pub(super) fn huge_share(&self) -> f64 {
        let address = self.bytes().as_ptr().addr();
        let text = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
        (huge_bytes(&text, address) as f64 / self.length.max(1) as f64).min(1.0)
    }
}

fn touch(map: &Mmap) {
    let sum = map.chunks(4096).fold(0u8, |sum, page| sum.wrapping_add(page[0]));
    std::hint::black_box(sum);
}

/// Bytes on huge pages in the mapping that holds an address, from the text of `/proc/self/smaps`.
fn huge_bytes(smaps: &str, address: usize) -> u64 {
    let mut inside = false;
    for line in smaps.lines() {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let hex = |text| usize::from_str_radix(text, 16).ok();
        if let Some((from, to)) = range.and_then(|(from, to)| Some((hex(from)?, hex(to)?))) {
            inside = (from..to).contains(&address);
        }
        if let Some(bytes) = kernel_bytes(line, "AnonHugePages").filter(|_| inside) {
            return bytes;
        }
    }
    0
}

fn read(part: &[u8], way: Way) {
    match way.streams {
        1 => streams::<1>(part, way.ahead),
        2 => streams::<2>(part, way.ahead),
        4 => streams::<4>(part, way.ahead),
        _ => streams::<8>(part, way.ahead),
    }
}

/// Reads every byte of `part`, whose length is a multiple of `TURN * S`.
#[inline(never)]
fn streams<const S: usize>(part: &[u8], ahead: usize) {
    let each = part.len() / S;
    assert!(each * S == part.len() && each % TURN == 0, "parts are cut to whole turns");
    let wide = crate::launcher::runs_here("x86-64-v3");
    let mut at = 0;
    while at < each {
        for stream in 0..S {
            let turn = &part[stream * each + at..][..TURN];
            if wide { wide_turn(turn, ahead) } else { plain_turn(turn) }
        }
        at += TURN;
    }
    if wide {
        end_wide();
    }
}

/// Loads without a use: the processor fetches them all the same.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn wide_turn(turn: &[u8], ahead: usize) {
    debug_assert!(turn.len() == TURN);
    #[allow(unsafe_code, reason = "loads that no compiler removes")]
    // SAFETY: reads the slice's 128 bytes; a prefetch never faults. The caller saw that the processor has 256-bit
    // vectors.
    unsafe {
        let (line, next) = (turn.as_ptr(), turn.as_ptr().wrapping_add(ahead));
        if ahead > 0 {
            std::arch::asm!(
                "prefetcht0 [{next}]",
                "prefetcht0 [{next} + 64]",
                next = in(reg) next,
                options(nostack, readonly, preserves_flags)
            );
        }
        std::arch::asm!(
            "vmovups ymm0, [{line}]",
            "vmovups ymm1, [{line} + 32]",
            "vmovups ymm2, [{line} + 64]",
            "vmovups ymm3, [{line} + 96]",
            line = in(reg) line,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
            options(nostack, readonly, preserves_flags)
        );
    }
}

/// Leaves the vectors as code compiled without their upper halves expects.
#[cfg(target_arch = "x86_64")]
fn end_wide() {
    #[allow(unsafe_code, reason = "ends what `wide_turn` began")]
    // SAFETY: the caller saw that the processor has 256-bit vectors; their upper halves hold nothing of the compiler's.
    unsafe {
        std::arch::asm!("vzeroupper", options(nostack, nomem, preserves_flags));
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn wide_turn(turn: &[u8], _: usize) {
    plain_turn(turn);
}

#[cfg(not(target_arch = "x86_64"))]
fn end_wide() {}

/// For processors without 256-bit vectors, and other architectures: the compiler's own vectors.
#[inline(always)]
fn plain_turn(turn: &[u8]) {
    let word = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().expect("eight bytes"));
    std::hint::black_box(turn.chunks_exact(8).map(word).fold(0, |sum, word| sum ^ word));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_pages_are_counted_in_the_right_mapping() {
        let smaps = "7f0000000000-7f0000400000 rw-p 00000000 00:00 0 \nSize: 4096 kB\nAnonHugePages:      2048 kB\n\
            7f0000400000-7f0000800000 rw-p 00000000 00:00 0 \nAnonHugePages:         0 kB\n";
        let bytes = [0x7f00_0000_1000, 0x7f00_0040_0000, 0x1000].map(|address| huge_bytes(smaps, address));
        assert_eq!(bytes, [2 << 20, 0, 0]);
    }

    #[test]
    fn threads_share_the_whole_but_its_last_turns() {
        let memory = Memory::anonymous(10_000, false).unwrap();
        for way in WAYS {
            for threads in [1, 3] {
                let load = memory.load(way, threads);
                let bytes = (load.per_round * 1e9).round() as usize;
                assert!(bytes * threads <= 10_000 && bytes * threads + TURN * way.streams * threads > 10_000);
                (0..threads).for_each(|worker| (load.work)(worker, 2));
            }
        }
    }
}
