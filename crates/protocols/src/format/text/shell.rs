//! The commands of shells: a line as the original prints it, with what it does not know before the last word, or one
//! for a terminal; then the command.
//!
//! ```text
//! PID:7, UID:0, Comm:bash, Retvalue:1, PPID:6, TTY:/dev/pts/3, Cwd:/root, Duration:0.012s, Line:
//! 14:20:05.123456 bash[7] uid 0 on /dev/pts/3 in /root: status 1 after 0.012s
//! ```

use crate::event::{CommandEnd, Origin, Shell, ShellCommand};
use crate::format::text::page::Page;
use crate::text::printable;
use crate::write::push_number;

/// Appends the original's line. Fields that are not known are left out, the exit status excepted.
pub(super) fn write_original(origin: &Origin, command: &ShellCommand, out: &mut Vec<u8>) {
    // The original separates them with a TAB as well.
    let separator: &[u8] = match command.shell {
        Shell::Bash => b", ",
        Shell::Zsh => b", \t",
    };
    out.extend_from_slice(b"PID:");
    push_number(origin.process.pid.into(), out);
    out.extend_from_slice(b", UID:");
    push_number(origin.process.uid.unwrap_or(0).into(), out);
    let mut field = |name: &str, value: &str| {
        out.extend_from_slice(separator);
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        out.extend_from_slice(printable(value).as_bytes());
    };
    let login = &command.login;
    let number = |number: Option<u32>| number.map(|number| number.to_string());
    let mut comm = Vec::new();
    origin.process.comm.push_shown(&mut comm);
    field("Comm", &String::from_utf8_lossy(&comm));
    field("Retvalue", &status(command));
    let known = [
        ("PPID", number(login.parent)),
        ("Login", number(login.user)),
        ("TTY", login.terminal.as_deref().map(str::to_owned)),
        ("Client", login.client.as_deref().map(str::to_owned)),
        ("Cwd", command.directory.as_deref().map(str::to_owned)),
        ("Duration", command.duration_ns.map(seconds)),
        ("End", end(command.end).map(str::to_owned)),
    ];
    for (name, value) in known {
        if let Some(value) = value {
            field(name, &value);
        }
    }
    field("Line", "");
}

/// Appends what follows the process in a line for a terminal.
pub(super) fn write_terminal(origin: &Origin, command: &ShellCommand, out: &mut Vec<u8>) {
    let login = &command.login;
    let uid = origin.process.uid;
    let other_user = login.user.filter(|user| Some(*user) != uid);
    let place = [
        ("on", &login.terminal),
        ("from", &login.client),
        ("in", &command.directory),
    ];
    let ended = match (command.status, end(command.end)) {
        (_, Some(end)) if command.end != CommandEnd::Exited => end.to_owned(),
        (Some(status), _) => format!("status {status}"),
        (None, _) => "status unknown".to_owned(),
    };
    let parts = [
        uid.map(|uid| format!(" uid {uid}")),
        other_user.map(|user| format!(" (login {user})")),
    ];
    let places = place
        .into_iter()
        .filter_map(|(word, value)| Some(format!(" {word} {}", value.as_deref()?)));
    let text: String = parts
        .into_iter()
        .flatten()
        .chain(places)
        .chain([format!(": {ended}")])
        .chain(
            command
                .duration_ns
                .map(|duration| format!(" after {}", seconds(duration))),
        )
        .collect();
    out.extend_from_slice(printable(&text).as_bytes());
}

/// Appends the command.
pub(super) fn write(command: &ShellCommand, page: &mut Page<'_>) {
    page.bytes(&command.text);
    if command.cut {
        page.mark(format_args!("parts of this command are missing"));
    }
}

fn status(command: &ShellCommand) -> String {
    command
        .status
        .map_or_else(|| "unknown".to_owned(), |status| status.to_string())
}

/// How it ended, if not as usual.
fn end(end: CommandEnd) -> Option<&'static str> {
    (end != CommandEnd::Finished).then(|| end.as_str())
}

fn seconds(nanoseconds: u64) -> String {
    let milliseconds = nanoseconds / 1_000_000;
    format!("{}.{:03}s", milliseconds / 1000, milliseconds % 1000)
}
