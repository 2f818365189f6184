//! TCP segments (RFC 9293 §3.1).

/// A segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment<'a> {
    pub(crate) source: u16,
    pub(crate) destination: u16,
    pub(crate) sequence: u32,
    /// Only with ACK.
    pub(crate) acknowledged: Option<u32>,
    pub(crate) syn: bool,
    pub(crate) fin: bool,
    pub(crate) rst: bool,
    /// The header was captured as a whole.
    pub(crate) is_whole: bool,
    /// The captured bytes behind the header.
    pub(crate) payload: &'a [u8],
}

/// Reads a segment; `None` if its header is none, or was not captured up to its options.
pub(crate) fn segment(bytes: &[u8]) -> Option<Segment<'_>> {
    let header = bytes.first_chunk::<20>()?;
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let length = usize::from(header[12] >> 4) * 4;
    let flags = header[13];
    if length < header.len() {
        return None;
    }
    Some(Segment {
        source: u16::from_be_bytes([header[0], header[1]]),
        destination: u16::from_be_bytes([header[2], header[3]]),
        sequence: word(4),
        acknowledged: (flags & 0x10 != 0).then(|| word(8)),
        syn: flags & 0x02 != 0,
        fin: flags & 0x01 != 0,
        rst: flags & 0x04 != 0,
        is_whole: bytes.len() >= length,
        payload: bytes.get(length..).unwrap_or_default(),
    })
}
