//! f32 multiply-adds in registers, for each class of processors. Chains are independent and more than latency times
//! units (4 x 2 on x86-64, 4 x 4 on aarch64), so that none waits for its predecessor.

use super::Load;

/// The loop of a class this processor runs; of the widest vectors there are when it is none of them.
pub(super) fn of_class(class: &str) -> Option<Load> {
    // AMX is tiles beside the vectors of AVX-512.
    let class = if class == crate::tiles::CLASS { "x86-64-v4" } else { class };
    let mut loads = loads();
    let found = loads.iter().position(|(name, _)| *name == class);
    found.map(|i| loads.swap_remove(i)).or_else(|| loads.pop()).map(|(_, load)| load)
}

/// Class and loop of every class this processor runs, narrowest vectors first.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "each loop after its class")]
pub(super) fn loads() -> Vec<(&'static str, Load)> {
    let mut loads = Vec::new();
    if crate::launcher::runs_here("x86-64-v3") {
        // SAFETY: the class has AVX2 and FMA.
        let load = unsafe { Load::instructions("fma_f32_x86-64-v3", "GFLOP/s", 12 * 8 * 2, x86::chains_256) };
        loads.push(("x86-64-v3", load));
    }
    if crate::launcher::runs_here("x86-64-v4") {
        // SAFETY: the class has AVX-512.
        let load = unsafe { Load::instructions("fma_f32_x86-64-v4", "GFLOP/s", 16 * 16 * 2, x86::chains_512) };
        loads.push(("x86-64-v4", load));
    }
    loads
}

/// Class and loop of every class this processor runs.
#[cfg(target_arch = "aarch64")]
#[allow(unsafe_code, reason = "each loop after its class")]
pub(super) fn loads() -> Vec<(&'static str, Load)> {
    // SAFETY: every such processor has NEON.
    let load = unsafe { Load::instructions("fma_f32_aarch64", "GFLOP/s", 24 * 4 * 2, neon_chains) };
    vec![("aarch64", load)]
}

/// There is no loop for this architecture.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn loads() -> Vec<(&'static str, Load)> {
    Vec::new()
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "loops of instructions")]
mod x86 {
    use std::arch::asm;

    /// `a = a * FACTORS[0] + FACTORS[1]` stays near 1: no infinities, no denormal numbers.
    static FACTORS: [f32; 2] = [0.999, 0.001];

    /// Twelve chains of 256-bit multiply-adds.
    ///
    /// # Safety
    /// AVX2 and FMA are there; at least one round.
    pub(super) unsafe fn chains_256(rounds: u64) {
        // SAFETY: registers only, all of them declared as changed; FACTORS is read.
        unsafe {
            asm!(
                "vbroadcastss ymm14, [rsi]",
                "vbroadcastss ymm15, [rsi + 4]",
                ".irp a, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11",
                r"vmovaps ymm\a, ymm14",
                ".endr",
                "2:",
                ".irp a, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11",
                r"vfmadd213ps ymm\a, ymm14, ymm15",
                ".endr",
                "dec rcx",
                "jnz 2b",
                "vzeroupper",
                inout("rcx") rounds => _,
                in("rsi") FACTORS.as_ptr(),
                clobber_abi("sysv64"),
                options(nostack, readonly)
            );
        }
    }

    /// Sixteen chains of 512-bit multiply-adds.
    ///
    /// # Safety
    /// AVX-512 is there; at least one round.
    pub(super) unsafe fn chains_512(rounds: u64) {
        // SAFETY: registers only, all of them declared as changed; FACTORS is read.
        unsafe {
            asm!(
                "vbroadcastss zmm30, [rsi]",
                "vbroadcastss zmm31, [rsi + 4]",
                ".irp a, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
                r"vmovaps zmm\a, zmm30",
                ".endr",
                "2:",
                ".irp a, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
                r"vfmadd213ps zmm\a, zmm30, zmm31",
                ".endr",
                "dec rcx",
                "jnz 2b",
                "vzeroupper",
                inout("rcx") rounds => _,
                in("rsi") FACTORS.as_ptr(),
                clobber_abi("sysv64"),
                options(nostack, readonly)
            );
        }
    }
}

/// Twenty-four chains of 128-bit multiply-adds; their sums stop growing where f32 ends to be exact.
///
/// # Safety
/// At least one round.
#[cfg(target_arch = "aarch64")]
#[allow(unsafe_code, reason = "a loop of instructions")]
unsafe fn neon_chains(rounds: u64) {
    // SAFETY: registers only, all of them declared as changed.
    unsafe {
        std::arch::asm!(
            "fmov v30.4s, #0.5",
            "fmov v31.4s, #0.25",
            ".irp a, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23",
            r"fmov v\a\().4s, #1.0",
            ".endr",
            "2:",
            ".irp a, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23",
            r"fmla v\a\().4s, v30.4s, v31.4s",
            ".endr",
            "subs x9, x9, #1",
            "b.ne 2b",
            inout("x9") rounds => _,
            // The C convention keeps the lower halves of v8 to v15: they are named.
            out("v8") _, out("v9") _, out("v10") _, out("v11") _,
            out("v12") _, out("v13") _, out("v14") _, out("v15") _,
            clobber_abi("C"),
            options(nostack, nomem)
        );
    }
}
