//! `ecapture replay`: a recording through the same actors and decoders.

use std::path::Path;

use anyhow::Result;

use crate::exit::Exit;
use crate::injection::Injection;
use crate::recording::Recording;
use crate::session::Session;
use crate::settings::OutputSettings;

pub(crate) fn run(output: &OutputSettings, file: &Path, failures: &[String]) -> Result<Exit> {
    let injections = failures
        .iter()
        .map(|value| Injection::parse(value))
        .collect::<Result<Vec<_>, _>>()?;
    let recording = Recording::open(file)?;
    let session = Session::new(output, recording.wall_clock_offset_ns())?;
    ecapture_actors::block_on(session.replay(recording, &injections))
}
