//! Files that somebody cuts short while they are mapped.
//!
//! Where such a file no longer reaches, the kernel has nothing to show, and ends whoever looks with SIGBUS: no message, and
//! what was half-written stays. A program that calls [`survive`] reads zeros there instead, and [`happened`] tells it that
//! what it makes of them is worth nothing; so it can end in order, and [`Mapping::unchanged`](super::Mapping::unchanged)
//! knows which file it was. Signals are the program's, so no library calls this by itself.

use std::sync::atomic::{AtomicBool, Ordering};

static CUT: AtomicBool = AtomicBool::new(false);

/// Whether zeros were read in place of a file's bytes.
pub fn happened() -> bool {
    CUT.load(Ordering::Relaxed)
}

/// From now on a file that ends too early is read as zeros there, in all threads.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "a handler of a signal is set through the C library")]
pub fn survive() {
    // SAFETY: plain data for which zeros are a value; the handler has the signature that SA_SIGINFO asks for, and calls
    // nothing but what may be called in a handler. Its stack is the thread's alternate one, where there is one.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_bus_error as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigemptyset(&raw mut action.sa_mask);
        libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut());
    }
}

/// Elsewhere the signal does what it always did.
#[cfg(not(target_os = "linux"))]
pub fn survive() {}

/// Puts a page of zeros where the file has none any more. Reading goes on there when this returns. What cannot be mended
/// so comes again at once, and ends the process.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "memory is replaced under whoever reads it")]
extern "C" fn on_bus_error(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    const FLAGS: libc::c_int = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: the kernel passes a valid `info`. The page is one of a mapping whose file has no bytes there (BUS_ADRERR), so
    // nothing is lost by mapping zeros over it. `mmap`, `sysconf` and `signal` are plain system calls or reads.
    unsafe {
        let page = libc::sysconf(libc::_SC_PAGESIZE) as usize;
        let start = ((*info).si_addr() as usize & !(page - 1)) as *mut libc::c_void;
        let mended = (*info).si_code == libc::BUS_ADRERR
            && libc::mmap(start, page, libc::PROT_READ, FLAGS, -1, 0) != libc::MAP_FAILED;
        if mended {
            CUT.store(true, Ordering::Relaxed);
        } else {
            libc::signal(libc::SIGBUS, libc::SIG_DFL);
        }
    }
}
