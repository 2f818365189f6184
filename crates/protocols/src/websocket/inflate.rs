//! permessage-deflate (RFC 7692) seen from outside.

use flate2::{Decompress, FlushDecompress, Status};

/// Deflate's window.
const WINDOW: usize = 32 * 1024;
/// The bytes that the sender removed from the end of each message (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
/// Output is taken in pieces of this many bytes.
const PIECE: usize = 16 * 1024;
/// Replaces a byte that only messages from before the attach could provide.
const UNKNOWN: u8 = b'?';

/// Why a message could not be inflated to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Not deflate, or damaged.
    Corrupt,
    /// The output passed the limit.
    Limit,
}

/// Inflates the messages of one direction, one after the other. The window is kept between them,
/// which is correct with and without context takeover.
///
/// If earlier messages were not seen, the window starts full of `?`, so that later messages can be
/// decoded around the references to the past. A second stream with another filler is then decoded
/// beside the first: where the two outputs differ, a byte is unknown. Once they agree for a whole
/// window, the second is dropped. Each holds about 48 KiB and its output.
pub(super) struct Inflater {
    stream: Deflate,
    shadow: Option<Shadow>,
}

/// The second stream.
struct Shadow {
    stream: Deflate,
    /// Its output since the last [`Inflater::settle`].
    output: Vec<u8>,
    /// Number of bytes before that which were the same in both, since they last differed.
    agreed: usize,
}

impl Inflater {
    /// Creates an inflater for a direction seen from its start.
    pub(super) fn from_start() -> Self {
        Self {
            stream: Deflate::new(UNKNOWN),
            shadow: None,
        }
    }

    /// Creates an inflater for a direction whose earlier messages are unknown.
    pub(super) fn with_unknown_window() -> Self {
        let mut inflater = Self::from_start();
        inflater.restart(&[]);
        inflater
    }

    /// Inflates `input` and appends to `output`, which grows to at most `limit` bytes.
    pub(super) fn inflate(
        &mut self,
        mut input: &[u8],
        output: &mut Vec<u8>,
        limit: usize,
    ) -> Result<(), Stop> {
        loop {
            let mut rest = input;
            let ended = self.stream.inflate(&mut rest, output, limit)?;
            if let Some(shadow) = &mut self.shadow {
                shadow.stream.inflate(&mut input, &mut shadow.output, limit)?;
            }
            // A message may end in a final block (RFC 7692 §7.2.3.4): the next bytes are a new
            // deflate stream that still refers to this one's output.
            if ended {
                self.restart(output);
            }
            if rest.is_empty() {
                return Ok(());
            }
            input = rest;
        }
    }

    /// Ends a message.
    pub(super) fn finish(&mut self, output: &mut Vec<u8>, limit: usize) -> Result<(), Stop> {
        // After a final block there is nothing for the tail to complete.
        if self.stream.state.total_in() == 0 {
            return Ok(());
        }
        self.inflate(&TAIL, output, limit)
    }

    /// Compares `output`, which must be all output since the last call, with that of the second
    /// stream. Returns true if they differ: then `output` has `?` in place of unknown bytes.
    pub(super) fn settle(&mut self, output: &[u8]) -> bool {
        let Some(shadow) = &mut self.shadow else {
            return false;
        };
        // Both streams make the same copies from their windows. So a byte copied, directly or
        // through other copies, from before the attach is `?` in one output and its complement in
        // the other, and all other bytes are equal.
        let differs = output
            .iter()
            .zip(&shadow.output)
            .rposition(|(one, other)| one != other);
        shadow.agreed = differs.map_or(shadow.agreed + output.len(), |last| output.len() - last - 1);
        shadow.output.clear();
        // No reference reaches further back than the window. Once the window itself is equal, no later
        // byte can differ.
        if shadow.agreed >= WINDOW {
            self.shadow = None;
        }
        differs.is_some()
    }

    /// Returns the number of output bytes held a second time while the window is unknown.
    pub(super) fn held(&self) -> usize {
        self.shadow.as_ref().map_or(0, |shadow| shadow.output.len())
    }

    /// Starts a new deflate stream whose window ends in `recent`.
    fn restart(&mut self, recent: &[u8]) {
        // The decompressor keeps no history over the end of a stream, and bytes that were taken before
        // `recent` are gone. With less than a window of them, references beyond are unknown again.
        if self.shadow.is_none() && recent.len() < WINDOW {
            self.shadow = Some(Shadow {
                stream: Deflate::new(!UNKNOWN),
                output: recent.to_vec(),
                agreed: 0,
            });
        }
        self.stream.restart(recent);
        if let Some(shadow) = &mut self.shadow {
            shadow.stream.restart(&shadow.output);
        }
    }
}

/// One raw deflate stream.
struct Deflate {
    state: Decompress,
    filler: u8,
}

impl Deflate {
    fn new(filler: u8) -> Self {
        Self {
            state: Decompress::new(false),
            filler,
        }
    }

