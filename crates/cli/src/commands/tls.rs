//! `ecapture tls`, `gotls`, `gnutls` and `nspr`: capture, decode, print.

use anyhow::Result;
use ecapture_probe::survey::Survey;

use super::capture::{Prepared, wall_clock_offset_ns};
use super::doctor;
use crate::exit::Exit;
use crate::session::Session;
use crate::settings::{CaptureSettings, OutputSettings};

pub(crate) fn run(output: &OutputSettings, settings: &CaptureSettings) -> Result<Exit> {
    // What cannot be written is found out before anything is attached.
    let session = Session::new(output, Some(wall_clock_offset_ns()?))?;
    let prepared = Prepared::new(settings)?;
    if settings.command.is_empty() && settings.libraries.is_all() {
        tell_coverage(settings.pid);
    }
    ecapture_actors::block_on(async {
        let (capture, conditions) = prepared.release()?;
        session.capture(capture, conditions).await
    })
}

/// Looking into every process takes a while: the capture does not wait for it.
fn tell_coverage(pid: Option<u32>) {
    std::thread::spawn(move || {
        let survey = match pid {
            Some(pid) => Survey::of([pid]),
            None => Survey::of_all(),
        };
        tracing::info!("{}; `ecapture doctor` lists them", doctor::coverage(&survey));
    });
}
