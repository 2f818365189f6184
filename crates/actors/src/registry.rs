//! Which connection an event belongs to. A plain table: no actor, no clock.
//!
//! Affinity is per connection and direction: the key never contains the thread when anything
//! better is known, so a call made by another thread changes nothing.

use std::collections::BTreeSet;

use ecapture_protocols::{AddressSource, Close, Comm, DataEvent, Direction, Socket};
use foldhash::HashMap;

use crate::PipelineLimits;
use crate::kept_notices::{Backlog, NoticeRoom};
use crate::messages::{ConnectionId, SequencedNotice};
use crate::other_ends::{ByAddresses, are_ends};
use crate::supervision::FailureWindow;

/// The identification of connections, most reliable first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ConnectionKey {
    /// The library's session object.
    Session { pid: u32, session: u64 },
    /// The kernel socket.
    Socket { sock: u64 },
    /// A file descriptor of a process; it may be reused unseen.
    Descriptor { pid: u32, fd: u32 },
    /// Nothing but the calling thread.
    Thread { pid: u32, tid: u32, comm: Comm },
    /// No connection: facts about processes.
    Facts,
}

impl ConnectionKey {
    pub(crate) fn of(event: &DataEvent) -> Self {
        let pid = event.process.pid;
        if let Some(session) = event.session {
            return Self::Session { pid, session };
        }
        if let Some(socket) = event.socket {
            return Self::Socket { sock: socket.sock };
        }
        match event.fd {
            Some(fd) if fd > 0 => Self::Descriptor { pid, fd },
            _ => Self::Thread {
                pid,
                tid: event.process.tid,
                comm: event.process.comm,
            },
        }
    }

    /// How streams of this key end.
    pub(crate) const fn lifecycle(&self) -> Lifecycle {
        match self {
            Self::Session { .. } | Self::Socket { .. } | Self::Facts => Lifecycle::Connection,
            Self::Descriptor { .. } | Self::Thread { .. } => Lifecycle::Plain,
        }
    }
}

/// How a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifecycle {
    /// By silence: its close is never reported.
    Plain,
    /// By a close event, or by the age limit when that is missed.
    Connection,
}

/// Both directions of one connection. `S` is what the owner keeps per direction.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    pub(crate) key: ConnectionKey,
    pub(crate) pid: u32,
    pub(crate) socket: Option<Socket>,
    pub(crate) last_active_ns: u64,
    failures: Option<Box<Failures>>,
    /// Number of connections that have ended under this key while it was in use: nothing that one of
    /// them reports concerns another.
    pub(crate) epoch: u32,
    /// The number shown for the connection of this epoch, 0 before its first event.
    number: u64,
    streams: [Option<S>; 2],
    /// Notices for directions without a Worker yet. Of several connections if events of theirs wait for a place that
    /// an earlier one still has.
    backlog: Option<Box<Backlog>>,
    other_end: OtherEnd,
}

/// Whether the other end of a connection is captured, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OtherEnd {
    /// Not looked for since the socket became known.
    Unsought,
    /// Not found, and its address is not known to be of this host.
    Unknown,
    /// Not found so far. Its first event may be among those to come: a call is captured when it returns.
    Likely,
    Known,
}

/// The failures of one connection's Workers.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    epoch: u32,
    pub(crate) window: FailureWindow,
    /// No decoder any more.
    pub(crate) quarantined: bool,
}

impl<S> Connection<S> {
    pub(crate) fn stream(&self, direction: Direction) -> Option<&S> {
        self.streams[usize::from(direction.data_type())].as_ref()
    }

    pub(crate) fn stream_mut(&mut self, direction: Direction) -> &mut Option<S> {
        &mut self.streams[usize::from(direction.data_type())]
    }

    /// Returns true if the other end of the connection is captured, too, or may be.
    pub(crate) const fn has_other_end(&self) -> bool {
        matches!(self.other_end, OtherEnd::Likely | OtherEnd::Known)
    }

