//! Steps as the kernel reports them, without a shell.

use ecapture_ebpf::record::{KIND_BASH, SHELL_HEADER_BYTES};

use super::*;

/// A process that there is not.
const PID: u32 = u32::MAX;

struct Steps {
    commands: Commands,
    now: u64,
    status: i32,
}

impl Steps {
    fn of(shell: Shell) -> Self {
        Self {
            commands: Commands::new(shell, &ModuleOptions::default()),
            now: 0,
            status: 7,
        }
    }

    fn record(&mut self, pid: u32, step: u32, flags: u32, offset: u32, text: &[u8]) -> Option<ShellCommand> {
        self.now += 1000;
        let mut bytes = Vec::new();
        bytes.extend(KIND_BASH.to_ne_bytes());
        bytes.extend(u32::try_from(text.len()).unwrap().to_ne_bytes());
        bytes.extend(self.now.to_ne_bytes());
        for word in [pid, 1000, step, flags] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(*b"bash\0\0\0\0\0\0\0\0\0\0\0\0");
        bytes.extend(offset.to_ne_bytes());
        bytes.extend(self.status.to_ne_bytes());
        assert_eq!(bytes.len(), SHELL_HEADER_BYTES);
        bytes.extend(text);
        let joined = self.commands.join(&bytes).unwrap();
        assert_eq!(joined.bytes, text.len() as u64);
        joined.event.map(command)
    }

    fn step(&mut self, step: u32, text: &str) -> Option<ShellCommand> {
        self.record(PID, step, SHELL_STATUS, 0, text.as_bytes())
    }

    /// Types lines that are executed as they are, and runs them.
    fn run(&mut self, lines: &[&str]) -> ShellCommand {
        for line in lines {
            assert_eq!(self.step(STEP_TYPED, line), None);
        }
        assert_eq!(self.step(STEP_BEGUN, ""), None);
        self.step(STEP_ENDED, "").unwrap()
    }
}

