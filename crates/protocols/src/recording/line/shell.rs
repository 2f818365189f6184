//! The commands of shells.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::reading::{path, payload};
use super::{Line, LineFact, payload_line};
use crate::event::{CommandEnd, Login, Shell, ShellCommand};
use crate::recording::LineError;

/// What is known of a command beside its text.
#[derive(Serialize, Deserialize, Default)]
pub(super) struct LineShell<'a> {
    name: Cow<'a, str>,
    end: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    duration: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    redacted: bool,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    cwd: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ppid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    login: Option<u32>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    tty: Option<Cow<'a, str>>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    client: Option<Cow<'a, str>>,
}

impl<'a> Line<'a> {
    pub(super) fn with_shell_command(self, command: &'a ShellCommand) -> Self {
        let (text, base64) = payload_line(&command.text);
        let login = &command.login;
        let known = |text: &'a Option<Arc<str>>| text.as_deref().map(Cow::Borrowed);
        Self {
            fact: Some(LineFact::ShellCommand),
            text,
            base64,
            shell: Some(LineShell {
                name: Cow::Borrowed(command.shell.as_str()),
                end: Cow::Borrowed(command.end.as_str()),
                status: command.status,
                duration: command.duration_ns,
                cut: command.cut,
                redacted: command.redacted,
                cwd: known(&command.directory),
                ppid: login.parent,
                login: login.user,
                tty: known(&login.terminal),
                client: known(&login.client),
            }),
            ..self
        }
    }

    pub(super) fn shell_command(self) -> Result<ShellCommand, LineError> {
        let shell = self.shell.ok_or(LineError::Missing("shell"))?;
        let unknown = |field, expected, observed: &str| LineError::Range {
            field,
            expected,
            observed: observed.to_owned(),
        };
        let name = Shell::ALL.into_iter().find(|known| known.as_str() == shell.name);
        let end = CommandEnd::ALL
            .into_iter()
            .find(|known| known.as_str() == shell.end);
        Ok(ShellCommand {
            shell: name.ok_or_else(|| unknown("shell.name", "bash or zsh", &shell.name))?,
            text: payload(self.text, self.base64)?,
            cut: shell.cut,
            redacted: shell.redacted,
            end: end
                .ok_or_else(|| unknown("shell.end", "how a command ended, such as finished", &shell.end))?,
            status: shell.status,
            duration_ns: shell.duration,
            directory: path("shell.cwd", shell.cwd)?,
            login: Arc::new(Login {
                parent: shell.ppid,
                user: shell.login,
                terminal: path("shell.tty", shell.tty)?,
                client: path("shell.client", shell.client)?,
            }),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// One of each kind.
    pub(in crate::recording::line) fn commands() -> Vec<ShellCommand> {
        let known = ShellCommand {
            shell: Shell::Bash,
            text: "for i in 1 2; do\n  echo $i\ndone".into(),
            cut: true,
            redacted: true,
            end: CommandEnd::Finished,
            status: Some(1),
            duration_ns: Some(5),
            directory: Some("/root".into()),
            login: Arc::new(Login {
                parent: Some(3),
                user: Some(1000),
                terminal: Some("/dev/pts/0".into()),
                client: Some("10.0.0.9:51000".into()),
            }),
        };
        let unknown = |end| ShellCommand {
            shell: Shell::Zsh,
            text: b"\xff".as_slice().into(),
            cut: false,
            redacted: false,
            end,
            status: None,
            duration_ns: None,
            directory: None,
            login: Arc::default(),
        };
        let mut commands: Vec<_> = CommandEnd::ALL.map(unknown).into();
        commands.push(known);
        commands
    }
}
