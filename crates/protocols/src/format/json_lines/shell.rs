//! The commands of shells.

use super::object::Object;
use crate::event::{Origin, ShellCommand};

/// Adds the members of `command`. Returns true if its text was cut at `limit`.
pub(super) fn add(
    origin: &Origin,
    command: &ShellCommand,
    limit: Option<usize>,
    object: &mut Object<'_>,
) -> bool {
    object.string("shell", command.shell.as_str());
    let login = &command.login;
    let numbers = [
        ("uid", origin.process.uid),
        ("login_uid", login.user),
        ("ppid", login.parent),
    ];
    for (name, value) in numbers {
        if let Some(value) = value {
            object.number(name, value);
        }
    }
    let names = [
        ("tty", &login.terminal),
        ("ssh_client", &login.client),
        ("cwd", &command.directory),
    ];
    for (name, value) in names {
        if let Some(value) = value {
            object.string(name, value);
        }
    }
    object.string("end", command.end.as_str());
    if let Some(status) = command.status {
        object.signed("exit_status", status.into());
    }
    if let Some(duration) = command.duration_ns {
        object.number("duration_ns", duration);
    }
    if command.redacted {
        object.boolean("redacted", true);
    }
    let mut text = object.object("command");
    text.number("len", command.text.len() as u64);
    let truncated = text.content(&command.text, command.cut, limit);
    if command.cut {
        text.boolean("cut", true);
    }
    truncated
}
