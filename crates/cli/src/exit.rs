//! The one map from results to exit codes.

use std::process::ExitCode;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything asked for was done.
    Success,
    /// It could not start or failed; the reason was reported.
    Failure,
    /// The command line asks for something impossible.
    Usage,
    /// Something was lost and `--fail-on-loss` was given.
    Loss,
    /// The exit code of the command that was run.
    Command(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Success => 0,
            Exit::Failure => 1,
            Exit::Usage => 2,
            Exit::Loss => 3,
            Exit::Command(code) => code,
        })
    }
}
