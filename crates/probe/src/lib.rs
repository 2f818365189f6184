//! Loads the kernel programs, attaches them to TLS libraries and turns their records into
//! events. The only crate that knows aya.
//!
//! ```text
//! target ─► elf ─► plan ─► attach ─► kernel programs ─► ring buffer ─► Events (stream)
//! host ─► btf ─► offsets ─► loading ───────┘
//! ```
//!
//! While the capture runs, `discovery` hears of every file that a process begins to execute, and
//! attaches to those with TLS in them.
//!
//! [`Capture::load`] does everything up to the ring, [`Capture::into_events`] is the stream, and
//! a [`CaptureHandle`] stops it, reads its counters and changes its set of processes.
#![deny(unsafe_code)]

mod attach;
mod btf;
mod capture;
mod cgroup;
mod clock;
mod container;
mod counters;
mod decode;
pub mod descriptors;
mod detach;
mod discovery;
mod elf;
mod error;
mod events;
mod examine;
mod excluded;
mod go_table;
mod grace_period;
mod handle;
pub mod host;
mod joined_late;
pub mod kernel;
mod ld_cache;
mod library;
mod limits;
mod loading;
mod maps;
mod object;
mod origin;
mod plan;
pub mod process;
mod rust_symbol;
pub mod socket;
mod standing;
pub mod survey;
mod tables;
pub mod target;
mod tracepoints;

pub use attach::{AttachPoint, AttachReport};
pub use capture::{Capture, CaptureConfig, DEFAULT_RING_BYTES, Processes, object_names};
pub use cgroup::CgroupError;
pub use counters::KernelCounters;
pub use detach::leave_links;
pub use discovery::{Discovered, Discovery, Executor};
pub use error::Error;
pub use events::Events;
pub use examine::examine;
pub use excluded::Pipe;
pub use grace_period::restore as restore_grace_periods;
pub use handle::{CaptureHandle, RingUser};
pub use joined_late::{LateConnections, LateProgram};
pub use library::Library;
pub use loading::{Figures, ProgramCheck, Refused, check_programs};
pub use plan::PointKind;
