//! zsh.

use aya_ebpf::macros::{uprobe, uretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use ecapture_ebpf::record::{KIND_ZSH, STEP_BEGUN, STEP_DIRECTORY, STEP_EXPANDED, STEP_TYPED};

use super::text::{end_command, send_bounded, send_step, send_text};
use super::{current, known, process, reads, variable};
use crate::programs::call::{stack_pointer_at_entry, stack_pointer_at_return};
use crate::programs::memory::user;
use crate::programs::state::{Shell, ShellPhase};

/// `ZLE_CMD_READ` of zsh's Src/zsh.h.
const ZLE_READ: u32 = 1;

/// The initial state. A static, so that it takes no stack.
static NEW: Shell = Shell {
    phase: ShellPhase::Unknown as u32,
    lines: 0,
    reading: 0,
    kind: KIND_ZSH,
    faulty: 0,
};

/// `void preprompt(void)`: an interactive zsh is ready for the next command.
#[uprobe]
fn zsh_prompt(context: ProbeContext) {
    let pid = process();
    if let Some(shell) = known(pid)
        && shell.lines != 0
    {
        // `zlong lastval`.
        let status = variable(&context, 0).and_then(user::<i64>);
        end_command(KIND_ZSH, pid, status.map(|status| status as i32));
    }
    let Some(shell) = current(pid, &NEW) else {
        return;
    };
    shell.phase = ShellPhase::Reads as u32;
    shell.lines = 0;
    shell.reading = 0;
}

/// `char *zleentry(int cmd, ...)`: with `ZLE_CMD_READ` a line is edited.
#[uprobe]
fn zsh_edit(context: ProbeContext) {
    let command: u32 = context.arg(0).unwrap_or(0);
    if command != ZLE_READ {
        return;
    }
    let pid = process();
    let Some(shell) = reads(pid, &NEW) else { return };
    shell.reading = stack_pointer_at_entry(context.regs);
    if shell.lines == 0
        && let Some(directory) = variable(&context, 0).and_then(user::<u64>)
    {
        send_text(KIND_ZSH, STEP_DIRECTORY, 0, pid, directory);
    }
}

/// The line that was edited.
#[uretprobe]
fn zsh_edited(context: RetProbeContext) {
    let pid = process();
    let known_shell = known(pid);
    let is_reading = match &known_shell {
        Some(shell) => shell.reading == stack_pointer_at_return(context.regs),
        None => false,
    };
    let Some(shell) = known_shell else { return };
    if !is_reading {
        return;
    }
    shell.reading = 0;
    let line: u64 = context.ret();
    if line != 0 && shell.phase != ShellPhase::Runs as u32 {
        shell.lines += 1;
        send_text(KIND_ZSH, STEP_TYPED, 0, pid, line);
    }
}

/// `int hend(Eprog prog)`: the command is complete; its text, with what the history gave, is from `chline` up to
/// `hptr`. Others call it too, while a line is edited or a command runs.
#[uprobe]
fn zsh_begin(context: ProbeContext) {
    let pid = process();
    let Some(shell) = known(pid) else { return };
    if shell.lines == 0 || shell.reading != 0 || shell.phase == ShellPhase::Runs as u32 {
        return;
    }
    // Parts of a command are read with it, too, and give none.
    let program: u64 = context.arg(0).unwrap_or(0);
    if program == 0 {
        return;
    }
    let text = variable(&context, 0).and_then(user::<u64>).unwrap_or(0);
    let end = variable(&context, 1).and_then(user::<u64>).unwrap_or(0);
    if text != 0 && end > text {
        send_bounded(KIND_ZSH, STEP_EXPANDED, pid, text, end - text);
    }
    send_step(KIND_ZSH, STEP_BEGUN, 0, pid, 0);
    shell.phase = ShellPhase::Runs as u32;
}
