//! The length of a body (RFC 9112 §6.3).

use crate::decoder::MethodClass;
use crate::http1::head::{Head, Length, Side, Transfer};
use crate::message::{Anomaly, Http1Kind};

/// Where a message's body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Chunked,
    /// No body.
    None,
    Sized(u64),
    /// The bytes that follow are another protocol.
    Tunnel,
    /// Recipients disagree about the length; nothing is guessed.
    Unframed,
    UntilClose,
}

/// Returns true if a response to HEAD or CONNECT with these fields is framed differently from one
/// to GET.
pub(super) fn depends_on_method(head: &Head) -> bool {
    let Http1Kind::Response { status } = head.kind else {
        return false;
    };
    let has_body = !matches!(
        of(head, Side::Responses, MethodClass::Other),
        Framing::None | Framing::Tunnel
    );
    has_body || matches!(status, 200..=299)
}

/// Returns the framing of a request, or of a response to a request of class `method`.
pub(super) fn of(head: &Head, side: Side, method: MethodClass) -> Framing {
    if let Http1Kind::Response { status } = head.kind {
        match status {
            101 => return Framing::Tunnel,
            200..=299 if method == MethodClass::Connect => return Framing::Tunnel,
            100..=199 | 204 | 304 => return Framing::None,
            _ if method == MethodClass::Head => return Framing::None,
            _ => {}
        }
    }
    match (&head.transfer, side) {
        (Transfer::Chunked(_), _) => Framing::Chunked,
        (Transfer::Bad | Transfer::Unchunked(_), Side::Responses) => Framing::UntilClose,
        (Transfer::Bad | Transfer::Unchunked(_), Side::Requests) => Framing::Unframed,
        (Transfer::Absent, _) => match (head.length, side) {
            (Length::Bad, _) => Framing::Unframed,
            (Length::Is(0), _) | (Length::Absent, Side::Requests) => Framing::None,
            (Length::Is(length), _) => Framing::Sized(length),
            (Length::Absent, Side::Responses) => Framing::UntilClose,
        },
    }
}

/// Returns the anomalies of the fields that frame the body.
pub(super) fn anomalies(head: &Head) -> impl Iterator<Item = Anomaly> + use<> {
    let bad_transfer = match head.transfer {
        Transfer::Absent => false,
        Transfer::Chunked(_) => head.minor_version == 0,
        Transfer::Bad | Transfer::Unchunked(_) => true,
    };
    let found = [
        (
            head.has_transfer && head.length != Length::Absent,
            Anomaly::BothLengths,
        ),
        (head.length == Length::Bad, Anomaly::BadContentLength),
        (bad_transfer, Anomaly::BadTransferEncoding),
    ];
    found
        .into_iter()
        .filter_map(|(is_so, anomaly)| is_so.then_some(anomaly))
}
