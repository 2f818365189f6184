//! One TCP connection.

use std::net::SocketAddr;

use bytes::Bytes;

use super::stream::{Piece, Stream};
use super::tally::{Reason, Tally};
use crate::event::{
    AddressSource, CapturedEvent, Close, DataEvent, Direction, Process, Side, Socket, TlsVersion, Tuple,
};
use crate::tls::{KeyLog, Obstacle, Plaintext, Session};

/// A connection. Its client is the captured process: [`Direction::Write`] is from the client.
#[derive(Debug)]
pub(super) struct Flow {
    /// Its number, by which its events belong together.
    number: u64,
    pub(super) client: SocketAddr,
    pub(super) server: SocketAddr,
    streams: [Stream; 2],
    content: Content,
    /// The process that the comments of packets name, and which end it is. The client's, if it is among them.
    process: Option<(Process, Side)>,
    /// Positions in the plaintext of both directions; none before the first event.
    offsets: [Option<u64>; 2],
    /// The sequence number of the client's SYN, if it was seen.
    pub(super) syn: Option<u32>,
    pub(super) is_closed: bool,
    has_shown: bool,
    /// Packets of the capture when it was used last.
    pub(super) used: u64,
}

#[derive(Debug)]
enum Content {
    /// No data yet.
    None,
    Tls(Box<Session>),
    Plain,
    NotShown(Reason),
}

/// What a flow works with.
pub(super) struct Context<'a> {
    pub(super) keys: &'a KeyLog,
    pub(super) tally: &'a mut Tally,
    pub(super) events: &'a mut Vec<CapturedEvent>,
    pub(super) timestamp_ns: u64,
}

impl Flow {
    pub(super) fn new(number: u64, client: SocketAddr, server: SocketAddr) -> Self {
        Self {
            number,
            client,
            server,
            streams: Default::default(),
            content: Content::None,
            process: None,
            offsets: [None; 2],
            syn: None,
            is_closed: false,
            has_shown: false,
            used: 0,
        }
    }

    /// Its number in the order of first packets.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Takes the processes that a packet from `sender` names, until something was shown.
    pub(super) fn processes(&mut self, sender: SocketAddr, [from, to]: [Option<Process>; 2]) {
        let (client, server) = if sender == self.client {
            (from, to)
        } else {
            (to, from)
        };
        if self.has_shown {
            return;
        }
        if let Some(client) = client {
            self.process = Some((client, Side::Source));
        } else if let (Some(server), None) = (server, self.process) {
            self.process = Some((server, Side::Destination));
        }
    }

    /// Returns true if a SYN of `client` is of this connection: sent again, or captured after others of its
    /// packets.
    pub(super) fn accept_syn(&mut self, client: SocketAddr, sequence: u32) -> bool {
        let is_its_own = self.client == client
            && match self.syn {
                Some(known) => known == sequence,
                None => !self.is_closed && self.stream(Direction::Write).can_begin(sequence),
            };
        if is_its_own {
            self.syn = Some(sequence);
        }
        is_its_own
    }

    /// The direction of what `sender` sends.
    pub(super) fn direction(&self, sender: SocketAddr) -> Direction {
        if sender == self.client {
            Direction::Write
        } else {
            Direction::Read
        }
    }

    pub(super) fn stream(&mut self, direction: Direction) -> &mut Stream {
        &mut self.streams[usize::from(direction.data_type())]
    }

    /// Bytes held.
    pub(super) fn held(&self) -> usize {
        let session = match &self.content {
            Content::Tls(session) => session.held(),
            _ => 0,
        };
        self.streams.iter().map(Stream::held_bytes).sum::<usize>() + session
    }

    /// Both directions were seen to their ends.
    pub(super) fn is_complete(&self) -> bool {
        self.streams.iter().all(Stream::is_complete)
    }

    /// Takes what is in order in `direction`.
    pub(super) fn take(&mut self, direction: Direction, pieces: &mut Vec<Piece>, context: &mut Context<'_>) {
        let mut direction = direction;
        for piece in pieces.drain(..) {
            match piece {
                Piece::Data(bytes) => {
                    if matches!(self.content, Content::None) && self.recognize(direction, &bytes) {
                        direction = direction.opposite();
                    }
                    self.data(direction, bytes, context);
                }
                Piece::Gap(bytes) => self.gap(direction, bytes, context),
            }
        }
    }

    /// Ends it: what is held is given up, and what it was is counted.
    pub(super) fn close(&mut self, context: &mut Context<'_>) {
        if std::mem::replace(&mut self.is_closed, true) {
            return;
        }
        let mut pieces = Vec::new();
        for direction in [Direction::Write, Direction::Read] {
            self.stream(direction).finish(&mut pieces);
            self.take(direction, &mut pieces, context);
        }
        if let Content::Tls(session) = &mut self.content {
            let mut plaintext = Vec::new();
            session.finish(&mut plaintext);
            self.show(plaintext, context);
        }
        let (client, server) = (self.client, self.server);
        match std::mem::replace(&mut self.content, Content::None) {
            Content::None => context.tally.empty += 1,
            Content::Plain => context.tally.plain += 1,
            Content::NotShown(reason) => context.tally.not_shown(reason, client, server),
            Content::Tls(session) => {
                context.tally.decrypted += u64::from(session.is_open());
                let cut_short = (!session.is_open()).then_some(Obstacle::NoHandshake);
                if let Some(obstacle) = session.obstacle().or(cut_short) {
                    context.tally.not_shown(Reason::Tls(obstacle), client, server);
                }
            }
        }
        if self.has_shown {
            let close = Close::Socket { sock: self.number };
            context.events.push(CapturedEvent::Close {
                timestamp_ns: context.timestamp_ns,
                close,
            });
        }
        self.streams = Default::default();
    }

