//! Facts that are whole in themselves: they belong to a process and to no stream, and need no decoder.

use std::sync::Arc;

use super::{Origin, PacketFact, Process, Secret, ShellCommand, SqlQuery};

/// A fact about a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Kernel monotonic time in nanoseconds.
    pub timestamp_ns: u64,
    /// The process.
    pub process: Process,
    /// The container that the process runs in, as its runtime names it. `None` when there is none or it is not
    /// known.
    pub container_id: Option<Arc<str>>,
    /// File name of the program that the process runs, when known.
    pub program: Option<Arc<str>>,
    /// The fact.
    pub fact: Fact,
}

/// A fact that can be observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// The process uses TLS.
    Process(ProcessTls),
    /// A TLS handshake of the process derived a secret. Each is observed once, and is final. Only formats for keys
    /// show it.
    Secret(Secret),
    /// A command of an interactive shell.
    ShellCommand(Box<ShellCommand>),
    /// Packets and their interfaces. Only formats for packets show it.
    Packets(PacketFact),
    /// A database server has executed a statement, or refused it.
    Sql(Box<SqlQuery>),
}

impl Fact {
    /// Returns true for what only formats for keys or packets show.
    pub const fn is_for_files(&self) -> bool {
        matches!(self, Self::Secret(_) | Self::Packets(_))
    }

    /// Returns the number of captured bytes in it: text that somebody typed or sent, or a packet, not what is known beside
    /// it.
    pub const fn payload_bytes(&self) -> u64 {
        match self {
            Self::ShellCommand(command) => command.text.len() as u64,
            Self::Packets(PacketFact::Packet(packet)) => packet.data.len() as u64,
            Self::Sql(query) => query.text.len() as u64,
            Self::Process(_) | Self::Secret(_) | Self::Packets(_) => 0,
        }
    }
}

/// A process began to use a TLS implementation, or was using it when the capture began: once for each
/// process and file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProcessTls {
    /// Path of the program, when known.
    pub executable: Option<Arc<str>>,
    /// Name of the implementation, such as `OpenSSL`, when known.
    pub implementation: Option<Arc<str>>,
    /// The file that it is in, a library or the program, when known.
    pub file: Option<Arc<str>>,
    /// Its version, when known.
    pub version: Option<Arc<str>>,
    /// Why its plaintext is not captured. `None`: it is.
    pub obstacle: Option<Arc<str>>,
}

impl Observed {
    /// Where it comes from: a process without a stream.
    pub fn origin(&self) -> Origin {
        Origin {
            process: self.process,
            container_id: self.container_id.clone(),
            program: self.program.clone(),
            stream: None,
        }
    }
}
