//! Our own logs: to standard error, and as JSON lines to `--logaddr`.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::net::TcpStream;
use std::sync::Mutex;

use anyhow::{Context as _, Result};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::settings::Target;

/// Sets up logging for the process. Fails when the `--logaddr` target cannot be opened.
pub(crate) fn start(debug: bool, log_target: Option<&Target>) -> Result<()> {
    let level = if debug {
        LevelFilter::DEBUG
    } else {
        LevelFilter::INFO
    };
    // Libraries stay silent unless something is wrong; what they say at lower levels is about themselves.
    let filter = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("ecapture", level)
        .with_target("ecapture_actors", level)
        .with_target("ecapture_cli", level)
        .with_target("ecapture_probe", level);
    let color =
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let console = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(color)
        .with_target(debug)
        .with_filter(filter.clone());
    let second = match log_target {
        Some(target) => {
            let writer = open(target)?;
            Some(
                tracing_subscriber::fmt::layer()
                    .json()
                    .with_writer(Mutex::new(writer))
                    .with_filter(filter),
            )
        }
        None => None,
    };
    tracing_subscriber::registry()
        .with(console)
        .with(second)
        .try_init()
        .context("logging was set up twice")?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// A decoder that fails is replaced and the run goes on: one line says what and where, instead of
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

fn open(target: &Target) -> Result<Box<dyn Write + Send>> {
    match target {
        Target::File(path) => {
            let file = File::create(path).with_context(|| {
                format!(
                    "--logaddr: cannot write {}; give a path in an existing folder you may write to",
                    path.display()
                )
            })?;
            Ok(Box::new(file))
        }
        Target::Tcp(address) => {
            let stream = TcpStream::connect(address).with_context(|| {
                format!("--logaddr: nobody listens on {address}; start the collector first")
            })?;
            Ok(Box::new(stream))
        }
        Target::StandardOutput => Ok(Box::new(io::stdout())),
    }
}
