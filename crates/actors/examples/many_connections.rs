//! Opens and closes many connections over replay and reports what a live Worker costs, and what a
//! connection costs that has been silent for so long that it sleeps.
//!
//! `cargo run --release -p ecapture-actors --example many_connections [-- CONNECTIONS LIVE]`;
//! without arguments 100,000 connections, at most 20,000 of them at once. When as many are live as there
//! are, none of them is closed before all have fallen asleep.
#![expect(clippy::print_stdout, reason = "the report is the output")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use ecapture_actors::{Clock, Output, PipelineConfig, PipelineHandle, SinkWriter, Timings, spawn};
use ecapture_protocols::format::Text;
use ecapture_protocols::{
    AddressSource, CapturedEvent, Close, DataEvent, Direction, Options, Process, Side, Socket, Tuple,
    stream_decoder,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

struct Null(u64);

impl SinkWriter for Null {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Connections are opened this long after each other.
const INTERVAL_NS: u64 = 100_000;

/// Looks at a part of the connections, after which each has been looked at.
const LOOKS: u32 = 100;

/// The run's handle, for the source.
static HANDLE: OnceLock<PipelineHandle> = OnceLock::new();

fn data(connection: u64, timestamp_ns: u64, direction: Direction, payload: &'static [u8]) -> CapturedEvent {
    let port = u16::try_from(connection % 60_000).unwrap_or(0);
    CapturedEvent::Data(DataEvent {
        timestamp_ns,
        process: Process {
            pid: 1,
            tid: 1,
            uid: None,
            comm: "example".into(),
        },
        container_id: None,
        program: None,
        direction,
        fd: Some(5),
        session: None,
        socket: Some(Socket {
            sock: connection + 1,
            tuple: Tuple {
                source: ([10, 0, 0, 1], port).into(),
                destination: ([10, 0, 0, 2], 443).into(),
            },
            local: Some(Side::Source),
            address_source: AddressSource::Exact,
        }),
        tls_version: None,
        stream_offset: None,
        joined_late: None,
        payload: Bytes::from_static(payload),
    })
}

/// One request and one response per connection; it is closed when `live` more were opened.
fn batch(first: u64, last: u64, live: u64) -> Vec<CapturedEvent> {
    let events = (first..last).flat_map(|connection| {
        let closed = connection.checked_sub(live).map(|closed| CapturedEvent::Close {
            timestamp_ns: connection * INTERVAL_NS,
            close: Close::Socket { sock: closed + 1 },
        });
        let exchange = [
            data(connection, connection * INTERVAL_NS, Direction::Write, REQUEST),
            data(connection, connection * INTERVAL_NS, Direction::Read, RESPONSE),
        ];
        closed.into_iter().chain(exchange)
    });
    events.collect()
}

/// One connection continues while all others are silent, until each of them has been examined.
/// Every batch is a round of the replay.
fn silence(connections: u64) -> impl Iterator<Item = Vec<CapturedEvent>> {
    let timings = Timings::default();
    let begin = Duration::from_nanos(connections * INTERVAL_NS) + timings.hibernate;
    (1..LOOKS).map(move |look| {
        let at = begin + timings.run_interval * look;
        let timestamp_ns = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        let exchange = || {
            [
                data(0, timestamp_ns, Direction::Write, REQUEST),
                data(0, timestamp_ns, Direction::Read, RESPONSE),
            ]
        };
        (0..512).flat_map(|_| exchange()).collect()
    })
}

/// Prints the figures while all connections sleep.
fn report_sleep(connections: u64, before_kib: f64) {
    let Some(handle) = HANDLE.get() else { return };
    let statistics = handle.statistics();
    let memory_kib = memory_kib("VmRSS") - before_kib;
    println!("asleep: streams        {:>12}", statistics.sleeping);
    println!("asleep: workers        {:>12}", statistics.live_workers);
    println!("asleep: memory, MiB    {:>12.1}", memory_kib / 1024.0);
    println!(
        "per sleeping connection {:>11.0}",
        memory_kib * 1024.0 / connections as f64
    );
}

fn memory_kib(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap_or("");
    line.split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .unwrap_or(0.0)
}

fn main() {
    let arguments: Vec<u64> = std::env::args()
        .skip(1)
        .filter_map(|argument| argument.parse().ok())
        .collect();
    let connections = arguments.first().copied().unwrap_or(100_000);
    let live = arguments.get(1).copied().unwrap_or(20_000);
    let options = Arc::new(Options::default());
    let decoders = Arc::new(move |_: &_, _| stream_decoder(Arc::clone(&options)));
    let mut config = PipelineConfig::new(decoders);
    config.clock = Clock::Stream;
    if live > 20_000 {
        // By default there would not be as many Workers.
        config.limits.max_memory = 6 * 1024 * 1024 * 1024;
    }
    let batches = (0..connections)
        .step_by(100)
        .map(move |first| batch(first, (first + 100).min(connections), live));
    let before_kib = memory_kib("VmRSS");
    let sleeping = live >= connections;
    let silence = silence(connections).take_while(move |_| sleeping);
    let report = std::iter::once_with(move || {
        if sleeping {
            report_sleep(connections, before_kib);
        }
        Vec::new()
    });
    let batches = batches.chain(silence).chain(report);
    let started = tokio::time::Instant::now();
    let summary = actix_rt::System::new().block_on(async move {
        let handle = {
            let output = Output::records("text", Arc::new(Text::default()), Null(0));
            spawn(config, futures_util::stream::iter(batches), vec![output])
        };
        HANDLE.get_or_init(|| handle.clone());
        handle.finished().await
    });
    let statistics = summary.statistics;
    assert!(
        statistics.balanced() && statistics.losses.is_empty(),
        "{statistics:#?}"
    );
    assert_eq!(statistics.live_workers, 0);
    let peak_kib = memory_kib("VmHWM") - before_kib;
    println!("connections            {connections:>12}");
    println!("workers started        {:>12}", statistics.started_workers);
    println!("workers live at most   {:>12}", statistics.peak_workers);
    println!("messages               {:>12}", statistics.produced.events);
    println!("seconds                {:>12.2}", started.elapsed().as_secs_f64());
    println!("peak memory, MiB       {:>12.1}", peak_kib / 1024.0);
    println!(
        "per live worker, bytes {:>12.0}",
        peak_kib * 1024.0 / statistics.peak_workers as f64
    );
}
