//! Facts about processes. The fields are named as those of `doctor`.

use super::object::Object;
use crate::event::{Fact, ProcessTls};

pub(super) fn kind(fact: &Fact) -> &'static str {
    match fact {
        Fact::Process(_) => "process",
    }
}

pub(super) fn add(fact: &Fact, object: &mut Object<'_>) {
    match fact {
        Fact::Process(tls) => add_process(tls, object),
    }
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
