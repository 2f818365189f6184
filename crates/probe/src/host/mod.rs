//! Checks that this host can run the programs. Each problem's message is one line with its fix.

use std::fs;
use std::io;
use std::path::Path;

pub(crate) mod cgroup;
pub(crate) mod clock;
pub mod descriptors;
pub mod kernel;
pub mod local_time;
pub mod socket;

/// Where the kernel keeps its type information.
pub const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";
/// First kernel with the ring buffer map.
pub const OLDEST_KERNEL: (u32, u32) = (5, 8);

/// The first PID namespace, `PROC_PID_INIT_INO`.
const HOST_PROCESS_NUMBERS: &str = "pid:[4026531836]";
const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;

/// Something that keeps a capture from running, or from seeing everything.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Uprobes need a capability that this process does not have.
    #[error("missing the capability CAP_SYS_ADMIN, which probes need; run as root (sudo {program} …)", program = own_path())]
    MissingSysAdmin,
    /// Other users' processes cannot be inspected.
    #[error(
        "missing the capability CAP_SYS_PTRACE: libraries of other users' processes are not found; run as root (sudo {program} …)",
        program = own_path()
    )]
    MissingSysPtrace,
    /// Processes have other numbers here than in the kernel programs.
    #[error(
        "not the host's: processes outside and those that start later are not found, and neither --pid nor a command can be captured; in a container, give it the host's (docker run --pid=host, in Kubernetes hostPID: true)"
    )]
    OwnProcessNumbers,
    /// The kernel lacks the ring buffer map.
    #[error(
        "kernel {observed} has no ring buffer map (BPF_MAP_TYPE_RINGBUF), which Linux {}.{} introduced; boot a newer kernel",
        OLDEST_KERNEL.0,
        OLDEST_KERNEL.1
    )]
    KernelTooOld {
        /// `uname -r`.
        observed: String,
    },
    /// The kernel has no type information.
    #[error(
        "cannot read {BTF_PATH}: {source}; use a kernel built with CONFIG_DEBUG_INFO_BTF=y (every current distribution's is), and mount sysfs"
    )]
    NoBtf {
        /// From the system.
        source: io::Error,
    },
    /// Lockdown keeps programs from reading kernel memory.
    #[error(
        "kernel lockdown is in the mode confidentiality, which forbids reading memory; boot with lockdown=integrity or less"
    )]
    Lockdown,
    /// The kernel was built without uprobes.
    #[error(
        "this kernel has no uprobes (/sys/bus/event_source/devices/uprobe is absent); use one built with CONFIG_UPROBE_EVENTS=y and mount sysfs"
    )]
    NoUprobes,
    /// The kernel's description of its uprobes is not understood.
    #[error(
        "cannot use this kernel's uprobes (/sys/bus/event_source/devices/uprobe): {source}; mount sysfs, or report the kernel's release"
    )]
    UnusableUprobes {
        /// From the system.
        source: io::Error,
    },
}

/// The first problem that keeps a capture from running.
pub fn check() -> Result<(), Problem> {
    match problems().into_iter().find(|problem| !problem.is_partial()) {
        Some(problem) => Err(problem),
        None => Ok(()),
    }
}

/// Checks that processes have the same numbers here as in the kernel programs.
pub fn check_process_numbers() -> Result<(), Problem> {
    match process_numbers().problem {
        Some(problem) => Err(problem),
        None => Ok(()),
    }
}

impl Problem {
    /// Returns true if something can be captured nevertheless.
    fn is_partial(&self) -> bool {
        matches!(self, Self::MissingSysPtrace | Self::OwnProcessNumbers)
    }
}

/// The path by which a shell finds this program, also one that is root's.
fn own_path() -> String {
    std::env::current_exe().map_or_else(|_| "ecapture".to_owned(), |path| path.display().to_string())
}

/// All problems, the gravest first.
pub fn problems() -> Vec<Problem> {
    checks().into_iter().filter_map(|check| check.problem).collect()
}

/// One thing that a capture needs of the host.
#[derive(Debug)]
pub struct Check {
    /// Name of the requirement.
    pub name: &'static str,
    /// The observed state.
    pub observed: String,
    /// The problem with it, if there is one.
    pub problem: Option<Problem>,
}

/// Everything that is checked, the gravest first.
pub fn checks() -> Vec<Check> {
    let capabilities = effective_capabilities();
    let capability = |name, number: u32, problem| {
        let present = capabilities >> number & 1 == 1;
        Check {
            name,
            observed: if present { "present" } else { "missing" }.to_owned(),
            problem: (!present).then_some(problem),
        }
    };
    let mut checks = vec![
        capability("CAP_SYS_ADMIN", CAP_SYS_ADMIN, Problem::MissingSysAdmin),
        kernel(),
        type_information(),
        uprobes(),
        lockdown(),
        capability("CAP_SYS_PTRACE", CAP_SYS_PTRACE, Problem::MissingSysPtrace),
        process_numbers(),
        kernel_tls(),
    ];
    if checks
        .iter()
        .all(|check| check.problem.as_ref().is_none_or(Problem::is_partial))
    {
        checks.extend(kernel::features().iter().map(feature));
    }
    checks
}

