//! One file per command.

mod capture;
mod demo;
mod record;
mod replay;
mod tls;

pub(crate) use capture::StopConditions;
pub(crate) use record::Recorded;

use anyhow::Result;

use crate::args::{Cli, Command};
use crate::exit::Exit;
use crate::held;
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
    match &cli.command {
        Command::Tls(arguments) => tls::run(&output, &CaptureSettings::resolve(&cli.global, arguments)?),
        Command::Record(arguments) => record::run(
            &arguments.file,
            &output,
            &CaptureSettings::resolve(&cli.global, &arguments.tls)?,
        ),
        Command::Replay(arguments) => replay::run(&output, &arguments.file),
        Command::Demo => demo::run(&output, &cli.global),
        _ => unreachable!("refused above"),
    }
}
