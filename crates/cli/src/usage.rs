//! Reads the command line, and says in one line what is wrong with it.

mod error;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, Command, CommandFactory as _, FromArgMatches as _};
use ecapture_protocols::printable;

use crate::args::Cli;
use crate::exit::Exit;
pub(crate) use error::UsageError;

/// Why no command runs.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Help or the version, which was asked for, or the help for a command line without a command.
    Help(clap::Error),
    /// The command line is wrong.
    Wrong(String),
}

/// Reads the words of the command line, the program's name first.
pub(crate) fn read(words: &[OsString]) -> Result<Cli, Stop> {
    let mut command = command();
    let wrong = |error: UsageError| Stop::Wrong(error.to_string());
    let parsed = command.try_get_matches_from_mut(words);
    let matches = parsed.map_err(|error| stop(&error, &command, words).unwrap_or(Stop::Help(error)))?;
    refuse_unusable(&matches).map_err(wrong)?;
    if words.iter().position(|word| word == "--") == Some(words.len() - 1) {
        return Err(wrong(UsageError::NoCommand));
    }
    Cli::from_arg_matches(&matches).map_err(Stop::Help)
}

impl Stop {
    /// Prints it. Returns the exit code.
    pub(crate) fn print(self) -> ExitCode {
        match self {
            // A closed output has no reader left who could learn of the error.
            Self::Help(error) => {
                let _ = error.print();
                ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
            }
            Self::Wrong(message) => {
                let _ = writeln!(std::io::stderr(), "error: {}", printable(&message));
                Exit::Usage.into()
            }
        }
    }
}

/// Flags that every command takes and these commands cannot use, with the reason. They are not in the
/// command's help.
const UNUSABLE: [(&str, &[&str], &str); 5] = [
    (
        "stat",
        &[
            "hex",
            "output",
            "eventaddr",
            "ecaptureq",
            "tsize",
            "verbose",
            "time",
            "frames",
            "whole",
            "color",
            "listen",
            "listen_token",
            "allow_host",
        ],
        "it prints figures instead of messages; use it with `ecapture tls`",
    ),
    (
        "record",
        &[
            "hex",
            "output",
            "eventaddr",
            "filter",
            "tsize",
            "ends",
            "format",
            "frames",
            "whole",
            "color",
            "on_sink_error",
            "max_memory",
            "max_workers",
            "max_buffered",
            "stats",
            "redact",
            "no_redact",
            "redact_file",
            "privacy",
        ],
        "it writes events as they are captured; use it with `ecapture replay`, or with `ecapture tls -o recording:FILE`",
    ),
    (
        "replay",
        &["mapsize", "btf"],
        "it captures nothing; use it with `ecapture record`",
    ),
    (
        "doctor",
        &[
            "btf",
            "hex",
            "output",
            "filter",
            "mapsize",
            "uid",
            "tsize",
            "ends",
            "frames",
            "whole",
            "color",
            "on_sink_error",
            "max_memory",
            "max_workers",
            "max_buffered",
            "stats",
            "fail_on_loss",
            "redact",
            "no_redact",
            "redact_file",
            "privacy",
            "listen",
            "listen_token",
            "allow_host",
        ],
        "it captures nothing; use it with `ecapture tls`",
    ),
    (
        "demo",
        &["pid", "uid"],
        "it captures its own exchange only; use it with `ecapture tls`",
    ),
];

/// The whole command line; each command's help shows what the command can use.
fn command() -> Command {
    let mut command = Cli::command();
    command = command.mut_subcommand("watch", |watch| {
        let watch = watch.mut_arg("words", |words| {
            let help = "What is captured: one or more of tls, bash, zsh, mysqld and postgres";
            words.hide(false).value_name("WHAT").help(help)
        });
        // A changed argument becomes the last one, which only the command may be.
        watch.mut_arg("command", |command| command)
    });
    for (name, unusable, _) in UNUSABLE {
        let hidden: Vec<_> = command
            .get_arguments()
            .filter(|argument| unusable.contains(&argument.get_id().as_str()))
            .map(|argument| argument.clone().hide(true))
            .collect();
        // Clap leaves a global argument alone that the command has already.
        command = command.mut_subcommand(name, |subcommand| subcommand.args(hidden));
    }
    command
}

