//! Cuts the content of a stream into gRPC messages.

use bytes::{Buf, Bytes, BytesMut};

use crate::body::BodyBuilder;
use crate::decoder::{Output, SkipReason, Skipped};
use crate::grpc::protobuf;
use crate::limits::Limits;
use crate::message::{BodyError, CodingName, GrpcMessage, Http2Kind};

/// Compressed flag and message length.
const PREFIX_BYTES: usize = 5;

/// The messages of one direction of one stream. Holds at most one message's limit of bytes.
#[derive(Debug)]
pub struct Deframer {
    stream: u32,
    kind: Http2Kind,
    /// `grpc-encoding`.
    encoding: Option<Bytes>,
    limits: Limits,
    state: State,
    index: u64,
}

#[derive(Debug)]
enum State {
    Prefix(BytesMut),
    Message(Partial),
    /// Message boundaries are lost. `candidate` holds the start of the current DATA frame, whose
    /// content is `frame` bytes long.
    Lost {
        candidate: BytesMut,
        frame: Option<usize>,
    },
    /// Not gRPC after all: shown as received.
    Foreign,
}

#[derive(Debug)]
struct Partial {
    compressed: bool,
    length: usize,
    /// Bytes of the message received so far, kept or not.
    seen: usize,
    held: BytesMut,
}

impl Deframer {
    /// Creates a deframer for stream `stream` in the direction of `kind`. `encoding` is the value
    /// of `grpc-encoding`.
    pub fn new(stream: u32, kind: Http2Kind, encoding: Option<Bytes>, limits: &Limits) -> Self {
        Self {
            stream,
            kind,
            encoding,
            limits: *limits,
            state: State::Prefix(BytesMut::new()),
            index: 0,
        }
    }

    /// Bytes held of an incomplete message.
    pub fn held_bytes(&self) -> usize {
        match &self.state {
            State::Prefix(held) | State::Lost { candidate: held, .. } => held.len(),
            State::Message(partial) => partial.held.len(),
            State::Foreign => 0,
        }
    }

    /// Takes the next content bytes and passes complete messages to `emit`. If a DATA frame starts
    /// here, `frame` is the number of its content bytes.
    pub fn push(
        &mut self,
        content: &Bytes,
        frame: Option<usize>,
        output: &mut Output,
        mut emit: impl FnMut(&mut Output, GrpcMessage),
    ) {
        if let (
            State::Lost {
                candidate,
                frame: slot,
            },
            Some(_),
        ) = (&mut self.state, frame)
        {
            skip(output, SkipReason::Resync, candidate.len());
            candidate.clear();
            *slot = frame;
        }
        let mut rest = content.clone();
        while !rest.is_empty() {
            if let Some(message) = self.advance(&mut rest, output) {
                emit(output, message);
            }
        }
        // A message without content is complete with its prefix.
        if matches!(&self.state, State::Message(partial) if partial.length == 0)
            && let Some(message) = self.advance(&mut rest, output)
        {
            emit(output, message);
        }
    }

    /// Notes that bytes were lost. Returns the incomplete message held, if any, as it is.
    pub fn gap(&mut self) -> Option<GrpcMessage> {
        let message = self.cut(BodyError::Gap);
        if !matches!(self.state, State::Foreign) {
            self.state = State::Lost {
                candidate: BytesMut::new(),
                frame: None,
            };
        }
        message
    }

    /// Ends the stream. Returns the incomplete message held, if any, as it is.
    pub fn finish(&mut self) -> Option<GrpcMessage> {
        self.cut(BodyError::Incomplete)
    }

    fn cut(&mut self, error: BodyError) -> Option<GrpcMessage> {
        match std::mem::replace(&mut self.state, State::Prefix(BytesMut::new())) {
            State::Message(partial) => Some(self.message(partial, Some(error))),
            State::Foreign => {
                self.state = State::Foreign;
                None
            }
            State::Prefix(held) if !held.is_empty() => Some(self.as_received(held.freeze(), error)),
            State::Lost { .. } | State::Prefix(_) => None,
        }
    }

