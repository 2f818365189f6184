//! Messages of every kind.

use std::sync::Arc;

use bytes::Bytes;

use super::fields;
use super::ranges::Ranges;
use super::urls::{self, Text};
use super::{Level, Privacy};
use crate::event::{Fact, Missing, SqlOutcome};
use crate::exchange::{Asked, Exchange, Target};
use crate::message::{
    Body, BodyError, Content, Field, Gap, GapReason, GrpcMessage, Http1Message, Http2Detail, Message, Part,
    ProtobufField, ProtobufValue, ServerSentEvent, WebSocketMessage,
};
use crate::redact::{self, Redaction};

/// The opcode of a WebSocket message that closes, and the bytes of its status code (RFC 6455 §5.5.1).
const CLOSE: u8 = 8;
const CLOSE_CODE: usize = 2;

pub(super) fn apply(privacy: &Privacy, message: &mut Message) {
    if let Some(exchange) = &mut message.exchange
        && exchange.request.is_some()
    {
        *exchange = exchange_of(privacy, exchange);
    }
    match &mut message.content {
        Content::Gap(_) | Content::Unanswered => {}
        Content::Fact(fact) => mask_fact(privacy, fact),
        Content::Grpc(message) => grpc(privacy, message),
        Content::Http1(message) => http1(privacy, message),
        Content::Http2Frame(frame) => detail(privacy, &mut frame.detail),
        Content::Http2(message) => {
            for field in message.fields.iter_mut().chain(&mut message.trailers) {
                mask_field(privacy, field);
            }
            body(privacy, &mut message.body, message.part);
        }
        Content::Raw(raw) => message.content = left_out(privacy, raw.data.len()),
        Content::ServerSentEvent(event) if privacy.level < Level::Full => {
            message.content = left_out(privacy, event.data.len());
        }
        Content::ServerSentEvent(event) => mask_event(privacy, event),
        Content::WebSocket(message) => web_socket(privacy, message),
    }
}

/// Commands and statements are content.
fn mask_fact(privacy: &Privacy, fact: &mut Fact) {
    match fact {
        Fact::ShellCommand(command) if privacy.level < Level::Full => {
            command.text = Bytes::new();
            command.cut = true;
        }
        Fact::Sql(query) if privacy.level < Level::Full => {
            redact::query(query, Redaction::Literals);
            query.missing = vec![Missing {
                at: 0,
                bytes: Some(query.text_bytes),
            }];
            query.text = Bytes::new();
            if let SqlOutcome::Failed(error) = &mut query.outcome {
                error.message = Bytes::new();
            }
            query.redacted = true;
        }
        Fact::ShellCommand(command) if privacy.secrets.is_some() => {
            if let Some(masked) = redact::command_line(&command.text) {
                command.text = Bytes::from(masked);
            }
            mask_own(privacy, &mut command.text);
        }
        Fact::Sql(query) if privacy.secrets.is_some() => {
            redact::query(query, Redaction::Literals);
            mask_own(privacy, &mut query.text);
        }
        Fact::Process(_) | Fact::Secret(_) | Fact::ShellCommand(_) | Fact::Packets(_) | Fact::Sql(_) => {}
    }
}

fn left_out(privacy: &Privacy, bytes: usize) -> Content {
    Content::Gap(Gap {
        bytes: Some(bytes as u64),
        reason: if privacy.level < Level::Full {
            GapReason::Privacy
        } else {
            GapReason::Redacted
        },
    })
}

fn exchange_of(privacy: &Privacy, exchange: &Exchange) -> Exchange {
    let request = exchange.request.as_ref().map(|asked| {
        let mut asked = Asked::clone(asked);
        if let Some(target) = &mut asked.target {
            mask_target(privacy, target);
        }
        if let Some(message) = &mut asked.message {
            apply(privacy, Arc::make_mut(message));
        }
        Arc::new(asked)
    });
    Exchange {
        request,
        ..exchange.clone()
    }
}

fn mask_target(privacy: &Privacy, target: &mut Target) {
    let masked = |name: &[u8], part: Option<&[u8]>| {
        let mut found = Ranges::default();
        fields::of_value(privacy, Some(name), part?, &mut found);
        found.mask(part?)
    };
    let authority = masked(b":authority", target.authority());
    let path = masked(b":path", target.path());
    if authority.is_some() || path.is_some() {
        *target = Target::of([
            target.method(),
            authority.as_deref().or(target.authority()),
            path.as_deref().or(target.path()),
        ]);
    }
}

fn http1(privacy: &Privacy, message: &mut Http1Message) {
    let (head, trailers) = fields::find_in_heads(privacy, message);
    replace(&mut message.head, head);
    replace(&mut message.trailers, trailers);
    body(privacy, &mut message.body, message.part);
}

fn mask_field(privacy: &Privacy, field: &mut Field) {
    let Some(value) = &mut field.value else { return };
    let mut found = Ranges::default();
    let name = field.name.as_deref();
    fields::of_value(privacy, name, value, &mut found);
    // The sender says so itself (RFC 7541 §7.1.3).
    let is_pseudo = name.is_some_and(|name| name.starts_with(b":"));
    if field.sensitive && !is_pseudo && found.is_empty() && privacy.secrets.is_some() {
        found.hide(0..value.len());
    }
    replace(value, found);
}

