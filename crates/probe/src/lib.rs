//! Loads the kernel programs, attaches them to TLS libraries and turns their records into
//! events. The only crate that knows aya.
//!
//! ```text
//! find ─► file ─► plan ─► kernel ─► kernel programs ─► ring ─► Events (stream)
//! host ─────────────────────┘
//! ```
//!
//! `modules` lists what can be captured: each kind of capture with its functions, tracepoints, tables and
//! records. `find` searches for libraries and programs, `file` reads them, `plan` decides where in them the
//! probes go, `kernel` loads and attaches the programs, `ring` reads what they capture. `proc` reads
//! `/proc/PID` and `host` what the kernel and this process can do, for all of them.
//!
//! While the capture runs, `find::discovery` is notified of every file that a process begins to
//! execute, and attaches to those with TLS in them.
//!
//! [`Capture::load`] does everything up to the ring, [`Capture::into_events`] is the stream, and
//! a [`CaptureHandle`] stops it, reads its counters and changes its set of processes; its [`Tally`] is what was
//! counted beside the kernel.
#![deny(unsafe_code)]

mod capture;
mod config;
mod error;
mod file;
mod filters;
mod find;
mod handle;
pub mod host;
mod kernel;
mod kind;
mod limits;
mod map;
mod modules;
mod packets;
mod plan;
mod proc;
mod ring;
mod tally;

pub use capture::{Capture, object_names};
pub use config::{CaptureConfig, DEFAULT_RING_BYTES, Hooks, Interfaces, PacketConfig, Processes};
pub use error::{Error, NoData};
pub use file::elf::ElfError;
pub use file::library::{Library, NamedFunction};
pub use filters::Filters;
pub use find::discovery::{Discovered, Discovery, Executor, GiveUp, LiveLibraries};
pub use find::examine::examine;
pub use find::programs::{ProgramFinding, ProgramObstacle, programs};
pub use find::{survey, target};
pub use handle::{CaptureHandle, RingUser};
pub use host::cgroup::CgroupError;
pub use host::kernel::can_leave_content_out;
pub use host::{descriptors, local_time, socket};
pub use kernel::attach::{AttachError, AttachPoint, AttachReport};
pub use kernel::detach::leave_links;
pub use kernel::grace_period::restore as restore_grace_periods;
pub use kernel::loading::{
    Figures, LinkError, ObjectError, ProgramCheck, ProgramError, Refused, check_programs,
};
pub use kind::Kind;
pub use modules::{Module, ModuleOptions, Modules};
pub use packets::{PacketError, compile_filter};
pub use plan::{PointKind, Reason, Refusal};
pub use proc::process;
pub use ring::counters::KernelCounters;
pub use ring::events::Events;
pub use ring::excluded::Pipe;
pub use ring::joined_late::{LateConnections, LateProgram};
pub use tally::{PacketFigures, Tally};