    pub(crate) fn is_vacant(&self) -> bool {
        self.streams.iter().all(Option::is_none)
    }

    /// Begins another connection: all that comes from here on belongs to it.
    pub(crate) fn begin_epoch(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        self.number = 0;
        self.other_end = OtherEnd::Unsought;
    }

    /// The failures so far of the connection `epoch`.
    pub(crate) fn failures(&mut self, epoch: u32) -> &mut Failures {
        let failures = self.failures.get_or_insert_default();
        if failures.epoch != epoch {
            **failures = Failures {
                epoch,
                ..Failures::default()
            };
        }
        failures
    }

    /// Returns true if the connection `epoch` has lost its decoders for good.
    pub(crate) fn is_quarantined(&self, epoch: u32) -> bool {
        self.failures
            .as_ref()
            .is_some_and(|failures| failures.epoch == epoch && failures.quarantined)
    }

    /// Keeps notices until `direction` has a Worker of `epoch`, as far as there is room. Returns the bytes of requests
    /// for which there was none.
    pub(crate) fn keep_notices(
        &mut self,
        direction: Direction,
        epoch: u32,
        notices: Vec<SequencedNotice>,
        (limits, room): (&PipelineLimits, &NoticeRoom),
    ) -> u64 {
        if notices.is_empty() {
            return 0;
        }
        let backlog = self.backlog.get_or_insert_default();
        backlog.keep((direction, epoch), notices, (limits, room))
    }

    /// Returns true if requests of `epoch` are kept for `direction`, which had no Worker to answer them.
    pub(crate) fn keeps_requests(&self, direction: Direction, epoch: u32) -> bool {
        let backlog = self.backlog.as_ref();
        backlog.is_some_and(|backlog| backlog.has_requests((direction, epoch)))
    }

    /// The notices kept for `direction`, if they are of `epoch`.
    pub(crate) fn take_notices(&mut self, direction: Direction, epoch: u32) -> Vec<SequencedNotice> {
        let Some(backlog) = &mut self.backlog else {
            return Vec::new();
        };
        let notices = backlog.take((direction, epoch));
        self.backlog.take_if(|backlog| backlog.is_empty());
        notices
    }
}

/// The effect of an event on the connection it was found to belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Nothing new, or a new connection.
    Known,
    /// The connection's socket is now known, or known better.
    SocketLearned,
    /// Notes that the key now belongs to another connection: the old streams are closed.
    Replaced,
}

/// All connections that have a Worker.
#[derive(Debug)]
pub(crate) struct Registry<S> {
    by_key: HashMap<ConnectionKey, ConnectionId>,
    by_sock: BTreeSet<(u64, ConnectionId)>,
    by_pid: BTreeSet<(u32, ConnectionId)>,
    by_addresses: ByAddresses,
    /// Boxed, so that growing moves little and empty places cost little.
    connections: Vec<Option<Box<Connection<S>>>>,
    free: Vec<ConnectionId>,
    /// Connections numbered so far.
    numbered: u64,
}

impl<S> Default for Registry<S> {
    fn default() -> Self {
        Self {
            by_key: HashMap::default(),
            by_sock: BTreeSet::new(),
            by_pid: BTreeSet::new(),
            by_addresses: ByAddresses::default(),
            connections: Vec::new(),
            free: Vec::new(),
            numbered: 0,
        }
    }
}

impl<S> Registry<S> {
    /// Finds the connection of `event`, or makes a place for it.
    pub(crate) fn admit(&mut self, event: &DataEvent) -> (ConnectionId, Admission) {
        let key = ConnectionKey::of(event);
        match self.by_key.get(&key) {
            Some(&id) => (id, self.update_socket(id, event)),
            None => (
                self.insert(key, event.process.pid, event.socket),
                Admission::Known,
            ),
        }
    }

