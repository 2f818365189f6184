//! Reports to user space which files processes begin to execute, unless it already knows them.

use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_probe_read_kernel_str};
use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid};
use ecapture_ebpf::config::DISCOVER;
use ecapture_ebpf::counter;
use ecapture_ebpf::discovery::{EVENT_EXECUTED, EVENT_MAPPED, FileKey, FileRecord, NAME_BYTES};

use super::counters::count;
use super::filter::{InForce, stopped};
use super::identity::file_of;
use super::maps::{FILES, KNOWN, config};
use super::memory::kernel;

// include/uapi/asm-generic/mman-common.h
const PROT_EXEC: u64 = 4;
const MAP_ANONYMOUS: u64 = 0x20;

/// Reports the file of an `mmap` call with these arguments.
#[inline(always)]
pub(super) fn mapping(protection: u64, flags: u64, fd: i32) -> Option<()> {
    if protection & PROT_EXEC == 0 || flags & MAP_ANONYMOUS != 0 {
        return None;
    }
    tell(file_of(fd)?, 0, EVENT_MAPPED)
}

/// Reports the program that the current process has become, described by `binary` (`struct
/// linux_binprm`).
#[inline(always)]
pub(super) fn executed(binary: u64) -> Option<()> {
    let path: u64 = kernel(binary, config!(offsets.binprm_filename))?;
    tell(
        kernel(binary, config!(offsets.binprm_file))?,
        path,
        EVENT_EXECUTED,
    )
}

/// Reports a file. `path` is the kernel's text of its path, or 0 for the last part of the file's
/// own path.
#[inline(always)]
fn tell(file: u64, path: u64, event: u32) -> Option<()> {
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if config!(features) & DISCOVER == 0 || !concerns(pid) {
        return None;
    }
    let key = key_of(file)?;
    if KNOWN.get_ptr(key).is_some() || stopped() {
        return None;
    }
    let name: u64 = if path != 0 {
        path
    } else {
        let dentry: u64 = kernel(file, config!(offsets.file_dentry))?;
        kernel(dentry, config!(offsets.dentry_name))?
    };
    let Some(mut slot) = FILES.reserve::<FileRecord>(0) else {
        count(counter::FILES_LOST, 1);
        return None;
    };
    slot.write(FileRecord {
        // SAFETY: the helper has no preconditions.
        timestamp_ns: unsafe { bpf_ktime_get_ns() },
        file: key,
        pid,
        event,
        comm: bpf_get_current_comm().unwrap_or([0; 16]),
        name: [0; NAME_BYTES],
    });
    // SAFETY: the slot is ours until it is submitted; the helper checks the source.
    unsafe {
        bpf_probe_read_kernel_str(
            (&raw mut (*slot.as_mut_ptr()).name).cast(),
            NAME_BYTES as u32,
            name as *const _,
        );
    }
    slot.submit(0);
    Some(())
}

/// Returns true if the current process may be captured. Only filters by process count here, because
/// a process may change its user and its cgroup after it has mapped its libraries.
#[inline(always)]
fn concerns(pid: u32) -> bool {
    InForce::get().lets_through(pid)
}

#[inline(always)]
fn key_of(file: u64) -> Option<FileKey> {
    let inode: u64 = kernel(file, config!(offsets.file_inode))?;
    let super_block: u64 = kernel(inode, config!(offsets.inode_super_block))?;
    Some(FileKey {
        inode: kernel(inode, config!(offsets.inode_number))?,
        size: kernel(inode, config!(offsets.inode_size))?,
        device: kernel(super_block, config!(offsets.super_block_device))?,
        generation: kernel(inode, config!(offsets.inode_generation))?,
    })
}
