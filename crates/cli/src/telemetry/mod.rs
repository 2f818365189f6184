//! Our own logs: to standard error, and as JSON lines to `--logaddr`.

mod console;
mod queue;
mod reopened;

use std::io::{self, IsTerminal as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::args::GlobalArgs;
use crate::hang_up::{OnHangUp, on_hang_up};
use crate::one_line::{OneLine, warning_line};
use crate::outputs::{Plain, Target};
use crate::usage::UsageError;
use console::Console;
use queue::LogQueue;
use reopened::Reopened;

/// The level of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// `--quiet`: warnings and errors.
    Quiet,
    /// The level in RUST_LOG, or else the one that suits users.
    Usual,
    /// `--debug`.
    Debug,
}

impl Level {
    /// The level that the flags ask for.
    pub(crate) fn of(global: &GlobalArgs) -> Self {
        match (global.quiet, global.debug) {
            (true, _) => Self::Quiet,
            (_, true) => Self::Debug,
            _ => Self::Usual,
        }
    }

    fn filter(self) -> Result<Targets, UsageError> {
        let level = match self {
            Self::Quiet => LevelFilter::WARN,
            Self::Usual => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
        };
        let variable = std::env::var("RUST_LOG").unwrap_or_default();
        if self == Self::Usual && !variable.is_empty() {
            return variable.parse().map_err(|_| UsageError::Value {
                flag: "RUST_LOG",
                expected: "levels such as debug, or ecapture_probe=debug,warn",
                observed: variable,
            });
        }
        // Libraries stay silent unless something is wrong; what they say at lower levels is about themselves.
        let own = ["ecapture", "ecapture_actors", "ecapture_cli", "ecapture_probe"];
        Ok(Targets::new()
            .with_default(LevelFilter::WARN)
            .with_targets(own.map(|target| (target, level))))
    }
}

/// Sets up logging for the process. The lines also go, as JSON, to all of
/// `log_targets`. Fails when one of them cannot be opened.
pub(crate) fn start(level: Level, log_targets: &[Target]) -> Result<()> {
    let filter = level.filter()?;
    let color =
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let queue = started(LogQueue::start("log", Plain(io::stderr()), |lines| {
        format!("WARN {}\n", left_out(lines))
    })?);
    let console = tracing_subscriber::fmt::layer()
        .with_writer(OneLine::new(move || queue.clone(), color))
        .with_ansi(color)
        .with_target(level == Level::Debug)
        .map_event_format(Console)
        .with_filter(filter.clone());
    let layers = log_targets.iter().map(|target| {
        let queue = LogQueue::start("log-target", Reopened::new(target.open_log()?), |lines| {
            warning_line(&left_out(lines))
        })?;
        let queue = started(queue);
        if target.is_regular_file() {
            reopen_on_hang_up(queue.clone());
        }
        let layer = tracing_subscriber::fmt::layer()
            .json()
            .with_writer(move || queue.clone());
        Ok(layer.with_filter(filter.clone()))
    });
    let layers = layers.collect::<Result<Vec<_>>>()?;
    // An empty list of layers would turn off all logs, those of the console too.
    let layers = (!layers.is_empty()).then_some(layers);
    tracing_subscriber::registry()
        .with(layers)
        .with(console)
        .try_init()
        .context("logging was set up twice")?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Waits until all log lines are written, at most so long if there is a limit.
pub(crate) fn flush(limit: Option<Duration>) {
    let queues = QUEUES.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for queue in queues {
        queue.flush(limit);
    }
}

/// The queues that log lines wait in.
static QUEUES: Mutex<Vec<LogQueue>> = Mutex::new(Vec::new());

/// The log is there until the program ends.
static ON_HANG_UP: Mutex<Vec<OnHangUp>> = Mutex::new(Vec::new());

fn reopen_on_hang_up(queue: LogQueue) {
    let on_hang_up = on_hang_up(move || queue.renew());
    ON_HANG_UP
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(on_hang_up);
}

fn started(queue: LogQueue) -> LogQueue {
    let mut queues = QUEUES.lock().unwrap_or_else(PoisonError::into_inner);
    queues.push(queue.clone());
    queue
}

fn left_out(lines: u64) -> String {
    format!("{lines} log lines were left out: the log could not be written for too long")
}

/// A decoder that fails is replaced and the run continues: one line says what and where, instead of
/// a backtrace. With RUST_BACKTRACE set the backtrace follows in the debug log.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let what = panic.payload_as_str().unwrap_or("no message");
    tracing::error!("internal failure at {place}: {what}");
    let backtrace = std::backtrace::Backtrace::capture();
    if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
        tracing::debug!("{backtrace}");
    }
}
