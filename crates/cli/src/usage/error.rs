//! What cannot be honoured of the command line.

/// A flag or word that cannot be honoured. Each message names the way out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UsageError {
    /// Something of the original that this program does not have yet.
    #[error("{what} is not implemented yet; {instead}")]
    Unbuilt {
        /// The flag or command.
        what: String,
        /// What to do instead.
        instead: &'static str,
    },
    /// A value that the flag does not take.
    #[error("{flag}: expected {expected}, observed {observed:?}")]
    Value {
        /// The flag.
        flag: &'static str,
        /// What it takes.
        expected: &'static str,
        /// What was given.
        observed: String,
    },
    /// A flag that says nothing to this command.
    #[error("{flag}: `ecapture {command}` cannot use it: {reason}")]
    Unusable {
        /// The flag.
        flag: String,
        /// The command.
        command: &'static str,
        /// Why, and where the flag belongs.
        reason: &'static str,
    },
    /// `--` without anything behind it.
    #[error("no command follows `--`: write `-- COMMAND` to run one, or leave `--` out")]
    NoCommand,
    /// Outputs that cannot go together.
    #[error("{flag}: {problem}; {instead}")]
    Outputs {
        /// The flag.
        flag: &'static str,
        /// What is wrong.
        problem: String,
        /// What to write instead.
        instead: String,
    },
    /// A name that no process has.
    #[error(
        "{flag}: no running process has the name {name:?}; start it first, or use `-- COMMAND` to start it and capture it \
         from its first byte"
    )]
    NoProcess {
        /// The flag.
        flag: &'static str,
        /// The name.
        name: String,
    },
    /// Words without a `--` before them.
    #[error(
        "unexpected {0:?}: write `-- COMMAND` to run a command; packet filters need `-m pcap`, which is not implemented yet"
    )]
    Filter(String),
}
