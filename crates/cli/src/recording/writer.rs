//! Writes a recording.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use ecapture_protocols::CapturedEvent;
use ecapture_protocols::recording::line::{self, Header};
use tokio::sync::{mpsc, oneshot};

/// Batches that wait for the file. When it takes nothing, the kernel's ring is the queue.
const BATCHES: usize = 8;

/// A recording being written, on a thread of its own: a file system or pipe that takes nothing holds up
/// nobody else.
pub(crate) struct RecordingWriter {
    entries: mpsc::Sender<Entry>,
    ended: oneshot::Receiver<io::Result<()>>,
    written: Arc<Written>,
}

enum Entry {
    Events(Vec<CapturedEvent>),
    Flush,
}

/// What has been given to the file.
#[derive(Debug, Default)]
pub(crate) struct Written {
    events: AtomicU64,
    bytes: AtomicU64,
}

impl Written {
    /// Events, and bytes of their payload.
    pub(crate) fn figures(&self) -> (u64, u64) {
        (
            self.events.load(Ordering::Acquire),
            self.bytes.load(Ordering::Acquire),
        )
    }
}

impl RecordingWriter {
    /// Begins with the header.
    pub(crate) fn start(file: File, wall_clock_offset_ns: i64) -> io::Result<Self> {
        let (entries, receiver) = mpsc::channel(BATCHES);
        let (ending, ended) = oneshot::channel();
        let written = Arc::new(Written::default());
        let counted = Arc::clone(&written);
        thread::Builder::new().name("recording".into()).spawn(move || {
            // Nobody waits for it when the run was given up.
            let _ = ending.send(write(file, wall_clock_offset_ns, receiver, &counted));
        })?;
        Ok(Self {
            entries,
            ended,
            written,
        })
    }

    /// Hands over events, in order, when there is room for them. An error when writing has failed.
    pub(crate) async fn write(&mut self, events: Vec<CapturedEvent>) -> io::Result<()> {
        if self.entries.send(Entry::Events(events)).await.is_ok() {
            return Ok(());
        }
        ended(&mut self.ended).await
    }

    /// Makes what was handed over visible to readers of the file. False when there is no room now.
    pub(crate) fn try_flush(&self) -> bool {
        self.entries.try_send(Entry::Flush).is_ok()
    }

    /// What the file has got, also after this was dropped.
    pub(crate) fn written(&self) -> Arc<Written> {
        Arc::clone(&self.written)
    }

    /// Waits until everything is in the file.
    pub(crate) async fn finish(self) -> io::Result<()> {
        let Self {
            entries,
            ended: mut ending,
            ..
        } = self;
        drop(entries);
        ended(&mut ending).await
    }
}

async fn ended(ending: &mut oneshot::Receiver<io::Result<()>>) -> io::Result<()> {
    ending
        .await
        .unwrap_or_else(|_| Err(io::Error::other("the thread that writes has failed")))
}

fn write(
    file: File,
    wall_clock_offset_ns: i64,
    mut entries: mpsc::Receiver<Entry>,
    written: &Written,
) -> io::Result<()> {
    let mut output = BufWriter::with_capacity(256 * 1024, file);
    let mut text = Vec::new();
    Header::new(Some(wall_clock_offset_ns)).write(&mut text);
    output.write_all(&text)?;
    output.flush()?;
    while let Some(entry) = entries.blocking_recv() {
        let Entry::Events(events) = entry else {
            output.flush()?;
            continue;
        };
        for event in &events {
            text.clear();
            line::write(event, &mut text);
            output.write_all(&text)?;
        }
        let bytes: u64 = events.iter().map(payload_len).sum();
        written.bytes.fetch_add(bytes, Ordering::Release);
        written.events.fetch_add(events.len() as u64, Ordering::Release);
    }
    output.flush()
}

/// Bytes of plaintext in an event.
pub(crate) fn payload_len(event: &CapturedEvent) -> u64 {
    match event {
        CapturedEvent::Data(data) => data.payload.len() as u64,
        CapturedEvent::Close { .. } => 0,
    }
}
