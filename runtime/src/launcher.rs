//! Machine code from the artifact, mapped and called. With the artifact's map of the file, the one island of unsafe code.
//!
//! Code is mapped read and execute from the file; where the file's mount forbids that, it is copied into an anonymous
//! map first. A [`Kernel`] exists only for code whose class this processor runs, at an offset the artifact checked.

use crate::error::RunError;
use crate::profile::PageCount;
use crate::tiles;
use bloomery_artifact::{Artifact, Image, KernelCode, Phase};
use memmap2::{Mmap, MmapMut, MmapOptions};
use std::fs::File;
use std::io;
use std::ops::Range;

/// `void f(const struct call *c, u32 begin, u32 end)`
type Function = unsafe extern "C" fn(*const Call, u32, u32);

/// What a kernel is given; the layout is the generated C's `struct call`.
#[repr(C)]
pub(crate) struct Call {
    views: *const usize,
    dims: *const u32,
    shared: usize,
    local: usize,
    pages: *mut PageCount,
}

/// Features a class of processors has, and whether this one does.
type Feature = (&'static str, bool);

/// Every class that artifacts may hold code for, best first.
const CLASSES: [&str; 6] = [tiles::CLASS, "x86-64-v4", "x86-64-v3", "aarch64", "plain", "plain-tiles"];

#[cfg(target_arch = "x86_64")]
fn features(class: &str) -> Option<Vec<Feature>> {
    use std::arch::is_x86_feature_detected as has;
    let v3 = vec![
        ("avx2", has!("avx2")),
        ("fma", has!("fma")),
        ("f16c", has!("f16c")),
        ("bmi1", has!("bmi1")),
        ("bmi2", has!("bmi2")),
        ("lzcnt", has!("lzcnt")),
        ("movbe", has!("movbe")),
    ];
    let v4 = [
        ("avx512f", has!("avx512f")),
        ("avx512bw", has!("avx512bw")),
        ("avx512cd", has!("avx512cd")),
        ("avx512dq", has!("avx512dq")),
        ("avx512vl", has!("avx512vl")),
        ("avx512vnni", has!("avx512vnni")),
    ];
    let amx = [("amx-tile", tiles::has_bf16()), ("amx-bf16", tiles::has_bf16())];
    match class {
        "plain" | "plain-tiles" => Some(vec![]),
        "x86-64-v3" => Some(v3),
        "x86-64-v4" => Some(v3.into_iter().chain(v4).collect()),
        tiles::CLASS => Some(v3.into_iter().chain(v4).chain(amx).collect()),
        _ => None,
    }
}

#[cfg(target_arch = "aarch64")]
fn features(class: &str) -> Option<Vec<Feature>> {
    (class == "aarch64").then(Vec::new)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn features(_: &str) -> Option<Vec<Feature>> {
    None
}

/// Why this processor does not run a class; nothing when it does.
fn obstacle(class: &str) -> Option<String> {
    let Some(features) = features(class) else {
        return Some(match CLASSES.contains(&class) {
            true => format!("it is of another architecture ({})", std::env::consts::ARCH),
            false => "this version of bloomery does not know such processors".to_owned(),
        });
    };
    let missing: Vec<&str> = features.into_iter().filter(|(_, there)| !there).map(|(name, _)| name).collect();
    match missing[..] {
        // Besides the processor's features it needs the system's leave.
        [] if class == tiles::CLASS && !tiles::granted() => {
            Some("the system grants this process no tiles (Linux does from 5.16 on)".to_owned())
        }
        [] => None,
        _ => Some(format!("it has no {}", missing.join(", "))),
    }
}

/// Whether this processor runs code of a class.
pub fn runs_here(class: &str) -> bool {
    obstacle(class).is_none()
}

/// The best class of an artifact's code that this processor runs.
pub fn best_class(artifact: &Artifact) -> Option<&'static str> {
    let there = artifact.classes();
    CLASSES.into_iter().find(|class| there.contains(class) && runs_here(class))
}

/// The image of a class, if the artifact has it and this processor runs it.
///
/// # Errors
/// Which of the two is not so, and what would work.
pub(crate) fn usable_image<'a>(artifact: &'a Artifact, class: &str) -> Result<Image<'a>, RunError> {
    let classes = artifact.classes();
    let image = artifact.image(class).ok_or_else(|| {
        let there = if classes.is_empty() { "none (the interpreter works)".to_owned() } else { classes.join(", ") };
        RunError::NoCode { class: class.to_owned(), there }
    })?;
    let Some(reason) = obstacle(class) else { return Ok(image) };
    let mut works: Vec<&str> = classes.into_iter().filter(|class| runs_here(class)).collect();
    works.push("interpreter");
    Err(RunError::Processor { class: class.to_owned(), reason, works: works.join(" or ") })
}

