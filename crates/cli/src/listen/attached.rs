//! The files that the run is attached to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ecapture_probe::{AttachReport, Discovered};

/// Files that are listed; further ones are only counted. Whoever can run programs can make as many as he likes.
const LISTED: usize = 1024;

/// The files with their captured functions, as they are found.
#[derive(Debug, Default)]
pub(crate) struct AttachedFiles(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<PathBuf, Vec<&'static str>>,
    unlisted: usize,
}

impl AttachedFiles {
    /// Adds those that a search found.
    pub(crate) fn add(&self, reports: &[AttachReport]) {
        let mut state = self.state();
        for reports in reports.chunk_by(|one, other| one.library == other.library) {
            let attached = reports.iter().filter(|report| report.outcome.is_ok());
            let symbols: Vec<_> = attached.map(|report| report.symbol).collect();
            let Some(file) = reports.first().map(|report| &report.library) else {
                continue;
            };
            if symbols.is_empty() {
                continue;
            }
            if state.files.len() < LISTED || state.files.contains_key(file) {
                state.files.insert(file.clone(), symbols);
            } else {
                state.unlisted += 1;
            }
        }
    }

    /// Only these files are attached to any more.
    pub(crate) fn keep(&self, files: &[PathBuf]) {
        let mut state = self.state();
        state.files.retain(|file, _| files.contains(file));
        state.unlisted = 0;
    }

    /// Adds one that a process began to execute.
    pub(crate) fn discovered(&self, found: &Discovered) {
        if let Discovered::Attached { reports, .. } = found {
            self.add(reports);
        }
    }

    /// The files with their functions, and how many more there are.
    pub(super) fn list(&self) -> (Vec<(PathBuf, Vec<&'static str>)>, usize) {
        let state = self.state();
        let files = state.files.iter();
        let files = files.map(|(file, symbols)| (file.clone(), symbols.clone()));
        (files.collect(), state.unlisted)
    }

    /// Number of files.
    pub(super) fn count(&self) -> usize {
        let state = self.state();
        state.files.len() + state.unlisted
    }

    /// Each change is complete before the lock is released.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
