//! Flags of the original that are not implemented yet are refused, each with a way out; those that are not needed
//! are accepted, each with the reason.

use crate::args::{GlobalArgs, UnbuiltCaptureArgs};
use crate::usage::UsageError;

pub(super) fn refuse_unbuilt_globals(global: &GlobalArgs) -> Result<(), UsageError> {
    match global.btf {
        0 | 1 => Ok(()),
        2 => {
            let reason =
                "the kernel programs always use its BTF, and a kernel without is refused at the start";
            tracing::info!("--btf 2 has no effect: {reason}");
            Ok(())
        }
        other => Err(UsageError::Value {
            flag: "--btf",
            expected: "0, 1 or 2",
            observed: other.to_string(),
        }),
    }
}

/// Accepts flags that are not needed.
pub(super) fn explain_needless(unbuilt: &UnbuiltCaptureArgs) {
    let needless = [
        (
            &unbuilt.ssl_version,
            "--ssl_version",
            "no library version is needed to capture plaintext",
        ),
        (
            &unbuilt.perf_reorder,
            "--perf-reorder",
            "one ring buffer keeps the order of events",
        ),
        (
            &unbuilt.perf_reorder_lag_ms,
            "--perf-reorder-lag-ms",
            "one ring buffer keeps the order of events",
        ),
    ];
    for (value, flag, reason) in needless {
        if value.is_some() {
            tracing::info!("{flag} has no effect: {reason}");
        }
    }
}
