//! The bytes of a stream whose protocol is not known yet, and the decision of the table.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::decoder::{Detection, Options, Output, PeerNotice};
use crate::detect::protocol::{Place, Protocol, gap_message};
use crate::detect::table::PROTOCOLS;
use crate::limits::Limits;
use crate::message::Gap;
use crate::raw::{self, RawWriter};

/// Bytes whose protocol is not known yet.
#[derive(Default)]
pub(super) struct Unknown {
    /// What is in raw bytes decides nothing ([`Options::without_content`]).
    without_content: bool,
    pub(super) held: BytesMut,
    /// Length and time of each event in `held`.
    pub(super) events: VecDeque<(usize, u64)>,
    /// Notices for the next decoder.
    pub(super) notices: Vec<PeerNotice>,
    pub(super) raw: RawWriter,
    /// Length of `held` at which it is examined again.
    pub(super) next_look: usize,
    /// The gap to report if the stream turns out to begin in the middle of something.
    pub(super) middle: Option<(Gap, u64)>,
    pub(super) place: Place,
}

pub(super) enum Verdict {
    Is(&'static Protocol),
    NeedMore,
    /// No protocol claims the bytes.
    Raw,
}

impl Unknown {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            without_content: options.without_content,
            ..Self::default()
        }
    }

    pub(super) fn hold(&mut self, payload: &Bytes, timestamp_ns: u64) {
        if !payload.is_empty() {
            if self.held.is_empty() {
                self.next_look = 0;
            }
            self.held.extend_from_slice(payload);
            self.events.push_back((payload.len(), timestamp_ns));
        }
    }

    /// Returns the memory that the notices take.
    pub(super) fn notice_bytes(&self) -> usize {
        self.notices.iter().map(PeerNotice::held_bytes).sum()
    }

    pub(super) fn write_held(&mut self, output: &mut Output) {
        while let Some((len, timestamp_ns)) = self.events.pop_front() {
            let data = self.held.split_to(len).freeze();
            self.write_raw(&data, timestamp_ns, output);
        }
    }

    pub(super) fn write_raw(&mut self, data: &Bytes, timestamp_ns: u64, output: &mut Output) {
        if let Some((gap, timestamp_ns)) = self.middle.take() {
            output.messages.push(gap_message(gap, timestamp_ns));
        }
        if self.without_content {
            self.place.mid_line = true;
            return raw::emit(data.clone(), timestamp_ns, timestamp_ns, output);
        }
        self.place.mid_line = data.last().is_some_and(|&last| last != b'\n');
        self.raw.write(data, timestamp_ns, output);
    }
}

/// Returns the length at which to probe again after `held` bytes were not enough: each time a
/// sixteenth more, so that a stream that arrives byte by byte is not probed for each byte, except
/// at its beginning.
pub(super) fn next_look(held: usize) -> usize {
    const SHORT: usize = 4096;
    held + if held < SHORT { 1 } else { held / 16 }
}

pub(super) fn verdict(bytes: &[u8], limits: &Limits, place: Place) -> Verdict {
    for protocol in PROTOCOLS {
        match (protocol.recognize)(bytes, limits, place) {
            Detection::No => {}
            Detection::NeedMore => return Verdict::NeedMore,
            Detection::Yes => return Verdict::Is(protocol),
        }
    }
    Verdict::Raw
}

pub(super) fn quiet_verdict(bytes: &[u8], place: Place) -> Verdict {
    let believed = PROTOCOLS
        .iter()
        .find(|protocol| (protocol.recognize_quiet)(bytes, place));
    believed.map_or(Verdict::Raw, |protocol| Verdict::Is(protocol))
}
