//! gRPC messages, with their content where it can be read without a schema.

use std::fmt::Arguments;

use crate::format::text::body;
use crate::format::text::page::Page;
use crate::message::{Body, GrpcMessage, Http2Kind, Part, ProtobufField, ProtobufValue};

pub(super) fn write(message: &GrpcMessage, page: &mut Page<'_>) {
    let kind = match message.kind {
        Http2Kind::Request => "request",
        Http2Kind::Response => "response",
    };
    let compressed = if message.compressed { ", compressed" } else { "" };
    let GrpcMessage {
        stream,
        index,
        wire_len,
        ..
    } = message;
    page.text(format_args!(
        "\ngRPC {kind} message {index}, stream {stream}, {wire_len} bytes{compressed}\n"
    ));
    match &message.fields {
        Some(fields) => write_fields(fields, 0, page),
        None => write_content(message, page),
    }
    if let Some(error) = message.error {
        page.mark(format_args!("{error}"));
    }
}

/// Writes one line per field: its number, and its value by wire type; messages are indented.
fn write_fields(fields: &[ProtobufField], depth: usize, page: &mut Page<'_>) {
    for ProtobufField { number, value } in fields {
        match value {
            ProtobufValue::Varint(value) => line(depth, format_args!("{number}: {value}"), page),
            ProtobufValue::Fixed64(value) => {
                line(depth, format_args!("{number}: {value:#018x} (64 bit)"), page);
            }
            ProtobufValue::Fixed32(value) => {
                line(depth, format_args!("{number}: {value:#010x} (32 bit)"), page);
            }
            ProtobufValue::Text(text) => line(depth, format_args!("{number}: {text:?}"), page),
            ProtobufValue::Bytes(bytes) => {
                line(
                    depth,
                    format_args!("{number}: {} bytes \"{}\"", bytes.len(), bytes.escape_ascii()),
                    page,
                );
            }
            ProtobufValue::Message(fields) => {
                line(depth, format_args!("{number} {{"), page);
                write_fields(fields, depth + 1, page);
                line(depth, format_args!("}}"), page);
            }
        }
    }
}

fn line(depth: usize, text: Arguments<'_>, page: &mut Page<'_>) {
    let indent = 2 * depth;
    page.text(format_args!("{:indent$}{text}\n", ""));
}

fn write_content(message: &GrpcMessage, page: &mut Page<'_>) {
    if message.data.is_empty() {
        return;
    }
    let content = Body {
        data: message.data.clone(),
        ..Body::default()
    };
    body::write(&content, Part::Whole, page);
    page.end_line();
}