/// A capture works with and without.
fn feature(feature: &kernel::Feature) -> Check {
    let (major, minor) = feature.since;
    Check {
        name: feature.name,
        observed: if feature.present {
            "present".to_owned()
        } else {
            format!(
                "missing (Linux {major}.{minor} introduced it): {}",
                feature.without
            )
        },
        problem: None,
    }
}

fn process_numbers() -> Check {
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let is_host = namespace == Path::new(HOST_PROCESS_NUMBERS);
    Check {
        name: "PID namespace",
        observed: "the host's".to_owned(),
        problem: (!is_host).then_some(Problem::OwnProcessNumbers),
    }
}

/// Not needed: a library that leaves encryption to the kernel is still called with plaintext, but for files.
fn kernel_tls() -> Check {
    let observed = match fs::read_to_string("/proc/net/tls_stat") {
        Ok(statistics) => match sending_by_kernel_tls(&statistics) {
            0 => "not in use".to_owned(),
            count => format!(
                "{count} connections send with it; files sent by SSL_sendfile are counted, not captured"
            ),
        },
        Err(_) => "not in this kernel, or its module tls is not loaded".to_owned(),
    };
    Check {
        name: "kernel TLS",
        observed,
        problem: None,
    }
}

/// Lines such as `TlsCurrTxSw   3`.
fn sending_by_kernel_tls(statistics: &str) -> u64 {
    let counts = statistics.lines().filter_map(|line| {
        let (name, count) = line.split_once(char::is_whitespace)?;
        name.starts_with("TlsCurrTx").then_some(count)
    });
    counts.filter_map(|count| count.trim().parse::<u64>().ok()).sum()
}

/// The ring buffer map came with the oldest kernel that is supported.
fn kernel() -> Check {
    let release = release().trim().to_owned();
    let version = version(&release);
    let old = version.is_some_and(|observed| observed < OLDEST_KERNEL);
    let tested = kernel::TESTED
        .iter()
        .map(|(major, minor)| format!("{major}.{minor}"));
    let tested: Vec<_> = tested.collect();
    let observed = if version.is_some_and(|observed| kernel::TESTED.contains(&observed)) {
        format!("{release}, a tested series")
    } else {
        format!("{release}; tested series: {}", tested.join(", "))
    };
    Check {
        name: "kernel with ring buffer",
        observed,
        problem: old.then_some(Problem::KernelTooOld { observed: release }),
    }
}

fn type_information() -> Check {
    Check {
        name: "BTF",
        observed: BTF_PATH.to_owned(),
        problem: fs::File::open(BTF_PATH)
            .err()
            .map(|source| Problem::NoBtf { source }),
    }
}

fn uprobes() -> Check {
    let path = Path::new("/sys/bus/event_source/devices/uprobe");
    Check {
        name: "uprobes",
        observed: "by perf_event_open, tracefs is not needed".to_owned(),
        problem: (!path.exists()).then_some(Problem::NoUprobes),
    }
}

fn lockdown() -> Check {
    let modes = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    let mode = modes
        .split(['[', ']'])
        .nth(1)
        .unwrap_or("unknown (securityfs cannot be read)");
    Check {
        name: "lockdown",
        observed: mode.to_owned(),
        problem: (mode == "confidentiality").then_some(Problem::Lockdown),
    }
}

fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default()
}

fn effective_capabilities() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    capability_line(&status).unwrap_or(0)
}

fn capability_line(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(value.trim(), 16).ok()
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|character: char| !character.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_by_number() {
        assert_eq!(version("6.18.44-fc-v595\n"), Some((6, 18)));
        assert_eq!(version("5.10.0-28-amd64"), Some((5, 10)));
        assert!(version("5.4.0").unwrap() < OLDEST_KERNEL);
        assert_eq!(version("next"), None);
    }

    #[test]
    fn capabilities_are_hexadecimal() {
        assert_eq!(
            capability_line("Name:\tx\nCapEff:\t0000000000200000\n"),
            Some(1 << 21)
        );
        assert_eq!(capability_line("Name:\tx\n"), None);
    }

    #[test]
    fn connections_of_kernel_tls_are_counted() {
        let statistics =
            "TlsCurrTxSw                     \t3\nTlsCurrRxSw  9\nTlsCurrTxDevice\t2\nTlsTxSw 50\n";
        assert_eq!(sending_by_kernel_tls(statistics), 5);
        assert_eq!(sending_by_kernel_tls("nonsense"), 0);
    }

    #[test]
    fn every_message_is_one_line() {
        let observed = "4.4".to_owned();
        for problem in [
            Problem::MissingSysAdmin,
            Problem::MissingSysPtrace,
            Problem::OwnProcessNumbers,
            Problem::KernelTooOld { observed },
            Problem::NoBtf {
                source: io::Error::from(io::ErrorKind::NotFound),
            },
            Problem::Lockdown,
            Problem::NoUprobes,
        ] {
            assert!(!problem.to_string().contains('\n'), "{problem}");
        }
    }
}
