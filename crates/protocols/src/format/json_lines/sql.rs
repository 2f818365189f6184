//! Statements of database servers.

use super::object::Object;
use crate::event::{Missing, Origin, SqlParameter, SqlQuery};

/// Adds the members of `query`. Returns true if its text was cut at `limit`.
pub(super) fn add(origin: &Origin, query: &SqlQuery, limit: Option<usize>, object: &mut Object<'_>) -> bool {
    if let Some(uid) = origin.process.uid {
        object.number("uid", uid);
    }
    object.string("server", query.server.as_str());
    if let Some(connection) = query.connection {
        object.number("server_connection", connection);
    }
    for (name, value) in [("user", &query.user), ("database", &query.database)] {
        if let Some(value) = value {
            object.string(name, value);
        }
    }
    object.string("request", query.request.as_str());
    object.string("outcome", query.outcome.as_str());
    if let Some(error) = query.outcome.error() {
        let mut object = object.object("sql_error");
        object.string("code", &error.code);
        object.wire_string("message", &error.message);
    }
    for (name, value) in [("duration_ns", query.duration_ns), ("rows", query.rows)] {
        if let Some(value) = value {
            object.number(name, value);
        }
    }
    if query.redacted {
        object.boolean("redacted", true);
    }
    if !query.parameters.is_empty() {
        add_parameters(&query.parameters, object);
    }
    add_text(query, limit, object)
}

fn add_parameters(parameters: &[SqlParameter], object: &mut Object<'_>) {
    let mut array = object.array("parameters");
    for parameter in parameters {
        let mut value = Object::open(array.element());
        match parameter {
            SqlParameter::Null => value.boolean("null", true),
            SqlParameter::Text(text) => {
                let _not_limited = value.content(text, false, None);
            }
            SqlParameter::Binary(bytes) => value.base64(bytes),
            SqlParameter::Masked => value.boolean("masked", true),
        }
    }
}

fn add_text(query: &SqlQuery, limit: Option<usize>, object: &mut Object<'_>) -> bool {
    let mut text = object.object("query");
    text.number("len", query.text_bytes);
    let truncated = text.content(&query.text, !query.missing.is_empty(), limit);
    if !query.missing.is_empty() {
        let mut missing = text.array("missing");
        for Missing { at, bytes } in &query.missing {
            let mut gap = Object::open(missing.element());
            gap.number("at", *at);
            if let Some(bytes) = bytes {
                gap.number("bytes", *bytes);
            }
        }
    }
    truncated
}
