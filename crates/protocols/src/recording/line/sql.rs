//! A statement of a database server, as a member of a line.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::event::{Missing, SqlError, SqlOutcome, SqlParameter, SqlQuery, SqlRequest, SqlServer};
use crate::recording::LineError;

#[derive(Serialize, Deserialize)]
pub(super) struct LineSql<'a> {
    #[serde(borrow)]
    server: Cow<'a, str>,
    #[serde(borrow)]
    request: Cow<'a, str>,
    #[serde(borrow)]
    text: LineBytes<'a>,
    bytes: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    missing: Vec<(u64, Option<u64>)>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    parameters: Vec<LineParameter<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<u64>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    user: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    database: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<u64>,
    /// Absent if how it ended is not known; empty without an error.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    error: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    message: Option<LineBytes<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    returned: Option<i32>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    redacted: bool,
}

/// `text` if it is UTF-8, otherwise `base64`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LineBytes<'a> {
    Text(#[serde(borrow)] Cow<'a, str>),
    Base64(#[serde(borrow)] Cow<'a, str>),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LineParameter<'a> {
    Null,
    Masked,
    #[serde(borrow)]
    Value(LineBytes<'a>),
    #[serde(borrow)]
    Binary(Cow<'a, str>),
}

impl<'a> LineBytes<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        match str::from_utf8(bytes) {
            Ok(text) => Self::Text(Cow::Borrowed(text)),
            Err(_) => Self::Base64(Cow::Owned(STANDARD.encode(bytes))),
        }
    }

    fn bytes(self) -> Result<Bytes, LineError> {
        Ok(match self {
            Self::Text(text) => Bytes::from(text.into_owned()),
            Self::Base64(encoded) => Bytes::from(STANDARD.decode(encoded.as_bytes())?),
        })
    }
}

impl<'a> LineSql<'a> {
    pub(super) fn of(query: &'a SqlQuery) -> Self {
        let text = |text: &'a Option<Arc<str>>| text.as_deref().map(Cow::Borrowed);
        let (error, message) = match &query.outcome {
            SqlOutcome::Unknown => (None, None),
            SqlOutcome::Succeeded => (Some(Cow::Borrowed("")), None),
            SqlOutcome::Failed(error) => (
                Some(Cow::Borrowed(&*error.code)),
                Some(LineBytes::of(&error.message)),
            ),
        };
        Self {
            server: Cow::Borrowed(query.server.as_str()),
            request: Cow::Borrowed(query.request.as_str()),
            text: LineBytes::of(&query.text),
            bytes: query.text_bytes,
            missing: query.missing.iter().map(|gap| (gap.at, gap.bytes)).collect(),
            parameters: query.parameters.iter().map(LineParameter::of).collect(),
            connection: query.connection,
            user: text(&query.user),
            database: text(&query.database),
            duration: query.duration_ns,
            error,
            message,
            rows: query.rows,
            returned: query.returned,
            redacted: query.redacted,
        }
    }

    pub(super) fn query(self) -> Result<SqlQuery, LineError> {
        let range = |field, expected, observed: Cow<'_, str>| LineError::Range {
            field,
            expected,
            observed: observed.into_owned(),
        };
        let text = |text: Option<Cow<'_, str>>| text.map(Arc::from);
        let outcome = match self.error {
            None => SqlOutcome::Unknown,
            Some(code) if code.is_empty() => SqlOutcome::Succeeded,
            Some(code) => SqlOutcome::Failed(SqlError {
                code: Arc::from(code),
                message: self
                    .message
                    .map(LineBytes::bytes)
                    .transpose()?
                    .unwrap_or_default(),
            }),
        };
        let parameters = self.parameters.into_iter().map(LineParameter::parameter);
        let command = SqlRequest::ALL
            .into_iter()
            .find(|command| command.as_str() == self.request);
        Ok(SqlQuery {
            server: match &*self.server {
                "mysql" => SqlServer::MySql,
                "postgres" => SqlServer::Postgres,
                _ => return Err(range("server", "mysql or postgres", self.server)),
            },
            request: command.ok_or_else(|| range("request", "a command of a client", self.request))?,
            text: self.text.bytes()?,
            text_bytes: self.bytes,
            missing: self
                .missing
                .into_iter()
                .map(|(at, bytes)| Missing { at, bytes })
                .collect(),
            parameters: parameters.collect::<Result<_, _>>()?,
            connection: self.connection,
            user: text(self.user),
            database: text(self.database),
            duration_ns: self.duration,
            outcome,
            rows: self.rows,
            returned: self.returned,
            redacted: self.redacted,
        })
    }
}

impl<'a> LineParameter<'a> {
    fn of(parameter: &'a SqlParameter) -> Self {
        match parameter {
            SqlParameter::Null => Self::Null,
            SqlParameter::Masked => Self::Masked,
            SqlParameter::Text(value) => Self::Value(LineBytes::of(value)),
            SqlParameter::Binary(value) => Self::Binary(Cow::Owned(STANDARD.encode(value))),
        }
    }

    fn parameter(self) -> Result<SqlParameter, LineError> {
        Ok(match self {
            Self::Null => SqlParameter::Null,
            Self::Masked => SqlParameter::Masked,
            Self::Value(value) => SqlParameter::Text(value.bytes()?),
            Self::Binary(encoded) => SqlParameter::Binary(Bytes::from(STANDARD.decode(encoded.as_bytes())?)),
        })
    }
}
