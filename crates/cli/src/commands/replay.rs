//! `ecapture replay`: a recording, or a capture of packets, through the same actors and decoders.

use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Result, bail};
use ecapture_probe::local_time;
use ecapture_protocols::format::WallClock;

use crate::args::ReplayArgs;
use crate::exit::Exit;
use crate::injection::Injection;
use crate::recording::Recording;
use crate::report;
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
    let injections = injections(&arguments.inject)?;
    let recording = Recording::with_key_logs(&arguments.file, &arguments.keylog)?;
    run_recording(settings, selection, recording, &injections)
}

/// Replays what is selected of `file`, a recording.
pub(super) fn run_file(
    settings: &OutputSettings,
    selection: &Selection,
    file: &Path,
    failures: &[String],
) -> Result<Exit> {
    let injections = injections(failures)?;
    run_recording(settings, selection, Recording::open(file)?, &injections)
}

fn injections(failures: &[String]) -> Result<Vec<Injection>, UsageError> {
    failures.iter().map(|value| Injection::parse(value)).collect()
}

fn run_recording(
    settings: &OutputSettings,
    selection: &Selection,
    recording: Recording,
    injections: &[Injection],
) -> Result<Exit> {
    for output in &settings.outputs {
        let is_recording = |metadata| output.target.is_same_file(&metadata);
        if recording.metadata().is_ok_and(is_recording) {
            let (flag, file) = (output.flag, recording.path().display());
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
    settings.live = false;
    if let Some(clock) = injections.iter().find_map(|injection| injection.file_clock()) {
        settings.file_clock = clock;
    }
    let session = Session::new(&settings, clock)?;
    let figures = recording.packet_figures();
    let exit = ecapture_actors::block_on(session.replay(recording, selection, injections))?;
    let Some(figures) = figures.as_deref().and_then(OnceLock::get) else {
        return Ok(exit);
    };
    report::captured_packets::figures(figures);
    let is_loss = settings.fail_on_loss && exit == Exit::Success && figures.has_losses();
    Ok(if is_loss { Exit::Loss } else { exit })
}
