//! Ends a run: at a signal such as Ctrl-C, at the end of the command, or at that of all processes that were
//! named. This is the only place that acts on a signal, except that a third one ends the program
//! ([`crate::signals`]).

use std::pin::pin;
use std::time::Duration;

use anyhow::Result;
use ecapture_actors::PipelineHandle;
use ecapture_probe::{CaptureHandle, Filters};
use tokio::sync::oneshot;

use crate::exit::Exit;
use crate::held;
use crate::named_processes::NamedProcesses;
use crate::signals::{self, Asked, Listener};

/// Time after its stop in which a capture delivers its last events: writes in progress have 100 ms to return,
/// and the kernel has a moment more.
const SOURCE_ENDS: Duration = Duration::from_millis(200);

/// Time after which a user may wonder what the program waits for.
const LONG: Duration = Duration::from_secs(3);

/// Ends one run. While it lives, a signal is handed to it instead of ending the program at once.
pub(crate) struct Stop {
    pipeline: PipelineHandle,
    asked: Listener,
}

impl Stop {
    /// Listens for signals from now on.
    pub(crate) fn of(pipeline: PipelineHandle) -> Self {
        Self {
            pipeline,
            asked: signals::listen(),
        }
    }

    /// Follows a capture to its end: one of `conditions` stops it, then its output has all the time it wants,
    /// until another signal. Returns how the command ended, if it has.
    pub(crate) async fn capture(mut self, conditions: StopConditions) -> Result<Option<Exit>> {
        let stopped = tokio::select! {
            // The pipeline ends by itself when its output is gone or it fails.
            _ = self.pipeline.finished() => None,
            exit = conditions.stop(&mut self.asked) => Some(exit?),
        };
        // Not in the same breath as the above: how the command ended must not depend on who is first.
        if stopped.is_some() {
            self.give_up_when_asked_again().await;
        }
        Ok(stopped.flatten())
    }

    /// Follows a replay to its end, or stops it on a signal. Returns true then.
    pub(crate) async fn replay(mut self) -> bool {
        tokio::select! {
            _ = self.pipeline.finished() => false,
            _ = self.asked.asked() => {
                self.pipeline.stop();
                true
            }
        }
    }

    /// Waits for the end of a run whose source has ended. A pager takes its time, so the output has all it wants,
    /// until another signal gives it as long as a stop.
    async fn give_up_when_asked_again(&mut self) {
        let mut long = pin!(tokio::time::sleep(LONG));
        let mut is_told = false;
        loop {
            tokio::select! {
                _ = self.pipeline.finished() => return,
                _ = self.asked.asked() => break,
                () = &mut long, if !is_told => {
                    tracing::warn!("the capture has stopped, but its output is not written yet; press Ctrl-C to discard the rest");
                    is_told = true;
                }
            }
        }
        // Just after the stop the source may still deliver the data of calls in progress.
        tokio::select! {
            _ = self.pipeline.finished() => {}
            () = tokio::time::sleep(SOURCE_ENDS) => self.pipeline.stop(),
        }
    }
}

/// The conditions that end a capture: a signal, the end of the command, or that of all named processes.
pub(crate) struct StopConditions {
    pub(crate) capture: CaptureHandle,
    pub(crate) command_pid: Option<u32>,
    pub(crate) command_ended: Option<oneshot::Receiver<Exit>>,
    pub(crate) named: NamedProcesses,
}

impl StopConditions {
    /// Waits for one of them, then stops the capture: what is in the ring is still delivered.
    /// Returns how the command ended, if it has.
    async fn stop(mut self, asked: &mut Listener) -> Result<Option<Exit>> {
        let began_with = self.capture.filters();
        let exit = tokio::select! {
            signal = asked.asked() => {
                if signal == Asked::Terminate {
                    self.command_pid.into_iter().for_each(held::terminate);
                }
                None
            }
            exit = ended(self.command_ended.as_mut()) => Some(exit),
            told = named_ended(&mut self.named, &self.capture, began_with.as_ref()) => {
                tracing::info!("{}", told?);
                None
            }
        };
        self.capture.stop()?;
        Ok(exit)
    }
}

/// Resolves when all processes have ended that the capture began with; never if others are captured by then.
async fn named_ended(
    named: &mut NamedProcesses,
    capture: &CaptureHandle,
    began_with: Option<&Filters>,
) -> Result<String> {
    let told = named.ended().await?;
    let processes = |filters: Option<&Filters>| filters.and_then(|filters| filters.processes.clone());
    if processes(capture.filters().as_ref()) != processes(began_with) {
        std::future::pending::<()>().await;
    }
    Ok(told)
}

/// Resolves when the command has ended; never without a command.
async fn ended(command: Option<&mut oneshot::Receiver<Exit>>) -> Exit {
    match command {
        Some(receiver) => receiver.await.unwrap_or(Exit::Failure),
        None => std::future::pending().await,
    }
}
