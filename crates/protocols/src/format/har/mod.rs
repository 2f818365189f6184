//! HAR 1.2: a document with an entry for each request and its response.
//!
//! Each entry is one record, which the target joins to a document ([`record`]). Fields that are ours
//! begin with `_`. Times are those at which the captured process sent or received the bytes; what a
//! capture cannot see (name resolution, connecting, TLS) is -1.

mod cookies;
mod entry;
mod fields;
pub mod record;
mod times;
mod url;
mod web_socket;

use entry::{Entry, opens_web_socket};
use times::Times;
use web_socket::write_conversation;

use super::exchange_lines::Line;
use std::sync::Arc;

use super::audit::Audit;
use super::{Format, Records};
use crate::decoder::View;
use crate::event::{Direction, Origin};
use crate::exchange::Pairing;
use crate::message::{Content, Message};

/// The `har` format.
#[derive(Debug, Clone, Default)]
pub struct Har {
    /// Wall clock minus kernel monotonic clock in nanoseconds; without it times are from 1970 on.
    pub wall_clock_offset_ns: Option<i64>,
    /// `--tsize`: cut bodies and data after this many bytes.
    pub truncate: Option<usize>,
    /// The start of the file, as `_audit` of `creator`.
    pub audit: Option<Arc<Audit>>,
}

impl Format for Har {
    fn view(&self) -> View {
        View::Bodies
    }

    fn begin(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(record::BEGINNING);
        out.extend_from_slice(concat!(r#","version":""#, env!("CARGO_PKG_VERSION"), r#"""#).as_bytes());
        if let Some(audit) = &self.audit {
            out.extend_from_slice(br#","_audit":"#);
            audit.write(out);
        }
        out.extend_from_slice(br#"},"pages":[],"entries":["#);
    }

    fn write(&self, origin: &Origin, messages: &[Message], out: &mut Records) {
        for message in messages {
            if let Content::WebSocket(web_socket) = &message.content {
                self.write_web_socket(origin, message, web_socket, out.bytes());
            } else if let Some(line) = line_of(message) {
                self.write_exchange(origin, message, &line, out.bytes());
            }
            out.end(1);
        }
    }
}

impl Har {
    fn write_exchange(&self, origin: &Origin, message: &Message, line: &Line<'_>, out: &mut Vec<u8>) {
        let is_web_socket = line.response.is_some_and(opens_web_socket);
        let entry = Entry {
            har: self,
            origin,
            line,
            times: Times::of(message, line),
            is_client: origin.stream.as_ref().map(|stream| {
                // Other messages than requests are those of the direction of the responses.
                (stream.direction == Direction::Write) == message.is_request()
            }),
            is_web_socket,
        };
        if is_web_socket {
            write_conversation(&entry, out);
        } else {
            entry.write(out);
        }
    }

    fn wall_clock(&self, timestamp_ns: u64) -> i64 {
        self.wall_clock_offset_ns
            .unwrap_or(0)
            .saturating_add_unsigned(timestamp_ns)
    }
}

/// Returns the exchange that `message` ends. A request that a filter did not wait for is one, too.
fn line_of(message: &Message) -> Option<Line<'_>> {
    let exchange = message.exchange.as_ref();
    let is_undecided = exchange.is_some_and(|exchange| exchange.pairing == Some(Pairing::Undecided));
    if is_undecided && message.is_request() {
        return Some(Line {
            exchange,
            request: Some(message),
            response: None,
        });
    }
    Line::of(message)
}
