//! Decoder, format, writer and source for tests, and one way to run a pipeline with them.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use ecapture_actors::{
    Clock, DecoderFactory, LossRow, Outcome, Output as PipelineOutput, PipelineConfig, PipelineHandle,
    Placement, Resumption, SinkPolicy, SinkWriter, Stage, Statistics, Summary, Tally, spawn,
};
use ecapture_protocols::decoder::{MethodClass, StreamDecoder};
use ecapture_protocols::message::{Content, Gap, Message, Raw};
use ecapture_protocols::{
    AddressSource, CapturedEvent, Close, DataEvent, Direction, Format, Origin, Output, PeerNotice, Process,
    Records, Socket, Tuple, View,
};
use futures_util::Stream;
use tokio::sync::mpsc;

pub(crate) const MILLISECOND: u64 = 1_000_000;

/// A line protocol: every complete line is a message.
///
/// * `>…` is a request, which is reported to the other direction
/// * `?…` is held until the other direction has reported a request
/// * `~…` is shown in parts, the beginning that has come first
/// * `!panic` makes the decoder panic; `!close-panic` makes it panic at its end, or when it falls asleep
/// * `+…` is counted: the number of counted lines is shown with each
#[derive(Default)]
pub(crate) struct Lines {
    held: Vec<u8>,
    /// Lines that wait for a request.
    waiting: Vec<Vec<u8>>,
    /// Requests reported and not used yet.
    requests: usize,
    panics_at_close: bool,
    counted: usize,
    first_ns: u64,
}

impl Lines {
    pub(crate) fn counting_from(counted: usize) -> Self {
        Self {
            counted,
            ..Self::default()
        }
    }

    fn say(&self, text: impl Into<Vec<u8>>, output: &mut Output) {
        let content = Content::Raw(Raw {
            data: Bytes::from(text.into()),
        });
        output.messages.push(Message {
            first_ns: self.first_ns,
            last_ns: self.first_ns,
            exchange: None,
            content,
        });
    }

    fn line(&mut self, line: Vec<u8>, output: &mut Output) {
        match line.first() {
            Some(b'!') if line == b"!panic" => panic!("told to"),
            Some(b'!') if line == b"!close-panic" => self.panics_at_close = true,
            Some(b'+') => {
                self.counted += 1;
                let text = format!("{} {}", self.counted, String::from_utf8_lossy(&line));
                return self.say(text, output);
            }
            Some(b'>') => {
                let timestamp_ns = self.first_ns;
                output.notices.push(PeerNotice::RequestHead {
                    method: MethodClass::Other,
                    timestamp_ns,
                });
            }
            Some(b'?') => {
                self.waiting.push(line);
                self.release(output);
                return;
            }
            _ => {}
        }
        self.say(line, output);
    }

    fn release(&mut self, output: &mut Output) {
        while self.requests > 0 && !self.waiting.is_empty() {
            self.requests -= 1;
            let line = self.waiting.remove(0);
            self.say([b"answer ", line.as_slice()].concat(), output);
        }
    }

    fn flush(&mut self, how: &str, output: &mut Output) {
        for line in std::mem::take(&mut self.waiting) {
            self.say([b"unasked ", line.as_slice()].concat(), output);
        }
        if !self.held.is_empty() {
            let held = std::mem::take(&mut self.held);
            self.say([held.as_slice(), b" (", how.as_bytes(), b")"].concat(), output);
        }
    }
}

impl StreamDecoder for Lines {
    fn feed(&mut self, payload: &Bytes, timestamp_ns: u64, output: &mut Output) {
        self.first_ns = timestamp_ns;
        for &byte in payload {
            if byte == b'\n' {
                let line = std::mem::take(&mut self.held);
                self.line(line, output);
            } else {
                self.held.push(byte);
            }
        }
    }

    fn gap(&mut self, gap: Gap, timestamp_ns: u64, output: &mut Output) {
        self.flush("before gap", output);
        output.messages.push(Message {
            first_ns: timestamp_ns,
            last_ns: timestamp_ns,
            exchange: None,
            content: Content::Gap(gap),
        });
    }

