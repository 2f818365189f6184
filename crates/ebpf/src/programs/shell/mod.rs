//! The lines of interactive shells, and how the commands in them ended.
//!
//! A shell's own functions say when it reads a command, what the command is and when it runs. Its variables are
//! read where they are: the cookie of a probe has the distances of two of them from the probe's place, because the
//! file may be loaded anywhere.

mod bash;
mod text;
mod zsh;

use core::ffi::c_void;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_get_attach_cookie;
use aya_ebpf::programs::ProbeContext;
use ecapture_ebpf::config::{HAS_COOKIE, SHELLS as FEATURE};
use ecapture_ebpf::record::{SHELL_STATUS, STEP_EXITED, STEP_PROMPT, STEP_REPLACED};
use ecapture_ebpf::{counter, table};

use super::counters::count;
use super::filter::{ended, stopped, wanted};
use super::maps::{PROCESSES, SHELLS, config};
use super::memory::kernel;
use super::state::{Shell, ShellPhase};
use super::tables::{entered, left};
use text::send_step;

/// The process of a shell ends.
#[inline(always)]
pub(in crate::programs) fn exited(pid: u32, task: u64) {
    if config!(features) & FEATURE == 0 {
        return;
    }
    let Some(shell) = known(pid) else { return };
    let kind = shell.kind;
    forget(pid);
    if !ended() {
        let status: i32 = kernel(task, config!(offsets.task_exit_code)).unwrap_or(0);
        send_step(kind, STEP_EXITED, SHELL_STATUS, pid, status);
    }
}

/// The process of a shell becomes another program.
#[inline(always)]
pub(in crate::programs) fn replaced(pid: u32) {
    if config!(features) & FEATURE == 0 {
        return;
    }
    let Some(shell) = known(pid) else { return };
    let kind = shell.kind;
    forget(pid);
    if !ended() {
        send_step(kind, STEP_REPLACED, 0, pid, 0);
    }
}

#[inline(always)]
fn forget(pid: u32) {
    if SHELLS.remove(pid).is_ok() {
        left(table::SHELLS);
    }
}

#[inline(always)]
fn process() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

#[inline(always)]
fn known(pid: u32) -> Option<&'static mut Shell> {
    // SAFETY: the map lookup succeeded, and only the shell's one thread uses its entry.
    SHELLS.get_ptr_mut(pid).map(|shell| unsafe { &mut *shell })
}

/// Returns the shell's entry, which is created if it is new and captured.
#[inline(always)]
fn current(pid: u32, new: &'static Shell) -> Option<&'static mut Shell> {
    if let Some(shell) = known(pid) {
        return Some(shell);
    }
    if stopped() {
        return None;
    }
    if !wanted(pid) {
        count(counter::FILTERED_CALLS, 1);
        return None;
    }
    if SHELLS.insert(pid, new, 0).is_ok() {
        entered(table::SHELLS);
    }
    // Its end is an event.
    let _full = PROCESSES.insert(pid, 1, 0);
    // The sooner its login is looked up, the surer it still runs.
    send_step(new.kind, STEP_PROMPT, 0, pid, 0);
    known(pid)
}

/// Returns the shell's entry if a line that it reads now belongs to a command.
#[inline(always)]
fn reads(pid: u32, new: &'static Shell) -> Option<&'static mut Shell> {
    let shell = current(pid, new)?;
    // A command reads input by itself, as `read -e` does; and filters may have changed.
    if shell.phase == ShellPhase::Runs as u32 || stopped() || !wanted(pid) {
        return None;
    }
    Some(shell)
}

/// Returns the address of one of the two variables whose distances are in the probe's cookie.
#[inline(always)]
fn variable(context: &ProbeContext, number: u32) -> Option<u64> {
    if config!(features) & HAS_COOKIE == 0 {
        return None;
    }
    // SAFETY: the context is the program's own.
    let cookie = unsafe { bpf_get_attach_cookie(context.as_ptr() as *mut c_void) };
    let distance = (cookie >> (32 * number)) as u32 as i32;
    if distance == 0 {
        return None;
    }
    Some(place(context.regs).wrapping_add(i64::from(distance) as u64))
}

/// Returns the address of the instruction under the probe.
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
fn place(registers: *mut pt_regs) -> u64 {
    // SAFETY: the kernel passes valid registers.
    unsafe { (*registers).rip }
}

#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
fn place(registers: *mut pt_regs) -> u64 {
    // SAFETY: the kernel passes valid registers.
    unsafe { (*registers).pc }
}
