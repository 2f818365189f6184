//! The settings of a capture: the libraries, the processes, the command, and the room in the kernel.

use std::ffi::OsString;
use std::path::PathBuf;

use ecapture_probe::{Hooks, Modules, PacketConfig};
use ecapture_protocols::redact::Redaction;

use super::libraries::{LIBSSL, Libraries};
use super::packets;
use super::unbuilt::explain_needless;
use crate::args::{CaptureArgs, GlobalArgs};
use crate::injection;
use crate::selection::Selection;
use crate::usage::UsageError;

/// The settings of a capture.
#[derive(Debug, Clone)]
pub(crate) struct CaptureSettings {
    /// The libraries to capture.
    pub(crate) libraries: Libraries,
    /// Those of further kinds of capture in the same run.
    pub(crate) further: Vec<Libraries>,
    /// `--errnumber`: only commands of shells with this exit status.
    pub(crate) shell_status: Option<i32>,
    /// `--redact`, `--no-redact`: what is masked in statements.
    pub(crate) redaction: Redaction,
    /// `--pid`: the processes that run now; empty means all.
    pub(crate) pids: Vec<u32>,
    /// `--follow-children`.
    pub(crate) follow_children: bool,
    /// `--not-pid`.
    pub(crate) excluded: Vec<u32>,
    /// `--uid`.
    pub(crate) uid: Option<u32>,
    /// `--cgroup_path`.
    pub(crate) cgroup: Option<PathBuf>,
    /// Ring buffer size in bytes, a power of two.
    pub(crate) ring_bytes: u32,
    /// `--inject`.
    pub(crate) hooks: Hooks,
    /// With `-m pcap`.
    pub(crate) packets: Option<PacketConfig>,
    /// `-- COMMAND`; empty when none.
    pub(crate) command: Vec<OsString>,
}

/// Bounds of the ring buffer: a smaller one may not hold the largest record, the kernel refuses a larger one.
const RING_BYTES: std::ops::RangeInclusive<u64> = 256 * 1024..=1024 * 1024 * 1024;

const PAGE_BYTES: u64 = 4096;

impl CaptureSettings {
    /// Resolves the global flags and those of a capturing command.
    pub(crate) fn resolve(
        global: &GlobalArgs,
        libraries: Libraries,
        capture: &CaptureArgs,
    ) -> Result<Self, UsageError> {
        explain_needless(&capture.unbuilt);
        let selection = Selection::read(global)?;
        if !capture.command.is_empty() && selection.has_processes() {
            return Err(UsageError::Value {
                flag: "--pid",
                expected: "either --pid or a command to run",
                observed: format!("--pid {} and a command", global.pid.join(",")),
            });
        }
        if capture.follow_children && !selection.has_processes() {
            return Err(UsageError::Value {
                flag: "--follow-children",
                expected: "--pid with the parents (the children of a command are captured anyway)",
                observed: "no --pid".to_owned(),
            });
        }
        let common = Self::of_command(global, &capture.command)?;
        Ok(Self {
            libraries,
            further: Vec::new(),
            shell_status: None,
            redaction: global.privacy.redaction(),
            pids: selection.running()?,
            follow_children: capture.follow_children,
            excluded: Selection::of_processes("--not-pid", &capture.not_pid)?.running()?,
            uid: selection.uid,
            // As with the original, an empty path means no filter.
            cgroup: capture
                .cgroup_path
                .clone()
                .filter(|path| !path.as_os_str().is_empty()),
            packets: packets::resolve(global, capture, common.ring_bytes)?,
            hooks: injection::capture_hooks(&capture.inject)?,
            ..common
        })
    }

    /// What is captured in this run, one for each kind of capture.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = &Libraries> {
        std::iter::once(&self.libraries).chain(&self.further)
    }

    /// The kinds of capture.
    pub(crate) fn modules(&self) -> Modules {
        let further = self.further.iter().map(|libraries| libraries.module);
        further.fold(self.libraries.module, Modules::with)
    }

    /// Capture of a command alone, with the global flags.
    pub(crate) fn of_command(global: &GlobalArgs, command: &[OsString]) -> Result<Self, UsageError> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        Ok(Self {
            libraries: Libraries::new(LIBSSL, &[], &[]),
            further: Vec::new(),
            shell_status: None,
            redaction: global.privacy.redaction(),
            pids: Vec::new(),
            follow_children: false,
            excluded: Vec::new(),
            uid: None,
            cgroup: None,
            packets: None,
            hooks: Hooks::default(),
            ring_bytes: ring_bytes(global.mapsize, processors)?,
            command: command.to_vec(),
        })
    }
}

pub(super) fn ring_bytes(pages: u32, processors: u64) -> Result<u32, UsageError> {
    let wanted = u64::from(pages) * PAGE_BYTES * processors;
    let bytes = wanted.max(*RING_BYTES.start()).next_power_of_two();
    match u32::try_from(bytes) {
        Ok(bytes) if pages > 0 && RING_BYTES.contains(&u64::from(bytes)) => Ok(bytes),
        _ => Err(UsageError::Value {
            flag: "--mapsize",
            expected: "1 or more pages of 4 KiB per CPU, 1 GiB in total at most",
            observed: pages.to_string(),
        }),
    }
}
