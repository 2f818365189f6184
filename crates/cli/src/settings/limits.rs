//! The limits of the pipeline, and the interval of its figures.

use std::time::Duration;

use ecapture_actors::PipelineLimits;

use crate::args::GlobalArgs;
use crate::usage::UsageError;

/// Smallest `--max-memory` in MiB: below it, one connection's largest body does not fit.
const LEAST_MEMORY_MIB: u32 = 32;

pub(super) fn limits(global: &GlobalArgs) -> Result<PipelineLimits, UsageError> {
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

pub(super) fn statistics_interval(global: &GlobalArgs) -> Result<Option<Duration>, UsageError> {
    match global.stats {
        Some(0) => Err(UsageError::Value {
            flag: "--stats",
            expected: "1 or more seconds (without it the figures are printed at the end)",
            observed: "0".into(),
        }),
        seconds => Ok(seconds.map(|seconds| Duration::from_secs(seconds.into()))),
    }
}
