//! The exchange that a message belongs to.

use super::object::Object;
use crate::exchange::{Asked, Exchange};
use crate::message::{Content, Message, Part};

/// Adds the members of the exchange of `message`.
pub(super) fn add(message: &Message, object: &mut Object<'_>) {
    let Some(exchange) = &message.exchange else { return };
    if let Some(number) = exchange.number {
        object.number("exchange", number);
    }
    let Some(pairing) = exchange.pairing else { return };
    object.string("pairing", pairing.as_str());
    let Some(request) = &exchange.request else { return };
    if begins(&message.content) {
        add_times(message, exchange, request, object);
        add_request(request, object);
    }
}

/// The first byte and the last byte count from the request's first byte.
fn add_times(message: &Message, exchange: &Exchange, request: &Asked, object: &mut Object<'_>) {
    if exchange.has_times() {
        object.number("first_byte_ns", message.first_ns.saturating_sub(request.first_ns));
        if message.is_complete() {
            object.number("total_ns", message.last_ns.saturating_sub(request.first_ns));
        }
    }
}

pub(super) fn add_request(request: &Asked, object: &mut Object<'_>) {
    let mut object = object.object("request");
    if let Some(target) = &request.target {
        for (member, part) in [
            ("method", target.method()),
            ("authority", target.authority()),
            ("path", target.path()),
        ] {
            if let Some(part) = part {
                object.wire_string(member, part);
            }
        }
    }
    if request.first_ns > 0 {
        object.number("ts_ns", request.first_ns);
    }
    if let Some(end) = request.end {
        object.number("end_ns", end.last_ns);
        object.number("wire_len", end.wire_len);
        object.boolean("complete", end.complete);
    }
}

/// Returns true for a whole message, and for the first and the final part of one.
fn begins(content: &Content) -> bool {
    let part = match content {
        Content::Http1(message) => message.part,
        Content::Http2(message) => message.part,
        _ => return true,
    };
    !matches!(part, Part::Continued { final_part: false })
}
