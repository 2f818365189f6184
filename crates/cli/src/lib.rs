//! The command line: as typed by the user (`args`), its meaning (`settings`), and the commands.
#![forbid(unsafe_code)]

mod args;
mod audit;
mod chain;
mod commands;
mod ecaptureq;
mod exit;
mod hang_up;
mod held;
mod injection;
mod listen;
pub mod memory;
mod named_processes;
mod one_line;
mod outputs;
mod private_file;
pub mod recording;
mod report;
mod selection;
mod session;
mod settings;
mod signals;
mod stop;
mod telemetry;
mod usage;
mod web_origin;

use std::error::Error;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use crate::args::{Cli, Command};
use crate::exit::Exit;
use crate::telemetry::Level;
use crate::usage::UsageError;

/// Parses the command line, runs it, and returns the exit code.
pub fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let cli = match usage::read(&words) {
        Ok(cli) => cli,
        Err(stop) => return stop.print(),
    };
    let exit = run(&cli);
    // A log that takes nothing is not waited for by somebody who has asked for the end.
    telemetry::flush(signals::was_asked().then_some(LAST_WORDS));
    exit.into()
}

/// How long the last log lines of a run may take that was asked to end.
const LAST_WORDS: Duration = Duration::from_secs(1);

fn run(cli: &Cli) -> Exit {
    if matches!(cli.command, Command::Held { .. }) {
        signals::unblock();
    } else if let Err(error) = signals::start() {
        return start_without_log_target(error.as_ref());
    }
    let log_targets = match settings::log_targets(&cli.global) {
        Ok(targets) => targets,
        Err(error) => return start_without_log_target(&error),
    };
    let level = Level::of(&cli.global);
    if let Err(error) = telemetry::start(level, &log_targets) {
        return start_without_log_target(error.as_ref());
    }
    match commands::dispatch(cli) {
        Ok(exit) => exit,
        Err(error) => {
            let exit = if error.is::<UsageError>() {
                Exit::Usage
            } else {
                Exit::Failure
            };
            tracing::error!("{}", with_causes(error.as_ref()));
            exit
        }
    }
}

/// Reports what keeps the logs from being set up on the plain console log.
fn start_without_log_target(error: &(dyn Error + 'static)) -> Exit {
    let usage = error.is::<UsageError>();
    if telemetry::start(Level::Quiet, &[]).is_ok() {
        tracing::error!("{}", with_causes(error));
    }
    if usage { Exit::Usage } else { Exit::Failure }
}

/// An error and its causes in one line, each of them once: many messages name their cause themselves.
fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut message = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        next = cause.source();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read f: {source}")]
    struct Names {
        source: std::io::Error,
    }

    #[test]
    fn each_cause_is_named_once() {
        let error = anyhow::Error::from(Names {
            source: std::io::Error::other("no such file"),
        });
        assert_eq!(with_causes(error.as_ref()), "cannot read f: no such file");
        let error = anyhow::anyhow!("no such file").context("cannot read f");
        assert_eq!(with_causes(error.as_ref()), "cannot read f: no such file");
    }
}