/// Code of one image.
pub(crate) struct Code {
    /// Holds the functions' bytes.
    _map: Mmap,
    kernels: Vec<Kernel>,
}

/// A kernel whose class, offsets and tiles were checked.
pub(crate) struct Kernel {
    pub(crate) code: KernelCode,
    prepare: Option<Function>,
    main: Function,
}

impl Code {
    /// The code of an image of [`usable_image`], in memory.
    ///
    /// # Errors
    /// A system that maps no code.
    pub(crate) fn map(artifact: &Artifact, image: &Image<'_>) -> Result<Code, RunError> {
        let failed = |source| RunError::Memory { what: "machine code", bytes: image.bytes.len() as u64, source };
        let map = copy_code(image.bytes).or_else(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => map_code(artifact.file(), image),
            _ => Err(error),
        });
        let map = map.map_err(failed)?;
        let kernels = image.kernels.iter().map(|code| Kernel::new(&map, code)).collect();
        Ok(Code { _map: map, kernels })
    }

    pub(crate) fn kernel(&self, index: usize) -> &Kernel {
        &self.kernels[index]
    }

    pub(crate) fn kernels(&self) -> &[Kernel] {
        &self.kernels
    }
}

/// Some hundreds of KB, which whoever cuts the file meanwhile cannot take away.
fn copy_code(bytes: &[u8]) -> io::Result<Mmap> {
    let mut map = MmapMut::map_anon(bytes.len())?;
    map.copy_from_slice(bytes);
    map.make_exec()
}

/// For systems that let files be executed, and nothing else.
#[allow(unsafe_code, reason = "maps machine code of the artifact")]
fn map_code(file: &File, image: &Image<'_>) -> io::Result<Mmap> {
    // SAFETY: as for the artifact's own map of the same file: read only, and files are replaced whole.
    unsafe { MmapOptions::new().offset(image.offset).len(image.bytes.len()).map_exec(file) }
}

impl Kernel {
    fn new(map: &Mmap, code: &KernelCode) -> Kernel {
        let at = |phase: &Phase| function(map, phase.offset);
        Kernel { prepare: code.prepare.as_ref().map(at), main: at(&code.main), code: code.clone() }
    }

    /// Computes some tiles of a phase.
    ///
    /// # Safety
    /// `call` is for this kernel, for memory nobody else uses but the other workers of the same launch; see
    /// [`Call::new`].
    #[allow(unsafe_code, reason = "calls machine code of the artifact")]
    pub(crate) unsafe fn run(&self, phase: PhaseName, call: &Call, tiles: Range<u32>) {
        let function = match phase {
            PhaseName::Prepare => self.prepare.expect("a phase without tiles is not run"),
            PhaseName::Main => self.main,
        };
        // SAFETY: the function's image is mapped as long as this kernel is there, its class was compared with this
        // processor, and the caller vouches for the memory.
        unsafe { function(call, tiles.start, tiles.end) }
    }
}

/// Which function of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PhaseName {
    /// The first, if there are two.
    Prepare,
    /// The one that does the work.
    Main,
}

impl Call {
    /// Addresses of the kernel's inputs, then outputs; values of symbols; scratch of the launch and of the worker; where
    /// the worker counts pages of the cache.
    ///
    /// Building one is harmless. Running a kernel on it asks that the addresses stand for memory as large as the checked
    /// program's views under these values, and scratch as large as the kernel's table says.
    pub(crate) fn new(views: &[usize], dims: &[u32], shared: usize, local: usize, pages: &mut PageCount) -> Call {
        Call { views: views.as_ptr(), dims: dims.as_ptr(), shared, local, pages }
    }
}

