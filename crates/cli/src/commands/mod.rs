//! One file per command.

mod capture;
mod demo;
pub(crate) mod doctor;
mod named_processes;
mod record;
mod replay;
mod tls;

pub(crate) use capture::StopConditions;

use anyhow::Result;

use crate::args::{Cli, Command, RecordArgs};
use crate::exit::Exit;
use crate::held;
use crate::selection::Selection;
use crate::settings::{CaptureSettings, OutputSettings, UsageError};

/// Runs the command that was asked for.
pub(crate) fn dispatch(cli: &Cli) -> Result<Exit> {
    if let Some((name, instead)) = cli.command.unbuilt() {
        return Err(UsageError::Unbuilt {
            what: format!("`ecapture {name}`"),
            instead,
        }
        .into());
    }
    if let Command::Held { command } = &cli.command {
        return Ok(held::become_command(command));
    }
    let output = OutputSettings::resolve(&cli.global)?;
    let settings = |libraries, capture| CaptureSettings::resolve(&cli.global, libraries, capture);
    let capture = |libraries, capture| tls::run(&output, &settings(libraries, capture)?);
    match &cli.command {
        Command::Tls(arguments) => capture(arguments.into(), &arguments.capture),
        Command::Gotls(arguments) => capture(arguments.into(), &arguments.capture),
        Command::Gnutls(arguments) => capture(arguments.into(), &arguments.capture),
        Command::Nspr(arguments) => capture(arguments.into(), &arguments.capture),
        Command::Record(RecordArgs { file, tls }) => {
            record::run(file, &output, &settings(tls.into(), &tls.capture)?)
        }
        Command::Replay(arguments) => replay::run(&output, &Selection::read(&cli.global)?, arguments),
        Command::Doctor => doctor::run(&output, &Selection::read(&cli.global)?.running()?),
        Command::Demo => demo::run(&output, &cli.global),
        _ => unreachable!("refused above"),
    }
}
