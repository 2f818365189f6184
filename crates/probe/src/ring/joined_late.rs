//! Which connections the capture has joined late, and whose.

use std::collections::{BTreeSet, HashMap};

use ecapture_protocols::{AddressSource, CapturedEvent, Close, Comm, DataEvent, JoinedLate, Socket};

use crate::Tally;

/// Most connections that are remembered as counted, and most programs that are named.
const REMEMBERED: usize = 16 * 1024;

/// Connections whose first bytes may be missing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LateConnections {
    /// Those that were open before the capture began.
    pub open_before_capture: u64,
    /// Those that were opened during the capture, before the probes were attached to their library.
    pub before_probes: u64,
    programs: HashMap<(u32, Comm), LateProgram>,
}

/// The connections of one program among the [`LateConnections`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LateProgram {
    /// Process id.
    pub pid: u32,
    /// Name of the thread that used the first one.
    pub comm: Comm,
    /// See [`LateConnections::open_before_capture`].
    pub open_before_capture: u64,
    /// See [`LateConnections::before_probes`].
    pub before_probes: u64,
}

impl LateConnections {
    /// The programs, those with the most connections that lost something first.
    pub fn programs(&self) -> Vec<LateProgram> {
        let mut programs: Vec<_> = self.programs.values().copied().collect();
        programs.sort_by_key(|program| {
            let most = u64::MAX;
            (
                most - program.before_probes,
                most - program.open_before_capture,
                program.pid,
            )
        });
        programs
    }

    pub(crate) fn count(&mut self, data: &DataEvent, reason: JoinedLate) {
        count(&mut self.open_before_capture, &mut self.before_probes, reason);
        let (pid, comm) = (data.process.pid, data.process.comm);
        if self.programs.len() >= REMEMBERED && !self.programs.contains_key(&(pid, comm)) {
            return;
        }
        let program = self.programs.entry((pid, comm)).or_insert(LateProgram {
            pid,
            comm,
            open_before_capture: 0,
            before_probes: 0,
        });
        count(
            &mut program.open_before_capture,
            &mut program.before_probes,
            reason,
        );
    }
}

fn count(open_before_capture: &mut u64, before_probes: &mut u64, reason: JoinedLate) {
    match reason {
        JoinedLate::OpenBeforeCapture => *open_before_capture += 1,
        JoinedLate::BeforeProbes => *before_probes += 1,
    }
}

/// Counts each connection once, though both its directions say that they begin late.
#[derive(Default)]
pub(crate) struct CountedConnections {
    /// By process, session and socket.
    connections: BTreeSet<(u32, u64, u64)>,
}

impl CountedConnections {
    pub(crate) fn note(&mut self, event: &CapturedEvent, tally: &Tally) {
        match event {
            CapturedEvent::Data(data) => {
                if let Some(reason) = self.is_new(data) {
                    tally.count_late(data, reason);
                }
            }
            CapturedEvent::Close { close, .. } if !self.connections.is_empty() => self.forget(*close),
            CapturedEvent::Close { .. } | CapturedEvent::Observed(_) => {}
        }
    }

    /// Only the first event of a direction can be that of a new connection, unless its socket becomes known
    /// later: then that is a guess.
    fn is_new(&mut self, data: &DataEvent) -> Option<JoinedLate> {
        let reason = data.joined_late?;
        let is_guess = |socket: Socket| socket.address_source == AddressSource::Heuristic;
        if data.stream_offset != Some(0) && !data.socket.is_some_and(is_guess) {
            return None;
        }
        if self.connections.len() >= REMEMBERED {
            self.connections.clear();
        }
        let sock = data.socket.map_or(0, |socket| socket.sock);
        let connection = (data.process.pid, data.session.unwrap_or(0), sock);
        self.connections.insert(connection).then_some(reason)
    }

