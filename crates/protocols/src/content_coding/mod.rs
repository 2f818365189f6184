//! Content codings (RFC 9110 §8.4.1), undone as a stream with bounded output.
//!
//! A [`Chain`] holds one stage per coding. Input goes through the outermost coding first;
//! each stage writes into a small buffer on the stack that is the next stage's input, and the
//! last one writes into a [`Sink`] that counts and stops the chain when it is full. A stage
//! allocates its window only when the first byte reaches it.

mod brotli;
mod inflate;
mod zstandard;

use bytes::BytesMut;

use crate::limits::Limits;
use crate::message::{BodyError, CodingName};

/// Size of the buffer between two stages.
const STAGE_BUFFER: usize = 8 * 1024;

/// Maximum output of all stages before the last together, as a multiple of the final output.
const INNER_FACTOR: usize = 16;

/// One coding's decoder.
trait Stage: Send {
    /// Decodes from `input` into `output`.
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Step;

    /// Returns true if the coded stream is known to have ended.
    fn has_ended(&self) -> bool;

    /// Returns the memory held between calls, most of it the window.
    fn held_bytes(&self) -> usize;
}

/// The result of one call of a stage.
struct Step {
    consumed: usize,
    written: usize,
    outcome: Outcome,
}

/// The state of a stage after a call.
enum Outcome {
    /// The input is damaged after the part that was decoded.
    Corrupt,
    /// The coded stream has ended; further bytes are not part of it.
    Ended,
    /// The stage needs more input, or more room for output.
    Running,
    /// The input asks for a window of this many bytes, which is too large.
    WindowTooLarge(u64),
}

/// The destination of decoded bytes: at most `room` more of them.
pub(crate) struct Sink<'a> {
    /// Receives the decoded bytes.
    pub(crate) decoded: &'a mut BytesMut,
    /// Number of bytes still accepted.
    pub(crate) room: usize,
}

/// Decoders for a list of codings.
pub(crate) struct Chain {
    /// Outermost coding first.
    stages: Vec<(Coding, Box<dyn Stage>)>,
    /// Number of bytes that stages before the last may still write; bounds the work of nested
    /// bombs.
    inner_room: usize,
    /// Largest zstd window.
    window_limit: u64,
    /// Bytes that followed the end of a coded stream, and its coding.
    trailing: Option<(Coding, u64)>,
}

/// Codings to undo, and the error that prevents undoing the others.
pub(crate) struct Plan {
    /// In the order in which the sender applied them.
    pub(crate) codings: Vec<Coding>,
    /// Set if codings that were applied before these cannot be undone.
    pub(crate) error: Option<BodyError>,
}

/// A coding that can be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Brotli,
    Deflate,
    Gzip,
    Zstd,
}

impl Coding {
    /// Returns the registered name, in lower case and without the historic `x-`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Deflate => "deflate",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    fn from_token(token: &[u8]) -> Option<Self> {
        let is = |name: &str| token.eq_ignore_ascii_case(name.as_bytes());
        if is("gzip") || is("x-gzip") {
            Some(Self::Gzip)
        } else if is("deflate") {
            Some(Self::Deflate)
        } else if is("br") {
            Some(Self::Brotli)
        } else if is("zstd") {
            Some(Self::Zstd)
        } else {
            None
        }
    }

    fn stage(self, limits: &Limits) -> Box<dyn Stage> {
        match self {
            Self::Brotli => Box::new(brotli::Brotli::default()),
            Self::Deflate => Box::new(inflate::Inflate::deflate()),
            Self::Gzip => Box::new(inflate::Inflate::gzip()),
            Self::Zstd => Box::new(zstandard::Zstandard::new(limits.zstd_window_log)),
        }
    }
}

impl Plan {
    /// Reads a `Content-Encoding` field value (several fields joined by commas).
    pub(crate) fn from_field(value: &[u8], limits: &Limits) -> Self {
        let mut codings = Vec::new();
        let mut error = None;
        let tokens = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        for token in tokens.rev().filter(|token| !token.is_empty()) {
            if token.eq_ignore_ascii_case(b"identity") {
                continue;
            }
            let Some(coding) = Coding::from_token(token) else {
                error = Some(BodyError::UnknownCoding {
                    name: CodingName::new(token),
                });
                break;
            };
            if codings.len() == limits.content_codings {
                error = Some(BodyError::TooManyCodings);
                break;
            }
            codings.push(coding);
        }
        codings.reverse();
        Self { codings, error }
    }
}

impl Chain {
    /// Creates a chain. `codings` are in the order in which the sender applied them.
    pub(crate) fn new(codings: &[Coding], limits: &Limits) -> Self {
        let stages = codings
            .iter()
            .rev()
            .map(|&coding| (coding, coding.stage(limits)))
            .collect();
        Self {
            stages,
            inner_room: limits.body_bytes.saturating_mul(INNER_FACTOR),
            window_limit: 1 << limits.zstd_window_log,
            trailing: None,
        }
    }