    fn notice(&mut self, notice: &PeerNotice, output: &mut Output) {
        match notice {
            PeerNotice::RequestHead { .. } => self.requests += 1,
            PeerNotice::NoRequests | PeerNotice::RequestsLost => self.flush("no requests", output),
            PeerNotice::Asked(_)
            | PeerNotice::BegunLate
            | PeerNotice::RequestEnd { .. }
            | PeerNotice::WebSocketStream { .. } => {}
        }
        self.release(output);
    }

    fn awaits_notice(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn notice_overdue(&mut self, output: &mut Output) {
        for line in std::mem::take(&mut self.waiting) {
            self.say([b"overdue ", line.as_slice()].concat(), output);
        }
    }

    fn has_parts(&self) -> bool {
        self.held.starts_with(b"~")
    }

    fn emit_parts(&mut self, output: &mut Output) {
        self.flush("part", output);
    }

    fn idle(&mut self, output: &mut Output) {
        self.flush("idle", output);
    }

    fn sleep(&mut self) {
        assert!(!self.panics_at_close, "told to when it falls asleep");
    }

    fn is_begun_anew(&self, payload: &[u8]) -> bool {
        payload.starts_with(b"hello")
    }

    fn close(&mut self, output: &mut Output) {
        assert!(!self.panics_at_close, "told to at the end");
        self.flush("end", output);
    }

    fn buffered_bytes(&self) -> usize {
        self.held.len() + self.waiting.iter().map(Vec::len).sum::<usize>()
    }
}

pub(crate) fn lines() -> DecoderFactory {
    Arc::new(|_, _| Box::<Lines>::default())
}

/// `UUID|text`, one line per message.
pub(crate) struct UuidLines;

impl Format for UuidLines {
    fn view(&self) -> View {
        View::Text
    }

    fn write(&self, origin: &Origin, messages: &[Message], records: &mut Records) {
        for message in messages {
            let out = records.bytes();
            out.extend_from_slice(origin.name().as_bytes());
            out.push(b'|');
            match &message.content {
                Content::Raw(raw) => out.extend_from_slice(&raw.data),
                Content::Gap(gap) => out.extend_from_slice(describe(*gap).as_bytes()),
                Content::Fact(_) => out.extend_from_slice(b"fact"),
                other => panic!("the test decoder never emits {other:?}"),
            }
            out.push(b'\n');
            records.end(1);
        }
    }
}

fn describe(gap: Gap) -> String {
    let bytes = gap
        .bytes
        .map_or_else(|| "?".to_owned(), |bytes| bytes.to_string());
    format!("[gap {} {bytes}]", gap.reason.as_str())
}

/// Keeps what is written.
#[derive(Clone, Default)]
pub(crate) struct Page(Arc<Mutex<Vec<u8>>>);

impl Page {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.text().lines().map(str::to_owned).collect()
    }
}

impl SinkWriter for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A plain event: process 1, thread 1, `comm` "app".
pub(crate) fn plain(fd: u32, direction: Direction, at_ms: u64, text: &str) -> DataEvent {
    DataEvent {
        timestamp_ns: at_ms * MILLISECOND,
        process: Process {
            pid: 1,
            tid: 1,
            uid: None,
            comm: "app".into(),
        },
        container_id: None,
        program: None,
        direction,
        fd: Some(fd),
        session: None,
        socket: None,
        tls_version: None,
        stream_offset: None,
        joined_late: None,
        payload: Bytes::copy_from_slice(text.as_bytes()),
    }
}

pub(crate) fn socket(sock: u64) -> Socket {
    Socket {
        sock,
        tuple: Tuple {
            source: ([10, 0, 0, 1], u16::try_from(sock % 60_000).unwrap()).into(),
            destination: ([10, 0, 0, 2], 443).into(),
        },
        local: None,
        address_source: AddressSource::Exact,
    }
}

