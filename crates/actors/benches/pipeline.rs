//! The cost of the actors, beside two floors of the same run: copying the bytes, and decoding and
//! formatting them in a plain loop.
//!
//! `cargo bench -p ecapture-actors --bench pipeline` prints the whole table; `-- UUIDS BYTES` one group
//! of it, `-- CONTENT` those of one content, `-- paced` the rows at the pace of a live capture.
//! `raw` passes the bytes through: only the actors remain. `http1` and `http2` are one request with
//! a body per event, through the real decoders and the text format; every message must come out.
//! Every measurement runs in a process of its own, so that memory and CPU time are its own.

#![expect(clippy::print_stdout, reason = "the table is the output")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

use std::collections::HashMap;
use std::io;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use ecapture_actors::{
    Clock, DecoderFactory, LossRow, Output as PipelineOutput, PipelineConfig, Placement, SinkWriter, Summary,
    spawn, spawn_with,
};
use ecapture_protocols::format::Text;
use ecapture_protocols::message::{Content, Gap, Message, Raw};
use ecapture_protocols::{
    AddressSource, CapturedEvent, Close, DataEvent, Direction, Format, Options, Origin, Output, PeerNotice,
    Process, Records, Socket, StreamDecoder, Tuple, View, stream_decoder,
};
use futures_util::Stream;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Emits every payload as it comes.
struct PassThrough;

impl StreamDecoder for PassThrough {
    fn feed(&mut self, payload: &Bytes, timestamp_ns: u64, output: &mut Output) {
        let content = Content::Raw(Raw {
            data: payload.clone(),
        });
        output.messages.push(Message {
            first_ns: timestamp_ns,
            last_ns: timestamp_ns,
            exchange: None,
            content,
        });
    }
    fn gap(&mut self, _gap: Gap, _timestamp_ns: u64, _output: &mut Output) {}
    fn notice(&mut self, _notice: &PeerNotice, _output: &mut Output) {}
    fn idle(&mut self, _output: &mut Output) {}
    fn close(&mut self, _output: &mut Output) {}
    fn buffered_bytes(&self) -> usize {
        0
    }
}

/// The UUID and the bytes.
struct Plain;

impl Format for Plain {
    fn view(&self) -> View {
        View::Text
    }

    fn write(&self, origin: &Origin, messages: &[Message], out: &mut Records) {
        for message in messages {
            if let Content::Raw(raw) = &message.content {
                out.bytes().extend_from_slice(origin.name().as_bytes());
                out.bytes().extend_from_slice(&raw.data);
                out.end(1);
            }
        }
    }
}

struct Null;

impl SinkWriter for Null {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        std::hint::black_box(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Payload {
    Raw,
    Http1,
    Http2,
}

impl Payload {
    const ALL: [(&str, Self); 3] = [("raw", Self::Raw), ("http1", Self::Http1), ("http2", Self::Http2)];

    fn named(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, content)| *content)
    }

    /// One event's bytes, `bytes` of them unless that is too few for a request.
    fn event(self, bytes: usize) -> Vec<u8> {
        let mut payload = match self {
            Self::Raw => Vec::new(),
            Self::Http1 => {
                let head = |length: usize| {
                    format!("POST / HTTP/1.1\r\nHost: example.org\r\nContent-Length: {length:05}\r\n\r\n")
                };
                head(bytes.saturating_sub(head(0).len())).into_bytes()
            }
            Self::Http2 => http2_request(bytes),
        };
        payload.resize(bytes.max(payload.len()), b'x');
        payload
    }

    /// The first bytes of a stream.
    fn preface(self) -> &'static [u8] {
        match self {
            Self::Raw | Self::Http1 => b"",
            Self::Http2 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
        }
    }
}