    /// Decodes `input` into `sink`. After an error the chain must not be used again; the bytes
    /// decoded before it are in the sink. `allowed` is the number of bytes that this input may
    /// expand to. The output of the stages before the last is charged to it as well; the amount
    /// that they used is returned.
    pub(crate) fn push(
        &mut self,
        input: &[u8],
        allowed: usize,
        sink: &mut Sink<'_>,
    ) -> (usize, Result<(), BodyError>) {
        let room = self.inner_room.min(allowed.saturating_mul(INNER_FACTOR));
        let mut left = room;
        let mut common = Common {
            inner_room: &mut left,
            window_limit: self.window_limit,
            trailing: &mut self.trailing,
        };
        let result = run(&mut self.stages, &mut common, input, sink);
        self.inner_room -= room - left;
        ((room - left) / INNER_FACTOR, result)
    }

    /// Returns the error for bytes that followed the end of a coded stream.
    pub(crate) fn trailing(&self) -> Option<BodyError> {
        let (coding, bytes) = self.trailing?;
        let coding = coding.name();
        Some(BodyError::Trailing { coding, bytes })
    }

    /// Returns the memory that the stages hold, most of it their windows.
    pub(crate) fn held_bytes(&self) -> usize {
        self.stages.iter().map(|(_, stage)| stage.held_bytes()).sum()
    }

    /// Returns the first coding whose stream has not ended.
    pub(crate) fn unfinished(&self) -> Option<Coding> {
        self.stages
            .iter()
            .find(|(_, stage)| !stage.has_ended())
            .map(|(coding, _)| *coding)
    }
}

/// The state that all stages of a chain share.
struct Common<'a> {
    inner_room: &'a mut usize,
    window_limit: u64,
    trailing: &'a mut Option<(Coding, u64)>,
}

fn run(
    stages: &mut [(Coding, Box<dyn Stage>)],
    common: &mut Common<'_>,
    mut input: &[u8],
    sink: &mut Sink<'_>,
) -> Result<(), BodyError> {
    let Some(((coding, stage), following)) = stages.split_first_mut() else {
        return sink.accept(input);
    };
    let mut buffer = [0; STAGE_BUFFER];
    loop {
        let had_ended = stage.has_ended();
        let Step {
            consumed,
            written,
            outcome,
        } = stage.step(input, &mut buffer);
        input = &input[consumed..];
        if !following.is_empty() {
            let left = common.inner_room.checked_sub(written);
            *common.inner_room = left.ok_or(BodyError::OutputLimit)?;
        }
        if written > 0 {
            run(following, common, &buffer[..written], sink)?;
        }
        match outcome {
            Outcome::Corrupt => {
                return Err(BodyError::Corrupt {
                    coding: coding.name(),
                });
            }
            Outcome::WindowTooLarge(window) => {
                return Err(BodyError::WindowTooLarge {
                    coding: coding.name(),
                    window,
                    limit: common.window_limit,
                });
            }
            Outcome::Ended => {
                let bytes = input.len() + if had_ended { consumed } else { 0 };
                if bytes > 0 {
                    let (_, sum) = common.trailing.get_or_insert((*coding, 0));
                    *sum += bytes as u64;
                }
                return Ok(());
            }
            Outcome::Running => {}
        }
        let stalled = consumed == 0 && written == 0;
        if stalled || (input.is_empty() && written < buffer.len()) {
            return Ok(());
        }
    }
}

impl Sink<'_> {
    fn accept(&mut self, decoded: &[u8]) -> Result<(), BodyError> {
        let kept = decoded.len().min(self.room);
        self.decoded.extend_from_slice(&decoded[..kept]);
        self.room -= kept;
        if kept < decoded.len() {
            Err(BodyError::OutputLimit)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(name: &str) -> BodyError {
        let name = CodingName::new(name.as_bytes());
        BodyError::UnknownCoding { name }
    }

    fn names(value: &str) -> (Vec<&'static str>, Option<BodyError>) {
        let plan = Plan::from_field(value.as_bytes(), &Limits::default());
        (plan.codings.into_iter().map(Coding::name).collect(), plan.error)
    }

    #[test]
    fn field_value_is_read_as_a_list() {
        assert_eq!(names("GZip"), (vec!["gzip"], None));
        assert_eq!(names("x-gzip , identity, br"), (vec!["gzip", "br"], None));
        assert_eq!(names(" , "), (vec![], None));
    }

    #[test]
    fn only_codings_outside_an_unknown_one_are_undone() {
        assert_eq!(names("compress, gzip"), (vec!["gzip"], Some(unknown("compress"))));
        assert_eq!(names("gzip, compress"), (vec![], Some(unknown("compress"))));
    }

    #[test]
    fn too_many_codings_are_refused() {
        let (codings, error) = names("gzip,gzip,gzip,gzip,gzip");
        assert_eq!((codings.len(), error), (4, Some(BodyError::TooManyCodings)));
    }
}
