//! Zstandard (RFC 8878) with a bounded window (RFC 9659 permits 8 MiB on the web).

use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_error_name};

use super::{Outcome, Stage, Step};

/// Number of bytes that identify a frame.
const MAGIC: usize = 4;
/// Longest frame header with its magic number (RFC 8878 §3.1.1.1).
const LONGEST_HEADER: usize = 18;
/// The library's error for a frame whose window exceeds the limit.
const WINDOW_TOO_LARGE: &str = "Frame requires too much memory for decoding";

pub(super) struct Zstandard {
    window_log: u32,
    /// Between two frames, or before the first.
    at_frame_start: bool,
    /// At least one frame has ended.
    any_frame: bool,
    /// Number of bytes that the decoder wants next. Feeding no more than that makes each call
    /// decode one block, so that output before a damaged block is never lost with it.
    wanted: usize,
    /// The first bytes of the current frame.
    header: Vec<u8>,
    state: Option<DCtx<'static>>,
}

impl Zstandard {
    pub(super) fn new(window_log: u32) -> Self {
        Self {
            window_log,
            at_frame_start: true,
            any_frame: false,
            wanted: MAGIC,
            header: Vec::new(),
            state: None,
        }
    }

    fn decoder(&mut self) -> Option<&mut DCtx<'static>> {
        if self.state.is_none() {
            let mut decoder = DCtx::try_create()?;
            decoder
                .set_parameter(DParameter::WindowLogMax(self.window_log))
                .ok()?;
            self.state = Some(decoder);
        }
        self.state.as_mut()
    }
}

impl Stage for Zstandard {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Step {
        if let Some(&first) = input.first()
            && self.at_frame_start
            && self.any_frame
            && !starts_frame(first)
        {
            return Step {
                consumed: input.len(),
                written: 0,
                outcome: Outcome::Ended,
            };
        }
        let fed = &input[..input.len().min(self.wanted.max(1))];
        if self.at_frame_start {
            self.header.clear();
        }
        let room = LONGEST_HEADER - self.header.len();
        self.header.extend_from_slice(&fed[..fed.len().min(room)]);
        let Some(decoder) = self.decoder() else {
            return Step {
                consumed: 0,
                written: 0,
                outcome: Outcome::Corrupt,
            };
        };
        let mut source = InBuffer::around(fed);
        let mut destination = OutBuffer::around(output);
        let result = decoder.decompress_stream(&mut destination, &mut source);
        let (consumed, written) = (source.pos(), destination.pos());
        let hint = match result {
            Ok(hint) => hint,
            Err(code) => {
                let too_large = get_error_name(code) == WINDOW_TOO_LARGE;
                let window = window_of(&self.header).filter(|_| too_large);
                return Step {
                    consumed,
                    written,
                    outcome: window.map_or(Outcome::Corrupt, Outcome::WindowTooLarge),
                };
            }
        };
        let progressed = consumed > 0 || written > 0;
        if progressed {
            self.at_frame_start = hint == 0;
            self.any_frame |= hint == 0;
        }
        self.wanted = hint;
        Step {
            consumed,
            written,
            outcome: Outcome::Running,
        }
    }

    fn has_ended(&self) -> bool {
        self.any_frame && self.at_frame_start
    }

    fn held_bytes(&self) -> usize {
        self.state.as_ref().map_or(0, DCtx::sizeof)
    }
}

/// Returns true for the first byte of a frame or of a skippable frame (RFC 8878 §3.1), little
/// endian.
const fn starts_frame(first: u8) -> bool {
    first == 0x28 || first >> 4 == 5
}

/// Returns the window that a frame header asks for (RFC 8878 §3.1.1.1.2). Without a window
/// descriptor it is the whole content.
fn window_of(header: &[u8]) -> Option<u64> {
    let (&descriptor, rest) = header.get(MAGIC..)?.split_first()?;
    if descriptor & 0x20 == 0 {
        let &window = rest.first()?;
        let base = 1_u64 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size = [1, 2, 4, 8][usize::from(descriptor >> 6)];
    let content = rest.get(dictionary..dictionary + size)?;
    let little_endian = |sum: u64, &byte: &u8| sum << 8 | u64::from(byte);
    let length = content.iter().rev().fold(0, little_endian);
    Some(if size == 2 { length + 256 } else { length })
}