#[allow(unsafe_code, reason = "code in the map becomes a function")]
fn function(map: &Mmap, offset: u64) -> Function {
    let address = map[offset as usize..].as_ptr();
    // SAFETY: the address lies in executable memory (the slice above checks it); that a function of this signature
    // starts there is what the artifact's hash vouches for: its writer put it there.
    unsafe { std::mem::transmute::<*const u8, Function>(address) }
}

/// Lengths of the sequences in a table `i32[count, 3]` at an address.
///
/// # Safety
/// A table of so many rows is there, and nobody writes it now.
#[allow(unsafe_code, reason = "the table of sequences decides how many tiles there are")]
pub(crate) unsafe fn sequence_lengths(address: usize, count: usize) -> impl Iterator<Item = u32> {
    let table = std::ptr::with_exposed_provenance::<i32>(address);
    // SAFETY: the caller vouches for `count` rows of three numbers, aligned as all buffers are.
    (0..count).map(move |row| unsafe { table.add(row * 3 + 1).read() }.max(0) as u32)
}

/// Copies bytes between two addresses.
///
/// # Safety
/// Both stand for at least so many bytes, which nobody else uses now.
#[allow(unsafe_code, reason = "copies between buffers of a program")]
pub(crate) unsafe fn copy(from: usize, to: usize, bytes: usize) {
    let (from, to) = (std::ptr::with_exposed_provenance::<u8>(from), std::ptr::with_exposed_provenance_mut::<u8>(to));
    // SAFETY: the caller vouches for both.
    unsafe { std::ptr::copy(from, to, bytes) }
}

/// Writes the sums of some elements of f32 of all ranks, in the ranks' order, to every rank: in f64, rounded once.
///
/// # Safety
/// Each address stands for at least so many elements. Nobody writes those that are read, or uses those that are written;
/// these and those are apart.
#[allow(unsafe_code, reason = "sums between buffers of a program")]
pub(crate) unsafe fn sum(from: &[usize], to: &[usize], elements: Range<usize>) {
    let from: Vec<_> = from.iter().map(|from| std::ptr::with_exposed_provenance::<f32>(*from)).collect();
    let to: Vec<_> = to.iter().map(|to| std::ptr::with_exposed_provenance_mut::<f32>(*to)).collect();
    for i in elements {
        // SAFETY: the caller vouches for all of them, and buffers are aligned.
        unsafe {
            let sum: f64 = from.iter().map(|from| f64::from(from.add(i).read())).sum();
            to.iter().for_each(|to| to.add(i).write(sum as f32));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_that_do_not_run_here_say_why() {
        let foreign = if cfg!(target_arch = "x86_64") { "aarch64" } else { "x86-64-v4" };
        let reason = obstacle(foreign).expect("it is of another architecture");
        assert_eq!(reason, format!("it is of another architecture ({})", std::env::consts::ARCH));
        assert!(obstacle("x86-64-v9").is_some_and(|reason| reason.contains("does not know")));
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn a_better_class_asks_for_more() {
        let names = |class| features(class).expect("it is of x86-64").into_iter().map(|(name, _)| name);
        let v4: Vec<&str> = names("x86-64-v4").collect();
        let amx: Vec<&str> = names("x86-64-amx").collect();
        assert!(v4.iter().chain(&["amx-tile", "amx-bf16"]).all(|name| amx.contains(name)));
        assert_eq!(runs_here("x86-64-amx"), runs_here("x86-64-v4") && tiles::has_bf16() && tiles::granted());
        assert!(names("x86-64-v3").all(|name| v4.contains(&name)));
        for name in ["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512vnni"] {
            assert!(v4.contains(&name), "{name}");
        }
        if !is_x86_feature_detected!("avx512f") {
            assert!(obstacle("x86-64-v4").is_some_and(|reason| reason.starts_with("it has no avx512f, avx512bw")));
        }
    }
}
