//! A profile as a table.

use std::fmt::Write;

use bloomery::profile::{KernelProfile, Profiled};

/// A line for each kernel, the longest first; then what was no kernel.
pub(crate) fn profile(profile: &Profiled) -> String {
    let mut text = format!(
        "{:<36}{:>7}{:>10}{:>7}{:>9}{:>8}{:>9}{:>8}{:>9}{:>7}\n",
        "kernel", "calls", "ms", "share", "waiting", "GB", "GFLOP", "GB/s", "GFLOP/s", "bound"
    );
    profile.kernels.iter().for_each(|kernel| line(&mut text, kernel));
    let outside = &profile.outside;
    let rest = [
        ("starting calls, walking steps", outside.calls_ms),
        ("checking weights", outside.check_ms),
        ("sampling", outside.sampling_ms),
        ("everything else", outside.host_ms),
        ("total", profile.total_ms),
    ];
    for (name, ms) in rest {
        let _ = writeln!(text, "{name:<43}{ms:>10.2}{:>7}", percent(ms / profile.total_ms.max(1e-9)));
    }
    let _ = writeln!(
        text,
        "{} threads; ms until the last tile is done, shared by busy time where kernels run side by side; waiting is part of it",
        profile.threads
    );
    if let Some(limits) = &profile.limits {
        let (fma, read) = (limits.fma_gflops, limits.read_gb_per_s);
        let tiles = match limits.tiles_gflops {
            0.0 => String::new(),
            rate => format!(" (on tiles at {rate:.0}, each piece of an activation counted)"),
        };
        let _ = writeln!(text, "bound: products at {fma:.1} GFLOP/s{tiles} or weights and cache at {read:.1} GB/s");
    }
    text
}

fn line(text: &mut String, kernel: &KernelProfile) {
    let KernelProfile { name, calls, ms, waiting_ms, gb_per_s, gflop_per_s, .. } = kernel;
    let (gb, gflop) = (kernel.bytes as f64 / 1e9, kernel.flop as f64 / 1e9);
    let (share, bound) = (percent(kernel.share), kernel.fraction_of_bound.map_or("-".to_owned(), percent));
    let pages =
        kernel.pages.map(|pages| format!("  pages skipped {}", percent(pages.pages_skipped_share))).unwrap_or_default();
    let _ = writeln!(
        text,
        "{name:<36}{calls:>7}{ms:>10.2}{share:>7}{waiting_ms:>9.2}{gb:>8.3}{gflop:>9.2}{gb_per_s:>8.2}{gflop_per_s:>9.1}{bound:>7}{pages}"
    );
}

fn percent(fraction: f64) -> String {
    format!("{:.1}%", fraction * 100.0)
}
