//! Builds a [`Body`] from wire bytes as they arrive: undoes content codings, counts, and stops at
//! the limits.
//!
//! Where content is not inspected, it only counts.
//!
//! One builder serves one message of any protocol. Bytes of an uncoded body that arrive in one
//! piece are shared with the captured event, not copied. Memory: at most [`Limits::body_bytes`];
//! for a coded body as much again of the bytes received, in case it turns out to be something else,
//! and the windows of the codings in use. Nothing is allocated before the first byte.

use bytes::{Bytes, BytesMut};

use crate::content_coding::{Chain, Plan, Sink};
use crate::decoder::Options;
use crate::expansion::Expansion;
use crate::limits::Limits;
use crate::message::{Body, BodyError};

/// The fraction of a stopped coding's windows that counts as written: filling a window takes less
/// time than writing as many bytes.
const WINDOW_SHARE: usize = 8;

/// Collects one message's body.
pub struct BodyBuilder {
    wire_len: u64,
    len: u64,
    expected: Option<u64>,
    held: Held,
    limit: usize,
    /// Number of wire bytes that are in no body returned so far.
    skipped: u64,
    truncated: bool,
    error: Option<BodyError>,
    content_type: Option<Bytes>,
    coded: Option<Box<Coded>>,
    /// Set if bytes are only counted: their number since the last part was taken.
    counted: Option<u64>,
}

/// Decoded bytes that wait to be taken: a slice of a captured event while that is enough.
#[derive(Default)]
struct Held {
    slice: Bytes,
    buffer: BytesMut,
}

/// State of a body with content codings.
struct Coded {
    names: Vec<&'static str>,
    /// Absent once decoding has stopped.
    chain: Option<Chain>,
    /// The bytes received since the last part was taken, up to the limit: shown if they cannot be
    /// decoded.
    received: Held,
    /// Number of bytes received since then, and of decoded bytes up to then.
    received_len: u64,
    decoded_before: u64,
    expansion: Expansion,
}

impl BodyBuilder {
    /// Creates a builder for a body whose codings are `encoding` (the `Content-Encoding` field
    /// value, several fields joined by commas) and whose announced wire length is `expected`.
    pub fn new(
        encoding: Option<&[u8]>,
        content_type: Option<Bytes>,
        expected: Option<u64>,
        limits: &Limits,
    ) -> Self {
        let (coded, error) = match encoding {
            None => (None, None),
            Some(value) => {
                let plan = Plan::from_field(value, limits);
                (Coded::new(&plan, limits).map(Box::new), plan.error)
            }
        };
        Self {
            wire_len: 0,
            len: 0,
            expected,
            held: Held::default(),
            limit: limits.body_bytes,
            skipped: 0,
            truncated: false,
            error,
            content_type,
            coded,
            counted: None,
        }
    }

    /// Creates a builder that only counts: it keeps no byte and undoes no coding, so that a body of zeros has the same
    /// result. Every byte is in [`Body::wire_len`], whatever the limits are.
    pub fn counting(content_type: Option<Bytes>, expected: Option<u64>) -> Self {
        Self {
            counted: Some(0),
            ..Self::new(None, content_type, expected, &Limits::default())
        }
    }

    /// Creates the builder for a message: as [`Self::new`], or one that only counts
    /// ([`Options::without_content`]).
    pub(crate) fn of_message(
        encoding: Option<&[u8]>,
        content_type: Option<Bytes>,
        expected: Option<u64>,
        options: &Options,
    ) -> Self {
        if options.without_content {
            Self::counting(content_type, expected)
        } else {
            Self::new(encoding, content_type, expected, &options.limits)
        }
    }

    /// Shares the expansion allowance with the other bodies of this direction of the connection.
    pub(crate) fn share_expansion(&mut self, connection: &mut Expansion, limits: &Limits) {
        if let Some(coded) = &mut self.coded {
            coded.expansion = connection.share(limits);
        }
    }

    /// Takes the next wire bytes, framing already removed.
    pub fn push(&mut self, wire: &Bytes) {
        if wire.is_empty() {
            return;
        }
        self.wire_len += wire.len() as u64;
        if let Some(counted) = &mut self.counted {
            *counted += wire.len() as u64;
            self.len += wire.len() as u64;
            return;
        }
        match &self.coded {
            None => self.keep(wire),
            Some(coded) if coded.chain.is_some() => self.decode(wire),
            Some(_) => self.skipped += wire.len() as u64,
        }
    }

