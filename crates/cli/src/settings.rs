//! What the command line means: resolved and checked, before anything is opened.

mod outputs;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use ecapture_actors::PipelineLimits;
use ecapture_probe::target::Kind;

pub(crate) use outputs::{OutputSettings, OutputTarget, Target};

use crate::args::{CaptureArgs, GlobalArgs, GnutlsArgs, GotlsArgs, NsprArgs, TlsArgs};
use crate::injection::CaptureInjections;
use crate::selection::Selection;

/// A flag or word that cannot be honoured. Each message names the way out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UsageError {
    /// Something of the original that this program does not have yet.
    #[error("{what} is not built yet; {instead}")]
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
        "{flag}: no process of that name runs: {name:?}; start it first, or let `-- COMMAND` start it and capture it \
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
        "unexpected {0:?}: write `-- COMMAND` to run a command; packet filters need `-m pcap`, which is not built yet"
    )]
    Filter(String),
}

/// Smallest `--max-memory` in MiB: below it, one connection's largest body does not fit.
const LEAST_MEMORY_MIB: u32 = 32;

fn statistics_interval(global: &GlobalArgs) -> Result<Option<Duration>, UsageError> {
    match global.stats {
        Some(0) => Err(UsageError::Value {
            flag: "--stats",
            expected: "1 or more seconds (without it the figures are printed at the end)",
            observed: "0".into(),
        }),
        seconds => Ok(seconds.map(|seconds| Duration::from_secs(seconds.into()))),
    }
}

fn limits(global: &GlobalArgs) -> Result<PipelineLimits, UsageError> {
    let at_least = |flag, least: u32, observed: u32, expected| {
        if observed >= least {
            return Ok(observed as usize);
        }
        Err(UsageError::Value {
            flag,
            expected,
            observed: observed.to_string(),
        })
    };
    let mebibytes = at_least(
        "--max-memory",
        LEAST_MEMORY_MIB,
        global.max_memory,
        "at least 32 MiB",
    )?;
    let kibibytes = at_least("--max-buffered", 64, global.max_buffered, "at least 64 KiB")?;
    Ok(PipelineLimits {
        max_memory: mebibytes * 1024 * 1024,
        max_workers: at_least("--max-workers", 2, global.max_workers, "at least 2")?,
        buffered_per_connection: kibibytes * 1024,
        ..PipelineLimits::default()
    })
}

fn refuse_unbuilt_globals(global: &GlobalArgs) -> Result<(), UsageError> {
    let unbuilt = &global.unbuilt;
    let refused = [
        (&unbuilt.ecaptureq, "--ecaptureq", "use -o jsonl:tcp://HOST:PORT"),
        (&unbuilt.listen, "--listen", "stop and start with the new flags"),
        (
            &unbuilt.eventroratesize,
            "--eventroratesize",
            "pipe the output into a log rotator",
        ),
        (
            &unbuilt.eventroratetime,
            "--eventroratetime",
            "pipe the output into a log rotator",
        ),
    ];
    refuse(&refused)?;
    match global.btf {
        0 | 1 => Ok(()),
        2 => Err(UsageError::Unbuilt {
            what: "--btf 2 (a kernel without BTF)".into(),
            instead: "leave it out and use a kernel with /sys/kernel/btf/vmlinux",
        }),
        other => Err(UsageError::Value {
            flag: "--btf",
            expected: "0, 1 or 2",
            observed: other.to_string(),
        }),
    }
}

