//! Reads memory whose addresses and offsets are only known at run time.

use aya_ebpf::helpers::bpf_probe_read_kernel;

/// Reads the `T` at `base + offset` in kernel memory.
#[inline(always)]
pub(super) fn kernel<T>(base: u64, offset: u32) -> Option<T> {
    // SAFETY: the helper checks the address and fails instead of faulting.
    unsafe { bpf_probe_read_kernel((base + u64::from(offset)) as *const T) }.ok()
}

/// Reads the `T` at `address` in the current process.
#[inline(always)]
pub(super) fn user<T>(address: u64) -> Option<T> {
    // SAFETY: the helper checks the address and fails instead of faulting.
    unsafe { aya_ebpf::helpers::bpf_probe_read_user(address as *const T) }.ok()
}
