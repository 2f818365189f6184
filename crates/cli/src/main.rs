//! The `ecapture` program.

use libmimalloc_sys::{mi_option_set_default, mi_option_t};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc 3, which the bindings do not name.
const PURGE_DELAY: mi_option_t = 15;
/// Milliseconds until freed memory goes back to the kernel; by default it is a second, and what a start
/// or a burst takes for a moment would be counted as in use for good. `MIMALLOC_PURGE_DELAY` overrules it.
const SHORT_DELAY: std::ffi::c_long = 10;

fn main() -> std::process::ExitCode {
    // SAFETY: the option exists in the linked version and takes any number of milliseconds; no other
    // thread has been started.
    unsafe { mi_option_set_default(PURGE_DELAY, SHORT_DELAY) };
    ecapture_cli::main()
}