    /// Inflates until `input` is used up or the stream ends. Returns true if it ended.
    fn inflate(&mut self, input: &mut &[u8], output: &mut Vec<u8>, limit: usize) -> Result<bool, Stop> {
        loop {
            let (taken, produced) = (self.state.total_in(), output.len());
            // One byte beyond the limit distinguishes "exactly full" from "too long".
            let room = limit.saturating_add(1).saturating_sub(produced);
            output.reserve(room.clamp(1, PIECE));
            let status = self
                .state
                .decompress_vec(input, output, FlushDecompress::Sync)
                .map_err(|_| Stop::Corrupt)?;
            let taken = usize::try_from(self.state.total_in() - taken).unwrap_or(usize::MAX);
            *input = input.get(taken..).unwrap_or_default();
            if output.len() > limit {
                output.truncate(limit);
                return Err(Stop::Limit);
            }
            if status == Status::StreamEnd {
                return Ok(true);
            }
            if input.is_empty() && output.len() < output.capacity() {
                return Ok(false);
            }
            if taken == 0 && output.len() == produced {
                return Err(Stop::Corrupt);
            }
        }
    }

    fn restart(&mut self, recent: &[u8]) {
        let recent = &recent[recent.len().saturating_sub(WINDOW)..];
        let mut window = vec![self.filler; WINDOW - recent.len()];
        window.extend_from_slice(recent);
        self.state.reset(false);
        // Fails only for a stream with a zlib header, which this is not.
        let _ = self.state.set_dictionary(&window);
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};

    use super::*;

    fn deflated(state: &mut Compress, message: &[u8], flush: FlushCompress) -> Vec<u8> {
        let mut coded = Vec::with_capacity(message.len() + 1024);
        state.compress_vec(message, &mut coded, flush).unwrap();
        if matches!(flush, FlushCompress::Sync) {
            coded.truncate(coded.len() - TAIL.len());
        }
        coded
    }

    fn inflated(inflater: &mut Inflater, coded: &[u8]) -> (Vec<u8>, bool) {
        let mut output = Vec::new();
        for piece in coded.chunks(3) {
            inflater.inflate(piece, &mut output, 1 << 20).unwrap();
        }
        inflater.finish(&mut output, 1 << 20).unwrap();
        let unknown = inflater.settle(&output);
        (output, unknown)
    }

    #[test]
    fn keeps_the_window_between_messages() {
        let mut sender = Compress::new(Compression::best(), false);
        let mut inflater = Inflater::from_start();
        for message in [
            &b"Hello, hello, hello?"[..],
            b"Hello, hello, hello?",
            b"and hello again",
        ] {
            let coded = deflated(&mut sender, message, FlushCompress::Sync);
            assert_eq!(inflated(&mut inflater, &coded), (message.to_vec(), false));
            // RFC 7692 §7.2.3.6: how an empty message is sent.
            assert_eq!(inflated(&mut inflater, &[0]), (Vec::new(), false));
        }
    }

    #[test]
    fn replaces_exactly_the_bytes_from_before_the_attach() {
        let mut sender = Compress::new(Compression::best(), false);
        deflated(&mut sender, b"the unseen beginning", FlushCompress::Sync);
        let mut inflater = Inflater::with_unknown_window();
        let coded = deflated(
            &mut sender,
            b"new text? the unseen beginning!",
            FlushCompress::Sync,
        );
        let (output, unknown) = inflated(&mut inflater, &coded);
        assert!(unknown);
        assert!(
            output.starts_with(b"new text?"),
            "{:?}",
            String::from_utf8_lossy(&output)
        );
        assert!(
            output.ends_with(b"????????????????!"),
            "{:?}",
            String::from_utf8_lossy(&output)
        );
        let coded = deflated(&mut sender, b"0123456789?", FlushCompress::Sync);
        assert_eq!(inflated(&mut inflater, &coded), (b"0123456789?".to_vec(), false));
    }

    #[test]
    fn goes_on_after_final_blocks() {
        let mut inflater = Inflater::from_start();
        for message in [&b"one message?"[..], b"one message and more?"] {
            let coded = deflated(
                &mut Compress::new(Compression::best(), false),
                message,
                FlushCompress::Finish,
            );
            assert_eq!(inflated(&mut inflater, &coded), (message.to_vec(), false));
        }
    }

    #[test]
    fn drops_the_second_stream_once_the_window_is_known() {
        let mut sender = Compress::new(Compression::none(), false);
        let mut inflater = Inflater::with_unknown_window();
        for _ in 0..5 {
            let coded = deflated(&mut sender, &[b'a'; 8000], FlushCompress::Sync);
            assert!(!inflated(&mut inflater, &coded).1);
        }
        assert!(inflater.shadow.is_none());
    }

    #[test]
    fn stops_bombs_at_the_limit() {
        let bomb = deflated(
            &mut Compress::new(Compression::best(), false),
            &vec![0; 1 << 20],
            FlushCompress::Sync,
        );
        let mut output = Vec::new();
        assert_eq!(
            Inflater::from_start().inflate(&bomb, &mut output, 1000),
            Err(Stop::Limit)
        );
        assert_eq!(output, [0; 1000]);
        assert!(output.capacity() < 64 * 1024);
    }

    #[test]
    fn damage_is_an_error() {
        let mut output = Vec::new();
        assert_eq!(
            Inflater::from_start().inflate(&[0xff; 64], &mut output, 1000),
            Err(Stop::Corrupt)
        );
    }
}
