//! AMX tiles of 16 rows by 64 bytes: four accumulators (tiles 0 to 3), two pieces of the left side (4, 5) and two of
//! the right (6, 7), so that each step is four products. From registers, or with all four pieces loaded from the second
//! level cache before each step.

use super::Load;
use crate::tiles;

/// Whether processor and system let this process use tiles of both kinds.
pub(super) fn permitted() -> bool {
    tiles::has_bf16() && tiles::has_int8() && tiles::granted()
}

/// The loop that products of bf16 are judged by: as multiply-adds of vectors are, by what registers alone allow.
const PEAK: &str = "tiles_bf16_registers";

/// That loop, for classes of processors whose products run on tiles.
pub(super) fn of_class(class: &str) -> Option<Load> {
    loads().into_iter().find(|load| class == tiles::CLASS && load.name == PEAK)
}

/// The loops, where tiles are permitted.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[allow(unsafe_code, reason = "each loop after the permission")]
pub(super) fn loads() -> Vec<Load> {
    if !permitted() {
        return Vec::new();
    }
    let (bf16, int8) = (4 * 16 * 16 * 32 * 2, 4 * 16 * 16 * 64 * 2);
    // SAFETY: processor and kernel permit tiles of both kinds.
    unsafe {
        vec![
            Load::instructions(PEAK, "GFLOP/s", bf16, x86::bf16_registers),
            Load::instructions("tiles_bf16_l2", "GFLOP/s", bf16, x86::bf16_l2),
            Load::instructions("tiles_int8_registers", "GOP/s", int8, x86::int8_registers),
            Load::instructions("tiles_int8_l2", "GOP/s", int8, x86::int8_l2),
        ]
    }
}

/// Only x86-64 has them.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub(super) fn loads() -> Vec<Load> {
    Vec::new()
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[allow(unsafe_code, reason = "loops of instructions")]
mod x86 {
    use std::arch::asm;
    use std::cell::RefCell;

    /// What `ldtilecfg` reads.
    #[repr(C, align(64))]
    struct Config {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        row_bytes: [u16; 16],
        rows: [u8; 16],
    }

    /// All eight tiles at their full size.
    static CONFIG: Config = Config {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
        rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
    };

    /// Bytes of a step: four tiles.
    const STEP: usize = 4096;
    /// More than the first level cache holds, and half of what the second does at least.
    const L2: usize = 1 << 20;

    #[repr(C, align(4096))]
    struct Page([u16; STEP / 2]);

    thread_local! {
        /// Tiles of this thread, not zeros: a processor's clock may depend on what it multiplies.
        static TILES: RefCell<Vec<Page>> = RefCell::new({
            let value = |i: usize| 0x3d00 + (i * 37 % 251) as u16;
            (0..L2 / STEP).map(|_| Page(std::array::from_fn(value))).collect()
        });
    }

    /// A function that does so many steps of four products with one instruction; `$load` stands before each step.
    /// `rsi` is the thread's tiles, `rdx` where this step's begin in them, `r8` bytes from row to row.
    macro_rules! steps {
        ($(#[$doc:meta])* $name:ident, $product:literal, [$($load:literal),*]) => {
            $(#[$doc])*
            ///
            /// # Safety
            /// This process may use tiles, and the processor has the product; at least one step.
            pub(super) unsafe fn $name(rounds: u64) {
                TILES.with_borrow(|tiles| {
                    // SAFETY: loads stay inside `tiles`, whose length the mask wraps `at` to; the configuration is of
                    // 64 bytes; every tile is declared as changed and released at the end.
                    unsafe {
                        asm!(
                            "ldtilecfg [rdi]",
                            ".irp t, 0, 1, 2, 3",
                            r"tilezero tmm\t",
                            ".endr",
                            "tileloadd tmm4, [rsi + r8]",
                            "tileloadd tmm6, [rsi + r8 + 1024]",
                            "tileloadd tmm7, [rsi + r8 + 2048]",
                            "tileloadd tmm5, [rsi + r8 + 3072]",
                            "2:",
                            $($load,)*
                            concat!($product, " tmm0, tmm4, tmm6"),
                            concat!($product, " tmm1, tmm4, tmm7"),
                            concat!($product, " tmm2, tmm5, tmm6"),
                            concat!($product, " tmm3, tmm5, tmm7"),
                            "add rdx, {step}",
                            "and rdx, {mask}",
                            "dec rcx",
                            "jnz 2b",
                            "tilerelease",
                            step = const STEP,
                            mask = const L2 - 1,
                            inout("rcx") rounds => _,
                            in("rsi") tiles.as_ptr(),
                            in("rdi") &raw const CONFIG,
                            in("r8") 64usize,
                            inout("rdx") 0usize => _,
                            clobber_abi("sysv64"),
                            options(nostack, readonly)
                        );
                    }
                });
            }
        };
    }

    steps!(
        /// bf16, pieces stay in their tiles.
        bf16_registers, "tdpbf16ps", []
    );
    steps!(
        /// int8, pieces stay in their tiles.
        int8_registers, "tdpbssd", []
    );
    steps!(
        /// bf16, pieces loaded before each step.
        bf16_l2, "tdpbf16ps",
        [
            "lea rax, [rsi + rdx]",
            "tileloadd tmm4, [rax + r8]",
            "tileloadd tmm6, [rax + r8 + 1024]",
            "tileloadd tmm7, [rax + r8 + 2048]",
            "tileloadd tmm5, [rax + r8 + 3072]"
        ]
    );
    steps!(
        /// int8, pieces loaded before each step.
        int8_l2, "tdpbssd",
        [
            "lea rax, [rsi + rdx]",
            "tileloadd tmm4, [rax + r8]",
            "tileloadd tmm6, [rax + r8 + 1024]",
            "tileloadd tmm7, [rax + r8 + 2048]",
            "tileloadd tmm5, [rax + r8 + 3072]"
        ]
    );

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_configuration_is_as_the_processor_reads_it() {
            assert_eq!((size_of::<Config>(), align_of::<Config>()), (64, 64));
            assert_eq!((std::mem::offset_of!(Config, row_bytes), std::mem::offset_of!(Config, rows)), (16, 48));
            assert_eq!(TILES.with_borrow(Vec::len) * size_of::<Page>(), L2);
        }
    }
}
