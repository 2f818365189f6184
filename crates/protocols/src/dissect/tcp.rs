//! TCP segments (RFC 9293 §3.1).

/// A segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment<'a> {
    pub(super) source: u16,
    pub(super) destination: u16,
    pub(super) sequence: u32,
    /// Only with ACK.
    pub(super) acknowledged: Option<u32>,
    pub(super) syn: bool,
    pub(super) fin: bool,
    pub(super) rst: bool,
    /// The captured bytes.
    pub(super) payload: &'a [u8],
}

/// Reads a segment; `None` if its header is not there as a whole.
pub(super) fn segment(bytes: &[u8]) -> Option<Segment<'_>> {
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
        payload: bytes.get(length..)?,
    })
}
