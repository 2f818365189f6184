//! Errors in the command line.

/// A flag or word that cannot be honoured. Each message names the way out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UsageError {
    /// Something of the original that this program does not have yet.
    #[error("{what} is not implemented yet; {instead}")]
    Unbuilt {
        /// The flag or command.
        what: String,
        /// The way out.
        instead: &'static str,
    },
    /// A value that the flag does not take.
    #[error("{flag}: expected {expected}, observed {observed:?}")]
    Value {
        /// The flag.
        flag: &'static str,
        /// The values that it takes.
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
    /// `--` without anything after it.
    #[error("no command follows `--`: write `-- COMMAND` to run one, or leave `--` out")]
    NoCommand,
    /// Outputs that cannot go together.
    #[error("{flag}: {problem}; {instead}")]
    Outputs {
        /// The flag.
        flag: &'static str,
        /// The mistake.
        problem: String,
        /// The way out.
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
    /// Nothing that can be captured.
    #[error(
        "watch: expected one or more of {expected}, observed {observed:?}; such as `ecapture watch tls bash`"
    )]
    Watched {
        /// The names.
        expected: String,
        /// What was given.
        observed: String,
    },
    /// A filter that cannot be compiled.
    #[error("{flag}: {error}")]
    FilterText {
        /// The flag.
        flag: &'static str,
        /// What is wrong, and where.
        error: ecapture_protocols::FilterError,
    },
    /// Words without a `--` before them.
    #[error(
        "unexpected {0:?}: write `-- COMMAND` to run a command; words before it select by address only, as in \
         `tcp port 443 and host 10.0.0.1`; --filter selects by everything else, and -m pcap takes all of pcap-filter(7)"
    )]
    Filter(String),
    /// A filter expression that cannot be used.
    #[error("{0}")]
    Packets(String),
}
