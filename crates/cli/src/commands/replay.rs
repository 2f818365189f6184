//! `ecapture replay`: a recording through the same actors and decoders.

use std::path::Path;

use anyhow::{Result, bail};
use ecapture_probe::local_time;
use ecapture_protocols::format::WallClock;

use crate::args::ReplayArgs;
use crate::exit::Exit;
use crate::injection::Injection;
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
        let is_recording = |metadata| output.target.is_same_file(&metadata);
        if recording.metadata().is_ok_and(is_recording) {
            let (flag, file) = (output.flag, file.display());
            bail!("{flag}: {file} is the recording itself; name another file");
        }
    }
    let offset_ns = recording.wall_clock_offset_ns();
    let clock = WallClock {
        offset_ns,
        // That of the day on which it was recorded, or the host was started.
        utc_offset_s: offset_ns.map_or(0, |offset| local_time::utc_offset_s(offset / 1_000_000_000)),
    };
    let mut settings = settings.clone();
    if let Some(clock) = injections.iter().find_map(|injection| injection.file_clock()) {
        settings.file_clock = clock;
    }
    let session = Session::new(&settings, clock)?;
    ecapture_actors::block_on(session.replay(recording, selection, &injections))
}
