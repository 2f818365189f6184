//! The memory of a silent Worker, by the bytes that are asked of the allocator: a binary of its own,
//! because there is one allocator per binary.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use ecapture_actors::{Output, PipelineConfig, PipelineLimits, Placement, SinkWriter, spawn};
use ecapture_protocols::format::Text;
use ecapture_protocols::{
    AddressSource, CapturedEvent, DataEvent, Direction, Options, Process, Socket, Tuple, stream_decoder,
};
use tokio::sync::mpsc;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Null;

impl SinkWriter for Null {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const CONNECTIONS: usize = 2_000;

/// One request and its response on a connection of its own.
fn exchange(number: usize) -> [CapturedEvent; 2] {
    let event = |direction, payload: &'static str| {
        let port = u16::try_from(number).unwrap();
        let tuple = Tuple {
            source: ([10, 0, 0, 1], port).into(),
            destination: ([10, 0, 0, 2], 443).into(),
        };
        CapturedEvent::Data(DataEvent {
            timestamp_ns: 1,
            process: Process {
                pid: 1234,
                tid: 1234,
                uid: Some(0),
                comm: "test".into(),
            },
            container_id: None,
            program: None,
            direction,
            fd: Some(5),
            session: None,
            socket: Some(Socket {
                sock: number as u64 + 1,
                tuple,
                local: None,
                address_source: AddressSource::Exact,
            }),
            tls_version: None,
            stream_offset: Some(0),
            joined_late: None,
            payload: Bytes::from_static(payload.as_bytes()),
        })
    };
    [
        event(Direction::Write, "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"),
        event(
            Direction::Read,
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        ),
    ]
}

/// An allocator rounds sizes up, by a tenth on average: that is the difference to the constant.
#[actix::test]
async fn a_silent_worker_takes_what_the_limits_reckon_with() {
    tokio::time::pause();
    let options = Arc::new(Options::default());
    let decoders = Arc::new(move |_: &_, _| stream_decoder(Arc::clone(&options)));
    let mut config = PipelineConfig::new(decoders);
    config.placement = Placement::Inline;
    let (feed, mut receiver) = mpsc::unbounded_channel();
    let source = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
    let handle = spawn(
        config,
        source,
        vec![Output::records("text", Arc::new(Text::default()), Null)],
    );
    let before = ALLOCATED.load(Relaxed);
    for number in 0..CONNECTIONS {
        feed.send(exchange(number).to_vec()).unwrap();
    }
    // Long enough for every tick and every deadline.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let statistics = handle.statistics();
    assert_eq!(statistics.live_workers, 2 * CONNECTIONS as u64);
    assert_eq!(statistics.produced.events, 2 * CONNECTIONS as u64);
    let per_worker = (ALLOCATED.load(Relaxed) - before) / (2 * CONNECTIONS);
    let reckoned = PipelineLimits::WORKER_BYTES;
    assert!(
        (reckoned * 8 / 10..=reckoned * 95 / 100).contains(&per_worker),
        "{per_worker} bytes, {reckoned} reckoned with"
    );
    // Long enough for every connection to be looked at.
    tokio::time::sleep(Duration::from_secs(15)).await;
    // Room for the messages of that look is given back with the next one.
    feed.send(exchange(0).to_vec()).unwrap();
    tokio::time::sleep(Duration::from_secs(15)).await;
    let statistics = handle.statistics();
    assert_eq!(
        (statistics.live_workers, statistics.sleeping),
        (0, 2 * CONNECTIONS as u64)
    );
    let per_stream = (ALLOCATED.load(Relaxed) - before) / (2 * CONNECTIONS);
    let reckoned = PipelineLimits::ASLEEP_BYTES;
    assert!(
        (reckoned * 8 / 10..=reckoned * 95 / 100).contains(&per_stream),
        "{per_stream} bytes asleep, {reckoned} reckoned with; {per_worker} awake"
    );
    drop(feed);
    assert!(handle.finished().await.balanced());
}
