//! OTLP: a span for each HTTP exchange and each gRPC call, and the losses as metrics.
//!
//! A record is a field 1 of `ExportTraceServiceRequest` with its tag: records that follow each other are a request
//! (fields of protobuf messages may be repeated). So whoever sends them can put any number into one request, and
//! knows of each record whether it was taken.
//!
//! Spans and attributes follow the semantic conventions for HTTP and for gRPC, version 1.45.

mod adopted;
mod attributes;
pub mod messages;
mod metrics;
mod span;
mod trace_context;
mod vocabulary;

use std::sync::Arc;

use prost::Message as _;

use self::adopted::Adopted;
use self::attributes::Attributes;
use self::messages::{Resource, ResourceSpans, Scope, ScopeSpans};
pub use self::metrics::{Counter, Figures};
use super::exchange_lines::Line;
use super::{Format, Records, WallClock};
use crate::decoder::View;
use crate::event::Origin;
use crate::message::{Content, Message};

/// The version of the semantic conventions.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.45.0";

/// The `otlp` format.
#[derive(Debug)]
pub struct Otlp {
    /// Turns kernel time into wall-clock time.
    pub clock: WallClock,
    /// What makes the ids of this run differ from those of other runs; always the same in a replay.
    pub seed: [u8; 16],
    /// Name of the host that was captured, if it is this one.
    pub host: Option<Arc<str>>,
    adopted: Adopted,
}

impl Otlp {
    /// Makes a format whose ids depend on `seed` and the exchanges alone.
    pub fn new(clock: WallClock, seed: [u8; 16], host: Option<Arc<str>>) -> Self {
        Self {
            clock,
            seed,
            host,
            adopted: Adopted::default(),
        }
    }

    /// Appends a record.
    fn write_record(&self, origin: &Origin, span: messages::Span, out: &mut Vec<u8>) {
        let spans = ResourceSpans {
            resource: Some(resource(origin, self.host.as_deref())),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope()),
                spans: vec![span],
            }],
            schema_url: SCHEMA.to_owned(),
        };
        prost::encoding::message::encode(1, &spans, out);
    }
}

impl Format for Otlp {
    fn view(&self) -> View {
        View::Joined
    }

    fn write(&self, origin: &Origin, messages: &[Message], out: &mut Records) {
        for (index, message) in messages.iter().enumerate() {
            let span = Line::of(message).map(|line| self.span(origin, message, &line, index));
            match span {
                Some(span::Made::Span(span)) => {
                    self.write_record(origin, *span, out.bytes());
                    out.end(1);
                }
                Some(span::Made::Later) => {}
                None if is_of_an_exchange(message) => {}
                Some(span::Made::Never) | None => out.pass_over(1),
            }
        }
    }
}

/// Returns true for a request, which comes again with its response, and for a 1xx response.
fn is_of_an_exchange(message: &Message) -> bool {
    matches!(message.content, Content::Http1(_) | Content::Http2(_))
}

/// Returns the process that the span is of.
fn resource(origin: &Origin, host: Option<&str>) -> Resource {
    let mut attributes = Attributes::default();
    let comm = origin.process.comm.to_string();
    attributes.text("service.name", origin.program.as_deref().unwrap_or(&comm));
    attributes.number("process.pid", origin.process.pid);
    if let Some(program) = &origin.program {
        attributes.text("process.executable.name", program);
    }
    if let Some(container) = &origin.container_id {
        attributes.text("container.id", container);
    }
    if let Some(host) = host {
        attributes.text("host.name", host);
    }
    Resource {
        attributes: attributes.into_values(),
    }
}

fn scope() -> Scope {
    Scope {
        name: "ecapture".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Returns the seconds that a `google.rpc.Status` asks to wait for, if it does.
pub fn retry_delay(status: &[u8]) -> Option<std::time::Duration> {
    let status = messages::RpcStatus::decode(status).ok()?;
    let info = status
        .details
        .iter()
        .find(|detail| detail.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = messages::RetryInfo::decode(&*info.value).ok()?.retry_delay;
    let delay = delay.unwrap_or_default();
    let seconds = u64::try_from(delay.seconds).ok()?;
    Some(std::time::Duration::new(
        seconds,
        u32::try_from(delay.nanos).ok()?.min(999_999_999),
    ))
}

/// Returns what a response to an export says was not taken.
pub fn partial_success(response: &[u8]) -> Option<messages::PartialSuccess> {
    messages::Response::decode(response).ok()?.partial_success
}
