//! The commands of interactive shells.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// What somebody typed at the prompt of a shell, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShellCommand {
    /// The shell.
    pub shell: Shell,
    /// All lines of the command, as they are executed: with what the history gave.
    pub text: Bytes,
    /// Parts of the text are missing.
    pub cut: bool,
    /// How it ended.
    pub end: CommandEnd,
    /// Exit status, when known: `$?` at the next prompt, or the one that the shell ended with.
    pub status: Option<i32>,
    /// How long it ran, in nanoseconds.
    pub duration_ns: Option<u64>,
    /// The directory that it began in, as the shell names it.
    pub directory: Option<Arc<str>>,
    /// Who sits at the shell.
    pub login: Arc<Login>,
    /// A password in the text was masked.
    pub redacted: bool,
}

/// The login that a process belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Login {
    /// The parent process.
    pub parent: Option<u32>,
    /// The user who logged in, who may have become another one since (`/proc/PID/loginuid`).
    pub user: Option<u32>,
    /// The controlling terminal, such as `/dev/pts/3`.
    pub terminal: Option<Arc<str>>,
    /// Address and port of the client of an ssh login.
    pub client: Option<Arc<str>>,
}

/// A shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shell {
    /// GNU bash.
    Bash,
    /// zsh.
    Zsh,
}

impl Shell {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Bash, Self::Zsh];

    /// Returns `bash` or `zsh`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
        }
    }
}

impl fmt::Display for Shell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CommandEnd {
    /// The shell was ready for the next one.
    Finished,
    /// The shell ended with it.
    Exited,
    /// The shell became another program (`exec`).
    Replaced,
    /// It was not executed: a syntax error, or a history expansion without a match.
    Refused,
    /// It was given up while it was typed (Ctrl-C).
    Abandoned,
    /// It was still running when the capture ended.
    Running,
}

impl CommandEnd {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Finished,
        Self::Exited,
        Self::Replaced,
        Self::Refused,
        Self::Abandoned,
        Self::Running,
    ];

    /// Returns its name in JSON Lines and recordings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Exited => "exited",
            Self::Replaced => "replaced",
            Self::Refused => "refused",
            Self::Abandoned => "abandoned",
            Self::Running => "running",
        }
    }
}