    /// Finds the place of facts, or makes it: all have one.
    pub(crate) fn admit_facts(&mut self) -> ConnectionId {
        let known = self.by_key.get(&ConnectionKey::Facts).copied();
        known.unwrap_or_else(|| self.insert(ConnectionKey::Facts, 0, None))
    }

    fn insert(&mut self, key: ConnectionKey, pid: u32, socket: Option<Socket>) -> ConnectionId {
        let connection = Connection {
            key,
            pid,
            socket,
            last_active_ns: 0,
            failures: None,
            epoch: 0,
            number: 0,
            streams: [None, None],
            backlog: None,
            other_end: OtherEnd::Unsought,
        };
        let id = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            ConnectionId(u32::try_from(self.connections.len() - 1).unwrap_or(u32::MAX))
        });
        self.by_key.insert(key, id);
        self.by_pid.insert((connection.pid, id));
        if let Some(socket) = connection.socket {
            self.by_sock.insert((socket.sock, id));
            self.by_addresses.note(socket, id);
        }
        self.connections[id.0 as usize] = Some(Box::new(connection));
        id
    }

    fn update_socket(&mut self, id: ConnectionId, event: &DataEvent) -> Admission {
        let Some(seen) = event.socket else {
            return Admission::Known;
        };
        let Some(connection) = self.connections[id.0 as usize].as_mut() else {
            return Admission::Known;
        };
        let admission = compare_sockets(connection.key, connection.socket, seen);
        if admission == Admission::Known {
            return admission;
        }
        connection.other_end = OtherEnd::Unsought;
        if let Some(known) = connection.socket.replace(seen) {
            self.by_sock.remove(&(known.sock, id));
            self.by_addresses.forget(known, id);
        }
        self.by_sock.insert((seen.sock, id));
        self.by_addresses.note(seen, id);
        if admission == Admission::Replaced {
            self.by_pid.remove(&(connection.pid, id));
            connection.pid = event.process.pid;
            self.by_pid.insert((connection.pid, id));
        }
        admission
    }

    /// The connections that `close` ends.
    pub(crate) fn ended_by(&self, close: Close) -> Vec<ConnectionId> {
        const ALL: std::ops::RangeInclusive<u32> = 0..=u32::MAX;
        let (first, last) = (ConnectionId(*ALL.start()), ConnectionId(*ALL.end()));
        match close {
            Close::Process { pid } => self
                .by_pid
                .range((pid, first)..=(pid, last))
                .map(|&(_, id)| id)
                .collect(),
            Close::Session { pid, session } => self
                .by_key
                .get(&ConnectionKey::Session { pid, session })
                .copied()
                .into_iter()
                .collect(),
            Close::Socket { sock } => self
                .by_sock
                .range((sock, first)..=(sock, last))
                .map(|&(_, id)| id)
                .collect(),
        }
    }

    pub(crate) fn get(&self, id: ConnectionId) -> Option<&Connection<S>> {
        self.connections.get(id.0 as usize)?.as_deref()
    }

    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection<S>> {
        self.connections.get_mut(id.0 as usize)?.as_deref_mut()
    }

    /// The owner's state of one direction of a connection.
    pub(crate) fn stream_mut(&mut self, id: ConnectionId, direction: Direction) -> Option<&mut S> {
        self.get_mut(id)?.stream_mut(direction).as_mut()
    }

    /// The number of the connection that is now under this key. The first event of a connection asks first, so
    /// numbers depend on the events alone.
    pub(crate) fn number(&mut self, id: ConnectionId) -> u64 {
        let place = self.connections.get_mut(id.0 as usize);
        let Some(connection) = place.and_then(|place| place.as_deref_mut()) else {
            return 0;
        };
        if connection.number == 0 {
            self.numbered += 1;
            connection.number = self.numbered;
        }
        connection.number
    }

    /// Forgets a connection without streams.
    pub(crate) fn remove_if_vacant(&mut self, id: ConnectionId) {
        let place = &mut self.connections[id.0 as usize];
        let Some(connection) = place.take_if(|connection| connection.is_vacant()) else {
            return;
        };
        self.by_key.remove(&connection.key);
        self.by_pid.remove(&(connection.pid, id));
        if let Some(socket) = connection.socket {
            self.by_sock.remove(&(socket.sock, id));
            self.by_addresses.forget(socket, id);
        }
        self.free.push(id);
    }

    /// Notes that the connection is closed: the next events under its key are on another socket.
    pub(crate) fn forget_socket(&mut self, id: ConnectionId) {
        let connection = self
            .connections
            .get_mut(id.0 as usize)
            .and_then(|place| place.as_mut());
        if let Some(socket) = connection.and_then(|connection| connection.socket.take()) {
            self.by_sock.remove(&(socket.sock, id));
            self.by_addresses.forget(socket, id);
        }
    }

    /// Looks for the other end of a connection among those that are open, once for each of its sockets.
    /// Returns it if it was found now: from here on both are known to have one.
    pub(crate) fn find_other_end(&mut self, id: ConnectionId) -> Option<ConnectionId> {
        let socket = self
            .get(id)
            .filter(|found| found.other_end == OtherEnd::Unsought)?
            .socket?;
        let is_likely = self.by_addresses.is_of_this_host(socket);
        let connection = self.get_mut(id)?;
        connection.other_end = if is_likely {
            OtherEnd::Likely
        } else {
            OtherEnd::Unknown
        };
        let other = self.by_addresses.other_end(socket)?;
        let is_its = |found: &&mut Connection<S>| found.socket.is_some_and(|other| are_ends(socket, other));
        let found = self.get_mut(other).filter(is_its)?;
        found.other_end = OtherEnd::Known;
        self.get_mut(id)?.other_end = OtherEnd::Known;
        Some(other)
    }

    /// Connections in order of their places.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ConnectionId, &Connection<S>)> {
        (0..)
            .zip(&self.connections)
            .filter_map(|(place, connection)| Some((ConnectionId(place), connection.as_deref()?)))
    }

    /// The highest number of connections so far.
    pub(crate) fn places(&self) -> usize {
        self.connections.len()
    }

    /// Those of `count` places from `first` on; `None` where no place is that far.
    pub(crate) fn some(
        &self,
        first: usize,
        count: usize,
    ) -> Option<impl Iterator<Item = (ConnectionId, &Connection<S>)>> {
        let last = first.saturating_add(count).min(self.connections.len());
        let places = self
            .connections
            .get(first..last)
            .filter(|places| !places.is_empty())?;
        let ids = (first..).map(|place| ConnectionId(u32::try_from(place).unwrap_or(u32::MAX)));
        Some(
            ids.zip(places)
                .filter_map(|(id, connection)| Some((id, connection.as_deref()?))),
        )
    }

    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }
}

