//! The arguments of `stat`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ecapture_protocols::stat::By;

use super::TlsArgs;

/// Flags of `stat`.
#[derive(Debug, Args)]
pub(crate) struct StatArgs {
    /// What each row is: a process, with the exchanges that it sends (`->`) and those that it answers (`<-`); the
    /// address of the other end; the host that requests name; or method, host and path, with identifiers in the
    /// path as one.
    #[arg(long, value_enum, default_value_t = ByName::Process, value_name = "WHAT")]
    pub(crate) by: ByName,
    /// Add up a recording, or a capture of packets, instead of capturing (needs no privileges).
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Option<PathBuf>,
    /// Flags that say what to capture.
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
}

/// What exchanges are grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ByName {
    /// A process.
    Process,
    /// The other end.
    Peer,
    /// A host.
    Host,
    /// A path.
    Path,
}

impl From<ByName> for By {
    fn from(name: ByName) -> Self {
        match name {
            ByName::Process => Self::Process,
            ByName::Peer => Self::Peer,
            ByName::Host => Self::Host,
            ByName::Path => Self::Path,
        }
    }
}
