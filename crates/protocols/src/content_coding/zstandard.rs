//! Zstandard (RFC 8878) with a bounded window (RFC 9659 permits 8 MiB on the web).

use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

use super::{Outcome, Stage, Step};

/// Bytes that tell a frame from anything else.
const MAGIC: usize = 4;

pub(super) struct Zstandard {
    window_log: u32,
    /// Between two frames, or before the first.
    at_frame_start: bool,
    /// At least one frame has come to its end.
    any_frame: bool,
    /// How many bytes the decoder wants next. Feeding no more than that makes each call
    /// decode one block, so that output before a damaged block is never lost with it.
    wanted: usize,
    state: Option<DCtx<'static>>,
}

impl Zstandard {
    pub(super) fn new(window_log: u32) -> Self {
        Self {
            window_log,
            at_frame_start: true,
            any_frame: false,
            wanted: MAGIC,
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
        let Ok(hint) = result else {
            return Step {
                consumed,
                written,
                outcome: Outcome::Corrupt,
            };
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

/// First byte of a frame or of a skippable frame (RFC 8878 §3.1), little endian.
const fn starts_frame(first: u8) -> bool {
    first == 0x28 || first >> 4 == 5
}
