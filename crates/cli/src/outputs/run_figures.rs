//! The figures of the run, for targets that show or send them.

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use ecapture_actors::{PipelineHandle, Statistics};

/// Where the figures are read when the run has begun: targets are opened before.
#[derive(Clone, Default)]
pub(crate) struct RunFigures(Arc<OnceLock<Begun>>);

struct Begun {
    pipeline: PipelineHandle,
    at: SystemTime,
}

impl std::fmt::Debug for RunFigures {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("RunFigures").finish_non_exhaustive()
    }
}

impl RunFigures {
    /// The run begins.
    pub(crate) fn begin(&self, pipeline: PipelineHandle) {
        let at = SystemTime::now();
        // A run begins once.
        let _ = self.0.set(Begun { pipeline, at });
    }

    /// Returns the figures of this moment; `None` before the run.
    pub(super) fn statistics(&self) -> Option<Statistics> {
        self.0.get().map(|begun| begun.pipeline.statistics())
    }

    /// Returns the time at which the run began.
    pub(super) fn begun_at(&self) -> Option<SystemTime> {
        self.0.get().map(|begun| begun.at)
    }
}
