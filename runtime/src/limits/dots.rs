//! Dot products of 8-bit integers in registers: with AVX2's three instructions, with AVX-512 VNNI's one. A product and
//! its addition count as two operations.

use super::Load;

/// The loops this processor has.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "each loop after its class")]
pub(super) fn loads() -> Vec<Load> {
    let mut loads = Vec::new();
    if crate::launcher::runs_here("x86-64-v3") {
        // SAFETY: the class has AVX2.
        loads.push(unsafe { Load::instructions("dot_int8_x86-64-v3", "GOP/s", 12 * 32 * 2, x86::three_steps) });
    }
    if crate::launcher::runs_here("x86-64-v4") {
        // SAFETY: the class has AVX-512 with VNNI.
        loads.push(unsafe { Load::instructions("dot_int8_x86-64-v4", "GOP/s", 16 * 64 * 2, x86::one_step) });
    }
    loads
}

/// There is no loop for this architecture.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn loads() -> Vec<Load> {
    Vec::new()
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "loops of instructions")]
mod x86 {
    use std::arch::asm;

    /// Twelve sums of unsigned times signed bytes: pairs to 16 bits, pairs of those to 32, and the addition.
    ///
    /// # Safety
    /// AVX2 is there; at least one round.
    pub(super) unsafe fn three_steps(rounds: u64) {
        // SAFETY: registers only, all of them declared as changed.
        unsafe {
            asm!(
                "vpcmpeqd ymm13, ymm13, ymm13",
                // 1 in every 16 bits, 1 in every byte, 127 in every byte.
                "vpabsb ymm14, ymm13",
                "vpsrlw ymm15, ymm13, 9",
                "vpackuswb ymm15, ymm15, ymm15",
                "vpsrlw ymm13, ymm13, 15",
                ".irp a, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11",
                r"vpxor ymm\a, ymm\a, ymm\a",
                ".endr",
                "2:",
                ".irp a, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11",
                "vpmaddubsw ymm12, ymm14, ymm15",
                "vpmaddwd ymm12, ymm12, ymm13",
                r"vpaddd ymm\a, ymm\a, ymm12",
                ".endr",
                "dec rcx",
                "jnz 2b",
                "vzeroupper",
                inout("rcx") rounds => _,
                clobber_abi("sysv64"),
                options(nostack, nomem)
            );
        }
    }

    /// Sixteen sums of unsigned times signed bytes, four to each 32 bits.
    ///
    /// # Safety
    /// AVX-512 VNNI is there; at least one round.
    pub(super) unsafe fn one_step(rounds: u64) {
        // SAFETY: registers only, all of them declared as changed.
        unsafe {
            asm!(
                "vpternlogd zmm30, zmm30, zmm30, 255",
                "vpabsb zmm31, zmm30",
                ".irp a, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
                r"vpxord zmm\a, zmm\a, zmm\a",
                ".endr",
                "2:",
                ".irp a, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
                r"vpdpbusd zmm\a, zmm30, zmm31",
                ".endr",
                "dec rcx",
                "jnz 2b",
                "vzeroupper",
                inout("rcx") rounds => _,
                clobber_abi("sysv64"),
                options(nostack, nomem)
            );
        }
    }
}
