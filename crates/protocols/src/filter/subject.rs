//! The fields of one message, its exchange and its process.

use std::time::Duration;

use memchr::memmem::Finder;

use super::content::{
    Half, body_of, close_status, is_http, is_in_content, length_of, request_part, response_line, side_of,
    stream_of, uri_path, uri_query, version_of,
};
use super::field::{Field, FieldName, Kind};
use super::headers::each_header;
use super::origin::{addresses, each_of_origin};
use super::value::Value;
use crate::event::Origin;
use crate::exchange::{Asked, Exchange, Pairing};
use crate::message::{Content, Message};

/// A message as a filter sees it: with its process, and with the other half of its exchange where
/// that is known.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    origin: &'a Origin,
    message: &'a Message,
    request: Option<&'a Message>,
    response: Option<&'a Message>,
    asked: Option<&'a Asked>,
}

impl<'a> Subject<'a> {
    /// Takes `message` as it is printed. A response has its request's fields as well.
    pub fn new(origin: &'a Origin, message: &'a Message) -> Self {
        let exchange = message.exchange.as_ref();
        let asked = exchange.and_then(|exchange| exchange.request.as_deref());
        let sent = asked.and_then(|asked| asked.message.as_deref());
        let (request, response) = match side_of(&message.content) {
            Some(Half::Request) => (Some(message), None),
            Some(Half::Response) => (sent, Some(message)),
            None => (sent, None),
        };
        Self {
            origin,
            message,
            request,
            response,
            asked,
        }
    }

    /// Takes a request with the response that answers it.
    pub fn of_request(origin: &'a Origin, request: &'a Message, response: Option<&'a Message>) -> Self {
        let exchange = response.and_then(|response| response.exchange.as_ref());
        Self {
            origin,
            message: request,
            request: Some(request),
            response,
            asked: exchange.and_then(|exchange| exchange.request.as_deref()),
        }
    }

    /// Returns true if the field has a value. `None` if it may still get one.
    pub(super) fn has(&self, field: &Field) -> Option<bool> {
        if field.kind() == Kind::Presence {
            return Some(self.is(field.name()));
        }
        let mut found = false;
        self.each(field, &mut |_| found = true);
        let is_pending = field.is_of_response() && self.response.is_none() && self.request.is_some();
        (found || !is_pending).then_some(found)
    }

    fn is(&self, name: FieldName) -> bool {
        let content = &self.message.content;
        match name {
            FieldName::Frame => true,
            FieldName::Http => is_http(content),
            FieldName::Http2 => matches!(
                content,
                Content::Http2(_) | Content::Http2Frame(_) | Content::Grpc(_)
            ),
            FieldName::Grpc => matches!(content, Content::Grpc(_)),
            FieldName::WebSocket => matches!(content, Content::WebSocket(_)),
            FieldName::Tcp => self.origin.stream.is_some(),
            FieldName::Ipv4 => addresses(self.origin).any(|address| address.is_ipv4()),
            FieldName::Ipv6 => addresses(self.origin).any(|address| address.is_ipv6()),
            _ => false,
        }
    }

    /// Calls `take` with each known value of the field.
    pub(super) fn each(&self, field: &Field, take: &mut dyn FnMut(Value<'_>)) {
        match field.name() {
            _ if field.is_of_connection() => each_of_origin(self.origin, field, take),
            FieldName::Header
            | FieldName::Http2Header
            | FieldName::Http2HeaderName
            | FieldName::Http2HeaderValue => each_header(&self.message.content, field, take),
            FieldName::Exchange
            | FieldName::Host
            | FieldName::Method
            | FieldName::Pairing
            | FieldName::Status
            | FieldName::Time
            | FieldName::Uri
            | FieldName::UriPath
            | FieldName::UriQuery => self.of_exchange(field.name()).into_iter().for_each(take),
            name => self.of_content(name).into_iter().for_each(take),
        }
    }

    fn of_content(&self, name: FieldName) -> Option<Value<'a>> {
        let content = &self.message.content;
        let body_if = |is_it: bool| body_of(content).filter(|_| is_it).map(Value::Text);
        match (name, content) {
            (FieldName::Length, _) => length_of(content).map(Value::of_u64),
            (FieldName::Stream, _) => stream_of(content).map(|stream| Value::Number(stream.into())),
            (FieldName::Body, _) | (FieldName::GrpcData, Content::Grpc(_)) => body_if(true),
            (FieldName::FileData, _) => body_if(is_http(content)),
            (FieldName::Http2Data, _) => body_if(matches!(content, Content::Http2(_) | Content::Grpc(_))),
            (FieldName::WebSocketText, Content::WebSocket(message)) => body_if(message.opcode == 1),
            (FieldName::Opcode, Content::WebSocket(message)) => Some(Value::Number(message.opcode.into())),
            (FieldName::CloseStatus, Content::WebSocket(message)) => {
                close_status(message).map(|status| Value::Number(status.into()))
            }
            (FieldName::Compressed, Content::Grpc(message)) => Some(Value::Number(message.compressed.into())),
            (FieldName::IsRequest, _) => (side_of(content)? == Half::Request).then_some(Value::Number(1)),
            (FieldName::IsResponse, _) => (side_of(content)? == Half::Response).then_some(Value::Number(1)),
            (FieldName::RequestVersion, _) => version_of(content, Half::Request).map(Value::Text),
            (FieldName::ResponseVersion, _) => version_of(content, Half::Response).map(Value::Text),
            (FieldName::Phrase, _) => response_line(content).map(|line| Value::Text(line.phrase)),
            _ => None,
        }
    }

    fn exchange(&self) -> Option<&'a Exchange> {
        let message = self.response.unwrap_or(self.message);
        message.exchange.as_ref()
    }

    fn of_exchange(&self, name: FieldName) -> Option<Value<'a>> {
        Some(match name {
            FieldName::Exchange => Value::Number(self.exchange()?.number?.into()),
            FieldName::Pairing => Value::Text(self.exchange()?.pairing?.as_str().as_bytes()),
            FieldName::Status => Value::Number(self.response?.status()?.into()),
            FieldName::Time => Value::Seconds(self.time()?.as_secs_f64()),
            FieldName::UriPath => Value::Text(uri_path(self.of_request_part(FieldName::Uri)?)),
            FieldName::UriQuery => Value::Text(uri_query(self.of_request_part(FieldName::Uri)?)?),
            part => Value::Text(self.of_request_part(part)?),
        })
    }

    /// From the request's first byte to the response's, as in Wireshark.
    fn time(&self) -> Option<Duration> {
        let (response, asked) = (self.response?, self.asked?);
        self.exchange()?.has_times().then(|| {
            let nanoseconds = response.first_ns.saturating_sub(asked.first_ns);
            Duration::from_nanos(nanoseconds)
        })
    }

    fn of_request_part(&self, name: FieldName) -> Option<&'a [u8]> {
        if let Some(request) = self.request {
            return request_part(&request.content, name);
        }
        let is_paired = self.exchange()?.pairing != Some(Pairing::NoRequest);
        let target = self.asked.filter(|_| is_paired)?.target.as_ref()?;
        match name {
            FieldName::Method => target.method(),
            FieldName::Uri => target.path(),
            _ => target.authority(),
        }
    }

    /// Returns true if the text is in the message's head or content.
    pub(super) fn contains(&self, text: &Finder<'_>) -> bool {
        is_in_content(&self.message.content, text)
    }
}
