//! The command line: what the user typed (`args`), what it means (`settings`), and the commands.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod exit;
mod held;
mod injection;
mod one_line;
mod output;
mod private_file;
pub mod recording;
mod report;
mod session;
mod settings;
mod signals;
mod telemetry;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;

use crate::args::{Cli, Command};
use crate::exit::Exit;
use crate::settings::{Target, UsageError};

/// Parses the command line, runs it, and gives the exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Standard output may be closed already: there is nobody left to tell.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
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
    let log_target = match cli
        .global
        .logaddr
        .as_deref()
        .map(|value| Target::parse("--logaddr", value))
        .transpose()
    {
        Ok(target) => target,
        Err(error) => return start_without_log_target(&error),
    };
    if let Err(error) = telemetry::start(cli.global.debug, log_target.as_ref()) {
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
            tracing::error!("{error:#}");
            exit
        }
    }
}

/// Reports what keeps the logs from being set up on the plain console log.
fn start_without_log_target(error: &(dyn std::error::Error + 'static)) -> Exit {
    let usage = error.is::<UsageError>();
    if telemetry::start(false, None).is_ok() {
        let causes = std::iter::successors(Some(error), |error| error.source());
        tracing::error!(
            "{}",
            causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
        );
    }
    if usage { Exit::Usage } else { Exit::Failure }
}

impl Command {
    /// Name and way out of a command of the original that is not built yet.
    fn unbuilt(&self) -> Option<(&'static str, &'static str)> {
        let audit = "only TLS is captured: `ecapture tls`";
        match self {
            Self::Bash(_) => Some(("bash", audit)),
            Self::Zsh(_) => Some(("zsh", audit)),
            Self::Mysqld(_) => Some(("mysqld", audit)),
            Self::Postgres(_) => Some(("postgres", audit)),
            _ => None,
        }
    }
}