fn refuse_unusable(matches: &ArgMatches) -> Result<(), UsageError> {
    let Some((name, given)) = matches.subcommand() else {
        return Ok(());
    };
    let row = UNUSABLE.into_iter().find(|(command, ..)| *command == name);
    let Some((command, unusable, reason)) = row else {
        return Ok(());
    };
    let is_given = |id: &&&str| given.value_source(id) == Some(ValueSource::CommandLine);
    match unusable.iter().find(is_given) {
        Some(id) => Err(UsageError::Unusable {
            flag: format!("--{}", id.replace('_', "-")),
            command,
            reason,
        }),
        None => Ok(()),
    }
}

/// The error that clap found, in our words; `None` for help that was asked for.
fn stop(error: &clap::Error, command: &Command, words: &[OsString]) -> Option<Stop> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let message = match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => return None,
        ErrorKind::UnknownArgument => unknown_flag(text(ContextKind::InvalidArg), command, words),
        ErrorKind::InvalidSubcommand => unknown_command(text(ContextKind::InvalidSubcommand), command),
        _ => first_paragraph(&error.render().to_string()),
    };
    Some(Stop::Wrong(message))
}

/// Flags of other programs, with their names here.
const ELSEWHERE: [(&str, &str); 8] = [
    ("--json", "--format jsonl"),
    ("--jsonl", "--format jsonl"),
    ("--verbose", "--debug"),
    ("-v", "--debug"),
    ("--user", "--uid"),
    ("--comm", "--pid"),
    ("--process", "--pid"),
    ("--cgroup", "--cgroup_path"),
];

fn unknown_flag(word: &str, command: &Command, words: &[OsString]) -> String {
    let subcommand = subcommand(command, words);
    let (command, name) = match subcommand {
        Some(subcommand) => (subcommand, format!("ecapture {}", subcommand.get_name())),
        None => (command, "ecapture".to_owned()),
    };
    if !word.starts_with('-') {
        return format!("unexpected word `{word}`; `{name} --help` lists what the command takes");
    }
    let flag = word.split('=').next().unwrap_or(word);
    let visible: Vec<_> = command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set())
        .filter_map(|argument| argument.get_long())
        .map(|long| format!("--{long}"))
        .collect();
    let elsewhere = ELSEWHERE
        .into_iter()
        .find(|(theirs, ours)| *theirs == flag && visible.iter().any(|long| ours.starts_with(long.as_str())));
    let near = match elsewhere {
        Some((_, ours)) => Some(ours),
        None => nearest(flag, visible.iter().map(String::as_str)),
    };
    match near {
        Some(near) => format!("`{name}` has no flag `{flag}`; did you mean `{near}`?"),
        None => format!("`{name}` has no flag `{flag}`; `{name} --help` lists them"),
    }
}

fn unknown_command(word: &str, command: &Command) -> String {
    let visible: Vec<_> = command
        .get_subcommands()
        .filter(|subcommand| !subcommand.is_hide_set())
        .flat_map(|subcommand| std::iter::once(subcommand.get_name()).chain(subcommand.get_visible_aliases()))
        .collect();
    let longer: Vec<_> = visible.iter().filter(|name| name.starts_with(word)).collect();
    match longer.as_slice() {
        [_, _, ..] => {
            let names: Vec<_> = longer.iter().map(|name| format!("`{name}`")).collect();
            format!("`{word}` is ambiguous: {}", names.join(" or "))
        }
        _ => match nearest(word, visible.into_iter()) {
            Some(near) => format!("there is no command `{word}`; did you mean `{near}`?"),
            None => format!("there is no command `{word}`; `ecapture --help` lists them"),
        },
    }
}

/// The command that the words name, if there is one.
fn subcommand<'a>(command: &'a Command, words: &[OsString]) -> Option<&'a Command> {
    let words = words.iter().skip(1).filter_map(|word| word.to_str());
    words
        .take_while(|word| *word != "--")
        .find_map(|word| command.find_subcommand(word))
}

