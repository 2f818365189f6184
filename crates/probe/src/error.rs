//! What can go wrong before the first event.

use std::io;
use std::path::PathBuf;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;

use crate::btf::BtfError;

/// Longest part of a verifier log that an error message repeats, in bytes.
const VERIFIER_LOG_SHOWN: usize = 600;

/// Why a capture could not begin. Each message is one line and says how to help.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host cannot run the programs.
    #[error(transparent)]
    Host(#[from] crate::host::Problem),
    /// A library was named that cannot be opened.
    #[error("cannot read {path}: {source}; give the path of a TLS library, such as libssl.so.3")]
    Unreadable {
        /// As given.
        path: PathBuf,
        /// From the system.
        source: io::Error,
    },
    /// A library was named that is not a program or library of this machine.
    #[error(
        "{path} is not a library for this machine: {reason}; give the path of a TLS library, such as libssl.so.3"
    )]
    NotALibrary {
        /// As given.
        path: PathBuf,
        /// What was found instead.
        reason: String,
    },
    /// The file exports none of the functions that could be captured.
    #[error("{path} has no TLS functions (such as {expected}); give a TLS library such as libssl.so.3")]
    NoFunctions {
        /// As given.
        path: PathBuf,
        /// Some of the names looked for.
        expected: String,
    },
    /// No library was given.
    #[error("no TLS library to attach to; install one (apt-get install libssl3) or name it with --libssl")]
    NoLibraries,
    /// The process to capture does not exist.
    #[error("there is no process {pid}; give the id of a running process (pgrep NAME)")]
    NoProcess {
        /// As given.
        pid: u32,
    },
    /// Libraries were found, but no data hook could be attached.
    #[error("attached to nothing in {libraries}: {reason}")]
    NothingAttached {
        /// All paths tried.
        libraries: String,
        /// The first failure.
        reason: String,
    },
    /// The cgroup to capture is none.
    #[error(transparent)]
    Cgroup(#[from] crate::cgroup::CgroupError),
    /// New programs cannot be looked for.
    #[error(
        "cannot look for new programs: {source}; free memory or processes, or name the libraries with --libssl"
    )]
    Discovery {
        /// From the system.
        source: io::Error,
    },
    /// The kernel's type information lacks what the programs need.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// The object that `ECAPTURE_BPF_OBJECT` names cannot be read.
    #[error(
        "cannot read the kernel object {path}: {source}; unset ECAPTURE_BPF_OBJECT to use the built-in one"
    )]
    Object {
        /// Value of the variable.
        path: PathBuf,
        /// From the system.
        source: io::Error,
    },
    /// The object lacks a program or map that this version uses.
    #[error("the kernel object has no {what} {name}; rebuild it with crates/ebpf/build-object.sh")]
    ObjectIncomplete {
        /// `program` or `map`.
        what: &'static str,
        /// Its name.
        name: &'static str,
    },
    /// The kernel did not take the object or its maps.
    #[error("the kernel refused the programs: {0}")]
    Load(#[source] Box<EbpfError>),
    /// The kernel did not take one program.
    #[error("the kernel refused the program {program}: {reason}")]
    Program {
        /// Name of the program.
        program: &'static str,
        /// The kernel's reason, shortened.
        reason: String,
    },
    /// A map could not be used.
    #[error("map {map}: {source}")]
    Map {
        /// Name of the map.
        map: &'static str,
        /// From aya.
        source: MapError,
    },
}

impl Error {
    /// An error of `program` whose verifier log is shortened; the whole log is a debug event.
    pub(crate) fn program(program: &'static str, error: &ProgramError) -> Self {
        let reason = match error {
            ProgramError::LoadError {
                io_error,
                verifier_log,
            } => {
                tracing::debug!(program, %verifier_log, "verifier log");
                format!(
                    "{io_error}: {}",
                    last_bytes(&verifier_log.to_string(), VERIFIER_LOG_SHOWN)
                )
            }
            other => other.to_string(),
        };
        Self::Program { program, reason }
    }
}

/// The end of a log is where its reason stands.
fn last_bytes(text: &str, most: usize) -> &str {
    let mut start = text.len().saturating_sub(most);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text[start..].trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_log_keeps_its_end() {
        let log = format!("{}é reason\n", "x".repeat(5000));
        let shown = last_bytes(&log, 8);
        assert_eq!(shown, "reason");
        assert_eq!(last_bytes("short", 600), "short");
    }
}
