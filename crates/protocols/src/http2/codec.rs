//! The one place that uses h2's own frame types. They are behind its `unstable` feature, so the
//! version is pinned and a change there touches this file only.
//!
//! Only what needs no negotiated state comes from h2: RST_STREAM and GOAWAY. Its SETTINGS reader
//! refuses a frame for one bad value and its HEADERS reader stops at the first unknown reference,
//! where a bystander has to show the rest.

use bytes::Bytes;
use h2::frame::{GoAway, Head, Kind, Reset, StreamId};

use crate::message::Http2Detail;

/// Reads RST_STREAM (RFC 9113 §6.4).
pub(super) fn reset(stream: u32, payload: &[u8]) -> Option<u32> {
    let head = Head::new(Kind::Reset, 0, StreamId::from(stream));
    Reset::load(head, payload).ok().map(|frame| frame.reason().into())
}

/// Reads GOAWAY (RFC 9113 §6.8).
pub(super) fn go_away(payload: &[u8]) -> Option<Http2Detail> {
    let head = Head::new(Kind::GoAway, 0, StreamId::zero());
    let frame = GoAway::load(head, payload).ok()?;
    Some(Http2Detail::Error {
        code: frame.reason().into(),
        last_stream: Some(frame.last_stream_id().into()),
        debug: frame.debug_data().clone(),
    })
}

/// Reads SETTINGS parameters in wire order (RFC 9113 §6.5.1), unknown identifiers included.
pub(super) fn settings(payload: &[u8]) -> Vec<(u16, u32)> {
    let parameter = |bytes: &[u8]| {
        let &[i1, i0, v3, v2, v1, v0] = bytes else {
            return None;
        };
        Some((u16::from_be_bytes([i1, i0]), u32::from_be_bytes([v3, v2, v1, v0])))
    };
    payload.chunks_exact(6).filter_map(parameter).collect()
}

/// Removes padding and priority fields from a HEADERS payload, or padding and the promised stream
/// id from a PUSH_PROMISE payload (RFC 9113 §6.2 and §6.6). `None` if the padding does not fit.
pub(super) fn fragment(mut payload: Bytes, shape: FragmentShape) -> Option<Fragment> {
    use bytes::Buf;

    let padding = if shape.padded {
        usize::from(payload.try_get_u8().ok()?)
    } else {
        0
    };
    let promised = if shape.promises {
        Some(payload.try_get_u32().ok()? & 0x7fff_ffff)
    } else {
        None
    };
    if shape.prioritised {
        payload.try_get_u32().ok()?;
        payload.try_get_u8().ok()?;
    }
    payload.truncate(payload.len().checked_sub(padding)?);
    Some(Fragment {
        promised,
        block: payload,
    })
}

/// Which optional fields a frame with a header block fragment has.
#[derive(Debug, Clone, Copy)]
pub(super) struct FragmentShape {
    pub(super) padded: bool,
    pub(super) prioritised: bool,
    pub(super) promises: bool,
}

/// A header block fragment, stripped.
#[derive(Debug)]
pub(super) struct Fragment {
    pub(super) promised: Option<u32>,
    pub(super) block: Bytes,
}
