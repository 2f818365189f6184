//! The statements that MariaDB, MySQL and PostgreSQL execute.
//!
//! ```text
//! MariaDB     dispatch_command ─► Prepared_statement::execute ─► Protocol::end_statement ─► return of dispatch_command
//! step        session, text or parameters    text                (counts rows)               error, end
//! PostgreSQL  InitPostgres; pq_getbyte ─► pq_getmessage ─► pgstat_report_activity ─► EndCommand ─► ReadyForQuery
//! step        session                                      parameters, text          completed     end
//! ```

mod functions;
mod join;
mod mariadb;
mod postgres;
mod values;

use ecapture_ebpf::sql::{KIND_MYSQL, KIND_POSTGRES};
use ecapture_ebpf::{limits, table};

use super::{Decode, Module, Table};
use join::Statements;

const STATEMENTS: Table = Table {
    name: "STATEMENTS",
    number: table::STATEMENTS,
    entries: limits::STATEMENTS,
};

pub(super) static MYSQLD: Module = Module {
    name: "mysqld",
    families: functions::MYSQLD,
    also_read: &[],
    place: None,
    named: Some(mariadb::named),
    without_tls: None,
    tracepoints: &[],
    tables: &[STATEMENTS],
    maps: &[],
    libraries: &[],
    programs: &["mariadbd", "mysqld"],
    needs_sockets: false,
    feature: 0,
    needs_loop: true,
    records: &[KIND_MYSQL],
    decode: Decode::Join(|options| Box::new(Statements::new(options.redaction))),
};

pub(super) static POSTGRES: Module = Module {
    name: "postgres",
    families: functions::POSTGRES,
    also_read: &[],
    place: None,
    named: Some(|_| functions::NAMED),
    without_tls: None,
    tracepoints: &[],
    tables: &[STATEMENTS],
    maps: &[],
    libraries: &[],
    programs: &["postgres"],
    needs_sockets: false,
    feature: 0,
    needs_loop: true,
    records: &[KIND_POSTGRES],
    decode: Decode::Join(|options| Box::new(Statements::new(options.redaction))),
};
