//! `ecapture replay`: a recording through the same actors and decoders.

use std::path::Path;

use anyhow::{Result, bail};

use crate::args::ReplayArgs;
use crate::exit::Exit;
use crate::injection::Injection;
use crate::output;
use crate::recording::Recording;
use crate::selection::Selection;
use crate::session::Session;
use crate::settings::OutputSettings;
use crate::usage::UsageError;

pub(crate) fn run(settings: &OutputSettings, selection: &Selection, arguments: &ReplayArgs) -> Result<Exit> {
    if arguments.cgroup_path.is_some() {
        let error = UsageError::Unusable {
            flag: "--cgroup_path".to_owned(),
            command: "replay",
            reason: "a recording does not contain the cgroups of processes; use it with `ecapture record`",
        };
        return Err(error.into());
    }
    run_file(settings, selection, &arguments.file, &arguments.inject)
}

/// Replays what is selected of `file`.
pub(super) fn run_file(
    settings: &OutputSettings,
    selection: &Selection,
    file: &Path,
    failures: &[String],
) -> Result<Exit> {
    let injections = failures
        .iter()
        .map(|value| Injection::parse(value))
        .collect::<Result<Vec<_>, _>>()?;
    let recording = Recording::open(file)?;
    for output in &settings.outputs {
        let is_recording = |metadata| output::is_same_file(&output.target, &metadata);
        if recording.metadata().is_ok_and(is_recording) {
            let (flag, file) = (output.flag, file.display());
            bail!("{flag}: {file} is the recording itself; name another file");
        }
    }
    let session = Session::new(settings, recording.wall_clock_offset_ns())?;
    ecapture_actors::block_on(session.replay(recording, selection, &injections))
}
