//! What the actors cost, beside two floors of the same run: copying the bytes, and decoding and
//! formatting them in a plain loop.
//!
//! `cargo bench -p ecapture-actors` prints the whole table; `-- UUIDS BYTES` one group of it.
//! `raw` passes the bytes through: what remains is the actors. `http1` is one request per event
//! through the real decoder and text format.
//! Every row runs in a process of its own, so that memory and CPU time are its own.

#![expect(clippy::print_stdout, reason = "the table is the output")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

use std::collections::HashMap;
use std::io;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use ecapture_actors::{Clock, DecoderFactory, PipelineConfig, Placement, SinkWriter, Summary, spawn};
use ecapture_protocols::format::Text;
use ecapture_protocols::message::{Content, Gap, Message, Raw};
use ecapture_protocols::{
    AddressSource, CapturedEvent, DataEvent, Direction, Format, Identity, Options, Output, PeerNotice,
    Process, Socket, StreamDecoder, Tuple, stream_decoder,
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
    fn write(&self, identity: &Identity, messages: &[Message], out: &mut Vec<u8>) {
        for message in messages {
            if let Content::Raw(raw) = &message.content {
                out.extend_from_slice(identity.uuid.as_bytes());
                out.extend_from_slice(&raw.data);
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

    fn event(self, number: u64, payload: &Bytes) -> DataEvent {
        let sock = number % self.uuids + 1;
        let port = u16::try_from(sock % 60_000).unwrap_or(0);
        DataEvent {
            timestamp_ns: number * 1_000,
            process: Process {
                pid: 1,
                tid: 1,
                uid: None,
                comm: "bench".into(),
            },
            container_id: None,
            direction: Direction::Write,
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
            payload: payload.clone(),
        }
    }

    /// Batches of 256 events; the payload has no reference count, so making them costs next to
    /// nothing.
    fn source(self) -> impl Stream<Item = Vec<CapturedEvent>> + Send + Unpin + 'static {
        let payload = self.payload();
        let starts = (0..self.events()).step_by(256);
        futures_util::stream::iter(starts.map(move |start| {
            let end = (start + 256).min(self.events());
            (start..end)
                .map(|number| CapturedEvent::Data(self.event(number, &payload)))
                .collect()
        }))
    }

    /// Has no reference count: that would be one more thing for the threads to share.
    fn payload(self) -> Bytes {
        let head = |length: usize| match self.content {
            Payload::Raw => Vec::new(),
            Payload::Http1 => {
                format!("POST / HTTP/1.1\r\nHost: example.org\r\nContent-Length: {length:05}\r\n\r\n")
                    .into_bytes()
            }
        };
        let mut payload = head(self.bytes.saturating_sub(head(0).len()));
        payload.resize(self.bytes, b'x');
        Bytes::from_static(payload.leak())
    }

    fn decoder(self) -> Box<dyn StreamDecoder> {
        match self.content {
            Payload::Raw => Box::new(PassThrough),
            Payload::Http1 => stream_decoder(Options::default()),
        }
    }

    fn format(self) -> Arc<dyn Format> {
        match self.content {
            Payload::Raw => Arc::new(Plain),
            Payload::Http1 => Arc::new(Text::default()),
        }
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
}

fn measure(work: impl FnOnce()) -> Figures {
    let (started, cpu_before) = (tokio::time::Instant::now(), cpu_seconds());
    work();
    Figures {
        seconds: started.elapsed().as_secs_f64(),
        cpu_seconds: cpu_seconds() - cpu_before,
        peak_mib: peak_mib(),
    }
}

fn copy_floor(case: Case) {
    let payload = case.payload();
    let mut copy = vec![0; case.bytes];
    for _ in 0..case.events() {
        copy.copy_from_slice(std::hint::black_box(&payload));
        std::hint::black_box(&mut copy);
    }
}

/// The same events, decoded and formatted in a loop: a decoder per UUID and one output buffer.
fn loop_floor(case: Case) {
    let payload = case.payload();
    let format = case.format();
    let mut streams: HashMap<u64, (Identity, Box<dyn StreamDecoder>)> = HashMap::new();
    let (mut output, mut out) = (Output::default(), Vec::new());
    for number in 0..case.events() {
        let event = case.event(number, &payload);
        let sock = event.socket.map_or(0, |socket| socket.sock);
        let (identity, decoder) = streams
            .entry(sock)
            .or_insert_with(|| (Identity::of(&event), case.decoder()));
        decoder.feed(&event.payload, event.timestamp_ns, &mut output);
        format.write(identity, &output.messages, &mut out);
        output.clear();
        if out.len() > 256 * 1024 {
            std::hint::black_box(&out);
            out.clear();
        }
    }
}

fn through_pipeline(case: Case, clock: Clock) -> Summary {
    let decoders: DecoderFactory = Arc::new(move |_| case.decoder());
    let mut config = PipelineConfig::new(decoders, case.format());
    config.clock = clock;
    if case.uuids > 10_000 {
        // By default there would not be as many Workers.
        config.limits.max_memory = 1024 * 1024 * 1024;
    }
    config.placement = Placement::Threads { worker_arbiters: 1 };
    actix_rt::System::new()
        .block_on(async move { spawn(config, case.source(), Box::new(Null)).finished().await })
}

fn row(case: Case, what: &str) {
    let figures = measure(|| match what {
        "copy" => copy_floor(case),
        "loop" => loop_floor(case),
        _ => {
            let clock = if what == "live" {
                Clock::Live
            } else {
                Clock::Stream
            };
            let summary = through_pipeline(case, clock);
            assert!(
                summary.balanced() && summary.statistics.losses.is_empty(),
                "{summary:?}"
            );
        }
    });
    let events = case.events() as f64;
    let content = if case.content == Payload::Raw {
        "raw"
    } else {
        "http1"
    };
    println!(
        "{content:<6} {:>7} {:>6} {:<7} {:>9.0} {:>8.0} {:>8.2} {:>7.0}",
        case.uuids,
        case.bytes,
        what,
        events / figures.seconds / 1e3,
        events * case.bytes as f64 / figures.seconds / 1e6,
        figures.cpu_seconds / events * 1e6,
        figures.peak_mib,
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let number = |index: usize| {
        arguments
            .get(index)
            .and_then(|argument| argument.parse::<u64>().ok())
    };
    if let (Some(uuids), Some(bytes), Some(what)) = (number(0), number(1), arguments.get(2)) {
        let content = if arguments.get(3).is_some_and(|content| content == "http1") {
            Payload::Http1
        } else {
            Payload::Raw
        };
        row(
            Case {
                uuids,
                bytes: usize::try_from(bytes).unwrap_or(1),
                content,
            },
            what,
        );
        return;
    }
    println!("          uuids  bytes what     k ev/s     MB/s  µs CPU peak MiB");
    let itself = std::env::current_exe().expect("the benchmark knows where it is");
    for uuids in [1, 100, 10_000, 100_000] {
        for bytes in [100, 1024, 16 * 1024] {
            if number(0).is_some_and(|only| only != uuids) || number(1).is_some_and(|only| only != bytes) {
                continue;
            }
            for (content, what) in ["raw", "http1"]
                .into_iter()
                .flat_map(|content| ["copy", "loop", "replay", "live"].map(|what| (content, what)))
            {
                let arguments = [&uuids.to_string(), &bytes.to_string(), what, content];
                let row = Command::new(&itself).args(arguments).status();
                assert!(row.is_ok_and(|status| status.success()), "{arguments:?} failed");
            }
        }
    }
}
