//! `ecapture record`: the event stream into a file.

use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ecapture_probe::{CaptureHandle, Events};
use futures_util::StreamExt as _;
use tokio::time::MissedTickBehavior;

use super::capture::{Prepared, wall_clock_offset_ns};
use crate::exit::Exit;
use crate::held::CommandOutput;
use crate::private_file::Replacement;
use crate::recording::{RecordingWriter, payload_len};
use crate::report;
use crate::settings::{CaptureSettings, OutputSettings};
use crate::signals::{self, Listener};

/// How long captured events wait until they are in the file.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// How long a file that takes nothing has after the second signal.
const GIVE_UP: Duration = Duration::from_secs(3);

pub(crate) fn run(file: &Path, output: &OutputSettings, settings: &CaptureSettings) -> Result<Exit> {
    let failed = || {
        format!(
            "cannot write {}; give a path in an existing folder you may write to",
            file.display()
        )
    };
    // What cannot be written is found out before anything is attached; what is there stays until then.
    let replacement = Replacement::open(file).with_context(failed)?;
    let prepared = Prepared::new(settings, CommandOutput::Shared)?;
    let (recorded, exit) = ecapture_actors::block_on(async {
        let writer = RecordingWriter::start(replacement.begin()?, wall_clock_offset_ns()?)?;
        record(prepared, writer).await
    })
    .with_context(failed)?;
    let lost = report::recorded(&recorded, file);
    Ok(match exit {
        _ if recorded.given_up() => Exit::Failure,
        _ if lost && output.fail_on_loss => Exit::Loss,
        Some(exit) => exit,
        None => Exit::Success,
    })
}

/// What went into the file.
pub(crate) struct Recorded {
    /// Events, and bytes of their payload.
    pub(crate) written: (u64, u64),
    /// The same of what was captured.
    pub(crate) captured: (u64, u64),
    pub(crate) capture: CaptureHandle,
}

impl Recorded {
    /// Whether the file did not take everything.
    pub(crate) fn given_up(&self) -> bool {
        self.written != self.captured
    }
}

async fn record(prepared: Prepared, writer: RecordingWriter) -> Result<(Recorded, Option<Exit>)> {
    let mut asked = signals::listen();
    let (capture, conditions) = prepared.release()?;
    let handle = capture.handle();
    let written = writer.written();
    let mut captured = (0, 0);
    tracing::info!("capturing into a file; Ctrl-C ends it");
    let mut exit = None;
    {
        // The stream ends once the capture was stopped and its ring is empty.
        let mut writing = pin!(write(capture.into_events(), writer, &mut captured));
        tokio::select! {
            // When writing fails, no signal is waited for.
            ended = &mut writing => ended?,
            stopped = conditions.stop(&mut asked) => {
                exit = stopped?;
                tokio::select! {
                    ended = &mut writing => ended?,
                    () = given_up(&mut asked) => {}
                }
            }
        }
    }
    let recorded = Recorded {
        written: written.figures(),
        captured,
        capture: handle,
    };
    Ok((recorded, exit))
}

/// Resolves some time after the next signal.
async fn given_up(asked: &mut Listener) {
    asked.asked().await;
    tokio::time::sleep(GIVE_UP).await;
}

/// Writes all events, and makes them visible to readers of the file once a second.
async fn write(
    mut batches: Events,
    mut writer: RecordingWriter,
    captured: &mut (u64, u64),
) -> std::io::Result<()> {
    let mut flush = tokio::time::interval(FLUSH_INTERVAL);
    flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_unflushed = false;
    loop {
        tokio::select! {
            batch = batches.next() => {
                let Some(batch) = batch else { break };
                captured.0 += batch.len() as u64;
                captured.1 += batch.iter().map(payload_len).sum::<u64>();
                writer.write(batch).await?;
                is_unflushed = true;
            }
            _ = flush.tick(), if is_unflushed => is_unflushed = !writer.try_flush(),
        }
    }
    writer.finish().await
}
