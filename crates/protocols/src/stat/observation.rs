//! What one exchange adds to the figures.

use std::net::SocketAddr;

use super::template;
use crate::decoder::View;
use crate::event::{Direction, Origin};
use crate::exchange::{Asked, Exchange, Pairing, Target};
use crate::format::{Ends, ExchangeEnd, Format, Records};
use crate::message::{Content, Field, Http1Kind, Http2Kind, Message};
use crate::text::printable;

/// One end of an exchange.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Observation {
    /// Name and number of the process, and whether it sent the request (`->`) or received it.
    pub(super) process: String,
    /// The other end: address and port of a server, address of a client.
    pub(super) peer: String,
    pub(super) host: String,
    /// Method, host and the template of the path.
    pub(super) path: String,
    pub(super) is_error: bool,
    /// From the request's first byte to the response's last one, if both are known.
    pub(super) total_ns: Option<u64>,
    /// Bytes of the bodies on the wire.
    pub(super) sent: u64,
    pub(super) received: u64,
}

/// A format whose records only [`Groups`](super::Groups) reads.
#[derive(Debug, Clone, Copy, Default)]
pub struct Observations {
    /// Whether an exchange whose ends are both captured counts once.
    pub ends: Ends,
}

impl Format for Observations {
    fn view(&self) -> View {
        View::Joined
    }

    fn write(&self, origin: &Origin, messages: &[Message], out: &mut Records) {
        for message in messages {
            let Some(observation) = Observation::of(origin, message) else {
                continue;
            };
            observation.write(out.bytes());
            let end = (self.ends == Ends::Once).then(|| ExchangeEnd::of(origin, message));
            out.end_exchange(1, end.flatten());
        }
    }

    /// The client's, then the server's.
    fn join_ends(&self, client: (&ExchangeEnd, &[u8]), server: (&ExchangeEnd, &[u8]), out: &mut Vec<u8>) {
        out.extend_from_slice(client.1);
        out.extend_from_slice(server.1);
    }
}

impl Observation {
    /// Returns `None` for a message that does not end an exchange.
    fn of(origin: &Origin, message: &Message) -> Option<Self> {
        let (is_response, received) = match &message.content {
            Content::Unanswered => (false, 0),
            Content::Http1(http1) if http1.kind != Http1Kind::Request => (true, http1.body.wire_len),
            Content::Http2(http2) if http2.kind == Http2Kind::Response => (true, http2.body.wire_len),
            _ => return None,
        };
        let status = message.status();
        let exchange = message.exchange.as_ref();
        let pairing = exchange.and_then(|exchange| exchange.pairing);
        let is_interim = status.is_some_and(|status| status < 200 && status != 101);
        // A request that is no longer waited for is counted with its response.
        if is_interim || !is_response && pairing != Some(Pairing::NoResponse) {
            return None;
        }
        let asked = exchange.and_then(|exchange| exchange.request.as_deref());
        let total_ns = asked
            .filter(|_| message.is_complete() && exchange.is_some_and(Exchange::has_times))
            .map(|asked| message.last_ns.saturating_sub(asked.first_ns));
        let (host, path) = names(asked);
        let (process, peer) = ends(origin);
        Some(Self {
            process,
            peer,
            host,
            path,
            is_error: !is_response || status.is_none_or(|status| status >= 400) || has_failed(message),
            total_ns,
            sent: asked.and_then(|asked| asked.end).map_or(0, |end| end.wire_len),
            received,
        })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for text in [&self.process, &self.peer, &self.host, &self.path] {
            let bytes = text.as_bytes();
            out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
            out.extend_from_slice(bytes);
        }
        out.push(u8::from(self.is_error));
        for number in [self.total_ns.unwrap_or(u64::MAX), self.sent, self.received] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    /// Reads the first observation of a record. `None` at its end.
    pub(super) fn take(record: &mut &[u8]) -> Option<Self> {
        let mut text = || {
            let length = u32::from_le_bytes(*record.split_off(..4)?.first_chunk()?);
            let bytes = record.split_off(..usize::try_from(length).ok()?)?;
            String::from_utf8(bytes.to_vec()).ok()
        };
        let [process, peer, host, path] = [text()?, text()?, text()?, text()?];
        let is_error = *record.split_off_first()? != 0;
        let mut number = || Some(u64::from_le_bytes(*record.split_off(..8)?.first_chunk()?));
        let [total_ns, sent, received] = [number()?, number()?, number()?];
        Some(Self {
            process,
            peer,
            host,
            path,
            is_error,
            total_ns: Some(total_ns).filter(|&total_ns| total_ns < u64::MAX),
            sent,
            received,
        })
    }
}

/// Host and path.
fn names(asked: Option<&Asked>) -> (String, String) {
    let target = asked.and_then(|asked| asked.target.as_ref());
    let shown = |part: Option<&[u8]>| match part {
        Some(part) => printable(&String::from_utf8_lossy(part)).into_owned(),
        None => "?".to_owned(),
    };
    let part = |part: fn(&Target) -> Option<&[u8]>| shown(target.and_then(|target| part(target)));
    let host = part(Target::authority);
    let mut path = format!("{} {host}", part(Target::method));
    template::push(&part(Target::path), &mut path);
    (host, path)
}

/// Process and peer. The message, a response or the lack of one, comes from the server.
fn ends(origin: &Origin) -> (String, String) {
    let stream = origin.stream.as_ref();
    let is_client = stream.is_none_or(|stream| stream.direction == Direction::Read);
    let arrow = if is_client { "->" } else { "<-" };
    let mut process = Vec::new();
    origin.process.comm.push_shown(&mut process);
    let process = format!(
        "{}[{}] {arrow}",
        String::from_utf8_lossy(&process),
        origin.process.pid
    );
    let sockets = stream.and_then(|stream| stream.socket?.endpoints(Direction::Write));
    let peer = |remote: SocketAddr| {
        if is_client {
            remote.to_string()
        } else {
            remote.ip().to_string()
        }
    };
    let peer = sockets.map_or_else(|| "?".to_owned(), |(_, remote)| peer(remote));
    (process, format!("{arrow} {peer}"))
}

/// A stream that was reset, or a gRPC call that failed.
fn has_failed(message: &Message) -> bool {
    let Content::Http2(http2) = &message.content else {
        return false;
    };
    let is_status = |field: &&Field| field.name.as_deref() == Some(b"grpc-status");
    let mut fields = http2.trailers.iter().chain(&http2.fields);
    http2.reset.is_some_and(|code| code != 0)
        || fields
            .find(is_status)
            .is_some_and(|field| field.value.as_deref() != Some(b"0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let observation = Observation {
            process: "curl[1] ->".into(),
            peer: "-> 127.0.0.1:443".into(),
            host: "h".into(),
            path: "GET h/ü".into(),
            is_error: true,
            total_ns: None,
            sent: 1,
            received: u64::MAX,
        };
        let mut record = Vec::new();
        observation.write(&mut record);
        observation.write(&mut record);
        let mut rest = &record[..];
        assert_eq!(Observation::take(&mut rest), Some(observation.clone()));
        assert_eq!(Observation::take(&mut rest), Some(observation));
        assert_eq!(Observation::take(&mut rest), None);
        for cut in 0..record.len() / 2 {
            assert_eq!(Observation::take(&mut &record[..cut]), None);
        }
    }
}
