//! Commands that are typed into bash and zsh on terminals of their own.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::can_capture;
use crate::support::exchanges::{assert_balanced, replay};
use crate::support::program::{Finished, Running, run};

const DRIVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/shell.py");
/// The prompts.
const READY: &str = "READY> ";
const MORE: &str = "MORE> ";

const BASH: &[&str] = &["bash", "--norc", "--noprofile", "-i"];
/// Without the start files, and with the usual keys.
const ZSH: &[&str] = &["zsh", "-f", "-i"];

/// What somebody types: keys, and what is waited for afterwards.
type Steps = Vec<(String, &'static str)>;

/// Steps for lines that are commands.
fn lines(lines: &[&str]) -> Steps {
    let steps = lines.iter().map(|line| (format!("{line}\n"), READY));
    begun(steps.collect())
}

/// Begins with the first prompt.
fn begun(steps: Steps) -> Steps {
    [(String::new(), READY)].into_iter().chain(steps).collect()
}

/// Types `steps` into a shell. Returns its number.
fn type_into(shell: &[&str], steps: &Steps) -> u64 {
    pid_of(&start(shell, steps).wait_with_output().expect("the shell ends"))
}

fn start(shell: &[&str], steps: &Steps) -> std::process::Child {
    let mut driver = Command::new("python3")
        .arg(DRIVER)
        .args(shell)
        .env_remove("SSH_CONNECTION")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    let mut input = driver.stdin.take().expect("a pipe");
    for (keys, expected) in steps {
        writeln!(input, "{}", json!([keys, expected])).expect("it is read");
    }
    driver
}

fn pid_of(driver: &Output) -> u64 {
    assert!(driver.status.success(), "{driver:?}");
    let text = String::from_utf8_lossy(&driver.stdout);
    text.lines()
        .next()
        .and_then(|pid| pid.parse().ok())
        .expect("a number")
}

/// Captures while `load` runs.
fn capture(arguments: &[&str], load: impl FnOnce() -> u64) -> (Finished, Vec<Value>) {
    let mut running = Running::start(arguments);
    running.wait_until_capturing();
    let pid = load();
    let finished = running.interrupt();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_complete(&finished);
    let commands = of_process(&finished, pid);
    (finished, commands)
}

/// Everything that happened on the host while others were busy may have been too much to look at all its programs.
fn assert_complete(finished: &Finished) {
    assert_balanced(finished);
    let lost = |line: &&str| line.contains("lost: ") && !line.contains("file_without_room");
    assert_eq!(finished.stderr.lines().find(lost), None);
}

/// A command that ends when `file` has `text`: the shell still runs when the capture sees what came before.
fn until(file: &str, text: &str) -> String {
    format!("until grep -q '{text}' '{file}'; do :; done")
}

fn of_process(finished: &Finished, pid: u64) -> Vec<Value> {
    let mut commands = finished.json();
    commands.retain(|line| line["kind"] == "shell.command" && line["pid"] == pid);
    commands
}

/// Text, exit status and end of each.
fn ends(commands: &[Value]) -> Vec<(String, i64, &str)> {
    let of = |command: &Value, name: &str| command[name].as_i64().unwrap_or(-1);
    let ends = commands.iter().map(|command| {
        let text = command["command"]["text"].as_str().expect("text").to_owned();
        (
            text,
            of(command, "exit_status"),
            command["end"].as_str().expect("an end"),
        )
    });
    ends.collect()
}

fn assert_ends(commands: &[Value], expected: &[(&str, i64, &str)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|&(text, status, end)| (text.to_owned(), status, end))
        .collect();
    assert_eq!(ends(commands), expected);
}

fn milliseconds(command: &Value) -> u64 {
    command["duration_ns"].as_u64().expect("a duration") / 1_000_000
}

/// Who typed it, where and in which program.
fn assert_of_this_login(first: &Value) {
    let tty = first["tty"].as_str().expect("a terminal");
    assert!(tty.starts_with("/dev/pts/"), "{first}");
    for (name, value) in [
        ("shell", json!("bash")),
        ("uid", json!(0)),
        ("program", json!("bash")),
    ] {
        assert_eq!(first[name], value, "{first}");
    }
    assert!(first["ppid"].is_u64() && first["time"].is_string(), "{first}");
    assert!(first.get("ssh_client").is_none(), "{first}");
}

#[test]
fn bash_shows_every_command_once_with_its_status_duration_and_directory() {
    let Some(_alone) = can_capture(&["bash", "python3"]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let written = folder.path().join("run.txt").display().to_string();
    let waits = until(&written, "nosuchcommand");
    let steps = lines(&[
        "echo one; false",
        "cd /usr/lib",
        "!e",
        "(exit 7)",
        "sleep 0.3",
        "f() { return 3; }",
        "f",
        "(exit 2)",
        "# a comment",
        "   ",
        "if then",
        "!nothing-like-this",
        "set +o history",
        "echo 'not in the history'",
        "nosuchcommand",
        &waits,
    ]);
    let flags = ["bash", "-o", "jsonl", "-o", &format!("text:{written}")];
    let (_, commands) = capture(&flags, || type_into(BASH, &steps));
    assert_ends(
        &commands,
        &[
            ("echo one; false", 1, "finished"),
            ("cd /usr/lib", 0, "finished"),
            ("echo one; false", 1, "finished"),
            ("(exit 7)", 7, "finished"),
            ("sleep 0.3", 0, "finished"),
            ("f() { return 3; }", 0, "finished"),
            ("f", 3, "finished"),
            ("(exit 2)", 2, "finished"),
            ("# a comment", 2, "finished"),
            ("if then", 2, "refused"),
            ("!nothing-like-this", -1, "refused"),
            ("set +o history", 0, "finished"),
            ("echo 'not in the history'", 0, "finished"),
            ("nosuchcommand", 127, "finished"),
            (&waits, 0, "finished"),
        ],
    );
    assert!(
        (300..3000).contains(&milliseconds(&commands[4])),
        "{}",
        commands[4]
    );
    assert_eq!(commands[2]["cwd"], "/usr/lib");
    assert_ne!(commands[1]["cwd"], "/usr/lib", "it began elsewhere");
    assert_of_this_login(&commands[0]);
}

#[test]
fn commands_of_several_lines_are_whole() {
    let Some(_alone) = can_capture(&["bash", "python3"]) else {
        return;
    };
    let typed = |text: &str| {
        let lines: Vec<_> = text.split('\n').collect();
        let (last, first) = lines.split_last().expect("a line");
        let first = first.iter().map(|line| (format!("{line}\n"), MORE));
        first.chain([(format!("{last}\n"), READY)]).collect::<Steps>()
    };
    let texts = [
        "cat <<'END'\none $HOME\n\n  three ü\nEND",
        "f() {\n  echo \"in f\"\n\n  return 4\n}",
        "for i in 1 2 3\ndo f\ndone",
        "echo 'a\nb' \\\n  c",
    ];
    let steps = begun(texts.iter().flat_map(|text| typed(text)).collect());
    let (_, commands) = capture(&["bash", "-o", "jsonl"], || type_into(BASH, &steps));
    let statuses = [0, 0, 4, 0];
    let expected: Vec<_> = std::iter::zip(texts, statuses)
        .map(|(text, status)| (text, status, "finished"))
        .collect();
    assert_ends(&commands, &expected);
}

#[test]
fn a_line_may_be_as_long_as_it_likes() {
    let Some(_alone) = can_capture(&["bash", "python3"]) else {
        return;
    };
    let numbers: String = (0..).map(|number| format!("{number} ")).take(14_000).collect();
    let long = format!(": {}", &numbers[..65_536]);
    let exact = [4094, 4095, 4096, 8190, 8191].map(|length| format!(": {}", "x".repeat(length - 2)));
    let typed: Vec<&str> = [long.as_str()]
        .into_iter()
        .chain(exact.iter().map(String::as_str))
        .collect();
    let (_, commands) = capture(&["bash", "-o", "jsonl"], || type_into(BASH, &lines(&typed)));
    let texts: Vec<_> = ends(&commands).into_iter().map(|(text, ..)| text).collect();
    assert_eq!(texts, typed);
    assert_eq!(commands[0]["command"]["len"], 65_538);
    assert!(
        commands
            .iter()
            .all(|command| command["command"].get("cut").is_none())
    );
}

const RUNS: &str = "perl -e '$|=1; print \"run\".\"ning\"; sleep 60'\n";

/// Ctrl-C clears what the terminal still has for the shell, so each step waits for its echo. What runs says so
/// itself, and is one process: a shell that gets the signal while it starts another one may go on to wait for it.
fn interrupted() -> Steps {
    let steps = [
        ("before any command", "any command"),
        ("\u{3}", READY),
        ("echo first\n", READY),
        ("typed in part", "part"),
        ("\u{3}", READY),
        ("for i in 1\n", MORE),
        ("do echo", "echo"),
        ("\u{3}", READY),
        (RUNS, "running"),
        ("\u{3}", READY),
        ("echo last\n", READY),
    ];
    begun(steps.map(|(keys, expected)| (keys.to_owned(), expected)).into())
}

#[test]
fn what_ctrl_c_ends_is_shown_as_far_as_it_was_typed() {
    let Some(_alone) = can_capture(&["bash", "zsh", "python3"]) else {
        return;
    };
    let steps = interrupted();
    let (_, commands) = capture(&["bash", "-o", "jsonl"], || type_into(BASH, &steps));
    assert_ends(
        &commands,
        &[
            ("before any command", -1, "abandoned"),
            ("echo first", 0, "finished"),
            ("typed in part", -1, "abandoned"),
            ("for i in 1\ndo echo", -1, "abandoned"),
            (RUNS.trim_end(), 130, "finished"),
            ("echo last", 0, "finished"),
        ],
    );
}

#[test]
fn exit_and_exec_end_the_last_command() {
    let Some(_alone) = can_capture(&["bash", "zsh", "python3"]) else {
        return;
    };
    for (module, shell) in [("bash", BASH), ("zsh", ZSH)] {
        for (last, status, end) in [
            ("exit 5", 5, "exited"),
            ("exec sleep 0.1", -1, "replaced"),
            ("kill -9 $$", 137, "exited"),
        ] {
            let steps = begun(vec![
                ("echo first\n".to_owned(), READY),
                (format!("{last}\n"), "never written"),
            ]);
            let (_, commands) = capture(&[module, "-o", "jsonl"], || type_into(shell, &steps));
            assert_ends(&commands, &[("echo first", 0, "finished"), (last, status, end)]);
        }
    }
}

#[test]
fn zsh_is_shown_in_the_same_way() {
    let Some(_alone) = can_capture(&["zsh", "python3"]) else {
        return;
    };
    let steps = lines(&[
        "echo one ü €; false",
        "cd /usr/lib",
        "!e",
        "for i in 1 2; do (exit 7); done",
        "sleep 0.3",
        "cat <<END\nx $HOME\nEND",
        "eval 'echo a'",
    ]);
    let (_, commands) = capture(&["zsh", "-o", "jsonl"], || type_into(ZSH, &steps));
    assert_ends(
        &commands,
        &[
            ("echo one ü €; false", 1, "finished"),
            ("cd /usr/lib", 0, "finished"),
            ("echo one ü €; false", 1, "finished"),
            ("for i in 1 2; do (exit 7); done", 7, "finished"),
            ("sleep 0.3", 0, "finished"),
            ("cat <<END\nx $HOME\nEND", 0, "finished"),
            ("eval 'echo a'", 0, "finished"),
        ],
    );
    assert!(
        (300..3000).contains(&milliseconds(&commands[4])),
        "{}",
        commands[4]
    );
    assert_eq!(
        (&commands[2]["cwd"], &commands[0]["shell"]),
        (&json!("/usr/lib"), &json!("zsh"))
    );
}

#[test]
fn fifty_shells_at_once_are_kept_apart() {
    let Some(_alone) = can_capture(&["bash", "python3"]) else {
        return;
    };
    let mut running = Running::start(&["bash", "-o", "jsonl"]);
    running.wait_until_capturing();
    let texts = |shell: usize| (0..10).map(move |number| format!("(exit {number}) # of {shell}"));
    let drivers: Vec<_> = (0..50)
        .map(|shell| {
            let typed: Vec<_> = texts(shell).collect();
            start(
                BASH,
                &lines(&typed.iter().map(String::as_str).collect::<Vec<_>>()),
            )
        })
        .collect();
    let ended = drivers
        .into_iter()
        .map(|driver| driver.wait_with_output().expect("it ends"));
    let pids: Vec<_> = ended.map(|driver| pid_of(&driver)).collect();
    let finished = running.interrupt();
    assert_complete(&finished);
    for (shell, pid) in pids.into_iter().enumerate() {
        let typed: Vec<_> = texts(shell).collect();
        let expected: Vec<_> = std::iter::zip(&typed, 0..)
            .map(|(text, status)| (text.as_str(), status, "finished"))
            .collect();
        assert_ends(&of_process(&finished, pid), &expected);
    }
}

#[test]
fn only_commands_with_the_wanted_status_are_shown_and_a_recording_gives_the_same() {
    let Some(_alone) = can_capture(&["bash", "python3"]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let recorded = folder.path().join("run.jsonl").display().to_string();
    let recording = format!("recording:{recorded}");
    let steps = lines(&["true", "false", "(exit 2)", "false"]);
    let flags = ["bash", "-e", "1", "-o", "jsonl", "-o", &recording];
    let (finished, commands) = capture(&flags, || type_into(BASH, &steps));
    assert_ends(&commands, &[("false", 1, "finished"), ("false", 1, "finished")]);
    assert!(
        finished
            .stderr
            .contains("2 commands of bash had another exit status"),
        "{}",
        finished.stderr
    );
    let again = replay(&recorded, &[]);
    assert_eq!(again.text(), finished.text());
    let text = run(&["replay", &recorded]).text();
    let line = text.lines().next().expect("a line");
    assert!(line.starts_with("PID:") && line.ends_with(", Line:"), "{line}");
    assert!(line.contains(", UID:0, Comm:bash, Retvalue:1, "), "{line}");
    assert_eq!(text.lines().nth(1), Some("false"));
}

#[test]
fn passwords_in_commands_are_masked_unless_they_are_asked_for() {
    let Some(_alone) = can_capture(&["bash", "zsh", "python3"]) else {
        return;
    };
    let typed = ["PGPASSWORD=s3cret true", "echo -ps3en"];
    for (module, shell, flags, first, redacted) in [
        ("bash", BASH, &[][..], "PGPASSWORD=*** true", json!(true)),
        ("zsh", ZSH, &["--redact"], "PGPASSWORD=*** true", json!(true)),
        ("bash", BASH, &["--no-redact"], typed[0], Value::Null),
    ] {
        let arguments = [&[module, "-o", "jsonl"], flags].concat();
        let (_, commands) = capture(&arguments, || type_into(shell, &lines(&typed)));
        assert_ends(&commands, &[(first, 0, "finished"), (typed[1], 0, "finished")]);
        assert_eq!(
            (&commands[0]["redacted"], &commands[1]["redacted"]),
            (&redacted, &Value::Null)
        );
    }
}

#[test]
fn shells_and_tls_go_into_one_file_and_scripts_into_none() {
    let Some(_alone) = can_capture(&["bash", "zsh", "python3"]) else {
        return;
    };
    let steps = lines(&["bash -c 'echo in a script'", "echo typed"]);
    let zsh = std::cell::Cell::new(0);
    let (finished, commands) = capture(&["watch", "tls", "bash", "zsh", "-o", "jsonl"], || {
        zsh.set(type_into(ZSH, &lines(&["echo in zsh"])));
        type_into(BASH, &steps)
    });
    assert_ends(
        &commands,
        &[
            ("bash -c 'echo in a script'", 0, "finished"),
            ("echo typed", 0, "finished"),
        ],
    );
    assert_ends(
        &of_process(&finished, zsh.get()),
        &[("echo in zsh", 0, "finished")],
    );
}

/// gdb reads lines as bash does, with the same library.
#[test]
fn other_programs_with_readline_are_no_shells() {
    let Some(_alone) = can_capture(&["bash", "gdb", "python3"]) else {
        return;
    };
    let steps: Steps = [
        ("", "(gdb) "),
        ("echo in-gdb\\n\n", "(gdb) "),
        ("quit\n", "never written"),
    ]
    .map(|(keys, expected)| (keys.to_owned(), expected))
    .into();
    let (finished, _) = capture(&["bash", "-o", "jsonl"], || {
        type_into(&["gdb", "-q"], &steps);
        type_into(BASH, &lines(&["echo typed"]))
    });
    assert!(!finished.text().contains("in-gdb"), "{}", finished.text());
    assert!(finished.text().contains("echo typed"), "{}", finished.text());
}

/// As in a container: the file has a path of its own, which leads nowhere on the host.
#[test]
fn a_shell_with_a_root_of_its_own_is_captured() {
    let Some(_alone) = can_capture(&["bash", "python3", "unshare", "chroot"]) else {
        return;
    };
    let root = tempfile::tempdir().expect("a temporary folder");
    let path = root.path().display().to_string();
    let copy = "cp -L --parents /bin/bash $(ldd /bin/bash | grep -o '/[^ ]*') $0";
    let copied = Command::new("bash").args(["-c", copy, &path]).status();
    assert!(copied.expect("bash runs").success());
    let inside = [
        "unshare",
        "--mount",
        "--ipc",
        "--uts",
        "chroot",
        &path,
        "/bin/bash",
    ];
    let shell = [&inside[..], &BASH[1..]].concat();
    let mut running = Running::start(&["bash", "-o", "jsonl"]);
    running.wait_until_capturing();
    // This shell types at once what a person types a second later.
    let driver = start(
        &shell,
        &lines(&["until [ -e /attached ]; do :; done", "echo inside", "false"]),
    );
    running.wait_for(&format!("attached to {path}"));
    fs::write(root.path().join("attached"), []).expect("a file");
    let pid = pid_of(&driver.wait_with_output().expect("the shell ends"));
    let finished = running.interrupt();
    assert_complete(&finished);
    let commands = of_process(&finished, pid);
    let last_two = commands.len().saturating_sub(2);
    assert_ends(
        &commands[last_two..],
        &[("echo inside", 0, "finished"), ("false", 1, "finished")],
    );
}

#[test]
fn the_client_of_an_ssh_login_is_that_of_its_first_process() {
    let Some(_alone) = can_capture(&["bash", "python3"]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let written = folder.path().join("run.txt").display().to_string();
    let steps = begun(vec![
        (
            "SSH_CONNECTION='10.9.9.9 1 10.0.0.1 22' bash --norc -i\n".to_owned(),
            READY,
        ),
        ("echo nested\n".to_owned(), READY),
        (until(&written, "echo nested") + "\n", READY),
    ]);
    let shell = ["env", "SSH_CONNECTION=192.0.2.7 51000 192.0.2.1 22"];
    let mut running = Running::start(&["bash", "-o", "jsonl", "-o", &format!("text:{written}")]);
    running.wait_until_capturing();
    type_into(&[&shell[..], BASH].concat(), &steps);
    let finished = running.interrupt();
    let commands = finished.json();
    let nested = commands
        .iter()
        .find(|line| line["command"]["text"] == "echo nested");
    assert_eq!(nested.expect("it is shown")["ssh_client"], "192.0.2.7:51000");
}

#[test]
fn what_is_no_shell_is_refused_with_what_was_looked_for() {
    let Some(_alone) = can_capture(&["bash"]) else {
        return;
    };
    for (flags, expected) in [
        (["bash", "--bash", "/bin/ls"], "such as read_command"),
        (["zsh", "--zsh", "/bin/bash"], "such as preprompt"),
        (
            ["bash", "--readlineso", "/bin/ls"],
            "give the path of a libreadline.so",
        ),
    ] {
        let finished = run(&flags);
        assert_eq!(finished.code(), Some(1), "{}", finished.stderr);
        assert!(finished.stderr.contains(expected), "{}", finished.stderr);
    }
    let unknown = run(&["watch", "tls", "fish"]);
    assert_eq!(unknown.code(), Some(2), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("tls, bash, zsh"), "{}", unknown.stderr);
}
