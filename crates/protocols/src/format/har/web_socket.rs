//! The messages of WebSockets, as Chromium writes them into HAR documents.

use std::io::Write as _;

use super::Har;
use super::entry::Entry;
use super::record::{CONVERSATION_OPEN, Key, Side};
use super::times::{Times, push_decimal};
use crate::event::{self, Direction, Origin};
use crate::exchange::{Exchange, Pairing};
use crate::format::exchange_lines::Line;
use crate::format::json_lines::object::{Object, push_base64, text_of};
use crate::message::{Message, WebSocketMessage};

/// A text message (RFC 6455 §5.6).
const TEXT: u8 = 1;

/// Writes the entry of a response after which frames follow.
pub(super) fn write_conversation(entry: &Entry<'_>, out: &mut Vec<u8>) {
    let (key, side) = (key(entry.origin, None), side(entry.is_client));
    // Writing to a vector cannot fail.
    let _ = writeln!(out, "conversation {key} {}", side.as_str());
    write_open(entry, out);
}

impl Har {
    /// Writes a message of a WebSocket, with an entry for it in case that there is none.
    pub(super) fn write_web_socket(
        &self,
        origin: &Origin,
        message: &Message,
        web_socket: &WebSocketMessage,
        out: &mut Vec<u8>,
    ) {
        let Some(stream) = &origin.stream else { return };
        let number = message.exchange.as_ref().and_then(|exchange| exchange.number);
        let exchange = Exchange {
            number,
            pairing: Some(Pairing::NoRequest),
            request: None,
        };
        let line = Line {
            exchange: Some(&exchange),
            request: None,
            response: None,
        };
        let socket = origin.stream.as_ref().and_then(|stream| stream.socket);
        let local = socket.and_then(|socket| socket.local);
        // The side that opened the connection.
        let is_client = local.map(|local| local == event::Side::Source);
        let entry = Entry {
            har: self,
            is_client,
            origin,
            line: &line,
            times: Times::at(message.first_ns),
            is_web_socket: true,
        };
        let mut head = Vec::with_capacity(1024);
        write_open(&entry, &mut head);
        let (key, side) = (key(origin, web_socket.stream), side(is_client).as_str());
        let kind = if stream.direction == Direction::Write {
            "send"
        } else {
            "receive"
        };
        let _ = writeln!(out, "message {key} {kind} {side} {}", head.len());
        out.extend_from_slice(&head);
        self.write_message(message, web_socket, out);
    }

    /// Writes the members of a message behind its first one.
    fn write_message(&self, message: &Message, web_socket: &WebSocketMessage, out: &mut Vec<u8>) {
        let start = out.len();
        let mut object = Object::open(out);
        let microseconds = self.wall_clock(message.last_ns) / 1000;
        push_decimal(microseconds.unsigned_abs(), 6, object.member("time"));
        object.number("opcode", web_socket.opcode);
        let data = &*web_socket.data;
        let kept = self.truncate.unwrap_or(usize::MAX).min(data.len());
        let is_cut = !web_socket.complete || web_socket.error.is_some();
        let text = text_of(data, is_cut).filter(|_| web_socket.opcode == TEXT);
        if let Some(text) = text {
            object.string("data", &text[..text.floor_char_boundary(kept)]);
        } else {
            let out = object.member("data");
            out.push(b'"');
            push_base64(&data[..kept], out);
            out.push(b'"');
            if web_socket.opcode == TEXT {
                object.string("_encoding", "base64");
            }
        }
        if kept < data.len() {
            object.number("_length", data.len() as u64);
        }
        if !web_socket.complete {
            object.boolean("_incomplete", true);
        }
        if let Some(error) = web_socket.error {
            object.string("_error", &error.to_string());
        }
        drop(object);
        // The first member is written when it is known which side is the client.
        out.remove(start);
    }
}

/// Writes an entry whose messages follow.
fn write_open(entry: &Entry<'_>, out: &mut Vec<u8>) {
    entry.write(out);
    out.pop();
    out.extend_from_slice(CONVERSATION_OPEN);
}

fn key(origin: &Origin, stream: Option<u32>) -> Key {
    Key {
        connection: origin.stream.as_ref().map_or(0, |stream| stream.connection),
        stream: stream.unwrap_or(0),
    }
}

/// The side that was captured: the client where that is not known.
fn side(is_client: Option<bool>) -> Side {
    if is_client == Some(false) {
        Side::Server
    } else {
        Side::Client
    }
}