    /// Addresses are used again. A session outlives its socket, so its end is enough.
    fn forget(&mut self, close: Close) {
        let (first, last) = match close {
            Close::Session { pid, session } => ((pid, session, 0), (pid, session, u64::MAX)),
            Close::Process { pid } => ((pid, 0, 0), (pid, u64::MAX, u64::MAX)),
            Close::Socket { .. } => return,
        };
        while let Some(&connection) = self.connections.range(first..=last).next() {
            self.connections.remove(&connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use bytes::Bytes;
    use ecapture_protocols::{Direction, Process, Side, Tuple};

    use super::*;

    const MISSED: JoinedLate = JoinedLate::BeforeProbes;

    fn event(pid: u32, session: u64, direction: Direction, offset: u64) -> DataEvent {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 443));
        DataEvent {
            timestamp_ns: 1,
            process: Process {
                pid,
                tid: pid,
                uid: None,
                comm: Comm::from("app"),
            },
            container_id: None,
            program: None,
            direction,
            fd: None,
            session: Some(session),
            socket: Some(Socket {
                sock: 77,
                tuple: Tuple {
                    source: address,
                    destination: address,
                },
                local: Some(Side::Source),
                address_source: AddressSource::Exact,
            }),
            tls_version: None,
            stream_offset: Some(offset),
            joined_late: Some(MISSED),
            payload: Bytes::new(),
        }
    }

    fn written(session: u64) -> DataEvent {
        event(1, session, Direction::Write, 0)
    }

    #[test]
    fn both_directions_are_one_connection() {
        let mut counted = CountedConnections::default();
        assert_eq!(counted.is_new(&written(5)), Some(MISSED));
        assert_eq!(counted.is_new(&event(1, 5, Direction::Read, 0)), None);
        assert_eq!(counted.is_new(&written(6)), Some(MISSED), "another session");
        assert_eq!(
            counted.is_new(&event(2, 5, Direction::Write, 0)),
            Some(MISSED),
            "another process"
        );
    }

    #[test]
    fn a_complete_connection_does_not_count() {
        let complete = DataEvent {
            joined_late: None,
            ..written(5)
        };
        assert_eq!(CountedConnections::default().is_new(&complete), None);
    }

    /// When there are too many to remember, later events do not count again.
    #[test]
    fn only_a_socket_that_is_a_guess_counts_in_the_middle() {
        let mut middle = event(1, 5, Direction::Write, 9);
        assert_eq!(CountedConnections::default().is_new(&middle), None);
        if let Some(socket) = &mut middle.socket {
            socket.address_source = AddressSource::Heuristic;
        }
        let mut counted = CountedConnections::default();
        assert_eq!(counted.is_new(&middle), Some(MISSED));
        assert_eq!(counted.is_new(&middle), None);
    }

    #[test]
    fn what_has_ended_is_forgotten_and_nothing_else() {
        let mut counted = CountedConnections::default();
        for data in [
            written(4),
            written(5),
            written(6),
            event(2, 5, Direction::Read, 0),
        ] {
            assert_eq!(counted.is_new(&data), Some(MISSED));
        }
        counted.forget(Close::Socket { sock: 77 });
        assert_eq!(counted.connections.len(), 4);
        counted.forget(Close::Session { pid: 1, session: 5 });
        assert_eq!(
            counted.is_new(&written(5)),
            Some(MISSED),
            "the address is used again"
        );
        assert_eq!(counted.is_new(&written(4)), None);
        assert_eq!(counted.is_new(&written(6)), None);
        counted.forget(Close::Process { pid: 1 });
        assert_eq!(counted.connections, BTreeSet::from([(2, 5, 77)]));
    }

    #[test]
    fn memory_is_bounded() {
        let mut counted = CountedConnections::default();
        let mut late = LateConnections::default();
        let twice = 2 * u32::try_from(REMEMBERED).expect("a number of 32 bits");
        for number in 0..twice {
            let mut data = written(number.into());
            data.process.pid = number;
            assert_eq!(counted.is_new(&data), Some(MISSED));
            late.count(&data, MISSED);
        }
        assert!(counted.connections.len() <= REMEMBERED);
        assert_eq!(late.programs().len(), REMEMBERED);
        assert_eq!(late.before_probes, u64::from(twice), "all count");
    }

    #[test]
    fn programs_that_lost_most_come_first() {
        let mut late = LateConnections::default();
        let open = JoinedLate::OpenBeforeCapture;
        for (pid, reason) in [(1, open), (1, open), (2, MISSED), (3, MISSED), (3, open)] {
            late.count(&event(pid, 5, Direction::Write, 0), reason);
        }
        assert_eq!((late.open_before_capture, late.before_probes), (3, 2));
        let programs = late.programs();
        let counts = programs
            .iter()
            .map(|program| (program.pid, program.open_before_capture, program.before_probes));
        assert_eq!(counts.collect::<Vec<_>>(), [(3, 1, 1), (2, 0, 1), (1, 2, 0)]);
    }
}