fn body(privacy: &Privacy, body: &mut Body, part: Part) {
    if privacy.level == Level::Metadata
        && let Some(media_type) = &mut body.content_type
    {
        let end = memchr::memchr(b';', media_type).unwrap_or(media_type.len());
        media_type.truncate(end);
    }
    if privacy.level < Level::Full {
        body.truncated_at = None;
        if body.wire_len > 0 || !body.data.is_empty() {
            let bytes = body.wire_len;
            body.error = Some(BodyError::LeftOut { bytes });
        }
        body.data = Bytes::new();
        return;
    }
    let Some(secrets) = &privacy.secrets else { return };
    let mut found = Ranges::default();
    secrets.find_in(&body.data, &mut found);
    if is_form(body) {
        let mut start = 0;
        if matches!(part, Part::Continued { .. }) {
            // What begins in the middle of a parameter may be of any.
            start = memchr::memchr(b'&', &body.data).unwrap_or(body.data.len());
            found.hide(0..start);
        }
        let mut rest = Ranges::default();
        urls::find(&body.data[start..], Text::Form, secrets, &mut rest);
        found.hide_in(start, rest);
    }
    replace(&mut body.data, found);
}

fn is_form(body: &Body) -> bool {
    const FORM: &[u8] = b"application/x-www-form-urlencoded";
    let media_type = body.content_type.as_deref().unwrap_or_default();
    let start = media_type.iter().take_while(|byte| byte.is_ascii_whitespace());
    let media_type = &media_type[start.count()..];
    media_type
        .get(..FORM.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(FORM))
}

fn grpc(privacy: &Privacy, message: &mut GrpcMessage) {
    if privacy.level < Level::Full {
        message.data = Bytes::new();
        message.fields = None;
        message.error = Some(BodyError::LeftOut {
            bytes: message.wire_len,
        });
        return;
    }
    mask_own(privacy, &mut message.data);
    if let Some(fields) = &mut message.fields {
        mask_protobuf(privacy, fields);
    }
}

fn mask_protobuf(privacy: &Privacy, fields: &mut [ProtobufField]) {
    for field in fields {
        match &mut field.value {
            ProtobufValue::Text(text) => mask_own_text(privacy, text),
            ProtobufValue::Bytes(bytes) => mask_own(privacy, bytes),
            ProtobufValue::Message(fields) => mask_protobuf(privacy, fields),
            ProtobufValue::Varint(_) | ProtobufValue::Fixed64(_) | ProtobufValue::Fixed32(_) => {}
        }
    }
}

fn web_socket(privacy: &Privacy, message: &mut WebSocketMessage) {
    if privacy.level < Level::Full {
        let kept = if message.opcode == CLOSE { CLOSE_CODE } else { 0 };
        if message.payload_len > kept as u64 {
            message.error = Some(BodyError::LeftOut {
                bytes: message.payload_len,
            });
        }
        message.data.truncate(kept);
        return;
    }
    mask_own(privacy, &mut message.data);
}

fn mask_event(privacy: &Privacy, event: &mut ServerSentEvent) {
    mask_own_text(privacy, &mut event.data);
    for text in [&mut event.event, &mut event.id].into_iter().flatten() {
        mask_own_text(privacy, text);
    }
}

fn detail(privacy: &Privacy, detail: &mut Http2Detail) {
    match detail {
        Http2Detail::Fields { fields, .. } => {
            for field in fields {
                mask_field(privacy, field);
            }
        }
        Http2Detail::Data(data) | Http2Detail::DataPart { data, .. } => {
            if privacy.level < Level::Full {
                *data = Bytes::new();
            }
            mask_own(privacy, data);
        }
        Http2Detail::Merged(merged) => body(privacy, merged, Part::Whole),
        // It may be part of a field section.
        Http2Detail::Malformed { payload, .. } => *payload = Bytes::new(),
        Http2Detail::Error { debug, .. } => {
            if privacy.level == Level::Metadata {
                *debug = Bytes::new();
            }
            let mut found = Ranges::default();
            fields::of_value(privacy, Some(b"debug"), debug, &mut found);
            replace(debug, found);
        }
        Http2Detail::None
        | Http2Detail::Carrier
        | Http2Detail::CodedData { .. }
        | Http2Detail::Settings(_) => {}
    }
}

/// Masks what own patterns of text match.
fn mask_own(privacy: &Privacy, data: &mut Bytes) {
    let mut found = Ranges::default();
    if let Some(secrets) = &privacy.secrets {
        secrets.find_in(data, &mut found);
    }
    replace(data, found);
}

fn mask_own_text(privacy: &Privacy, text: &mut String) {
    let mut data = Bytes::copy_from_slice(text.as_bytes());
    mask_own(privacy, &mut data);
    if data != text.as_bytes() {
        *text = String::from_utf8_lossy(&data).into_owned();
    }
}

fn replace(data: &mut Bytes, found: Ranges) {
    if let Some(masked) = found.mask(data) {
        *data = Bytes::from(masked);
    }
}
