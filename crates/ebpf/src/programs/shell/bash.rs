//! bash, and GNU Readline, which may be a library of its own that other programs use, too.

use aya_ebpf::macros::{uprobe, uretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use ecapture_ebpf::record::{
    KIND_BASH, SHELL_REFUSED, STEP_ABANDONED, STEP_BEGUN, STEP_DIRECTORY, STEP_EXPANDED, STEP_TYPED,
};

use super::text::{end_command, send_step, send_text};
use super::{current, known, process, reads, variable};
use crate::programs::memory::user;
use crate::programs::state::{Shell, ShellPhase};

/// The initial state. A static, so that it takes no stack.
static NEW: Shell = Shell {
    phase: ShellPhase::Unknown as u32,
    lines: 0,
    reading: 0,
    kind: KIND_BASH,
    faulty: 0,
};

/// [`Shell::reading`]: a line is being edited.
const EDITS: u64 = 1;
/// [`Shell::reading`]: it was, and its text was sent.
const EDITED: u64 = 2;

/// `int read_command(void)`, which reads the next command: the last one has ended. In a script it does so
/// without a line.
#[uprobe]
fn bash_read_command(context: ProbeContext) {
    let pid = process();
    let Some(shell) = known(pid) else { return };
    let edits = shell.reading == EDITS;
    // A shell is first known when it edits a line, which is after it called this function.
    let reads = shell.phase == ShellPhase::Reads as u32 || shell.phase == ShellPhase::Unknown as u32 && edits;
    if reads {
        // The function did not return: a signal made the shell begin again.
        let line = variable(&context, 1).and_then(user::<u64>).unwrap_or(0);
        send_text(KIND_BASH, STEP_ABANDONED, 0, pid, if edits { line } else { 0 });
    } else if shell.lines != 0 {
        let status = variable(&context, 0).and_then(user::<i32>);
        end_command(KIND_BASH, pid, status);
    }
    shell.phase = ShellPhase::Reads as u32;
    shell.lines = 0;
    shell.reading = 0;
    shell.faulty = 0;
}

/// `void parser_error(int lineno, const char *format, …)`: what is read is not a command. An interactive bash then
/// acts as if it had read an empty one.
#[uprobe]
fn bash_parser_error(_context: ProbeContext) {
    if let Some(shell) = known(process())
        && shell.phase != ShellPhase::Runs as u32
    {
        shell.faulty = 1;
    }
}

/// The command was read; not 0: it is none.
#[uretprobe]
fn bash_command_read(context: RetProbeContext) {
    let pid = process();
    let Some(shell) = known(pid) else { return };
    if shell.lines != 0 && shell.phase != ShellPhase::Runs as u32 {
        let failed = context.ret::<i32>() != 0 || shell.faulty != 0;
        send_step(
            KIND_BASH,
            STEP_BEGUN,
            if failed { SHELL_REFUSED } else { 0 },
            pid,
            0,
        );
    }
    shell.phase = ShellPhase::Runs as u32;
    shell.reading = 0;
}

/// `char *readline_internal_setup(void)`: a line is about to be edited. A script does it, too, with `read -e`: its
/// `interactive` is 0.
#[uprobe]
fn readline_begin(context: ProbeContext) {
    let interactive = variable(&context, 0).and_then(user::<i32>);
    let Some(shell) = current(process(), &NEW) else {
        return;
    };
    shell.reading = EDITS;
    if interactive == Some(0) {
        shell.phase = ShellPhase::Runs as u32;
    }
}

/// `char *readline_internal_teardown(int eof)`: the line is in `rl_line_buffer`.
#[uprobe]
fn readline_end(context: ProbeContext) {
    let pid = process();
    let is_end: u32 = context.arg(0).unwrap_or(0);
    let Some(line) = variable(&context, 0).and_then(user::<u64>) else {
        return;
    };
    if is_end != 0 {
        return;
    }
    let Some(shell) = reads(pid, &NEW) else {
        return;
    };
    shell.reading = EDITED;
    if shell.lines == 0
        && let Some(directory) = variable(&context, 1).and_then(user::<u64>)
    {
        send_text(KIND_BASH, STEP_DIRECTORY, 0, pid, directory);
    }
    shell.lines += 1;
    send_text(KIND_BASH, STEP_TYPED, 0, pid, line);
}

/// `char *readline(const char *prompt)`: where the line could not be taken from [`readline_end`], it is what this
/// returns.
#[uretprobe]
fn readline_return(context: RetProbeContext) {
    let pid = process();
    let line: u64 = context.ret();
    if let Some(shell) = known(pid) {
        let taken = shell.reading == EDITED;
        shell.reading = 0;
        if taken {
            return;
        }
    }
    if line == 0 {
        return;
    }
    let Some(shell) = reads(pid, &NEW) else {
        return;
    };
    shell.lines += 1;
    send_text(KIND_BASH, STEP_TYPED, 0, pid, line);
}

/// `char *pre_process_line(char *line, int print_changes, int addit)`: the line as it is executed, or nothing.
#[uretprobe]
fn bash_expanded(context: RetProbeContext) {
    let pid = process();
    let line: u64 = context.ret();
    let Some(shell) = reads(pid, &NEW) else {
        return;
    };
    // Without an editor, or of a text with several lines, it is the first that is seen of the line.
    shell.lines += 1;
    let flags = if line == 0 { SHELL_REFUSED } else { 0 };
    send_text(KIND_BASH, STEP_EXPANDED, flags, pid, line);
}