    /// Notes that bytes inside the body were lost: `bytes` of them, if that is known. An uncoded
    /// body continues after the gap; a coded one cannot be decoded further.
    pub fn gap(&mut self, bytes: Option<u64>) {
        self.error.get_or_insert(BodyError::Gap);
        self.stop_decoding();
        self.wire_len += bytes.unwrap_or(0);
    }

    /// Notes that something outside the content, such as its framing, stopped the body. The first
    /// error is kept.
    pub fn fail(&mut self, error: BodyError) {
        self.error.get_or_insert(error);
    }

    /// Returns the number of body bytes on the wire so far, including lost ones.
    pub fn wire_len(&self) -> u64 {
        self.wire_len
    }

    /// Returns the number of decoded bytes held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Returns the memory held: [`len`](Self::len) and the state of the codings.
    pub fn held_bytes(&self) -> usize {
        let coded = self.coded.as_ref().map_or(0, |coded| coded.held_bytes());
        self.len() + coded
    }

    /// Returns the decoded bytes held.
    pub fn held(&self) -> &[u8] {
        if self.held.buffer.is_empty() {
            &self.held.slice
        } else {
            &self.held.buffer
        }
    }

    /// Returns true if nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns true if a part has something to add to the parts before it.
    pub fn has_part(&self) -> bool {
        !self.is_empty() || self.counted.is_some_and(|bytes| bytes > 0)
    }

    /// Takes the number of wire bytes, since the last call, that will be in no body.
    pub fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    /// Returns the held bytes as a part of the body. Lengths are those of the whole body so far;
    /// `complete` is false. Afterwards as many bytes as the limit may be held again.
    pub fn take_so_far(&mut self) -> Body {
        let content_type = self.content_type.clone();
        let part = self.part(content_type, false);
        self.truncated = false;
        if !part.data.is_empty() {
            self.forget_received();
        }
        part
    }

    /// Drops held bytes beyond half of the limit (they were already emitted as events), so that an
    /// endless body always has room. Returns the number of bytes held afterwards.
    pub fn make_room(&mut self) -> usize {
        let half = self.limit / 2;
        if self.len() > half {
            self.held.truncate(half);
            self.truncated = true;
            self.forget_received();
        }
        self.len()
    }

    /// Returns the rest of the body. `complete` is true if its framing says that no byte is
    /// missing.
    pub fn finish(&mut self, complete: bool) -> Body {
        if complete
            && self.error.is_none()
            && let Some(error) = self.coded.as_deref().and_then(Coded::unfinished)
            && self.wire_len > 0
        {
            self.error = Some(error);
            self.stop_decoding();
        }
        let chain = self.coded.as_ref().and_then(|coded| coded.chain.as_ref());
        self.error = self.error.or(chain.and_then(Chain::trailing));
        let content_type = self.content_type.take();
        self.part(content_type, complete)
    }

    /// Forgets the bytes received so far: they were shown and need not be shown again.
    fn forget_received(&mut self) {
        if let Some(coded) = &mut self.coded {
            coded.received = Held::default();
            coded.received_len = 0;
            coded.decoded_before = self.len;
        }
    }

    fn part(&mut self, content_type: Option<Bytes>, complete: bool) -> Body {
        let data = self.held.take();
        self.counted = self.counted.map(|_| 0);
        Body {
            truncated_at: self.truncated.then_some(data.len() as u64),
            data,
            wire_len: self.wire_len,
            len: self.len,
            expected: self.expected,
            encoding: self
                .coded
                .as_ref()
                .map_or_else(Vec::new, |coded| coded.names.clone()),
            content_type,
            complete: complete && self.error != Some(BodyError::Gap),
            error: self.error,
        }
    }

    fn keep(&mut self, bytes: &Bytes) {
        self.len += bytes.len() as u64;
        let room = self.limit.saturating_sub(self.len());
        let kept = bytes.len().min(room);
        if kept < bytes.len() {
            self.truncated = true;
            self.skipped += (bytes.len() - kept) as u64;
        }
        self.held.append(bytes.slice(..kept));
    }