/// HEADERS and the head of a DATA frame that makes `bytes` of it all. The fields leave the compression
/// state as it is, and the stream id stays the same, which a bystander does not mind.
fn http2_request(bytes: usize) -> Vec<u8> {
    let frame = |kind: u8, flags: u8, length: usize| {
        let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1]].concat()
    };
    // :method POST, :path /, :scheme https, :authority.
    let block = [&[0x83, 0x84, 0x87, 0x01, 11], &b"example.org"[..]].concat();
    let head = [frame(1, 4, block.len()), block].concat();
    let left = bytes.saturating_sub(head.len() + 9);
    [head, frame(0, 1, left)].concat()
}

#[derive(Clone, Copy)]
struct Case {
    uuids: u64,
    bytes: usize,
    content: Payload,
}

impl Case {
    fn events(self) -> u64 {
        let by_volume = 2_000_000_000 / self.bytes as u64;
        by_volume.clamp(self.uuids, 1_500_000)
    }

    fn event(self, number: u64, payloads: &Payloads) -> DataEvent {
        let is_first = number < self.uuids;
        data_event(
            number % self.uuids + 1,
            number * 1_000,
            Direction::Write,
            if is_first {
                payloads.first.clone()
            } else {
                payloads.next.clone()
            },
        )
    }

    /// Batches of 256 events; the payloads have no reference count, so making them costs next to
    /// nothing.
    fn source(self) -> impl Stream<Item = Vec<CapturedEvent>> + Send + Unpin + 'static {
        let payloads = self.payloads();
        let starts = (0..self.events()).step_by(256);
        futures_util::stream::iter(starts.map(move |start| {
            let end = (start + 256).min(self.events());
            (start..end)
                .map(|number| CapturedEvent::Data(self.event(number, &payloads)))
                .collect()
        }))
    }

    fn payloads(self) -> Payloads {
        let next = self.content.event(self.bytes);
        let first = [self.content.preface(), &next].concat();
        Payloads {
            first: Bytes::from_static(first.leak()),
            next: Bytes::from_static(next.leak()),
        }
    }

    fn decoder(self) -> Box<dyn StreamDecoder> {
        match self.content {
            Payload::Raw => Box::new(PassThrough),
            Payload::Http1 | Payload::Http2 => stream_decoder(Options::default()),
        }
    }

    fn output(self) -> PipelineOutput {
        PipelineOutput::records("null", self.format(), Null)
    }

    fn format(self) -> Arc<dyn Format> {
        match self.content {
            Payload::Raw => Arc::new(Plain),
            Payload::Http1 | Payload::Http2 => Arc::new(Text::default()),
        }
    }
}

/// Without a reference count: that would be one more thing for the threads to share.
struct Payloads {
    first: Bytes,
    next: Bytes,
}

fn data_event(sock: u64, timestamp_ns: u64, direction: Direction, payload: Bytes) -> DataEvent {
    let port = u16::try_from(sock % 60_000).unwrap_or(0);
    DataEvent {
        timestamp_ns,
        process: Process {
            pid: 1,
            tid: 1,
            uid: None,
            comm: "bench".into(),
        },
        container_id: None,
        program: None,
        direction,
        fd: Some(5),
        session: None,
        socket: Some(Socket {
            sock,
            tuple: Tuple {
                source: ([10, 0, 0, 1], port).into(),
                destination: ([10, 0, 0, 2], 443).into(),
            },
            local: None,
            address_source: AddressSource::Exact,
        }),
        tls_version: None,
        stream_offset: None,
        joined_late: None,
        payload,
    }
}

/// Seconds of CPU time of this process, user and system.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
    let ticks = |index: usize| {
        fields
            .get(index)
            .and_then(|field| field.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / 100.0
}

/// Peak resident memory in MiB.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap_or("");
    line.split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse::<f64>().ok())
        .unwrap_or(0.0)
        / 1024.0
}

struct Figures {
    seconds: f64,
    cpu_seconds: f64,
    peak_mib: f64,
    /// Events that were handled, and not lost.
    events: f64,
}

