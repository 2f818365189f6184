//! The `ecapture` program.

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::ptr;

use ecapture_cli::memory::is_wiped;
use libmimalloc_sys::{mi_option_set_default, mi_option_t};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

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

/// mimalloc, which overwrites what is freed where the run asks for it.
struct Allocator;

// SAFETY: every call goes to mimalloc with the arguments of the caller, who keeps the promises of `GlobalAlloc`.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { mimalloc::MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { mimalloc::MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if is_wiped() {
            // SAFETY: the block has that many bytes and belongs to the caller until it is freed below.
            unsafe { pointer.write_bytes(0, layout.size()) };
            // The compiler must not find out that nobody reads them.
            black_box(pointer);
        }
        // SAFETY: as above.
        unsafe { mimalloc::MiMalloc.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if !is_wiped() {
            // SAFETY: as above.
            return unsafe { mimalloc::MiMalloc.realloc(pointer, layout, new_size) };
        }
        // SAFETY: the caller promises that the size is valid with this alignment; both blocks have as many bytes as
        // are copied, and are not the same.
        unsafe {
            let moved = self.alloc(Layout::from_size_align_unchecked(new_size, layout.align()));
            if !moved.is_null() {
                ptr::copy_nonoverlapping(pointer, moved, layout.size().min(new_size));
                self.dealloc(pointer, layout);
            }
            moved
        }
    }
}
