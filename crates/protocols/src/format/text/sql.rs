//! Statements of database servers, each a record of its own.

use std::fmt::Arguments;
use std::io::Write as _;

use crate::event::{Missing, Origin, SqlParameter, SqlQuery, SqlRequest, SqlServer};
use crate::format::text::page::Page;
use crate::text::printable;

/// Writes `MySQL Query[PID=…]: ` or `PID=… Query=`, as the original does, with what is new between. The text follows
/// in the same line.
pub(super) fn write_original(origin: &Origin, query: &SqlQuery, out: &mut Vec<u8>) {
    let process = &origin.process;
    match query.server {
        SqlServer::MySql => {
            push(out, format_args!("MySQL Query[PID={}, Comm=", process.pid));
            process.comm.push_shown(out);
            let (captured, all) = (query.text.len(), query.text_bytes);
            let status = query.original_status();
            push(out, format_args!(", Len={captured}/{all}, Status={status}"));
            about(query, ", ", out);
            out.extend_from_slice(b"]: ");
        }
        SqlServer::Postgres => {
            push(out, format_args!("PID={} Comm=", process.pid));
            process.comm.push_shown(out);
            about(query, " ", out);
            out.extend_from_slice(b" Query=");
        }
    }
}

/// Writes what is known of a statement to the end of a heading.
pub(super) fn write_terminal(query: &SqlQuery, out: &mut Vec<u8>) {
    about(query, " ", out);
}

/// Writes the text, the values of its parameters, and what there is to remark.
pub(super) fn write(query: &SqlQuery, page: &mut Page<'_>) {
    page.bytes(&query.text);
    page.end_line();
    parameters(query, page);
    marks(query, page);
}

fn about(query: &SqlQuery, separator: &str, out: &mut Vec<u8>) {
    if query.request != SqlRequest::Query {
        push(out, format_args!("{separator}Request={}", query.request.as_str()));
    }
    if let Some(connection) = query.connection {
        push(out, format_args!("{separator}Connection={connection}"));
    }
    for (name, value) in [("User", &query.user), ("Database", &query.database)] {
        if let Some(value) = value {
            push(out, format_args!("{separator}{name}={}", printable(value)));
        }
    }
    if let Some(duration) = query.duration_ns {
        let (whole, rest) = (duration / 1_000_000, duration / 1000 % 1000);
        push(out, format_args!("{separator}Time={whole}.{rest:03}ms"));
    }
    if let Some(rows) = query.rows {
        push(out, format_args!("{separator}Rows={rows}"));
    }
    if let Some(error) = query.outcome.error() {
        push(out, format_args!("{separator}Error={}", printable(&error.code)));
    }
}

fn push(out: &mut Vec<u8>, text: Arguments<'_>) {
    // Writing to a vector cannot fail.
    let _ = out.write_fmt(text);
}

fn parameters(query: &SqlQuery, page: &mut Page<'_>) {
    for (index, parameter) in query.parameters.iter().enumerate() {
        page.text(format_args!("${}=", index + 1));
        match parameter {
            SqlParameter::Null => page.bytes(b"NULL"),
            SqlParameter::Text(value) => page.bytes(value),
            SqlParameter::Binary(value) => {
                page.bytes(b"\\x");
                for byte in value {
                    page.text(format_args!("{byte:02x}"));
                }
            }
            SqlParameter::Masked => page.bytes(crate::redact::MASK),
        }
        page.bytes(b"\n");
    }
}

fn marks(query: &SqlQuery, page: &mut Page<'_>) {
    if let Some(error) = query.outcome.error() {
        page.mark(format_args!(
            "the statement failed: {}: {}",
            error.code,
            String::from_utf8_lossy(&error.message)
        ));
    }
    if query.duration_ns.is_none() {
        page.mark(format_args!("the end of the statement was not seen"));
    }
    for Missing { at, bytes } in &query.missing {
        match bytes {
            Some(bytes) => page.mark(format_args!(
                "{bytes} bytes are missing after byte {at} of the text"
            )),
            None => page.mark(format_args!("the text is incomplete after byte {at}")),
        }
    }
    if query.text.is_empty() && query.missing.is_empty() && query.request != SqlRequest::Query {
        page.mark(format_args!("the text of the statement is not known"));
    }
}
