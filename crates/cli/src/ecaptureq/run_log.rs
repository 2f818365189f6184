//! The program's own log lines, for clients.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use ecapture_protocols::format::protobuf;

use super::hub::{Client, Full, Hub};

/// Lines of the start that every client gets, whenever it connects; as many as the original keeps.
const KEPT_LINES: usize = 128;

/// Where the log is written to as JSON lines while a server runs, or is about to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RunLog;

struct State {
    /// Encoded entries.
    kept: Vec<Bytes>,
    hub: Weak<Hub>,
}

/// Logging is set up once, before any output is opened.
static STATE: Mutex<State> = Mutex::new(State {
    kept: Vec::new(),
    hub: Weak::new(),
});

impl RunLog {
    /// Sends the lines that follow to the clients of `hub`.
    pub(super) fn feed(hub: &Arc<Hub>) {
        state().hub = Arc::downgrade(hub);
    }

    /// Adds a client, which gets the lines of the start, then `greeting`, then the lines that follow.
    pub(super) fn join(hub: &Hub, greeting: Vec<u8>) -> Result<Arc<Client>, Full> {
        // Held, so that no line is missing or comes twice.
        let state = state();
        let kept = state.kept.iter().cloned();
        hub.join(kept.chain([greeting.into()]))
    }
}

/// One line with each call.
impl io::Write for RunLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let entry = Bytes::from(protobuf::log_line(&String::from_utf8_lossy(line)));
        let mut state = state();
        if state.kept.len() < KEPT_LINES {
            state.kept.push(entry.clone());
        }
        if let Some(hub) = state.hub.upgrade() {
            // A line that a slow client misses is included in what is reported to it.
            let _ = hub.publish(&entry);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}