fn refuse(flags: &[(&Option<String>, &str, &'static str)]) -> Result<(), UsageError> {
    match flags.iter().find(|(value, ..)| value.is_some()) {
        Some((_, what, instead)) => Err(UsageError::Unbuilt {
            what: (*what).to_owned(),
            instead,
        }),
        None => Ok(()),
    }
}

/// Which libraries and programs are captured.
#[derive(Debug, Clone)]
pub(crate) struct Libraries {
    /// Those named; empty means all that can be found.
    pub(crate) files: Vec<PathBuf>,
    /// Only these kinds; empty means all.
    pub(crate) kinds: &'static [Kind],
    /// The flag that names a file.
    pub(crate) flag: &'static str,
    /// What file it names.
    pub(crate) example: &'static str,
}

impl Libraries {
    fn new((flag, example): (&'static str, &'static str), files: &[PathBuf], kinds: &'static [Kind]) -> Self {
        Self {
            files: files.to_vec(),
            kinds,
            flag,
            example,
        }
    }

    /// Whether all that can be found is wanted.
    pub(crate) fn is_all(&self) -> bool {
        self.files.is_empty() && self.kinds.is_empty()
    }

    /// Whether a file with functions of these kinds is wanted.
    pub(crate) fn want(&self, kinds: &[Kind]) -> bool {
        self.kinds.is_empty() || kinds.iter().any(|kind| self.kinds.contains(kind))
    }
}

const LIBSSL: (&str, &str) = (
    "--libssl",
    "a TLS library such as libssl.so.3, or of a program with TLS linked into it",
);

impl From<&TlsArgs> for Libraries {
    fn from(arguments: &TlsArgs) -> Self {
        Self::new(LIBSSL, &arguments.libssl, &[])
    }
}

impl From<&GotlsArgs> for Libraries {
    fn from(arguments: &GotlsArgs) -> Self {
        let flag = ("--elfpath", "a Go program");
        Self::new(flag, std::slice::from_ref(&arguments.elfpath), &[Kind::Go])
    }
}

impl From<&GnutlsArgs> for Libraries {
    fn from(arguments: &GnutlsArgs) -> Self {
        let flag = ("--gnutls", "a GnuTLS library, such as libgnutls.so.30");
        Self::new(flag, &arguments.gnutls, &[Kind::GnuTls])
    }
}

impl From<&NsprArgs> for Libraries {
    fn from(arguments: &NsprArgs) -> Self {
        let flag = ("--nspr", "the library libnspr4.so");
        Self::new(flag, &arguments.nspr, &[Kind::Nspr, Kind::Nss])
    }
}

/// What to capture.
#[derive(Debug, Clone)]
pub(crate) struct CaptureSettings {
    /// Of which libraries.
    pub(crate) libraries: Libraries,
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
    pub(crate) inject: CaptureInjections,
    /// `-- COMMAND`; empty when none.
    pub(crate) command: Vec<OsString>,
}

/// Bounds of the ring buffer: below one largest record there is no use, above the kernel refuses.
const RING_BYTES: std::ops::RangeInclusive<u64> = 256 * 1024..=1024 * 1024 * 1024;
const PAGE_BYTES: u64 = 4096;

impl CaptureSettings {
    /// Resolves the global flags and those of a capturing command.
    pub(crate) fn resolve(
        global: &GlobalArgs,
        libraries: Libraries,
        capture: &CaptureArgs,
    ) -> Result<Self, UsageError> {
        refuse_unbuilt_capture(capture)?;
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
        Ok(Self {
            libraries,
            pids: selection.running()?,
            follow_children: capture.follow_children,
            excluded: Selection::of_processes("--not-pid", &capture.not_pid)?.running()?,
            uid: selection.uid,
            // As with the original, an empty path is no filter.
            cgroup: capture
                .cgroup_path
                .clone()
                .filter(|path| !path.as_os_str().is_empty()),
            inject: CaptureInjections::read(&capture.inject)?,
            ..Self::of_command(global, &capture.command)?
        })
    }

    /// Capture of a command alone, with the global flags.
    pub(crate) fn of_command(global: &GlobalArgs, command: &[OsString]) -> Result<Self, UsageError> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        Ok(Self {
            libraries: Libraries::new(LIBSSL, &[], &[]),
            pids: Vec::new(),
            follow_children: false,
            excluded: Vec::new(),
            uid: None,
            cgroup: None,
            inject: CaptureInjections::default(),
            ring_bytes: ring_bytes(global.mapsize, processors)?,
            command: command.to_vec(),
        })
    }
}

fn ring_bytes(pages: u32, processors: u64) -> Result<u32, UsageError> {
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

fn refuse_unbuilt_capture(capture: &CaptureArgs) -> Result<(), UsageError> {
    match capture.model.to_ascii_lowercase().as_str() {
        "text" | "" => {}
        "key" | "keylog" | "pcap" | "pcapng" => {
            return Err(UsageError::Unbuilt {
                what: format!("-m {}", capture.model),
                instead: "leave it out to capture plaintext as text, or use --format jsonl",
            });
        }
        _ => {
            return Err(UsageError::Value {
                flag: "--model",
                expected: "text",
                observed: capture.model.clone(),
            });
        }
    }
    let unbuilt = &capture.unbuilt;
    refuse(&[
        (&unbuilt.keylogfile, "--keylogfile", "it belongs to -m keylog"),
        (&unbuilt.pcapfile, "--pcapfile", "it belongs to -m pcap"),
        (&unbuilt.ifname, "--ifname", "it belongs to -m pcap"),
        (
            &unbuilt.ssl_version,
            "--ssl_version",
            "leave it out: no library version is needed to capture plaintext",
        ),
        (
            &unbuilt.perf_reorder,
            "--perf-reorder",
            "leave it out: one ring buffer keeps the order",
        ),
        (
            &unbuilt.perf_reorder_lag_ms,
            "--perf-reorder-lag-ms",
            "leave it out: one ring buffer keeps the order",
        ),
    ])?;
    match capture.filter.first() {
        Some(word) => Err(UsageError::Filter(word.clone())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    fn resolve(line: &str) -> Result<(OutputSettings, CaptureSettings), UsageError> {
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        let Command::Tls(tls) = &cli.command else {
            panic!("a tls command")
        };
        Ok((
            OutputSettings::resolve(&cli.global)?,
            CaptureSettings::resolve(&cli.global, tls.into(), &tls.capture)?,
        ))
    }

    #[test]
    fn zero_means_no_filter() {
        let (output, capture) = resolve("ecapture tls -p 0 -u 0 -t 0").unwrap();
        assert_eq!((capture.pids, capture.uid, output.truncate), (vec![], None, None));
        let (output, capture) = resolve("ecapture tls -p 5 -u 6 -t 7").unwrap();
        assert_eq!(
            (capture.pids, capture.uid, output.truncate),
            (vec![5], Some(6), Some(7))
        );
    }

    #[test]
    fn what_is_not_built_is_refused_with_a_way_out() {
        for flags in [
            "-m pcap",
            "-m key",
            "--ecaptureq ws://h:1/",
            "--listen h:1",
            "--eventroratesize 1",
            "-k f",
            "-w f",
            "-i lo",
            "--ssl_version x",
            "--perf-reorder",
            "-b 2",
            "--eventaddr ws://h:1",
        ] {
            let error = resolve(&format!("ecapture tls {flags}")).unwrap_err();
            assert!(matches!(error, UsageError::Unbuilt { .. }), "{flags}: {error}");
            assert!(error.to_string().contains("; "), "{flags}: {error}");
        }
    }

    #[test]
    fn values_are_checked() {
        for flags in [
            "-m nonsense",
            "-b 3",
            "--inject discovery-hold:",
            "--inject tables:0",
            "--inject nothing",
            "--inject drop-event:every=2",
            "--mapsize 0",
            "--mapsize 999999999",
            "--eventaddr tcp://nowhere",
            "--eventaddr tcp://h:0",
            "--hex --format jsonl",
            "--hex -o jsonl",
            "-o nothing",
            "-o text:tcp://h",
            "--max-memory 31",
            "--max-workers 1",
            "--max-buffered 63",
            "--pid 1 -- true",
            "--follow-children",
            "--stats 0",
        ] {
            let error = resolve(&format!("ecapture tls {flags}")).unwrap_err();
            assert!(matches!(error, UsageError::Value { .. }), "{flags}: {error}");
        }
        assert!(matches!(
            resolve("ecapture tls tcp").unwrap_err(),
            UsageError::Filter(_)
        ));
    }

    #[test]
    fn outputs_that_cannot_go_together_are_refused_with_a_way_out() {
        for flags in [
            "-o text -o jsonl",
            "-o text:/x/f -o jsonl:/x/f",
            "-o text --format jsonl",
            "--eventaddr f -o text",
        ] {
            let error = resolve(&format!("ecapture tls {flags}")).unwrap_err();
            assert!(matches!(error, UsageError::Outputs { .. }), "{flags}: {error}");
            assert!(error.to_string().contains("; "), "{flags}: {error}");
        }
        let (output, _) = resolve("ecapture tls -o text -o jsonl:a -o recording:b").unwrap();
        let names: Vec<_> = output.outputs.iter().map(OutputTarget::name).collect();
        assert_eq!(names, ["text", "jsonl:a", "recording:b"]);
    }

    #[test]
    fn the_ring_is_a_power_of_two_within_its_bounds() {
        assert_eq!(ring_bytes(1024, 2).unwrap(), 8 * 1024 * 1024);
        assert_eq!(ring_bytes(1, 1).unwrap(), 256 * 1024);
        assert_eq!(ring_bytes(100, 3).unwrap(), 2 * 1024 * 1024);
    }
}