    fn data(&mut self, direction: Direction, bytes: Bytes, context: &mut Context<'_>) {
        match &mut self.content {
            Content::Tls(session) => {
                let mut plaintext = Vec::new();
                session.feed(context.keys, direction, &bytes, &mut plaintext);
                self.show(plaintext, context);
            }
            Content::Plain => self.emit(direction, bytes, context),
            Content::NotShown(_) | Content::None => {}
        }
    }

    fn gap(&mut self, direction: Direction, bytes: u64, context: &mut Context<'_>) {
        match &mut self.content {
            Content::Tls(session) => {
                let mut plaintext = Vec::new();
                session.gap(context.keys, direction, bytes, &mut plaintext);
                self.show(plaintext, context);
            }
            Content::Plain => self.show(vec![(direction, Plaintext::Gap(Some(bytes)))], context),
            Content::NotShown(_) | Content::None => {}
        }
    }

    /// Decides by the first bytes what the connection carries; where no SYN was seen also who is the client.
    /// Returns true if that is the other end than was assumed.
    fn recognize(&mut self, direction: Direction, bytes: &[u8]) -> bool {
        let is_from_client = direction == Direction::Write;
        // A hello, a status line, or the SETTINGS by which an HTTP/2 server may begin.
        let is_from_server = matches!(
            bytes,
            [22, 3, _, _, _, 2, ..]
                | [b'H', b'T', b'T', b'P', b'/', b'1', ..]
                | [0, _, _, 4, 0, 0, 0, 0, 0, ..]
        );
        self.content = match bytes {
            // A server's hello may have been captured before the client's.
            [22, 3, 0..=4, ..] => Content::Tls(Box::default()),
            [20..=23, 3, 0..=4, ..] => Content::NotShown(Reason::Tls(Obstacle::NoHandshake)),
            _ if is_from_server || is_http_request(bytes) => Content::Plain,
            _ => Content::NotShown(Reason::Other),
        };
        let is_swapped = self.syn.is_none() && is_from_server == is_from_client;
        if is_swapped {
            std::mem::swap(&mut self.client, &mut self.server);
            self.streams.swap(0, 1);
        }
        is_swapped
    }

    fn show(&mut self, plaintext: Vec<(Direction, Plaintext)>, context: &mut Context<'_>) {
        for (direction, plaintext) in plaintext {
            match plaintext {
                Plaintext::Data(bytes) => self.emit(direction, bytes, context),
                Plaintext::Gap(missing) => {
                    context.tally.gaps += 1;
                    self.show_gap(direction, missing, context);
                }
            }
        }
    }

    /// Events without bytes say where a gap begins and where it goes on, so that it is shown even if nothing follows.
    /// Offsets that begin again at 0 say that an unknown number is missing.
    fn show_gap(&mut self, direction: Direction, missing: Option<u64>, context: &mut Context<'_>) {
        let place = usize::from(direction.data_type());
        let begins_at = match (self.offsets[place], missing) {
            (Some(offset), _) => offset,
            (None, Some(_)) => 0,
            // Anywhere but at the place where it begins again.
            (None, None) => 1,
        };
        if self.offsets[place].is_none() {
            self.offsets[place] = Some(begins_at);
            self.emit(direction, Bytes::new(), context);
        }
        self.offsets[place] = Some(missing.map_or(0, |missing| begins_at + missing));
        self.emit(direction, Bytes::new(), context);
    }

    fn emit(&mut self, direction: Direction, payload: Bytes, context: &mut Context<'_>) {
        let offset = self.offsets[usize::from(direction.data_type())].get_or_insert(0);
        let stream_offset = Some(*offset);
        *offset += payload.len() as u64;
        let tls_version = match &self.content {
            Content::Tls(session) => session.version().map(TlsVersion),
            _ => None,
        };
        self.has_shown = true;
        let (process, local) = self.process.unwrap_or((Process::default(), Side::Source));
        context.events.push(CapturedEvent::Data(DataEvent {
            timestamp_ns: context.timestamp_ns,
            process,
            container_id: None,
            program: None,
            direction: match local {
                Side::Source => direction,
                Side::Destination => direction.opposite(),
            },
            fd: None,
            session: None,
            socket: Some(Socket {
                sock: self.number,
                tuple: Tuple {
                    source: self.client,
                    destination: self.server,
                },
                local: Some(local),
                address_source: AddressSource::Exact,
            }),
            tls_version,
            stream_offset,
            joined_late: None,
            payload,
        }));
    }
}

/// A method and a path, or the preface of HTTP/2.
fn is_http_request(bytes: &[u8]) -> bool {
    let method = bytes.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
    (3..=16).contains(&method)
        && bytes.get(method) == Some(&b' ')
        && matches!(
            bytes.get(method + 1),
            Some(b'/' | b'*' | b'h' | b'a'..=b'z' | b'0'..=b'9')
        )
}
