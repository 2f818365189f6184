//! The decoder of connections that no output wants.

use bytes::Bytes;

use crate::decoder::{Output, PeerNotice, SkipReason, Skipped, StreamDecoder};
use crate::message::Gap;

/// Counts the bytes of a connection whose messages no filter can select, and decodes nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwanted;

impl StreamDecoder for Unwanted {
    fn feed(&mut self, payload: &Bytes, _timestamp_ns: u64, output: &mut Output) {
        output.skipped.push(Skipped {
            reason: SkipReason::Unwanted,
            bytes: payload.len() as u64,
        });
    }

    fn gap(&mut self, _gap: Gap, _timestamp_ns: u64, _output: &mut Output) {}

    fn notice(&mut self, _notice: &PeerNotice, _output: &mut Output) {}

    fn idle(&mut self, _output: &mut Output) {}

    fn close(&mut self, _output: &mut Output) {}

    fn buffered_bytes(&self) -> usize {
        0
    }
}
