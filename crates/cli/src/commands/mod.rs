//! One file per command.

mod capture;
mod demo;
mod doctor;
mod record;
mod replay;
mod tls;

use anyhow::Result;

use crate::args::{Cli, Command, RecordArgs};
use crate::exit::Exit;
use crate::held;
use crate::selection::Selection;
use crate::settings::{CaptureSettings, OutputSettings};
use crate::usage::UsageError;

/// Runs the command that was asked for.
pub(crate) fn dispatch(cli: &Cli) -> Result<Exit> {
    let output = || OutputSettings::resolve(&cli.global);
    let capture = |libraries, capture| {
        let output = output()?;
        let settings = CaptureSettings::resolve(&cli.global, libraries, capture)?;
        tls::run(&output, &settings)
    };
    match &cli.command {
        Command::Tls(arguments) => capture(arguments.into(), &arguments.capture),
        Command::Gotls(arguments) => capture(arguments.into(), &arguments.capture),
        Command::Gnutls(arguments) => capture(arguments.into(), &arguments.capture),
        Command::Nspr(arguments) => capture(arguments.into(), &arguments.capture),
        Command::Record(RecordArgs { file, tls }) => {
            let output = output()?;
            let settings = CaptureSettings::resolve(&cli.global, tls.into(), &tls.capture)?;
            record::run(file, &output, &settings)
        }
        Command::Replay(arguments) => {
            let output = output()?;
            replay::run(&output, &Selection::read(&cli.global)?, arguments)
        }
        Command::Doctor => {
            let output = output()?;
            doctor::run(&output, &Selection::read(&cli.global)?.running()?)
        }
        Command::Demo => demo::run(&output()?, &cli.global),
        Command::Bash(_) => unbuilt("bash"),
        Command::Zsh(_) => unbuilt("zsh"),
        Command::Mysqld(_) => unbuilt("mysqld"),
        Command::Postgres(_) => unbuilt("postgres"),
        Command::Held { command } => Ok(held::become_command(command)),
    }
}

/// Refuses a command of the original that is not implemented yet.
fn unbuilt(name: &str) -> Result<Exit> {
    let refusal = UsageError::Unbuilt {
        what: format!("`ecapture {name}`"),
        instead: "only TLS is captured: `ecapture tls`",
    };
    Err(refusal.into())
}