/// An event of a connection known by its socket.
pub(crate) fn on_socket(sock: u64, direction: Direction, at_ms: u64, text: &str) -> DataEvent {
    DataEvent {
        socket: Some(socket(sock)),
        ..plain(5, direction, at_ms, text)
    }
}

pub(crate) fn close(close: Close, at_ms: u64) -> CapturedEvent {
    CapturedEvent::Close {
        timestamp_ns: at_ms * MILLISECOND,
        close,
    }
}

/// Keeps the panics that tests cause on purpose out of the way: their messages and above all
/// their backtraces would take most of the time.
fn silence_wanted_panics() {
    static SILENCED: std::sync::Once = std::sync::Once::new();
    SILENCED.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let wanted = ["told to", "dropped", "injected"];
            let message = panic.payload_as_str().unwrap_or("");
            if !wanted.iter().any(|start| message.starts_with(start)) {
                report(panic);
            }
        }));
    });
}

/// An output that takes nothing until it is opened.
#[derive(Clone, Default)]
pub(crate) struct Gate {
    pub(crate) page: Page,
    open: Arc<(Mutex<bool>, Condvar)>,
}

impl Gate {
    pub(crate) fn open(&self) {
        *self.open.0.lock().unwrap() = true;
        self.open.1.notify_all();
    }
}

