//! Notes when a table may have forgotten entries: a missing entry is then no proof that something
//! began before the capture.

use core::arch::asm;

use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use ecapture_ebpf::table::{self, Table};

#[map]
static TABLES: Array<Table> = Array::with_max_entries(table::COUNT, 0);

/// Notes that an entry was created.
#[inline(always)]
pub(super) fn entered(table: u32) {
    let _nothing = table_entered(table.into());
}

/// A global function of numbers only: the verifier walks it once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn table_entered(table: u64) -> u64 {
    let Some(table) = TABLES.get_ptr_mut(table as u32) else {
        return 0;
    };
    // SAFETY: the map lookup succeeded, and the fields are whole words, and the first one changes atomically.
    unsafe {
        if (*table).overflowed == 0 {
            change(&raw mut (*table).entries, 1);
            if core::ptr::read_volatile(&raw const (*table).entries) >= (*table).room {
                (*table).overflowed = 1;
            }
        }
    }
    0
}

/// Notes that an entry was removed.
#[inline(always)]
pub(super) fn left(table: u32) {
    if let Some(table) = TABLES.get_ptr_mut(table) {
        // SAFETY: the map lookup succeeded.
        unsafe { change(&raw mut (*table).entries, u64::MAX) };
    }
}

/// Returns true if a missing entry may have been forgotten.
#[inline(always)]
pub(super) fn overflowed(table: u32) -> bool {
    // SAFETY: the map lookup succeeded; the field is a whole word.
    TABLES
        .get_ptr(table)
        .is_some_and(|table| unsafe { (*table).overflowed != 0 })
}

/// Adds with wrap-around. The result is not used, because before Linux 5.12 the instruction has
/// none.
#[inline(always)]
unsafe fn change(entries: *mut u64, by: u64) {
    // SAFETY: the caller's word is aligned and alive. Rust has no atomic types for this target.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) entries, in(reg) by) };
}
