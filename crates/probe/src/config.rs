//! The configuration of a capture.

use std::path::PathBuf;
use std::time::Duration;

use ecapture_ebpf::limits;

use crate::file::library::Library;
use crate::find::discovery::Discovery;
use crate::modules::{ModuleOptions, Modules};
use crate::ring::excluded::Pipe;

/// Size of the ring buffer unless the configuration says otherwise, in bytes.
pub const DEFAULT_RING_BYTES: u32 = limits::RING_BYTES;
/// Longer than a write takes that does not wait for its peer, short for whoever waits for the prompt.
const DRAIN: Duration = Duration::from_millis(100);

/// The processes whose calls are captured. Fails closed: calls that do not match are not captured, even if
/// nothing matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Processes {
    /// Every process.
    #[default]
    All,
    /// One process with all its threads.
    One(u32),
    /// Every process with this number, whether or not there is one now.
    Numbered(u32),
    /// Those of [`CaptureConfig::set`], and those that [`CaptureHandle::add_pid`](crate::CaptureHandle::add_pid)
    /// adds.
    Set {
        /// Children of the processes in the set join it when they are forked.
        follow_children: bool,
    },
}

/// The configuration of a capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureConfig {
    /// The modules to capture with.
    pub modules: Modules,
    /// Libraries and programs to attach to at once.
    pub libraries: Vec<Library>,
    /// Those to attach to later, see [`Capture::discover`](crate::Capture::discover).
    pub discovery: Discovery,
    /// The processes whose calls are captured.
    pub processes: Processes,
    /// The processes of [`Processes::Set`] to begin with.
    pub set: Vec<u32>,
    /// Processes that are not captured, whatever else says so, nor what they start.
    pub excluded: Vec<u32>,
    /// Processes that read this pipe are not captured.
    pub excluded_readers: Option<Pipe>,
    /// Only calls of threads with this real user id.
    pub uid: Option<u32>,
    /// Only calls of processes in the cgroup of this folder (version 2) or below it.
    pub cgroup: Option<PathBuf>,
    /// The filters may change: [`CaptureHandle::change_filters`](crate::CaptureHandle::change_filters). Then the
    /// probes are attached for all processes, and each call asks the filters in a map.
    pub live: bool,
    /// Only what frames messages, and their heads, is captured of TLS: the kernel leaves their content out
    /// (bodies, payloads of WebSocket frames, whatever no known protocol frames), and events have zeros instead.
    /// Before Linux 5.17 this has no effect: see [`can_leave_content_out`](crate::can_leave_content_out).
    pub without_content: bool,
    /// How long calls that write and are in progress at the stop are waited for; what they move is captured
    /// when they return by then. All calls have 10 ms.
    pub drain: Duration,
    /// What single modules are asked for.
    pub options: ModuleOptions,
    /// Facts about processes are among the events: which TLS each uses, and whether it is captured.
    pub facts: bool,
    /// Size of the ring buffer in bytes; rounded up to a power of two of at least a page.
    pub ring_bytes: u32,
    /// Packets are captured, too.
    pub packets: Option<PacketConfig>,
    /// For tests and measurements.
    pub hooks: Hooks,
}

/// Which packets to capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketConfig {
    /// The interfaces whose packets are captured.
    pub interfaces: Interfaces,
    /// Bytes of a packet that are captured at most.
    pub snap_length: u32,
    /// A filter expression of libpcap; all packets without one.
    pub filter: Option<String>,
    /// Packets only of processes that the capture's filters let through.
    pub of_processes: bool,
    /// Size of the ring for packets in bytes; rounded up to a power of two of at least a page.
    pub ring_bytes: u32,
    /// For tests: attach as on kernels without tcx (before Linux 6.6).
    pub without_tcx: bool,
}

impl Default for PacketConfig {
    fn default() -> Self {
        Self {
            interfaces: Interfaces::DefaultRoute,
            snap_length: ecapture_ebpf::limits::SNAP_LENGTH,
            filter: None,
            of_processes: false,
            ring_bytes: DEFAULT_RING_BYTES,
            without_tcx: false,
        }
    }
}

/// Whose packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interfaces {
    /// All interfaces that are up, and those that come up later.
    Any,
    /// These.
    Named(Vec<String>),
    /// The one of the default route.
    DefaultRoute,
}

/// Makes a capture do what it does on other hosts, or in rare cases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    /// Probes are attached to the exported functions even where a cheaper point is proved.
    pub entries_only: bool,
    /// Which sockets and files are used is learned from system calls even where there is a cheaper way.
    pub system_calls: bool,
    /// A program or library that is found later is not inspected before this file was read to its end.
    /// Serves to make probes come too late, with a FIFO.
    pub hold_discovery: Option<PathBuf>,
    /// Number of calls, threads, sessions and sockets that are followed at once, instead of the programs' own
    /// numbers. Serves to make them too few.
    pub table_entries: Option<u32>,
}

impl Default for CaptureConfig {
    fn default() -> Self {
        Self {
            modules: Modules::default(),
            libraries: Vec::new(),
            discovery: Discovery::Off,
            processes: Processes::All,
            set: Vec::new(),
            excluded: Vec::new(),
            excluded_readers: None,
            uid: None,
            cgroup: None,
            live: false,
            without_content: false,
            drain: DRAIN,
            options: ModuleOptions::default(),
            facts: false,
            ring_bytes: DEFAULT_RING_BYTES,
            packets: None,
            hooks: Hooks::default(),
        }
    }
}
