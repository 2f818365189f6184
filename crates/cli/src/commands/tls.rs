//! All commands that capture: capture, decode, print.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use ecapture_probe::Modules;
use ecapture_probe::survey::{self, Survey};

use super::capture::{Prepared, wall_clock};
use super::doctor;
use crate::exit::Exit;
use crate::report;
use crate::session::Session;
use crate::settings::{CaptureSettings, Libraries, OutputSettings};

pub(crate) fn run(output: &OutputSettings, settings: &CaptureSettings) -> Result<Exit> {
    // What cannot be written is found out before anything is attached.
    let session = Session::new(output, wall_clock()?)?;
    let prepared = Prepared::new(settings, output)?;
    let surveyed = Arc::new(Mutex::new(Survey::default()));
    let is_of_interest = settings.modules().have(Modules::TLS)
        && settings.command.is_empty()
        && settings.wanted().all(Libraries::is_all);
    if is_of_interest {
        let surveyed = Arc::clone(&surveyed);
        let handle = prepared.capture.handle();
        survey::in_background(settings.pids.clone(), move |survey| {
            handle.surveyed(&survey);
            tracing::info!("{}; `ecapture doctor` lists them", doctor::coverage(&survey));
            *surveyed.lock().unwrap_or_else(PoisonError::into_inner) = survey;
        });
    }
    let handle = prepared.capture.handle();
    let exit = ecapture_actors::block_on(async {
        let (capture, conditions, attached) = prepared.release()?;
        session
            .capture(capture, conditions, (output, settings), attached)
            .await
    })?;
    if is_of_interest
        && settings.cgroup.is_none()
        && let Some(heard) = handle.tally().active_pids()
    {
        let surveyed = surveyed.lock().unwrap_or_else(PoisonError::into_inner);
        report::uncaptured(&surveyed.uncaptured(&heard, &settings.pids, settings.uid));
    }
    Ok(exit)
}
