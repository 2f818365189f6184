//! `ecapture record`: the event stream into a file.

use std::path::Path;

use anyhow::{Context as _, Result};
use ecapture_probe::CaptureHandle;
use ecapture_protocols::CapturedEvent;
use futures_util::StreamExt as _;

use super::capture::{Prepared, wall_clock_offset_ns};
use crate::exit::Exit;
use crate::held::CommandOutput;
use crate::recording::RecordingWriter;
use crate::report;
use crate::settings::{CaptureSettings, OutputSettings};

pub(crate) fn run(file: &Path, output: &OutputSettings, settings: &CaptureSettings) -> Result<Exit> {
    let failed = || {
        format!(
            "cannot write {}; give a path in an existing folder you may write to",
            file.display()
        )
    };
    let writer = RecordingWriter::create(file, wall_clock_offset_ns()?).with_context(failed)?;
    let prepared = Prepared::new(settings, CommandOutput::Shared)?;
    let (recorded, exit) = ecapture_actors::block_on(record(prepared, writer)).with_context(failed)?;
    let lost = report::recorded(&recorded, file);
    Ok(match exit {
        _ if lost && output.fail_on_loss => Exit::Loss,
        Some(exit) => exit,
        None => Exit::Success,
    })
}

/// What went into the file.
pub(crate) struct Recorded {
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    pub(crate) capture: CaptureHandle,
}

async fn record(prepared: Prepared, mut writer: RecordingWriter) -> Result<(Recorded, Option<Exit>)> {
    let (capture, conditions) = prepared.release()?;
    let mut recorded = Recorded {
        events: 0,
        bytes: 0,
        capture: capture.handle(),
    };
    let mut batches = capture.into_events();
    let stopped = conditions.stop()?;
    tracing::info!("capturing into a file; Ctrl-C ends it");
    let writing = async {
        while let Some(batch) = batches.next().await {
            writer.write(&batch)?;
            recorded.events += batch.len() as u64;
            recorded.bytes += batch.iter().map(payload_len).sum::<u64>();
        }
        writer.finish()?;
        anyhow::Ok(())
    };
    // The stream ends once the capture was stopped and its ring is empty. When writing fails, the
    // signals are not waited for.
    let ((), exit) = tokio::try_join!(writing, stopped)?;
    Ok((recorded, exit))
}

fn payload_len(event: &CapturedEvent) -> u64 {
    match event {
        CapturedEvent::Data(data) => data.payload.len() as u64,
        CapturedEvent::Close { .. } => 0,
    }
}
