//! HTTP/2 messages, frames and gRPC messages.

use super::object::Object;
use super::{add_body, add_part};
use crate::message::{
    Field, GrpcMessage, Http2Detail, Http2Frame, Http2Kind, Http2Message, Part, ProtobufField, ProtobufValue,
};
use crate::write::push_number;

/// Adds the members of `message`. Returns true if its body was cut at `limit`.
pub(super) fn add_message(message: &Http2Message, limit: Option<usize>, object: &mut Object<'_>) -> bool {
    object.number("stream", message.stream);
    if message.pushed {
        object.boolean("pushed", true);
    }
    for (member, pseudo_header) in [
        ("method", &b":method"[..]),
        ("path", b":path"),
        ("authority", b":authority"),
        ("scheme", b":scheme"),
    ] {
        if let Some(value) = value_of(&message.fields, pseudo_header) {
            object.wire_string(member, value);
        }
    }
    if let Some(status) = value_of(&message.fields, b":status").and_then(status) {
        object.number("status", status);
    }
    if !matches!(message.part, Part::Continued { .. }) {
        add_fields("headers", &message.fields, object);
    }
    if message.body.complete || !message.trailers.is_empty() {
        add_fields("trailers", &message.trailers, object);
    }
    let truncated = add_body(&message.body, limit, object);
    add_part(message.part, object);
    if let Some(code) = message.reset {
        object.number("reset", code);
    }
    if let Some(error) = message.error {
        object.string("error", &error.to_string());
    }
    truncated
}

/// Adds the members of `frame`. Returns true if its content was cut at `limit`.
pub(super) fn add_frame(frame: &Http2Frame, limit: Option<usize>, object: &mut Object<'_>) -> bool {
    object.number("stream", frame.stream);
    let mut object = object.object("frame");
    object.number("type", frame.frame_type);
    if let Some(name) = name(frame.frame_type) {
        object.string("name", name);
    }
    object.number("flags", frame.flags);
    object.number("length", frame.length);
    match &frame.detail {
        Http2Detail::None | Http2Detail::Carrier => {}
        Http2Detail::Fields {
            fields,
            promised,
            error,
        } => {
            if let Some(promised) = promised {
                object.number("promised", *promised);
            }
            add_fields("headers", fields, &mut object);
            if let Some(error) = error {
                object.string("error", &error.to_string());
            }
        }
        Http2Detail::Data(data) => return object.content(data, false, limit),
        Http2Detail::DataPart { data, part } => {
            add_part(*part, &mut object);
            return object.content(data, true, limit);
        }
        Http2Detail::CodedData { coding } => object.wire_string("coding", coding),
        Http2Detail::Merged(body) => return add_body(body, limit, &mut object),
        Http2Detail::Error {
            code,
            last_stream,
            debug,
        } => {
            object.number("error_code", *code);
            if let Some(last_stream) = last_stream {
                object.number("last_stream", *last_stream);
            }
            if !debug.is_empty() {
                return object.object("debug").content(debug, false, limit);
            }
        }
        Http2Detail::Malformed { payload, error } => {
            object.string("error", &error.to_string());
            if !payload.is_empty() {
                return object.object("payload").content(payload, false, limit);
            }
        }
        Http2Detail::Settings(parameters) => add_settings(parameters, &mut object),
    }
    false
}

fn add_settings(parameters: &[(u16, u32)], object: &mut Object<'_>) {
    let mut list = object.array("settings");
    for &(identifier, value) in parameters {
        let out = list.element();
        out.push(b'[');
        push_number(identifier.into(), out);
        out.push(b',');
        push_number(value.into(), out);
        out.push(b']');
    }
}

/// Adds the members of `message`. Returns true if its content was cut at `limit`.
pub(super) fn add_grpc(message: &GrpcMessage, limit: Option<usize>, object: &mut Object<'_>) -> bool {
    object.number("stream", message.stream);
    let mut object = object.object("message");
    let side = match message.kind {
        Http2Kind::Request => "request",
        Http2Kind::Response => "response",
    };
    object.string("side", side);
    object.number("index", message.index);
    object.boolean("compressed", message.compressed);
    object.number("wire_len", message.wire_len);
    object.number("len", message.data.len() as u64);
    let truncated = match &message.fields {
        Some(fields) => {
            add_protobuf("fields", fields, &mut object);
            false
        }
        None => object.content(&message.data, message.error.is_some(), limit),
    };
    if let Some(error) = message.error {
        object.string("error", &error.to_string());
    }
    truncated
}

fn add_protobuf(name: &'static str, fields: &[ProtobufField], object: &mut Object<'_>) {
    let mut list = object.array(name);
    for field in fields {
        let mut object = Object::open(list.element());
        object.number("number", field.number);
        match &field.value {
            ProtobufValue::Varint(value) => object.integer64("varint", *value),
            ProtobufValue::Fixed64(value) => object.integer64("fixed64", *value),
            ProtobufValue::Fixed32(value) => object.number("fixed32", *value),
            ProtobufValue::Text(text) => object.string("text", text),
            ProtobufValue::Message(fields) => add_protobuf("message", fields, &mut object),
            ProtobufValue::Bytes(bytes) => object.base64(bytes),
        }
    }
}

fn add_fields(name: &'static str, fields: &[Field], object: &mut Object<'_>) {
    let mut list = object.array(name);
    for field in fields {
        list.field(field.name.as_deref(), field.value.as_deref());
    }
}

fn value_of<'a>(fields: &'a [Field], name: &[u8]) -> Option<&'a [u8]> {
    let field = fields.iter().find(|field| field.name.as_deref() == Some(name))?;
    field.value.as_deref()
}

fn status(value: &[u8]) -> Option<u16> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Returns the name of a frame type (RFC 9113 §6 and RFC 9218 §7.1).
fn name(frame_type: u8) -> Option<&'static str> {
    Some(match frame_type {
        0x0 => "DATA",
        0x1 => "HEADERS",
        0x2 => "PRIORITY",
        0x3 => "RST_STREAM",
        0x4 => "SETTINGS",
        0x5 => "PUSH_PROMISE",
        0x6 => "PING",
        0x7 => "GOAWAY",
        0x8 => "WINDOW_UPDATE",
        0x9 => "CONTINUATION",
        0x10 => "PRIORITY_UPDATE",
        _ => return None,
    })
}
