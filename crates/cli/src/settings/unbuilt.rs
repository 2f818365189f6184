//! Flags of the original that are not implemented yet are refused, each with a way out.

use crate::args::{CaptureArgs, GlobalArgs};
use crate::usage::UsageError;

pub(super) fn refuse_unbuilt_globals(global: &GlobalArgs) -> Result<(), UsageError> {
    let unbuilt = &global.unbuilt;
    let refused = [
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

pub(super) fn refuse_unbuilt_capture(capture: &CaptureArgs) -> Result<(), UsageError> {
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

fn refuse(flags: &[(&Option<String>, &str, &'static str)]) -> Result<(), UsageError> {
    match flags.iter().find(|(value, ..)| value.is_some()) {
        Some((_, what, instead)) => Err(UsageError::Unbuilt {
            what: (*what).to_owned(),
            instead,
        }),
        None => Ok(()),
    }
}