/// The effect of `seen` on a connection whose socket was `known`.
fn compare_sockets(key: ConnectionKey, known: Option<Socket>, seen: Socket) -> Admission {
    let Some(known) = known else {
        return Admission::SocketLearned;
    };
    if known == seen {
        return Admission::Known;
    }
    let same = known.sock == seen.sock && known.tuple == seen.tuple;
    match (known.address_source, seen.address_source) {
        (AddressSource::Heuristic, AddressSource::Exact) => Admission::SocketLearned,
        _ if same => Admission::Known,
        (AddressSource::Exact, AddressSource::Exact) => Admission::Replaced,
        // The key is the socket itself, so other addresses mean that it was reused.
        _ if matches!(key, ConnectionKey::Socket { .. }) => Admission::Replaced,
        // A guess about a session's socket may vary between calls: it never ends a connection.
        _ => Admission::Known,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ecapture_protocols::decoder::PeerNotice;
    use ecapture_protocols::{Process, Tuple};

    use super::*;

    fn event(pid: u32, tid: u32) -> DataEvent {
        DataEvent {
            timestamp_ns: 0,
            process: Process {
                pid,
                tid,
                uid: None,
                comm: "app".into(),
            },
            container_id: None,
            program: None,
            direction: Direction::Read,
            fd: None,
            session: None,
            socket: None,
            tls_version: None,
            stream_offset: None,
            joined_late: None,
            payload: Bytes::new(),
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "it is always used as an event's field")]
    fn socket(sock: u64, port: u16, address_source: AddressSource) -> Option<Socket> {
        let tuple = Tuple {
            source: ([10, 0, 0, 1], port).into(),
            destination: ([10, 0, 0, 2], 443).into(),
        };
        Some(Socket {
            sock,
            tuple,
            local: None,
            address_source,
        })
    }

    #[test]
    fn the_best_knowledge_is_the_key() {
        let plain = event(1, 2);
        assert_eq!(
            ConnectionKey::of(&plain),
            ConnectionKey::Thread {
                pid: 1,
                tid: 2,
                comm: "app".into()
            }
        );
        let no_fd = DataEvent {
            fd: Some(0),
            ..event(1, 2)
        };
        assert_eq!(ConnectionKey::of(&no_fd), ConnectionKey::of(&plain));
        let with_fd = DataEvent { fd: Some(7), ..plain };
        assert_eq!(
            ConnectionKey::of(&with_fd),
            ConnectionKey::Descriptor { pid: 1, fd: 7 }
        );
        let with_socket = DataEvent {
            socket: socket(9, 1, AddressSource::Exact),
            ..with_fd
        };
        assert_eq!(ConnectionKey::of(&with_socket), ConnectionKey::Socket { sock: 9 });
        let with_session = DataEvent {
            session: Some(5),
            ..with_socket
        };
        assert_eq!(
            ConnectionKey::of(&with_session),
            ConnectionKey::Session { pid: 1, session: 5 }
        );
        assert_eq!(
            ConnectionKey::of(&with_session).lifecycle(),
            Lifecycle::Connection
        );
        assert_eq!(ConnectionKey::of(&no_fd).lifecycle(), Lifecycle::Plain);
    }

    #[test]
    fn threads_and_directions_share_a_connection() {
        let mut registry: Registry<()> = Registry::default();
        let first = DataEvent {
            fd: Some(7),
            ..event(1, 2)
        };
        let second = DataEvent {
            direction: Direction::Write,
            fd: Some(7),
            ..event(1, 3)
        };
        assert_eq!(registry.admit(&first).0, registry.admit(&second).0);
        assert_eq!(registry.len(), 1);
    }

    #[test]
    fn what_a_socket_says_about_a_known_session() {
        use AddressSource::{Exact, Heuristic};
        let cases = [
            (None, socket(1, 1, Heuristic), Admission::SocketLearned),
            (socket(1, 1, Exact), None, Admission::Known),
            (socket(1, 1, Exact), socket(1, 1, Exact), Admission::Known),
            (socket(1, 1, Exact), socket(1, 1, Heuristic), Admission::Known),
            (socket(1, 1, Exact), socket(2, 2, Heuristic), Admission::Known),
            (socket(1, 1, Exact), socket(2, 2, Exact), Admission::Replaced),
            (socket(1, 1, Exact), socket(1, 2, Exact), Admission::Replaced),
            (socket(1, 1, Heuristic), socket(2, 2, Heuristic), Admission::Known),
            (
                socket(1, 1, Heuristic),
                socket(2, 2, Exact),
                Admission::SocketLearned,
            ),
        ];
        for (known, seen, expected) in cases {
            let mut registry: Registry<()> = Registry::default();
            let with = |socket| DataEvent {
                session: Some(5),
                socket,
                ..event(1, 1)
            };
            registry.admit(&with(known));
            assert_eq!(registry.admit(&with(seen)).1, expected, "{known:?} then {seen:?}");
        }
    }

    #[test]
    fn a_close_ends_what_it_names_and_nothing_else() {
        let mut registry: Registry<()> = Registry::default();
        let of = |pid, session, sock: u64| DataEvent {
            session: Some(session),
            socket: socket(sock, 1, AddressSource::Exact),
            ..event(pid, pid)
        };
        let (one, _) = registry.admit(&of(1, 1, 11));
        let (two, _) = registry.admit(&of(1, 2, 12));
        let (three, _) = registry.admit(&of(2, 1, 12));
        assert_eq!(registry.ended_by(Close::Process { pid: 1 }), [one, two]);
        assert_eq!(registry.ended_by(Close::Session { pid: 2, session: 1 }), [three]);
        assert_eq!(registry.ended_by(Close::Socket { sock: 12 }), [two, three]);
        assert_eq!(registry.ended_by(Close::Socket { sock: 13 }), []);
        registry.remove_if_vacant(two);
        assert_eq!(registry.ended_by(Close::Socket { sock: 12 }), [three]);
        assert_eq!(registry.ended_by(Close::Process { pid: 1 }), [one]);
    }

    #[test]
    fn a_place_with_a_stream_stays_and_an_empty_one_is_reused() {
        let mut registry: Registry<()> = Registry::default();
        let (id, _) = registry.admit(&event(1, 1));
        *registry.get_mut(id).unwrap().stream_mut(Direction::Read) = Some(());
        registry.remove_if_vacant(id);
        assert!(registry.get(id).is_some());
        *registry.get_mut(id).unwrap().stream_mut(Direction::Read) = None;
        registry.remove_if_vacant(id);
        assert!(registry.get(id).is_none());
        assert_eq!(registry.admit(&event(2, 2)).0, id);
    }

    #[test]
    fn kept_notices_are_bounded_and_the_newest_win() {
        let mut registry: Registry<()> = Registry::default();
        let (id, _) = registry.admit(&event(1, 1));
        let connection = registry.get_mut(id).unwrap();
        let limits = PipelineLimits {
            notice_backlog: 3,
            ..PipelineLimits::default()
        };
        let room = NoticeRoom::default();
        let notice = |sequence| SequencedNotice {
            sequence,
            notice: PeerNotice::NoRequests,
        };
        for sequence in 0..10 {
            connection.keep_notices(Direction::Read, 1, vec![notice(sequence)], (&limits, &room));
        }
        assert_eq!(connection.take_notices(Direction::Write, 1), []);
        assert_eq!(connection.take_notices(Direction::Read, 2), []);
        assert_eq!(
            connection.take_notices(Direction::Read, 1),
            [notice(7), notice(8), notice(9)]
        );
        assert_eq!(connection.take_notices(Direction::Read, 1), []);
    }

    #[test]
    fn notices_of_connections_under_one_key_do_not_displace_each_other() {
        let mut registry: Registry<()> = Registry::default();
        let (id, _) = registry.admit(&event(1, 1));
        let connection = registry.get_mut(id).unwrap();
        let (limits, room) = (PipelineLimits::default(), NoticeRoom::default());
        let notice = |epoch: u32| SequencedNotice {
            sequence: epoch.into(),
            notice: PeerNotice::NoRequests,
        };
        let most = u32::try_from(limits.notice_backlog).unwrap();
        for epoch in 0..=most {
            connection.keep_notices(Direction::Write, epoch, vec![notice(epoch)], (&limits, &room));
        }
        assert_eq!(
            connection.take_notices(Direction::Write, 0),
            [],
            "the oldest is given up"
        );
        for epoch in 1..=most {
            assert_eq!(connection.take_notices(Direction::Write, epoch), [notice(epoch)]);
        }
        assert!(connection.backlog.is_none());
    }
}
