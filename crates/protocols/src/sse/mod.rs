//! Event streams (HTML standard §9.2): the content of a body of type `text/event-stream`.

use crate::limits::Limits;
use crate::message::ServerSentEvent;

/// Decodes a body as it arrives into its events.
///
/// Feed it the body's content, after de-chunking and content decoding, in pieces of any size. Events
/// come out as soon as their empty line does. An event that the end of the body cuts off is not
/// dispatched (§9.2.6); its bytes are still in the body.
///
/// Holds at most twice [`Limits::sse_event_bytes`]: a line and an event. Bytes beyond that are
/// dropped, and the event is marked.
///
/// ```
/// use ecapture_protocols::{Limits, sse::SseDecoder};
///
/// let mut decoder = SseDecoder::new(&Limits::default());
/// let mut events = Vec::new();
/// decoder.push(b"event: tick\nda", &mut events);
/// assert!(events.is_empty());
/// decoder.push(b"ta: 1\r\ndata: 2\r\n\r\n", &mut events);
/// assert_eq!(events[0].event.as_deref(), Some("tick"));
/// assert_eq!(events[0].data, "1\n2");
/// ```
#[derive(Debug)]
pub struct SseDecoder {
    limit: usize,
    stream: Option<u32>,
    /// The beginning of a line.
    line: Vec<u8>,
    /// The line before ended in CR: an LF belongs to it.
    after_cr: bool,
    /// No line has ended yet, so a byte order mark may precede the first.
    at_start: bool,
    /// A line of the current event was cut.
    truncated: bool,
    /// Bytes were lost: the bytes up to the next empty line belong to no event.
    skipping: bool,
    /// Bytes since the last empty line.
    unfinished: usize,
    /// The data lines, joined by LF.
    data: Option<String>,
    event: String,
    id: Option<String>,
    retry: Option<u64>,
}

impl SseDecoder {
    /// Creates a decoder for a new body.
    pub fn new(limits: &Limits) -> Self {
        Self {
            limit: limits.sse_event_bytes,
            stream: None,
            line: Vec::new(),
            after_cr: false,
            at_start: true,
            truncated: false,
            skipping: false,
            unfinished: 0,
            data: None,
            event: String::new(),
            id: None,
            retry: None,
        }
    }

    /// Sets the HTTP/2 stream that the body belongs to.
    #[must_use]
    pub fn with_stream(mut self, stream: u32) -> Self {
        self.stream = Some(stream);
        self
    }

    /// Takes the next bytes of the body and appends the events that they complete.
    pub fn push(&mut self, bytes: &[u8], events: &mut Vec<ServerSentEvent>) {
        let mut rest = bytes;
        if self.after_cr && !rest.is_empty() {
            if let Some(after) = rest.strip_prefix(b"\n") {
                // The second half of an empty line's end belongs to the event before.
                self.unfinished += usize::from(self.unfinished > 0);
                rest = after;
            }
            self.after_cr = false;
        }
        while let Some(end) = memchr::memchr2(b'\r', b'\n', rest) {
            self.keep_line(&rest[..end]);
            let after = &rest[end + 1..];
            self.after_cr = rest[end] == b'\r' && after.is_empty();
            let next = match rest[end] {
                b'\r' => after.strip_prefix(b"\n").unwrap_or(after),
                _ => after,
            };
            self.unfinished += rest.len() - next.len();
            self.end_line(events);
            rest = next;
        }
        self.unfinished += rest.len();
        self.keep_line(rest);
    }

    /// Notes that bytes of the body were lost. The event that they cut is dropped, and so are the
    /// bytes up to the next empty line: two halves of different events never become one.
    pub fn lose(&mut self) {
        self.line.clear();
        self.after_cr = false;
        self.truncated = false;
        self.skipping = true;
        self.data = None;
        self.event.clear();
    }

    /// Returns how many of the latest bytes belong to an event that no empty line has ended.
    pub fn unfinished_bytes(&self) -> usize {
        self.unfinished
    }

    /// Returns the number of bytes held for the incomplete event.
    pub fn buffered_bytes(&self) -> usize {
        self.line.len() + self.held()
    }

    fn held(&self) -> usize {
        let length = |value: &Option<String>| value.as_ref().map_or(0, String::len);
        length(&self.data) + self.event.len() + length(&self.id)
    }

    fn keep_line(&mut self, bytes: &[u8]) {
        let kept = bytes.len().min(self.limit.saturating_sub(self.line.len()));
        self.line.extend_from_slice(&bytes[..kept]);
        self.truncated |= kept < bytes.len();
    }

    fn end_line(&mut self, events: &mut Vec<ServerSentEvent>) {
        let line = std::mem::take(&mut self.line);
        let mut bytes = line.as_slice();
        if self.at_start {
            bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
            self.at_start = false;
        }
        let text = String::from_utf8_lossy(bytes);
        if text.is_empty() {
            self.unfinished = 0;
            self.skipping = false;
            self.dispatch(events);
        } else if !self.skipping {
            let (name, value) = text.split_once(':').unwrap_or((&text, ""));
            self.add_field(name, value.strip_prefix(' ').unwrap_or(value));
        }
        self.line = line;
        self.line.clear();
    }

    /// A comment is a field without a name.
    fn add_field(&mut self, name: &str, value: &str) {
        match name {
            "data" => {
                let separator = if self.data.is_some() { "\n" } else { "" };
                for piece in [separator, value] {
                    let piece = self.fitting(piece);
                    self.data.get_or_insert_default().push_str(piece);
                }
            }
            "event" => {
                self.event.clear();
                self.event = self.fitting(value).to_owned();
            }
            "id" if !value.contains('\0') => {
                self.id = None;
                self.id = Some(self.fitting(value).to_owned());
            }
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.retry = value.parse().ok().or(self.retry);
            }
            _ => {}
        }
    }

    /// Returns as much of `value` as the event has room for.
    fn fitting<'a>(&mut self, value: &'a str) -> &'a str {
        let kept = value.floor_char_boundary(self.limit.saturating_sub(self.held()));
        self.truncated |= kept < value.len();
        &value[..kept]
    }

    /// Ends an event. Without a data field it is not dispatched, but its id and its retry time
    /// apply to the next.
    fn dispatch(&mut self, events: &mut Vec<ServerSentEvent>) {
        let event = std::mem::take(&mut self.event);
        let truncated = std::mem::take(&mut self.truncated);
        let Some(data) = self.data.take() else { return };
        events.push(ServerSentEvent {
            stream: self.stream,
            event: Some(event).filter(|event| !event.is_empty()),
            data,
            id: self.id.take(),
            retry: self.retry.take(),
            truncated,
        });
    }
}