/// Clap's words without the usage and its suggestions.
fn first_paragraph(rendered: &str) -> String {
    let lines = rendered.lines().take_while(|line| !line.is_empty());
    let words: Vec<_> = lines.flat_map(str::split_whitespace).collect();
    let message = words.join(" ");
    message.strip_prefix("error: ").unwrap_or(&message).to_owned()
}

/// The candidate that needs the fewest edits, if it is similar at all.
fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let edits = |candidate: &&str| distance(word.trim_start_matches('-'), candidate.trim_start_matches('-'));
    let nearest = candidates.min_by_key(edits)?;
    let most = (word.trim_start_matches('-').len() / 3).max(1);
    (edits(&nearest) <= most).then_some(nearest)
}

/// Number of bytes that have to be inserted, removed or replaced (Levenshtein distance).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, byte) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, against) in other.bytes().enumerate() {
            let replaced = diagonal + usize::from(byte != against);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(line: &str) -> String {
        let words: Vec<_> = line.split(' ').map(OsString::from).collect();
        match read(&words) {
            Err(Stop::Wrong(message)) => message,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn an_unknown_flag_has_the_nearest_one_beside_it() {
        for (line, near) in [
            ("ecapture tls --formt jsonl", "--format"),
            ("ecapture tls --json", "--format jsonl"),
            ("ecapture tls --cgroup-path /x", "--cgroup_path"),
            ("ecapture replay f --debugg", "--debug"),
        ] {
            let message = message(line);
            assert!(message.contains(&format!("did you mean `{near}`?")), "{message}");
            assert!(!message.contains("-- --"), "{message}");
        }
        assert_eq!(
            message("ecapture tls --nonsense"),
            "`ecapture tls` has no flag `--nonsense`; `ecapture tls --help` lists them"
        );
    }

    #[test]
    fn nothing_hidden_is_suggested() {
        for (line, hidden) in [
            ("ecapture tls --ssl_versio x", "ssl_version"),
            ("ecapture record f --mapsiz 5 --on-sink-eror", "on-sink-error"),
            ("ecapture __hel", "__held"),
        ] {
            assert!(!message(line).contains(&format!("`{hidden}")), "{line}");
            assert!(!message(line).contains(&format!("--{hidden}`")), "{line}");
        }
        assert_eq!(message("ecapture re"), "`re` is ambiguous: `record` or `replay`");
        assert_eq!(
            message("ecapture replax"),
            "there is no command `replax`; did you mean `replay`?"
        );
    }

    #[test]
    fn a_flag_that_a_command_cannot_use_is_refused() {
        for (line, flag) in [
            ("ecapture record f --hex", "--hex"),
            ("ecapture --hex record f", "--hex"),
            ("ecapture record f --on-sink-error drop", "--on-sink-error"),
            ("ecapture replay f --mapsize 5", "--mapsize"),
            ("ecapture doctor --stats 5", "--stats"),
            ("ecapture demo -p 5", "--pid"),
        ] {
            let message = message(line);
            assert!(message.starts_with(&format!("{flag}: ")), "{line}: {message}");
            assert!(message.contains("; use it with `ecapture "), "{line}: {message}");
        }
        let words = ["ecapture", "record", "f", "--mapsize", "5", "-q"].map(OsString::from);
        assert!(read(&words).is_ok());
    }

    #[test]
    fn dashes_without_a_command_are_refused() {
        assert!(message("ecapture tls --").contains("-- COMMAND"));
        let words = ["ecapture", "tls", "--", "x", "--"].map(OsString::from);
        assert!(read(&words).is_ok());
    }

    #[test]
    fn what_clap_says_is_one_line() {
        for line in [
            "ecapture gotls",
            "ecapture tls --format xml",
            "ecapture tls -q -d",
            "ecapture tls -p",
        ] {
            let message = message(line);
            assert!(!message.contains('\n') && !message.contains("Usage"), "{message}");
        }
    }
}
