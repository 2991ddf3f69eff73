//! Matrix tiles: whether the processor has them, and whether the system lets this process use them.
//!
//! Tiles are eight kilobytes of registers that a process has to ask for: Linux (5.16 and newer) grants them once, for all
//! threads there are and will be. An island of unsafe code: that question.

/// The class of code that runs on them.
pub(crate) const CLASS: &str = "x86-64-amx";

/// Tiles and their products of bf16.
pub(crate) fn has_bf16() -> bool {
    has(1 << 22)
}

/// Tiles and their products of 8-bit integers.
pub(crate) fn has_int8() -> bool {
    has(1 << 25)
}

/// Whether the system lets this process use tiles; asks it the first time.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) fn granted() -> bool {
    use std::sync::OnceLock;
    static ASKED: OnceLock<bool> = OnceLock::new();
    *ASKED.get_or_init(|| (has_bf16() || has_int8()) && ask())
}

/// `ARCH_REQ_XCOMP_PERM` of the state that is tile data.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[allow(unsafe_code, reason = "asks the system for tiles")]
fn ask() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const TILE_DATA: libc::c_long = 18;
    // SAFETY: two numbers; the call changes what this process may do, and nothing in its memory.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0 }
}

/// Bits of `edx` of leaf 7, besides the one of tiles.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[allow(unsafe_code, reason = "reads what the processor has")]
#[allow(unused_unsafe, reason = "newer versions of Rust call `cpuid` safe")]
fn has(products: u32) -> bool {
    let wanted = 1 << 24 | products;
    // SAFETY: every x86-64 processor has `cpuid`.
    let (highest, leaf) = unsafe { (std::arch::x86_64::__cpuid(0).eax, std::arch::x86_64::__cpuid_count(7, 0)) };
    highest >= 7 && leaf.edx & wanted == wanted
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub(crate) fn granted() -> bool {
    false
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn has(_: u32) -> bool {
    false
}

#[cfg(test)]
mod tests {
    #[test]
    fn tiles_are_granted_to_processors_that_have_them() {
        assert!(!super::granted() || super::has_bf16() || super::has_int8());
        assert_eq!(super::granted(), super::granted());
    }
}
