//! One file per command.

mod capture;
mod demo;
mod doctor;
mod record;
mod replay;
mod stat;
mod tls;
mod verify;

use anyhow::Result;

use crate::args::{BashArgs, Cli, Command, RecordArgs, ShellArgs, SqlCaptureArgs, WatchArgs, ZshArgs};
use crate::exit::Exit;
use crate::held;
use crate::selection::Selection;
use crate::settings::{
    CaptureSettings, Libraries, OutputSettings, outputs_of, refuse_packets, selecting_words, watch,
};

/// Runs the command that was asked for.
pub(crate) fn dispatch(cli: &Cli) -> Result<Exit> {
    let output = || OutputSettings::resolve(&cli.global);
    let capture = |libraries: Libraries, capture| {
        let output = outputs_of(&cli.global, capture)?.in_mode(&cli.global, capture, &libraries)?;
        let output = output.selected_by(selecting_words(capture)?)?;
        let libraries = output.adapt(libraries)?;
        let settings = CaptureSettings::resolve(&cli.global, libraries, capture)?;
        tls::run(&output, &settings)
    };
    let shells = |libraries, shell: &ShellArgs, capture| {
        refuse_packets(capture)?;
        let output = output()?;
        let mut settings = CaptureSettings::resolve(&cli.global, libraries, capture)?;
        settings.shell_status = shell.errnumber;
        tls::run(&output, &settings)
    };
    let databases = |libraries, capture: &SqlCaptureArgs| {
        let output = output()?;
        let settings = CaptureSettings::resolve(&cli.global, libraries, &capture.into())?;
        tls::run(&output, &settings)
    };
    match &cli.command {
        Command::Tls(arguments) => capture(arguments.into(), &arguments.capture),
        Command::Gotls(arguments) => capture(arguments.into(), &arguments.capture),
        Command::Gnutls(arguments) => capture(arguments.into(), &arguments.capture),
        Command::Nspr(arguments) => capture(arguments.into(), &arguments.capture),
        Command::Record(RecordArgs { file, tls }) => {
            refuse_packets(&tls.capture)?;
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
        Command::Stat(arguments) => stat::run(&cli.global, arguments),
        Command::Verify(arguments) => verify::run(arguments),
        Command::Demo => demo::run(&output()?, &cli.global),
        Command::Bash(BashArgs {
            files,
            shell,
            capture,
        }) => shells(files.into(), shell, capture),
        Command::Zsh(ZshArgs {
            files,
            shell,
            capture,
        }) => shells(files.into(), shell, capture),
        Command::Watch(arguments) => watch(cli, arguments),
        Command::Mysqld(arguments) => databases(arguments.into(), &arguments.capture),
        Command::Postgres(arguments) => databases(arguments.into(), &arguments.capture),
        Command::Held { command } => Ok(held::become_command(command)),
    }
}

/// Captures several kinds in one run.
fn watch(cli: &Cli, arguments: &WatchArgs) -> Result<Exit> {
    refuse_packets(&arguments.capture)?;
    let output = OutputSettings::resolve(&cli.global)?;
    let wanted = watch::libraries(arguments)?.into_iter();
    let wanted: Vec<_> = wanted
        .map(|libraries| output.adapt(libraries))
        .collect::<Result<_, _>>()?;
    let mut wanted = wanted.into_iter();
    let mut capture = arguments.capture.clone();
    capture.words.clear();
    let first = wanted.next().expect("no name is an error");
    let mut settings = CaptureSettings::resolve(&cli.global, first, &capture)?;
    settings.further = wanted.collect();
    settings.shell_status = arguments.shell.errnumber;
    tls::run(&output, &settings)
}
