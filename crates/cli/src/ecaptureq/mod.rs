//! The eCaptureQ server: a WebSocket server that gives every client each record as a protobuf `LogEntry`,
//! as the original does for its desktop client.
//!
//! ```text
//! Sink ─► Feed (Target) ─► Hub ─► queue of each client ─► client (tokio, on a thread of its own)
//!                 log lines ─┘
//! ```
//!
//! A client gets the log lines of the start, a heartbeat, and from then on everything. Each has a queue with
//! a bound of its own. What finds no room there is missing for that client, which gets a log line that
//! says how much, and is counted as `reader_slow`. No client ever slows the capture or another client.

mod client;
mod hub;
mod run_log;
mod server;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ecapture_actors::{Loss, Taken, Target, Unwritten};

use hub::{Hub, Published};
pub(crate) use run_log::RunLog;

/// Bytes of one entry. The desktop client closes the connection at a frame above 16 MiB.
pub(crate) const ENTRY_BYTES: usize = 15 * 1024 * 1024;

/// How long the end of a run waits for its clients to read what is queued for them.
const LAST_READS: Duration = Duration::from_secs(2);

/// The output that feeds a running server. The server ends with it.
pub(crate) struct Feed {
    hub: Arc<Hub>,
}

impl Feed {
    /// Listens on `address`, `host:port`.
    pub(crate) fn start(address: &str) -> io::Result<Self> {
        let hub = Arc::new(Hub::default());
        server::start(address, Arc::clone(&hub))?;
        RunLog::feed(&hub);
        Ok(Self { hub })
    }
}

impl Target for Feed {
    /// One record with each call, because each has its own outcome.
    fn write(&mut self, records: Unwritten<'_>) -> io::Result<Taken> {
        let Some(record) = records.records().next() else {
            return Ok(Taken::written(0));
        };
        let bytes = record.len();
        Ok(match self.hub.publish(record) {
            Published::ToAll => Taken::written(bytes),
            Published::NotToAll => Taken::lost(bytes, Loss::ReaderSlow),
            Published::ToNobody => Taken::lost(bytes, Loss::NoReader),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> u64 {
        self.hub.close(LAST_READS)
    }
}
