//! `ecapture tls`, `gotls`, `gnutls` and `nspr`: capture, decode, print.

use anyhow::Result;
use ecapture_probe::survey;

use super::capture::{Prepared, wall_clock_offset_ns};
use super::doctor;
use crate::exit::Exit;
use crate::session::Session;
use crate::settings::{CaptureSettings, OutputSettings};

pub(crate) fn run(output: &OutputSettings, settings: &CaptureSettings) -> Result<Exit> {
    // What cannot be written is found out before anything is attached.
    let session = Session::new(output, Some(wall_clock_offset_ns()?))?;
    let prepared = Prepared::new(settings, output.command_output())?;
    if settings.command.is_empty() && settings.libraries.is_all() {
        survey::in_background(settings.pid, |survey| {
            tracing::info!("{}; `ecapture doctor` lists them", doctor::coverage(&survey));
        });
    }
    ecapture_actors::block_on(async {
        let (capture, conditions) = prepared.release()?;
        session.capture(capture, conditions).await
    })
}