    fn decode(&mut self, wire: &Bytes) {
        let Some(coded) = &mut self.coded else { return };
        let Some(chain) = &mut coded.chain else { return };
        let room = self.limit.saturating_sub(coded.received.len());
        coded.received.append(wire.slice(..wire.len().min(room)));
        coded.received_len += wire.len() as u64;
        let decoded = self.held.as_buffer();
        let before = decoded.len();
        let room = self.limit.saturating_sub(before);
        let allowed = coded.expansion.allow(wire.len());
        let mut sink = Sink {
            room: room.min(allowed),
            decoded,
        };
        let (inner, mut result) = if allowed == 0 {
            (0, Err(BodyError::ExpansionLimit))
        } else {
            chain.push(wire, allowed, &mut sink)
        };
        let came = decoded.len() - before;
        coded.expansion.spend(came + inner);
        if result == Err(BodyError::OutputLimit) && came < room {
            result = Err(BodyError::ExpansionLimit);
        }
        if result.is_err() {
            // It may have filled its window before it wrote anything.
            coded.expansion.spend(chain.held_bytes() / WINDOW_SHARE);
        }
        self.len += came as u64;
        match result {
            Ok(()) => {}
            Err(error @ (BodyError::ExpansionLimit | BodyError::OutputLimit)) => {
                self.truncated = true;
                self.error.get_or_insert(error);
                self.stop_decoding();
            }
            Err(error) => {
                let error = coded.what_it_is(error);
                self.error.get_or_insert(error);
                self.show_received();
            }
        }
    }

    /// Stops decoding. If nothing was decoded, the body is shown as received.
    fn stop_decoding(&mut self) {
        let Some(coded) = &mut self.coded else { return };
        coded.chain = None;
        if self.len == 0 {
            self.show_received();
        } else {
            coded.received = Held::default();
        }
    }

    /// Shows the body as received, because it is not what was announced: the bytes since the last
    /// part replace their decoded form, and later bytes are shown as they arrive.
    fn show_received(&mut self) {
        let Some(coded) = self.coded.take() else { return };
        self.held = coded.received;
        self.len = coded.decoded_before + coded.received_len;
        let left_out = coded.received_len - self.held.len() as u64;
        self.skipped += left_out;
        self.truncated |= left_out > 0;
    }
}

impl Coded {
    fn new(plan: &Plan, limits: &Limits) -> Option<Self> {
        if plan.codings.is_empty() {
            return None;
        }
        Some(Self {
            names: plan.codings.iter().map(|coding| coding.name()).collect(),
            chain: Some(Chain::new(&plan.codings, limits)),
            received: Held::default(),
            received_len: 0,
            decoded_before: 0,
            expansion: Expansion::default().share(limits),
        })
    }

    fn held_bytes(&self) -> usize {
        self.received.len() + self.chain.as_ref().map_or(0, Chain::held_bytes)
    }

    /// Returns the error to show: a stream that fails and does not have the outermost coding's
    /// first bytes is not damaged but something else.
    fn what_it_is(&self, error: BodyError) -> BodyError {
        let BodyError::Corrupt { coding } = error else {
            return error;
        };
        let magic: &[u8] = match coding {
            "gzip" => b"\x1F\x8B",
            "zstd" => b"\x28\xB5\x2F\xFD",
            _ => return error,
        };
        let is_outermost = self.names.last() == Some(&coding) && self.decoded_before == 0;
        let first = self.received.first(magic.len());
        let skippable = coding == "zstd" && first.get(1..) == Some(&[0x2A, 0x4D, 0x18]);
        if is_outermost && first != magic && !skippable {
            BodyError::NotCoded { coding }
        } else {
            error
        }
    }

    fn unfinished(&self) -> Option<BodyError> {
        let coding = self.chain.as_ref()?.unfinished()?;
        Some(BodyError::EndsEarly {
            coding: coding.name(),
        })
    }
}

impl Held {
    fn len(&self) -> usize {
        self.slice.len() + self.buffer.len()
    }

    fn first(&self, count: usize) -> &[u8] {
        let bytes: &[u8] = if self.buffer.is_empty() {
            &self.slice
        } else {
            &self.buffer
        };
        &bytes[..count.min(bytes.len())]
    }

    fn append(&mut self, bytes: Bytes) {
        if self.len() == 0 {
            self.slice = bytes;
        } else {
            self.as_buffer().extend_from_slice(&bytes);
        }
    }

    fn truncate(&mut self, length: usize) {
        self.slice.truncate(length);
        self.buffer.truncate(length);
    }

    fn as_buffer(&mut self) -> &mut BytesMut {
        if !self.slice.is_empty() {
            self.buffer.extend_from_slice(&std::mem::take(&mut self.slice));
        }
        &mut self.buffer
    }

    fn take(&mut self) -> Bytes {
        if self.buffer.is_empty() {
            std::mem::take(&mut self.slice)
        } else {
            std::mem::take(&mut self.buffer).freeze()
        }
    }
}

#[cfg(test)]
mod tests;
