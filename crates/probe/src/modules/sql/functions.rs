//! The functions of database servers.

use super::mariadb;
use crate::kind::Kind;
use crate::plan::{Brings, Family, Hook, Locate};

pub(super) const MYSQLD: &[Family] = &[Family {
    kind: mariadb::KIND,
    operations: mariadb::OPERATIONS,
    also_read: mariadb::READ,
    locate: Locate::Proof(mariadb::points),
}];

pub(super) const POSTGRES: &[Family] = &[
    Family {
        kind: Kind::Postgres,
        operations: POSTGRES_FUNCTIONS,
        also_read: &[],
        locate: Locate::Exported,
    },
    Family {
        kind: Kind::Postgres,
        operations: POSTGRES_NAMED,
        also_read: &[],
        locate: Locate::Exported,
    },
];

/// The function that the user names, in a message.
pub(super) const NAMED: &str = "the function of --funcname";

const POSTGRES_NAMED: &[&[Hook]] = &[&[Hook {
    returns: Some("postgres_named_returned"),
    brings: Brings::Content,
    identifies: true,
    ..hook(NAMED, "postgres_named")
}]];

/// In the order in which they are attached to: what begins a statement comes last.
const POSTGRES_FUNCTIONS: &[&[Hook]] = &[
    &[hook("InitPostgres", "postgres_session")],
    &[hook("ReadyForQuery", "postgres_ready")],
    &[hook("EndCommand", "postgres_completed")],
    &[hook("pq_endmessage", "postgres_answer")],
    &[Hook {
        brings: Brings::Content,
        identifies: true,
        ..hook("pgstat_report_activity", "postgres_activity")
    }],
    &[hook("pq_getmessage", "postgres_body")],
    &[hook("pq_getbyte", "postgres_message")],
];

const fn hook(symbol: &'static str, entry: &'static str) -> Hook {
    Hook {
        symbol,
        entry,
        returns: None,
        variables: &[],
        brings: Brings::Nothing,
        identifies: false,
    }
}
