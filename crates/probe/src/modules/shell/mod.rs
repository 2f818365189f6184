//! The commands of interactive shells.
//!
//! ```text
//! bash   read_command ─► readline ─► pre_process_line ─► read_command returns ─► … ─► read_command
//! zsh    preprompt ─► zleentry ─► hend ─► … ─► preprompt
//! step      prompt, directory, typed     expanded, begun                      ended
//! ```
//!
//! A shell says itself when it reads a command and when it is ready for the next one, so lines of several commands,
//! commands of several lines, and builtins need no special case. What its scripts run has no line, and is no
//! record.

mod commands;
mod login;

use ecapture_ebpf::record::{KIND_BASH, KIND_ZSH};
use ecapture_ebpf::{config, limits, table};
use ecapture_protocols::Shell;

use super::{Decode, Module, Table};
use crate::kind::Kind;
use crate::plan::{Brings, Family, Hook, Locate};
use commands::Commands;

const SHELLS: Table = Table {
    name: "SHELLS",
    number: table::SHELLS,
    entries: limits::SHELLS,
};

pub(super) static BASH: Module = Module {
    name: "bash",
    families: &[family(Kind::Bash, OF_BASH), family(Kind::Readline, OF_READLINE)],
    also_read: &[],
    place: None,
    named: None,
    without_tls: None,
    tracepoints: &[],
    tables: &[SHELLS],
    maps: &[],
    libraries: &["libreadline"],
    programs: &["bash"],
    needs_sockets: false,
    feature: config::SHELLS,
    needs_loop: false,
    records: &[KIND_BASH],
    decode: Decode::Join(|options| Box::new(Commands::new(Shell::Bash, options))),
};

pub(super) static ZSH: Module = Module {
    name: "zsh",
    families: &[family(Kind::Zsh, OF_ZSH)],
    also_read: &[],
    place: None,
    named: None,
    without_tls: None,
    tracepoints: &[],
    tables: &[SHELLS],
    maps: &[],
    libraries: &[],
    programs: &["zsh"],
    needs_sockets: false,
    feature: config::SHELLS,
    needs_loop: false,
    records: &[KIND_ZSH],
    decode: Decode::Join(|options| Box::new(Commands::new(Shell::Zsh, options))),
};

const OF_BASH: &[&[Hook]] = &[
    &[Hook {
        returns: Some("bash_command_read"),
        variables: &["last_command_exit_value", "rl_line_buffer"],
        ..step("read_command", "bash_read_command")
    }],
    &[step("parser_error", "bash_parser_error")],
    &[text("pre_process_line", "bash_expanded")],
];

/// Other programs use it, too: what they read is none of a shell's commands.
const OF_READLINE: &[&[Hook]] = &[
    &[Hook {
        variables: &["interactive"],
        ..step("readline_internal_setup", "readline_begin")
    }],
    &[Hook {
        variables: &["rl_line_buffer", "the_current_working_directory"],
        ..text("readline_internal_teardown", "readline_end")
    }],
    &[Hook {
        // libedit has one as well.
        identifies: false,
        ..text("readline", "readline_return")
    }],
];

const OF_ZSH: &[&[Hook]] = &[
    &[Hook {
        variables: &["lastval"],
        ..step("preprompt", "zsh_prompt")
    }],
    &[Hook {
        returns: Some("zsh_edited"),
        variables: &["pwd"],
        ..text("zleentry", "zsh_edit")
    }],
    &[Hook {
        variables: &["chline", "hptr"],
        ..step("hend", "zsh_begin")
    }],
];

const fn family(kind: Kind, operations: &'static [&'static [Hook]]) -> Family {
    Family {
        kind,
        operations,
        also_read: &[],
        locate: Locate::Exported,
    }
}

/// A function that has a line.
const fn text(symbol: &'static str, program: &'static str) -> Hook {
    Hook {
        symbol,
        entry: program,
        returns: None,
        brings: Brings::Content,
        identifies: true,
        variables: &[],
    }
}

/// A function that has none.
const fn step(symbol: &'static str, program: &'static str) -> Hook {
    Hook {
        brings: Brings::Nothing,
        identifies: false,
        ..text(symbol, program)
    }
}
