//! The line of an exchange whose client and server are both captured. Each end has a part of it, which is written
//! only if the other one's is there.

use super::exchange::add_request;
use super::object::Object;
use super::{JsonLines, add_address, add_process};
use crate::event::Origin;
use crate::exchange::Exchange;
use crate::format::{ExchangeEnd, Records};
use crate::message::{Content, Message, Part};

impl JsonLines {
    /// Writes this end's part: what both ends know, up to [`ExchangeEnd::insert_at`], and then what is this end's own.
    pub(super) fn write_end(&self, origin: &Origin, message: &Message, out: &mut Records) {
        let Some((end, exchange)) = end_of(origin, message) else {
            return;
        };
        let bytes = out.bytes();
        let start = bytes.len();
        self.write_shared(&end, exchange, message, bytes);
        let insert_at = bytes.len() - start;
        write_own(&end, exchange, origin, bytes);
        out.end_exchange(0, Some(end.with_room_at(insert_at).only_joined()));
    }

    fn write_shared(&self, end: &ExchangeEnd, exchange: &Exchange, message: &Message, out: &mut Vec<u8>) {
        let mut object = Object::open(out);
        object.number("v", 1_u64);
        object.string("kind", "exchange");
        self.add_time(end.asked_ns, &mut object);
        object.number("ts_ns", end.asked_ns);
        object.number("end_ns", end.last_ns);
        add_address("src", end.place.client, &mut object);
        add_address("dst", end.place.server, &mut object);
        object.string("pairing", "certain");
        if let Some(request) = &exchange.request {
            add_request(request, &mut object);
        }
        if let Some(status) = message.status() {
            object.number("status", status);
        }
        let body = match &message.content {
            Content::Http1(http1) => Some(&http1.body),
            Content::Http2(http2) => Some(&http2.body),
            _ => None,
        };
        if let Some(body) = body {
            let mut response = object.object("response");
            response.number("wire_len", body.wire_len);
            response.boolean("complete", body.complete);
        }
        object.stay_open();
    }
}

/// The end that a whole response is of, of an exchange that is certain. Parts of a response have no line.
fn end_of<'a>(origin: &Origin, message: &'a Message) -> Option<(ExchangeEnd, &'a Exchange)> {
    let part = match &message.content {
        Content::Http1(http1) => http1.part,
        Content::Http2(http2) => http2.part,
        _ => return None,
    };
    let is_last = message
        .status()
        .is_some_and(|status| status == 101 || status >= 200);
    if part != Part::Whole || !is_last {
        return None;
    }
    let exchange = message.exchange.as_ref()?;
    Some((ExchangeEnd::of(origin, message)?, exchange))
}

fn write_own(end: &ExchangeEnd, exchange: &Exchange, origin: &Origin, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    object.string("side", if end.is_client { "client" } else { "server" });
    if let Some(stream) = &origin.stream {
        object.number("connection", stream.connection);
    }
    if let Some(number) = exchange.number {
        object.number("exchange", number);
    }
    add_process(origin, &mut object);
    object.number("ts_ns", end.asked_ns);
    object.number("end_ns", end.last_ns);
    object.number("first_byte_ns", end.first_ns.saturating_sub(end.asked_ns));
    if end.is_complete() {
        object.number("total_ns", end.total_ns());
    }
}

/// Appends the line of both ends, each with its part: what they share as the client has it.
pub(super) fn join(
    (client, line): (&ExchangeEnd, &[u8]),
    (server, other): (&ExchangeEnd, &[u8]),
    out: &mut Vec<u8>,
) {
    if !(client.only_joined && server.only_joined) {
        // Lines of another format, which was in force when they were written.
        out.extend_from_slice(line);
        out.extend_from_slice(other);
        return;
    }
    let (shared, own) = line.split_at(client.insert_at.min(line.len()));
    let (_, others) = other.split_at(server.insert_at.min(other.len()));
    out.extend_from_slice(shared);
    out.extend_from_slice(br#","ends":["#);
    out.extend_from_slice(own);
    out.push(b',');
    out.extend_from_slice(others);
    out.push(b']');
    if client.is_complete() && server.is_complete() {
        out.extend_from_slice(br#","between_ns":"#);
        crate::write::push_number(client.total_ns().saturating_sub(server.total_ns()), out);
    }
    out.extend_from_slice(b"}\n");
}
