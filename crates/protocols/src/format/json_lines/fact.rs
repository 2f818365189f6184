//! Facts about processes. The fields are named as those of `doctor`.

use super::object::Object;
use super::shell;
use super::sql;
use crate::event::{Fact, Origin, ProcessTls};

pub(super) fn kind(fact: &Fact) -> &'static str {
    match fact {
        Fact::Process(_) => "process",
        // Has no line.
        Fact::Secret(_) => "secret",
        Fact::ShellCommand(_) => "shell.command",
        Fact::Packets(_) => "packet",
        Fact::Sql(_) => "sql.query",
    }
}

/// Adds the members of `fact`. Returns true if it was cut at `limit`.
pub(super) fn add(origin: &Origin, fact: &Fact, limit: Option<usize>, object: &mut Object<'_>) -> bool {
    match fact {
        Fact::Process(tls) => add_process(tls, object),
        Fact::Secret(_) | Fact::Packets(_) => {}
        Fact::ShellCommand(command) => return shell::add(origin, command, limit, object),
        Fact::Sql(query) => return sql::add(origin, query, limit, object),
    }
    false
}

fn add_process(tls: &ProcessTls, object: &mut Object<'_>) {
    let known = [
        ("executable", &tls.executable),
        ("tls", &tls.implementation),
        ("version", &tls.version),
        ("file", &tls.file),
    ];
    for (name, value) in known {
        if let Some(value) = value {
            object.string(name, value);
        }
    }
    object.boolean("captured", tls.obstacle.is_none());
    if let Some(obstacle) = &tls.obstacle {
        object.string("obstacle", obstacle);
    }
}
