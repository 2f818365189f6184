//! `--logaddr`, and the logs that eCaptureQ clients get.

use crate::args::GlobalArgs;
use crate::outputs::{self, Target};
use crate::usage::UsageError;

/// Where the log goes beside standard error: to the target of `--logaddr`, and to eCaptureQ clients.
pub(crate) fn log_targets(global: &GlobalArgs) -> Result<Vec<Target>, UsageError> {
    let mut targets = Vec::new();
    if let Some(value) = &global.logaddr {
        targets.push(Target::parse("--logaddr", value)?);
    }
    let is_served = |output: &String| output.split(':').next() == Some(outputs::ECAPTUREQ.name);
    if global.ecaptureq.is_some() || global.output.iter().any(is_served) {
        targets.push(Target::served_logs());
    }
    Ok(targets)
}