impl SinkWriter for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (open, opened) = &*self.open;
        drop(opened.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
        self.page.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An output that works until it is to fail, and counts how often it was opened again.
#[derive(Clone, Default)]
pub(crate) struct Switch {
    pub(crate) page: Page,
    pub(crate) broken: Arc<AtomicBool>,
    pub(crate) reopened: Arc<AtomicUsize>,
    /// How it fails: `None` as a full disk. Who reads a broken pipe is gone for good.
    pub(crate) kind: Option<io::ErrorKind>,
}

impl SinkWriter for Switch {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.broken.load(SeqCst) {
            return Err(self.kind.unwrap_or(io::ErrorKind::StorageFull).into());
        }
        self.page.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<Resumption> {
        self.reopened.fetch_add(1, SeqCst);
        if self.kind == Some(io::ErrorKind::BrokenPipe) {
            Err(io::ErrorKind::Unsupported.into())
        } else if self.broken.load(SeqCst) {
            Err(io::ErrorKind::ConnectionRefused.into())
        } else {
            Ok(Resumption::SamePlace)
        }
    }
}

pub(crate) fn config(clock: Clock) -> PipelineConfig {
    silence_wanted_panics();
    let mut config = PipelineConfig::new(lines());
    config.clock = clock;
    config.placement = Placement::Inline;
    config
}

/// An only output, of UUIDs and lines, that ends the run when it fails.
pub(crate) fn one(writer: impl SinkWriter + 'static) -> Vec<PipelineOutput> {
    with_policy(SinkPolicy::Stop, writer)
}

/// Like [`one`], with another policy.
pub(crate) fn with_policy(policy: SinkPolicy, writer: impl SinkWriter + 'static) -> Vec<PipelineOutput> {
    let mut output = PipelineOutput::records("page", Arc::new(UuidLines), writer);
    output.policy = policy;
    vec![output]
}

/// Events that a test feeds while the pipeline runs.
pub(crate) struct Feed(mpsc::UnboundedSender<Vec<CapturedEvent>>);

impl Feed {
    pub(crate) fn new() -> (
        Self,
        impl Stream<Item = Vec<CapturedEvent>> + Send + Unpin + 'static,
    ) {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        (
            Self(sender),
            futures_util::stream::poll_fn(move |context| receiver.poll_recv(context)),
        )
    }

    pub(crate) fn data(&self, event: DataEvent) {
        self.send(CapturedEvent::Data(event));
    }

    pub(crate) fn send(&self, event: CapturedEvent) {
        self.batch(vec![event]);
    }

    pub(crate) fn batch(&self, events: Vec<CapturedEvent>) {
        self.0.send(events).unwrap();
    }
}

/// A live pipeline under a test's hands.
pub(crate) struct Live {
    pub(crate) feed: Feed,
    pub(crate) page: Page,
    pub(crate) handle: PipelineHandle,
}

impl Live {
    /// Stops the clock and starts a pipeline on it.
    pub(crate) fn start(config: PipelineConfig) -> Self {
        tokio::time::pause();
        Self::start_running(config)
    }

    /// Like `start`, where time is stopped already.
    pub(crate) fn start_running(config: PipelineConfig) -> Self {
        let page = Page::default();
        let (feed, source) = Feed::new();
        let handle = spawn(config, source, one(page.clone()));
        Self { feed, page, handle }
    }

    /// Lets `ms` milliseconds pass.
    pub(crate) async fn pass(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    /// Ends the source and checks what must hold at every orderly end.
    pub(crate) async fn end(self) -> (Vec<String>, Summary) {
        drop(self.feed);
        let summary = self.handle.finished().await;
        assert!(
            matches!(summary.outcome, Outcome::Complete),
            "{:?}",
            summary.outcome
        );
        check(&summary);
        (self.page.lines(), summary)
    }
}

/// Asserts what must hold at every end.
pub(crate) fn check(summary: &Summary) {
    assert!(summary.balanced(), "{summary:#?}");
    assert_eq!(summary.statistics.live_workers, 0, "{summary:#?}");
    assert_eq!(summary.statistics.held_bytes, 0, "{summary:#?}");
    check_shares(&summary.statistics);
}

/// Whatever is lost on the way through the Workers is lost to a connection that can be named.
fn check_shares(statistics: &Statistics) {
    let connections = &statistics.by_connection;
    assert_eq!(statistics.other_connections, Tally::default());
    let named = |row: &LossRow| {
        matches!(row.stage, Stage::Worker | Stage::Decoder) && !row.intended || row.reason == "worker_full"
    };
    for row in statistics.losses.iter().filter(|row| named(row)) {
        let shares = connections.iter().flat_map(|connection| &connection.losses);
        let shares = shares.filter(|share| share.reason == row.reason);
        let sum = shares.fold((0, 0), |(events, bytes), share| {
            (events + share.events, bytes + share.bytes)
        });
        assert_eq!(sum, (row.events, row.bytes), "{statistics:#?}");
    }
}

/// Runs `events` through a replay, in batches of `batch`.
pub(crate) async fn replay(
    config: PipelineConfig,
    events: Vec<CapturedEvent>,
    batch: usize,
) -> (String, Summary) {
    replay_as(config, Arc::new(UuidLines), events, batch).await
}

/// Like [`replay`], in another format.
pub(crate) async fn replay_as(
    mut config: PipelineConfig,
    format: Arc<dyn Format>,
    events: Vec<CapturedEvent>,
    batch: usize,
) -> (String, Summary) {
    config.ledger = Arc::default();
    let page = Page::default();
    let batches: Vec<Vec<CapturedEvent>> = events.chunks(batch).map(<[_]>::to_vec).collect();
    let handle = spawn(
        config,
        futures_util::stream::iter(batches),
        vec![PipelineOutput::records("page", format, page.clone())],
    );
    let summary = handle.finished().await;
    check(&summary);
    (page.text(), summary)
}

/// The texts of the lines whose UUID contains `part`.
pub(crate) fn texts(output: &str, part: &str) -> Vec<String> {
    let lines = output
        .lines()
        .map(|line| line.split_once('|').unwrap_or(("", line)));
    // The line protocol's payloads end in a line feed, which quarantine shows as it is.
    let mut shown = Vec::new();
    let mut wanted = false;
    for (uuid, text) in lines {
        wanted = if uuid.is_empty() {
            wanted
        } else {
            uuid.contains(part)
        };
        if wanted {
            shown.push(text.to_owned());
        }
    }
    shown
}

/// Xorshift: the same numbers for the same seed everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number from 0 to `bound - 1`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from((self.next() >> 11) % bound as u64).unwrap()
    }
}