fn command(event: CapturedEvent) -> ShellCommand {
    match event {
        CapturedEvent::Observed(observed) => match observed.fact {
            Fact::ShellCommand(command) => *command,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn lines_of_a_command_are_joined_and_it_has_its_status() {
    let mut steps = Steps::of(Shell::Bash);
    steps.step(STEP_DIRECTORY, "/srv");
    let command = steps.run(&["for i in 1; do", "", "echo", "done"]);
    assert_eq!(command.text, "for i in 1; do\n\necho\ndone");
    assert_eq!((command.status, command.duration_ns), (Some(7), Some(1000)));
    assert_eq!(
        (command.end, command.directory.as_deref()),
        (CommandEnd::Finished, Some("/srv"))
    );
    assert_eq!(steps.run(&["next"]).text, "next");
}

#[test]
fn the_text_that_is_executed_replaces_what_was_typed() {
    let mut steps = Steps::of(Shell::Bash);
    steps.step(STEP_TYPED, "!e");
    steps.step(STEP_EXPANDED, "echo 1");
    steps.step(STEP_TYPED, "!e | cat");
    steps.step(STEP_EXPANDED, "echo 1 | cat");
    steps.step(STEP_BEGUN, "");
    assert_eq!(steps.step(STEP_ENDED, "").unwrap().text, "echo 1\necho 1 | cat");
    // One text with two commands, as it is pasted.
    steps.step(STEP_TYPED, "a\nb");
    for line in ["a", "b"] {
        steps.step(STEP_EXPANDED, line);
        steps.step(STEP_BEGUN, "");
        assert_eq!(steps.step(STEP_ENDED, "").unwrap().text, line);
    }
}

#[test]
fn a_line_that_is_not_executed_is_a_command_of_its_own() {
    let mut steps = Steps::of(Shell::Bash);
    steps.run(&["first"]);
    steps.step(STEP_TYPED, "!nope");
    let refused = steps.record(PID, STEP_EXPANDED, SHELL_REFUSED, 0, b"").unwrap();
    assert_eq!((refused.text, refused.end), ("!nope".into(), CommandEnd::Refused));
    assert_eq!((refused.status, refused.duration_ns), (None, None));
    assert_eq!(steps.run(&["next"]).text, "next");
    steps.step(STEP_TYPED, "if then");
    steps.record(PID, STEP_BEGUN, SHELL_REFUSED, 0, b"");
    let refused = steps.step(STEP_ENDED, "").unwrap();
    assert_eq!((refused.status, refused.end), (Some(7), CommandEnd::Refused));
}

#[test]
fn what_was_given_up_has_what_was_typed_so_far() {
    let mut steps = Steps::of(Shell::Bash);
    steps.run(&["first"]);
    steps.step(STEP_TYPED, "for i in 1; do");
    let abandoned = steps.record(PID, STEP_ABANDONED, 0, 0, b"ech").unwrap();
    assert_eq!(abandoned.text, "for i in 1; do\nech");
    assert_eq!((abandoned.status, abandoned.end), (None, CommandEnd::Abandoned));
    assert_eq!(steps.record(PID, STEP_ABANDONED, 0, 0, b""), None);
}

#[test]
fn a_long_line_comes_in_parts_and_a_lost_part_is_marked() {
    let mut steps = Steps::of(Shell::Bash);
    let line = "x".repeat(70_000);
    for lost in [false, true] {
        for (number, part) in line.as_bytes().chunks(4095).enumerate() {
            let offset = u32::try_from(number * 4095).unwrap();
            let more = if offset + 4095 < 70_000 { SHELL_MORE } else { 0 };
            if !(lost && number == 5) {
                steps.record(PID, STEP_TYPED, more, offset, part);
            }
        }
        steps.step(STEP_BEGUN, "");
        let command = steps.step(STEP_ENDED, "").unwrap();
        assert_eq!(command.cut, lost);
        assert_eq!(command.text.len(), if lost { 70_000 - 4095 } else { 70_000 });
    }
    assert!(!steps.run(&["next"]).cut);
}

#[test]
fn what_was_lost_at_the_end_or_as_a_whole_is_marked() {
    let mut steps = Steps::of(Shell::Bash);
    assert_eq!(steps.run(&["first"]).text, "first");
    steps.record(PID, STEP_TYPED, SHELL_MORE, 0, b"echo beginn");
    steps.step(STEP_BEGUN, "");
    let command = steps.step(STEP_ENDED, "").unwrap();
    assert_eq!((command.text, command.cut), ("echo beginn".into(), true));
    steps.step(STEP_BEGUN, "");
    let command = steps.step(STEP_ENDED, "").unwrap();
    assert_eq!((command.text, command.cut), ("".into(), true));
    // An empty line is no command.
    steps.step(STEP_TYPED, " ");
    steps.step(STEP_BEGUN, "");
    assert_eq!(steps.step(STEP_ENDED, ""), None);
}

#[test]
fn text_is_bounded() {
    let mut steps = Steps::of(Shell::Bash);
    let part = "x".repeat(1 << 20);
    for number in 0..80 {
        for _ in 0..2 {
            steps.record(number, STEP_TYPED, 0, 0, part.as_bytes());
            steps.record(number, STEP_EXPANDED, 0, 0, part.as_bytes());
        }
    }
    let held: usize = steps.commands.shells.values().map(State::bytes).sum();
    assert_eq!(held, steps.commands.held);
    assert!(held <= limits::SHELL_BYTES + 2 * part.len(), "{held}");
    let command = steps.record(79, STEP_ENDED, 0, 0, b"");
    assert!(command.is_none_or(|command| command.cut));
}

#[test]
fn programs_that_only_read_lines_are_no_shells() {
    let mut steps = Steps::of(Shell::Bash);
    for _ in 0..20_000 {
        assert_eq!(steps.step(STEP_TYPED, "SELECT 1;"), None);
    }
    assert!(steps.commands.held <= limits::READ_BYTES + 20);
    assert_eq!(steps.step(STEP_EXITED, ""), None);
    assert!(steps.commands.shells.is_empty() && steps.commands.held == 0);
    steps.step(STEP_TYPED, "SELECT 1;");
    assert!(steps.commands.finish().is_empty());
}

#[test]
fn the_end_of_the_shell_ends_its_command() {
    let mut steps = Steps::of(Shell::Bash);
    steps.step(STEP_TYPED, "exit 4");
    steps.step(STEP_BEGUN, "");
    let exited = steps.step(STEP_EXITED, "").unwrap();
    assert_eq!((exited.end, exited.status), (CommandEnd::Exited, Some(128 + 7)));
    assert_eq!((exit_status(4 << 8), exit_status(9 | 0x80)), (4, 137));
    steps.step(STEP_TYPED, "exec x");
    steps.step(STEP_BEGUN, "");
    let replaced = steps.record(PID, STEP_REPLACED, 0, 0, b"").unwrap();
    assert_eq!((replaced.end, replaced.status), (CommandEnd::Replaced, None));
    steps.step(STEP_TYPED, "sleep 9");
    steps.step(STEP_BEGUN, "");
    let running: Vec<_> = steps.commands.finish().into_iter().map(command).collect();
    assert_eq!((running.len(), running[0].end), (1, CommandEnd::Running));
}

#[test]
fn only_commands_with_the_wanted_status_are_events() {
    let mut steps = Steps::of(Shell::Bash);
    steps.commands.wanted = Some(0);
    steps.step(STEP_TYPED, "false");
    steps.step(STEP_BEGUN, "");
    assert_eq!(steps.step(STEP_ENDED, ""), None);
    assert_eq!(steps.commands.left_out, 1);
    steps.commands.wanted = Some(7);
    assert_eq!(steps.run(&["f"]).text, "f");
}

#[test]
fn zsh_gives_the_whole_command_at_once_and_keeps_some_bytes_in_its_own_way() {
    let mut steps = Steps::of(Shell::Zsh);
    steps.step(STEP_TYPED, "echo \\\n");
    steps.step(STEP_TYPED, "!!\n");
    steps.record(PID, STEP_EXPANDED, 0, 0, b"echo \x83\xa4\n\x83\xa3x\n");
    steps.step(STEP_BEGUN, "");
    assert_eq!(
        steps.step(STEP_ENDED, "").unwrap().text,
        b"echo \x84\n\x83x".as_slice()
    );
    steps.step(STEP_TYPED, "if fi\n");
    let refused = steps.step(STEP_ENDED, "").unwrap();
    assert_eq!((refused.end, refused.text), (CommandEnd::Refused, "if fi".into()));
    steps.step(STEP_TYPED, "for i\n");
    steps.status = 130;
    let abandoned = steps.step(STEP_ENDED, "").unwrap();
    assert_eq!(
        (abandoned.end, abandoned.text),
        (CommandEnd::Abandoned, "for i".into())
    );
}
