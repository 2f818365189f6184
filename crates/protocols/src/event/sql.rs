//! Statements that database servers execute.

use std::sync::Arc;

use bytes::Bytes;

/// A statement that a database server has executed, or refused.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SqlQuery {
    /// The server's implementation.
    pub server: SqlServer,
    /// What the client asked for.
    pub request: SqlRequest,
    /// The text as captured: without the bytes that [`Self::missing`] names.
    pub text: Bytes,
    /// Bytes of the whole text, where the server had one.
    pub text_bytes: u64,
    /// What of the text is missing, in order of its position.
    pub missing: Vec<Missing>,
    /// The values of the parameters, in order, when known.
    pub parameters: Vec<SqlParameter>,
    /// The server's number of the connection; a process of PostgreSQL has one connection.
    pub connection: Option<u64>,
    /// The user that the connection belongs to, when known.
    pub user: Option<Arc<str>>,
    /// The database that the statement was executed in, when known.
    pub database: Option<Arc<str>>,
    /// How long the server took, in nanoseconds. `None`: its end was not seen.
    pub duration_ns: Option<u64>,
    /// How it ended.
    pub outcome: SqlOutcome,
    /// Rows that were returned or changed, when the server says so.
    pub rows: Option<u64>,
    /// What MariaDB's `dispatch_command` returned: 0, or 1 if it closes the connection.
    pub returned: Option<i32>,
    /// Literals or passwords were masked.
    pub redacted: bool,
}

/// An implementation of a database server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SqlServer {
    /// MariaDB, or MySQL.
    #[default]
    MySql,
    /// PostgreSQL.
    Postgres,
}

/// What a client asked its server for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SqlRequest {
    /// To execute a text, which may have several statements.
    #[default]
    Query,
    /// To prepare a statement; shown if it failed.
    Prepare,
    /// To execute a prepared statement.
    Execute,
    /// More rows of a statement that was executed before (PostgreSQL).
    Fetch,
    /// To give values to the parameters of a prepared statement (PostgreSQL); shown if it failed.
    Bind,
    /// To call a function without a statement (PostgreSQL).
    Call,
    /// To end a transaction of its own (PostgreSQL); shown if it failed.
    Sync,
    /// Anything else that failed.
    Other,
}

/// Bytes that are missing in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// How many bytes of the captured text are before them.
    pub at: u64,
    /// Their number, when known.
    pub bytes: Option<u64>,
}

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SqlParameter {
    /// NULL.
    Null,
    /// A value in the server's text form.
    Text(Bytes),
    /// A value in a binary form, whose type is not known.
    Binary(Bytes),
    /// A value that was masked.
    Masked,
}

/// How a statement ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SqlOutcome {
    /// Not known: its end, or the server's result, was not seen.
    #[default]
    Unknown,
    /// Without an error.
    Succeeded,
    /// With an error.
    Failed(SqlError),
}

/// The error that a server answered with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SqlError {
    /// The server's code: MariaDB's number, or PostgreSQL's SQLSTATE.
    pub code: Arc<str>,
    /// The server's message, up to its first NUL.
    pub message: Bytes,
}

impl SqlServer {
    /// Returns `mysql` or `postgres`, as JSON Lines names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MySql => "mysql",
            Self::Postgres => "postgres",
        }
    }
}

impl SqlRequest {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Query,
        Self::Prepare,
        Self::Execute,
        Self::Fetch,
        Self::Bind,
        Self::Call,
        Self::Sync,
        Self::Other,
    ];

    /// Returns the name in JSON Lines and recordings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Prepare => "prepare",
            Self::Execute => "execute",
            Self::Fetch => "fetch",
            Self::Bind => "bind",
            Self::Call => "call",
            Self::Sync => "sync",
            Self::Other => "other",
        }
    }
}

impl SqlOutcome {
    /// Returns `ok`, `error` or `unknown`, as JSON Lines names it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Succeeded => "ok",
            Self::Failed(_) => "error",
        }
    }

    /// The error, if there was one.
    pub const fn error(&self) -> Option<&SqlError> {
        match self {
            Self::Failed(error) => Some(error),
            Self::Unknown | Self::Succeeded => None,
        }
    }
}

impl SqlQuery {
    /// The original's name of what `dispatch_command` returned (`outputs` of its `mysqld` module).
    pub const fn original_status(&self) -> &'static str {
        match self.returned {
            None => "NOT_CAPTURED",
            Some(0) => "SUCCESS",
            Some(1) => "CLOSE_CONNECTION",
            Some(2) => "WOULDBLOCK",
            Some(_) => "UNKNOWN",
        }
    }
}
