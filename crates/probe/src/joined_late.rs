//! Which connections the capture has joined late, and whose.

use std::collections::{BTreeSet, HashMap};

use ecapture_protocols::{CapturedEvent, Close, Comm, DataEvent, JoinedLate};

use crate::handle::CaptureHandle;

/// Most connections that are remembered as counted, and most programs that are named.
const REMEMBERED: usize = 16 * 1024;

/// Connections whose first bytes may be missing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LateConnections {
    /// Those that were open before the capture began.
    pub open_before_capture: u64,
    /// Those that were opened during the capture, before the probes stood in their library.
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
pub(crate) struct Counted {
    /// By process, session and socket.
    connections: BTreeSet<(u32, u64, u64)>,
}

impl Counted {
    pub(crate) fn note(&mut self, event: &CapturedEvent, handle: &CaptureHandle) {
        match event {
            CapturedEvent::Data(data) => {
                if let Some(reason) = self.is_new(data) {
                    handle.count_late(data, reason);
                }
            }
            CapturedEvent::Close { close, .. } if !self.connections.is_empty() => self.forget(*close),
            CapturedEvent::Close { .. } => {}
        }
    }

    /// Only the first event of a direction can be that of a new connection.
    fn is_new(&mut self, data: &DataEvent) -> Option<JoinedLate> {
        let reason = data.joined_late.filter(|_| data.stream_offset == Some(0))?;
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
