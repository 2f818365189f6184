//! `ecapture replay`: a recording through the same actors and decoders.

use std::path::Path;

use anyhow::{Result, bail};

use crate::exit::Exit;
use crate::injection::Injection;
use crate::output;
use crate::recording::Recording;
use crate::session::Session;
use crate::settings::OutputSettings;

pub(crate) fn run(settings: &OutputSettings, file: &Path, failures: &[String]) -> Result<Exit> {
    let injections = failures
        .iter()
        .map(|value| Injection::parse(value))
        .collect::<Result<Vec<_>, _>>()?;
    let recording = Recording::open(file)?;
    if recording
        .metadata()
        .is_ok_and(|recording| output::is_same_file(&settings.target, &recording))
    {
        bail!(
            "--eventaddr: {} is the recording itself; name another file",
            file.display()
        );
    }
    let session = Session::new(settings, recording.wall_clock_offset_ns())?;
    ecapture_actors::block_on(session.replay(recording, &injections))
}
