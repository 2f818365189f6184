//! The errors before the first event.

use std::io;
use std::path::PathBuf;

use aya::EbpfError;
use aya::maps::MapError;

use crate::file::elf::ElfError;
use crate::kernel::attach::AttachError;
use crate::kernel::btf::BtfError;
use crate::kernel::loading::{ObjectError, ProgramError};

/// Why a capture could not begin. Each message is one line and says how to help.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host cannot run the programs.
    #[error(transparent)]
    Host(#[from] crate::host::Problem),
    /// A library was named that cannot be opened.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// As given.
        path: PathBuf,
        /// From the system.
        source: io::Error,
    },
    /// A library was named that is not a program or library of this machine.
    #[error("{path} is not a program or library for this machine: {source}")]
    NotALibrary {
        /// As given.
        path: PathBuf,
        /// The fault found in it.
        source: ElfError,
    },
    /// The file exports none of the functions that could be captured.
    #[error("{path} has none of the functions that are captured (such as {expected})")]
    NoFunctions {
        /// As given.
        path: PathBuf,
        /// Some of the names looked for.
        expected: String,
    },
    /// The function that the user named is not in the file.
    #[error("{path} has {problem}; `nm -D {path}` and `nm {path}` list what it has")]
    NoNamedFunction {
        /// As given.
        path: PathBuf,
        /// What was looked for.
        problem: String,
    },
    /// A function was named for a kind of capture that knows its functions.
    #[error("only functions of database servers can be named")]
    NoNames,
    /// The kernel is too old for a kind of capture.
    #[error(
        "this kernel has no bpf_loop (Linux 5.17), which `ecapture {module}` needs; leave {module} out, or capture on a \
         newer kernel"
    )]
    NoLoop {
        /// The kind of capture.
        module: &'static str,
    },
    /// More probes would take too many descriptors.
    #[error("cannot attach to {path}: {source}")]
    Descriptors {
        /// As given.
        path: PathBuf,
        /// The numbers of descriptors.
        source: crate::host::descriptors::NoDescriptors,
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
    /// The capture has ended.
    #[error("the capture has ended")]
    Ended,
    /// The capture was loaded with filters that cannot change.
    #[error("the filters of this capture cannot change; load it with filters that can")]
    FixedFilters,
    /// Libraries were found, but no data hook could be attached.
    #[error("attached no probes to {libraries}: {source}")]
    NothingAttached {
        /// All paths tried.
        libraries: String,
        /// The first failure.
        source: NoData,
    },
    /// The cgroup to capture is none.
    #[error(transparent)]
    Cgroup(#[from] crate::host::cgroup::CgroupError),
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
    /// The object cannot be joined with its maps.
    #[error("the kernel object cannot be used: {0}; rebuild it with crates/ebpf/build-object.sh")]
    ObjectUnusable(#[from] ObjectError),
    /// The kernel did not take the object or its maps.
    #[error("the kernel refused the programs: {0}")]
    Load(#[source] Box<EbpfError>),
    /// The kernel did not take a program without which nothing is captured.
    #[error("the kernel refused the program {program}: {source}")]
    Program {
        /// Name of the program.
        program: &'static str,
        /// The kernel's reason.
        source: ProgramError,
    },
    /// Packets cannot be captured.
    #[error(transparent)]
    Packets(#[from] crate::packets::PacketError),
    /// A map could not be used.
    #[error("map {map}: {source}")]
    Map {
        /// Name of the map.
        map: &'static str,
        /// From aya.
        source: MapError,
    },
}

/// Why no function with data has a probe.
#[derive(Debug, thiserror::Error)]
pub enum NoData {
    /// A function has no probe, and no function with data has one.
    #[error("{symbol}: {source}")]
    Failed {
        /// Name of the first such function.
        symbol: &'static str,
        /// Why it has no probe.
        source: AttachError,
    },
    /// Probes are attached, but only to functions without data.
    #[error("only functions without data")]
    OnlyOthers,
}