    fn advance(&mut self, rest: &mut Bytes, output: &mut Output) -> Option<GrpcMessage> {
        match &mut self.state {
            State::Foreign => {
                let bytes = std::mem::take(rest);
                Some(self.as_received(bytes, BodyError::NotCoded { coding: "gRPC" }))
            }
            State::Lost { candidate, frame } => {
                let frame = *frame;
                let prefix = fill(candidate, rest, PREFIX_BYTES)?;
                let length = prefix_length(&prefix);
                if prefix[0] <= 1 && frame == length.checked_add(PREFIX_BYTES) {
                    self.open(&prefix);
                } else {
                    skip(output, SkipReason::Resync, prefix.len() + rest.len());
                    rest.clear();
                }
                None
            }
            State::Prefix(held) => {
                let prefix = fill(held, rest, PREFIX_BYTES)?;
                self.open(&prefix);
                if matches!(self.state, State::Foreign) {
                    *rest = Bytes::from([&prefix[..], rest].concat());
                }
                None
            }
            State::Message(partial) => {
                partial.take(rest, self.limits.grpc_message_bytes, output);
                if partial.seen < partial.length {
                    return None;
                }
                match std::mem::replace(&mut self.state, State::Prefix(BytesMut::new())) {
                    State::Message(partial) => Some(self.message(partial, None)),
                    _ => None,
                }
            }
        }
    }

    fn open(&mut self, prefix: &[u8]) {
        self.state = match prefix[0] {
            flag @ 0..=1 => State::Message(Partial {
                compressed: flag == 1,
                length: prefix_length(prefix),
                seen: 0,
                held: BytesMut::new(),
            }),
            _ => State::Foreign,
        };
    }

    /// Makes a message of bytes that are not a complete one.
    fn as_received(&mut self, data: Bytes, error: BodyError) -> GrpcMessage {
        let index = self.index;
        self.index += 1;
        GrpcMessage {
            stream: self.stream,
            kind: self.kind,
            index,
            compressed: false,
            wire_len: data.len() as u64,
            fields: None,
            data,
            error: Some(error),
        }
    }

    fn message(&mut self, partial: Partial, error: Option<BodyError>) -> GrpcMessage {
        let index = self.index;
        self.index += 1;
        let cut = (partial.held.len() < partial.length).then_some(BodyError::OutputLimit);
        let (data, coding_error) = self.decoded(partial.compressed, partial.held.freeze());
        let error = error.or(cut).or(coding_error);
        let fields = error.is_none().then(|| protobuf::dump(&data, &self.limits));
        GrpcMessage {
            stream: self.stream,
            kind: self.kind,
            index,
            compressed: partial.compressed,
            wire_len: partial.length as u64,
            fields: fields.flatten(),
            data,
            error,
        }
    }

    fn decoded(&self, compressed: bool, data: Bytes) -> (Bytes, Option<BodyError>) {
        if !compressed {
            return (data, None);
        }
        let Some(encoding) = &self.encoding else {
            let name = CodingName::new(b"(none announced)");
            return (data, Some(BodyError::UnknownCoding { name }));
        };
        let limits = Limits {
            body_bytes: self.limits.grpc_message_bytes,
            ..self.limits
        };
        let mut content = BodyBuilder::new(Some(encoding), None, None, &limits);
        content.push(&data);
        let body = content.finish(true);
        (body.data, body.error)
    }
}

impl Partial {
    fn take(&mut self, rest: &mut Bytes, limit: usize, output: &mut Output) {
        let piece = rest.split_to(rest.len().min(self.length - self.seen));
        self.seen += piece.len();
        let kept = piece.len().min(limit.saturating_sub(self.held.len()));
        self.held.extend_from_slice(&piece[..kept]);
        skip(output, SkipReason::BodyLimit, piece.len() - kept);
    }
}

fn prefix_length(prefix: &[u8]) -> usize {
    let mut length = &prefix[1..];
    length.try_get_u32().map_or(0, |length| length as usize)
}

/// Moves bytes from `rest` to `held` until `held` has `wanted` bytes, then returns them.
fn fill(held: &mut BytesMut, rest: &mut Bytes, wanted: usize) -> Option<Bytes> {
    let piece = rest.split_to(rest.len().min(wanted - held.len()));
    held.extend_from_slice(&piece);
    (held.len() == wanted).then(|| held.split().freeze())
}

fn skip(output: &mut Output, reason: SkipReason, bytes: usize) {
    if bytes > 0 {
        let bytes = bytes as u64;
        output.skipped.push(Skipped { reason, bytes });
    }
}
