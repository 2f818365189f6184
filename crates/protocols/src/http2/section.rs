//! Assembles field sections from HEADERS or PUSH_PROMISE and their CONTINUATIONs (RFC 9113 §4.3).

use bytes::{Bytes, BytesMut};

use crate::decoder::Options;
use crate::http2::codec::{self, FragmentShape};
use crate::http2::frame::{FrameHead, kind};
use crate::http2::hpack;
use crate::message::{Field, Http2Error};

/// Maximum number of CONTINUATION frames remembered for one section; a sender can send empty ones
/// at no cost.
const CONTINUATIONS: usize = 1024;

/// A decoded field section.
#[derive(Debug)]
pub(super) struct Section {
    /// The frame that opened it.
    pub(super) head: FrameHead,
    /// PUSH_PROMISE: the promised stream.
    pub(super) promised: Option<u32>,
    pub(super) fields: Vec<Field>,
    /// Why it is incomplete, if it is.
    pub(super) error: Option<Http2Error>,
    /// The frames that continued it.
    pub(super) continuations: Vec<FrameHead>,
    /// Time of its first byte.
    pub(super) first_ns: u64,
    /// Bytes of header block that were not decoded.
    pub(super) skipped: u64,
    /// The block, or the payload that has it, if it could not be fully decoded. Boxed, because
    /// sections are moved often and are hardly ever damaged.
    pub(super) damaged: Option<Box<Bytes>>,
}

/// The result of a frame with a header block fragment.
#[derive(Debug)]
pub(super) enum Taken {
    /// A section is complete.
    Section(Section),
    /// More CONTINUATION frames must follow.
    Open,
    /// The payload of a CONTINUATION whose section was not seen to start.
    Stray(Bytes),
}

/// Assembles and decodes the sections of one direction. Holds at most one block's limit of bytes.
#[derive(Debug)]
pub(super) struct Sections {
    hpack: hpack::Decoder,
    open: Option<OpenSection>,
    block_limit: usize,
    /// Copy blocks, because their fields are kept and must not keep a captured chunk alive.
    copies: bool,
}

#[derive(Debug)]
struct OpenSection {
    head: FrameHead,
    promised: Option<u32>,
    block: BytesMut,
    continuations: Vec<FrameHead>,
    first_ns: u64,
    skipped: u64,
}

impl OpenSection {
    fn memory_bytes(&self) -> usize {
        self.block.len() + self.continuations.capacity() * size_of::<FrameHead>()
    }
}

impl Sections {
    pub(super) fn new(options: &Options, start_seen: bool, copies: bool) -> Self {
        let limits = &options.limits;
        let mut hpack = hpack::Decoder::new(limits, start_seen);
        if options.conceals {
            hpack.conceal();
        }
        Self {
            hpack,
            open: None,
            block_limit: limits.http2_header_block_bytes,
            copies,
        }
    }

    /// Notes that insertions into the dynamic table were missed.
    pub(super) fn forget(&mut self) {
        self.hpack.forget();
    }

    /// Returns true if the next frame has to be a CONTINUATION.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.hpack.memory_bytes() + self.open.as_ref().map_or(0, OpenSection::memory_bytes)
    }

    /// Takes a HEADERS, PUSH_PROMISE or CONTINUATION frame.
    pub(super) fn take(&mut self, head: FrameHead, payload: Bytes, first_ns: u64) -> Taken {
        if head.kind == kind::CONTINUATION {
            return self.proceed(head, &payload);
        }
        let shape = FragmentShape {
            padded: head.is_padded(),
            prioritised: head.has_priority(),
            promises: head.kind == kind::PUSH_PROMISE,
        };
        let Some(fragment) = codec::fragment(payload.clone(), shape) else {
            self.hpack.forget();
            return Taken::Section(Section {
                error: Some(Http2Error::Padding),
                damaged: Some(Box::new(payload)),
                ..Section::empty(head, None, first_ns)
            });
        };
        if head.ends_headers() {
            let section = Section::empty(head, fragment.promised, first_ns);
            let block = if self.copies {
                Bytes::copy_from_slice(&fragment.block)
            } else {
                fragment.block
            };
            return Taken::Section(self.decode(&block, section));
        }
        self.open = Some(OpenSection {
            head,
            promised: fragment.promised,
            block: BytesMut::from(&fragment.block[..]),
            continuations: Vec::new(),
            first_ns,
            skipped: 0,
        });
        Taken::Open
    }

    fn proceed(&mut self, head: FrameHead, payload: &Bytes) -> Taken {
        let Some(open) = self.open.as_mut().filter(|open| open.head.stream == head.stream) else {
            self.hpack.forget();
            return Taken::Stray(payload.clone());
        };
        let room = self.block_limit.saturating_sub(open.block.len());
        if payload.len() > room || open.continuations.len() >= CONTINUATIONS {
            open.skipped += payload.len() as u64;
        } else if open.skipped == 0 {
            open.block.extend_from_slice(payload);
        }
        if open.continuations.len() < CONTINUATIONS {
            open.continuations.push(head);
        }
        if !head.ends_headers() {
            return Taken::Open;
        }
        self.close()
            .map_or_else(|| Taken::Stray(payload.clone()), Taken::Section)
    }

    /// Ends the open section as it is, because its last frame or some other frame was received.
    pub(super) fn close(&mut self) -> Option<Section> {
        let open = self.open.take()?;
        let ended = open.continuations.last().is_some_and(|head| head.ends_headers());
        let mut section = Section::empty(open.head, open.promised, open.first_ns);
        section.continuations = open.continuations;
        section.skipped = open.skipped;
        let mut section = self.decode(&open.block.freeze(), section);
        if section.skipped > 0 || !ended {
            self.hpack.forget();
            section.error = Some(if ended {
                Http2Error::BlockLimit
            } else {
                Http2Error::BlockCut
            });
        }
        Some(section)
    }

    fn decode(&mut self, block: &Bytes, mut section: Section) -> Section {
        let decoded = self.hpack.decode(block, &mut section.fields);
        section.error = decoded.err().map(Http2Error::from);
        section.damaged = section.error.map(|_| Box::new(block.clone()));
        section
    }
}

impl Section {
    fn empty(head: FrameHead, promised: Option<u32>, first_ns: u64) -> Self {
        Self {
            head,
            promised,
            fields: Vec::new(),
            error: None,
            continuations: Vec::new(),
            first_ns,
            skipped: 0,
            damaged: None,
        }
    }

    /// Makes a section whose only frame was too large to keep.
    pub(super) fn oversized(head: FrameHead, first_ns: u64) -> Self {
        Self {
            error: Some(Http2Error::BlockLimit),
            skipped: u64::from(head.length),
            ..Self::empty(head, None, first_ns)
        }
    }

    /// Returns the value of the first field called `name`, if both are known.
    pub(super) fn value(&self, name: &[u8]) -> Option<&Bytes> {
        let field = self
            .fields
            .iter()
            .find(|field| field.name.as_deref() == Some(name))?;
        field.value.as_ref()
    }
}