/// Measures `work`, which returns how many events it handled.
fn measure(work: impl FnOnce() -> u64) -> Figures {
    let (started, cpu_before) = (tokio::time::Instant::now(), cpu_seconds());
    let events = work();
    Figures {
        events: events as f64,
        seconds: started.elapsed().as_secs_f64(),
        cpu_seconds: cpu_seconds() - cpu_before,
        peak_mib: peak_mib(),
    }
}

fn copy_floor(case: Case) -> u64 {
    let payload = case.payloads().next;
    let mut copy = vec![0; payload.len()];
    for _ in 0..case.events() {
        copy.copy_from_slice(std::hint::black_box(&payload));
        std::hint::black_box(&mut copy);
    }
    case.events()
}

/// The same events, decoded and formatted in a loop: a decoder per UUID and one output buffer.
fn loop_floor(case: Case) -> u64 {
    let payloads = case.payloads();
    let format = case.format();
    let mut streams: HashMap<u64, (Origin, Box<dyn StreamDecoder>)> = HashMap::new();
    let (mut output, mut out) = (Output::default(), Records::default());
    for number in 0..case.events() {
        let event = case.event(number, &payloads);
        let sock = event.socket.map_or(0, |socket| socket.sock);
        let (origin, decoder) = streams
            .entry(sock)
            .or_insert_with(|| (Origin::of(&event, sock), case.decoder()));
        decoder.feed(&event.payload, event.timestamp_ns, &mut output);
        format.write(origin, &output.messages, &mut out);
        output.clear();
        if out.as_bytes().len() > 256 * 1024 {
            std::hint::black_box(&out);
            out.truncate(0);
        }
    }
    case.events()
}

fn through_pipeline(case: Case, clock: Clock, worker_arbiters: usize) -> Summary {
    let decoders: DecoderFactory = Arc::new(move |_, _| case.decoder());
    let mut config = PipelineConfig::new(decoders);
    config.clock = clock;
    if case.uuids > 10_000 {
        // By default there would not be as many Workers.
        config.limits.max_memory = 1024 * 1024 * 1024;
    }
    config.placement = Placement::Threads { worker_arbiters };
    actix_rt::System::new()
        .block_on(async move { spawn(config, case.source(), vec![case.output()]).finished().await })
}

/// The load of a capture: every millisecond some exchanges, a request and a response of 1 KB each. The reader
/// looks at the ring every four milliseconds (`BUSY_POLL_INTERVAL` in the crate `ecapture-probe`).
#[derive(Clone, Copy)]
enum Paced {
    /// Each on a new connection, which is closed ten milliseconds later.
    NewConnections,
    /// One on each of a few connections.
    FewConnections,
}

impl Paced {
    const ALL: [(&str, Self); 2] = [
        ("connections", Self::NewConnections),
        ("exchanges", Self::FewConnections),
    ];
    const MILLISECONDS: u64 = 5000;
    const LOOK_MILLISECONDS: u64 = 4;

