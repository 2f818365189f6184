//! gzip (RFC 1952) and deflate, which is zlib (RFC 1950) or, against the standard, raw (RFC 1951).

use flate2::{Decompress, FlushDecompress, Status};

use super::{Outcome, Stage, Step};

/// Largest window of these formats, as a power of two.
const WINDOW_BITS: u8 = 15;

/// Memory of the window and the decoder's tables.
const STATE_BYTES: usize = (1 << WINDOW_BITS) + 16 * 1024;

/// First byte of every gzip member.
const GZIP_MAGIC: u8 = 0x1F;

pub(super) struct Inflate {
    gzip: bool,
    ended: bool,
    state: Option<Decompress>,
}

impl Inflate {
    pub(super) fn gzip() -> Self {
        Self {
            gzip: true,
            ended: false,
            state: None,
        }
    }

    pub(super) fn deflate() -> Self {
        Self {
            gzip: false,
            ended: false,
            state: None,
        }
    }
}

impl Stage for Inflate {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Step {
        let Some(&first) = input.first() else {
            return self.inflate(input, output);
        };
        if self.ended {
            // A gzip file may have several members; anything else after the end is padding.
            if !self.gzip || first != GZIP_MAGIC {
                return Step {
                    consumed: input.len(),
                    written: 0,
                    outcome: Outcome::Ended,
                };
            }
            self.ended = false;
            if let Some(state) = &mut self.state {
                state.reset(true);
            }
        }
        let gzip = self.gzip;
        self.state.get_or_insert_with(|| {
            if gzip {
                Decompress::new_gzip(WINDOW_BITS)
            } else {
                Decompress::new(is_zlib(first))
            }
        });
        self.inflate(input, output)
    }

    fn has_ended(&self) -> bool {
        self.ended
    }

    fn held_bytes(&self) -> usize {
        self.state.as_ref().map_or(0, |_| STATE_BYTES)
    }
}

impl Inflate {
    fn inflate(&mut self, input: &[u8], output: &mut [u8]) -> Step {
        let Some(state) = &mut self.state else {
            return Step {
                consumed: 0,
                written: 0,
                outcome: Outcome::Running,
            };
        };
        let (read, wrote) = (state.total_in(), state.total_out());
        let result = state.decompress(input, output, FlushDecompress::None);
        // Both differences are bounded by the lengths of the two slices.
        let consumed = usize::try_from(state.total_in() - read).unwrap_or(input.len());
        let written = usize::try_from(state.total_out() - wrote).unwrap_or(output.len());
        let outcome = match result {
            Ok(Status::StreamEnd) => {
                self.ended = true;
                Outcome::Running
            }
            Ok(Status::Ok | Status::BufError) => Outcome::Running,
            Err(_) => Outcome::Corrupt,
        };
        Step {
            consumed,
            written,
            outcome,
        }
    }
}

/// Recognizes zlib (RFC 1950 §2.2): the low four bits are the method, 8, and the high four the
/// window, at most
/// 7. A raw stream that begins with such a byte would be a stored block with non-zero padding bits.
const fn is_zlib(first: u8) -> bool {
    first & 0x0F == 8 && first >> 4 <= 7
}
