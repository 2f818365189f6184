//! Server-sent events in the body of a stream.

use crate::body::BodyBuilder;
use crate::decoder::Output;
use crate::http2::carried::Span;
use crate::http2::section::Section;
use crate::limits::Limits;
use crate::message::Content;
use crate::sse::SseDecoder;

/// Emits the events of a body that is also kept as a body.
pub(super) struct Events {
    decoder: SseDecoder,
    /// Number of bytes of the held body that the decoder has seen.
    seen: usize,
}

impl Events {
    /// Creates it for a field section whose media type is `text/event-stream`.
    pub(super) fn announced(section: &Section, limits: &Limits) -> Option<Self> {
        is_event_stream(section).then(|| Self {
            decoder: SseDecoder::new(limits).with_stream(section.head.stream),
            seen: 0,
        })
    }

    /// Emits the events that the body's last bytes completed.
    pub(super) fn emit(&mut self, body: &mut BodyBuilder, span: Span, output: &mut Output) {
        let mut events = Vec::new();
        self.decoder.push(&body.held()[self.seen..], &mut events);
        self.seen = body.make_room();
        for event in events {
            span.emit(output, Content::ServerSentEvent(Box::new(event)));
        }
    }

    /// Returns the number of bytes held of an incomplete event.
    pub(super) fn held_bytes(&self) -> usize {
        self.decoder.buffered_bytes()
    }

    /// Notes that bytes of the body were lost.
    pub(super) fn lose(&mut self) {
        self.decoder.lose();
    }
}

/// Returns true if the content's media type is `text/event-stream`.
pub(super) fn is_event_stream(section: &Section) -> bool {
    let content_type = section.value(b"content-type").map_or(&[][..], |value| value);
    let essence = content_type
        .split(|&byte| byte == b';')
        .next()
        .unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
}