    fn named(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, paced)| *paced)
    }

    fn exchanges_per_millisecond(self) -> u64 {
        match self {
            Self::NewConnections => 10,
            Self::FewConnections => 30,
        }
    }

    fn events(self) -> u64 {
        2 * self.exchanges_per_millisecond() * Self::MILLISECONDS
    }

    /// The events of one millisecond.
    fn events_of(self, millisecond: u64, request: &Bytes, response: &Bytes) -> Vec<CapturedEvent> {
        let count = self.exchanges_per_millisecond();
        let socks = |millisecond: u64| match self {
            Self::NewConnections => millisecond * count + 1..(millisecond + 1) * count + 1,
            Self::FewConnections => 1..count + 1,
        };
        let now_ns = millisecond * 1_000_000;
        let exchanges = socks(millisecond).flat_map(|sock| {
            let event = |direction, payload: &Bytes| {
                CapturedEvent::Data(data_event(sock, now_ns, direction, payload.clone()))
            };
            [event(Direction::Write, request), event(Direction::Read, response)]
        });
        let closed = match self {
            Self::NewConnections => millisecond.checked_sub(10),
            Self::FewConnections => None,
        };
        let closed = closed
            .into_iter()
            .flat_map(socks)
            .map(|sock| CapturedEvent::Close {
                timestamp_ns: now_ns,
                close: Close::Socket { sock },
            });
        exchanges.chain(closed).collect()
    }

    fn source(self) -> impl Stream<Item = Vec<CapturedEvent>> + Unpin {
        let request = Bytes::from_static(Payload::Http1.event(1024).leak());
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 980\r\n\r\n";
        let response = Bytes::from_static(format!("{head}{}", "x".repeat(980)).into_bytes().leak());
        let ticks = tokio::time::interval(std::time::Duration::from_millis(Self::LOOK_MILLISECONDS));
        let batches = futures_util::stream::unfold((0, ticks), move |(begin, mut ticks)| {
            let end = begin + Self::LOOK_MILLISECONDS;
            let events = (begin < Self::MILLISECONDS).then(|| {
                let events = |millisecond| self.events_of(millisecond, &request, &response);
                (begin..end).flat_map(events).collect()
            });
            async move {
                ticks.tick().await;
                Some((events?, (end, ticks)))
            }
        });
        Box::pin(batches)
    }

    fn through_pipeline(self) -> Summary {
        let options = Arc::new(Options::default());
        let decoders: DecoderFactory = Arc::new(move |_, _| stream_decoder(Arc::clone(&options)));
        let config = PipelineConfig::new(decoders);
        let output = PipelineOutput::records("null", Arc::new(Text::default()), Null);
        actix_rt::System::new().block_on(async move {
            spawn_with(config, move || self.source(), vec![output])
                .finished()
                .await
        })
    }
}

/// Checks that the ledger is exact and that every event that was not lost came out as a message. Returns how
/// many those are. A live pipeline that cannot keep up drops what its Workers have no room for
/// (`worker_full`), which a bench's source, as quick as memory, always causes.
fn check(summary: &Summary, events: u64, clock: Clock) -> u64 {
    let statistics = &summary.statistics;
    let live = matches!(clock, Clock::Live);
    let may_be_lost = |row: &LossRow| live && row.reason == "worker_full";
    assert!(
        summary.balanced() && statistics.losses.iter().all(may_be_lost),
        "{summary:?}"
    );
    let lost: u64 = statistics.losses.iter().map(|row| row.events).sum();
    let (written, expected) = (statistics.written.events, events - lost);
    assert!(written >= expected, "{written} messages, expected {expected}");
    expected
}

/// Runs one measurement and prints its figures for [`Figures::of_child`].
fn measure_here(case: Case, what: &str) {
    let figures = measure(|| match (what, Paced::named(what)) {
        ("memcpy", _) => copy_floor(case),
        ("parse", _) => loop_floor(case),
        (_, Some(paced)) => check(&paced.through_pipeline(), paced.events(), Clock::Stream),
        _ => {
            let clock = if what.starts_with("live") {
                Clock::Live
            } else {
                Clock::Stream
            };
            let arbiters = if what.ends_with('2') { 2 } else { 1 };
            check(&through_pipeline(case, clock, arbiters), case.events(), clock)
        }
    });
    println!(
        "{} {} {} {}",
        figures.seconds, figures.cpu_seconds, figures.peak_mib, figures.events
    );
}

impl Figures {
    /// Measures in a process of its own.
    fn of_child(case: Case, content: &str, what: &str) -> Self {
        let itself = std::env::current_exe().expect("the benchmark knows where it is");
        let output = Command::new(itself)
            .args(["--measure", &case.uuids.to_string(), &case.bytes.to_string(), content, what])
            // As the program itself sets it.
            .env("MIMALLOC_PURGE_DELAY", "10")
            .stderr(std::process::Stdio::inherit())
            .output()
            .expect("the benchmark runs itself");
        assert!(output.status.success(), "{content} {what} failed");
        let text = String::from_utf8_lossy(&output.stdout);
        let mut numbers = text.split_whitespace().filter_map(|number| number.parse().ok());
        let mut next = || numbers.next().unwrap_or(f64::NAN);
        Self {
            seconds: next(),
            cpu_seconds: next(),
            peak_mib: next(),
            events: next(),
        }
    }
}

/// The pipeline's columns: thousand events a second that came out, their share of the parse floor, MB/s,
/// microseconds of CPU per event, peak memory, and the share of the events that came out.
fn print_run(case: Case, figures: &Figures, floor: &Figures) {
    let rate = figures.events / figures.seconds;
    print!(
        " |{:>8.0} {:>4.0}% {:>6.0} {:>6.2} {:>5.0} {:>5.1}%",
        rate / 1e3,
        100.0 * rate / (floor.events / floor.seconds),
        rate * case.bytes as f64 / 1e6,
        figures.cpu_seconds / figures.events * 1e6,
        figures.peak_mib,
        100.0 * figures.events / case.events() as f64,
    );
}

fn print_case(case: Case, content: &str) {
    let of = |what| Figures::of_child(case, content, what);
    let thousands = |figures: &Figures| case.events() as f64 / figures.seconds / 1e3;
    let (copy, parse) = (of("memcpy"), of("parse"));
    print!(
        "{content:<6}{:>7} {:>6} |{:>8.0} {:>7.0}",
        case.uuids,
        case.bytes,
        thousands(&copy),
        thousands(&parse)
    );
    for what in ["replay", "live", "live2"] {
        print_run(case, &of(what), &parse);
    }
    println!();
}

fn print_paced() {
    let case = Case {
        uuids: 1,
        bytes: 1024,
        content: Payload::Http1,
    };
    println!("\nevery millisecond, each a request and a response of 1 KB; a batch every 4 ms");
    println!("{:<60}  events/s  µs CPU   MiB", "");
    for (name, paced) in Paced::ALL {
        let figures = Figures::of_child(case, "http1", name);
        let shape = match paced {
            Paced::NewConnections => "10 new connections, closed 10 ms later",
            Paced::FewConnections => "30 exchanges on 30 connections",
        };
        println!(
            "{shape:<60}{:>10} {:>7.2} {:>5.0}",
            paced.events() * 1000 / Paced::MILLISECONDS,
            figures.cpu_seconds / paced.events() as f64 * 1e6,
            figures.peak_mib
        );
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let case = |uuids: &str, bytes: &str, content| Case {
        uuids: uuids.parse().unwrap_or(1),
        bytes: bytes.parse().unwrap_or(1),
        content,
    };
    let (only_uuids, only_bytes, only_content) = match *words.as_slice() {
        ["--measure", uuids, bytes, content, what] => {
            let content = Payload::named(content).unwrap_or(Payload::Raw);
            measure_here(case(uuids, bytes, content), what);
            return;
        }
        ["paced"] => {
            print_paced();
            return;
        }
        [content] => (None, None, Some(content)),
        [uuids, bytes] => (Some(uuids), Some(bytes), None),
        [uuids, bytes, content] => (Some(uuids), Some(bytes), Some(content)),
        _ => (None, None, None),
    };
    println!(
        "                    | floors, k ev/s | {:<41}| {:<41}| live, 2 Worker Arbiters",
        "replay", "live"
    );
    let columns = "  k ev/s parse   MB/s µs CPU   MiB   kept";
    println!("        uuids  bytes | memcpy   parse |{columns} |{columns} |{columns}");
    for (content_name, content) in Payload::ALL {
        for uuids in ["1", "100", "10000", "100000"] {
            for bytes in ["100", "1024", "16384"] {
                let is = |only: Option<&str>, value| only.is_none_or(|only| only == value);
                if is(only_uuids, uuids) && is(only_bytes, bytes) && is(only_content, content_name) {
                    print_case(case(uuids, bytes, content), content_name);
                }
            }
        }
    }
    if words.is_empty() {
        print_paced();
    }
}
