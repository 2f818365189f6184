//! Several outputs of one run: the records that each gets, and the cost of one for the others.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ecapture_actors::{
    ByteStream, Clock, Outcome, Output, OutputStatistics, PipelineConfig, PipelineError, Placement,
    Resumption, SinkPolicy, SinkWriter, Summary, Taken, Tap, Target, Unwritten, spawn,
};
use ecapture_protocols::{
    CapturedEvent, Close, Direction, EventFormat, Format, Message, Origin, Records, View,
};

use crate::support::{
    Feed, Gate, Lines, Page, Switch, UuidLines, check, close, config, on_socket, plain, replay, replay_as,
};

fn line(number: u64) -> CapturedEvent {
    CapturedEvent::Data(on_socket(1, Direction::Write, 0, &format!("line {number}\n")))
}

fn to(name: &str, policy: SinkPolicy, writer: impl SinkWriter + 'static) -> Output {
    Output {
        policy,
        ..Output::records(name, Arc::new(UuidLines), writer)
    }
}

fn column<'a>(summary: &'a Summary, name: &str) -> &'a OutputStatistics {
    let mut columns = summary.statistics.outputs.iter();
    columns.find(|output| output.name == name).expect("its column")
}

fn lost(summary: &Summary, name: &str) -> Vec<(&'static str, u64)> {
    let rows = column(summary, name).losses.iter();
    rows.map(|row| (row.reason, row.events)).collect()
}

/// Like `UuidLines`, with a view of its own.
struct Viewed(View);

impl Format for Viewed {
    fn view(&self) -> View {
        self.0
    }

    fn write(&self, origin: &Origin, messages: &[Message], out: &mut Records) {
        UuidLines.write(origin, messages, out);
    }
}

const JSON: View = View::Structured { frames: false };

/// Decoders of the text view count lines; those of others do not.
fn by_view(made: &Arc<AtomicUsize>) -> PipelineConfig {
    let mut config = config(Clock::Live);
    let made = Arc::clone(made);
    config.decoders = Arc::new(move |_, view| {
        made.fetch_add(1, SeqCst);
        Box::new(Lines::counting_from(if view.is_text() { 0 } else { 100 }))
    });
    config
}

#[actix::test]
async fn a_stream_is_decoded_once_for_each_distinct_view() {
    tokio::time::pause();
    let made = Arc::default();
    let pages: Vec<Page> = (0..4).map(|_| Page::default()).collect();
    let views = [View::Text, JSON, View::Text, JSON];
    let outputs = pages
        .iter()
        .zip(views)
        .map(|(page, view)| Output::records(format!("{view:?}"), Arc::new(Viewed(view)), page.clone()));
    let (feed, source) = Feed::new();
    let handle = spawn(by_view(&made), source, outputs.collect());
    for text in ["+a\n+b", "\n>request\n", "~part"] {
        feed.data(on_socket(1, Direction::Write, 0, text));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    feed.data(on_socket(1, Direction::Read, 0, "?answer\n"));
    drop(feed);
    check(&handle.finished().await);
    assert_eq!(made.load(SeqCst), 4, "two directions in two views");
    let texts = |page: &Page| -> Vec<String> {
        let lines = page.lines();
        lines
            .iter()
            .map(|line| line.split_once('|').unwrap().1.to_owned())
            .collect()
    };
    let rest = [">request", "~part (part)", "answer ?answer"];
    assert_eq!(texts(&pages[0]), [&["1 +a", "2 +b"], &rest[..]].concat());
    assert_eq!(texts(&pages[1]), [&["101 +a", "102 +b"], &rest[..]].concat());
    assert_eq!(pages[0].text(), pages[2].text());
    assert_eq!(pages[1].text(), pages[3].text());
}

#[actix::test]
async fn each_output_of_a_replay_gets_what_it_would_get_alone() {
    let events: Vec<CapturedEvent> = (0..500)
        .map(|number| {
            let direction = [Direction::Write, Direction::Read][number % 2];
            let text = [">get\n", "?answer\n", "x\ny", "+z\n"][number / 2 % 4];
            CapturedEvent::Data(on_socket(number as u64 % 11 + 1, direction, number as u64, text))
        })
        .collect();
    let (alone, _) = replay(config(Clock::Stream), events.clone(), 64).await;
    let (viewed, _) = replay_as(config(Clock::Stream), Arc::new(Viewed(JSON)), events.clone(), 64).await;
    for placement in [Placement::Inline, Placement::Threads { worker_arbiters: 2 }] {
        let mut config = config(Clock::Stream);
        config.placement = placement;
        let (first, second) = (Page::default(), Page::default());
        let outputs = vec![
            to("first", SinkPolicy::Stop, first.clone()),
            Output::records("second", Arc::new(Viewed(JSON)), second.clone()),
        ];
        let batches: Vec<_> = events.chunks(64).map(<[_]>::to_vec).collect();
        let handle = spawn(config, futures_util::stream::iter(batches), outputs);
        check(&handle.finished().await);
        assert!(first.text() == alone && second.text() == viewed);
    }
}

fn many(count: u64) -> impl Iterator<Item = Vec<CapturedEvent>> + Send {
    (0..count).map(|number| {
        let fd = u32::try_from(number % 7).unwrap() + 1;
        let event = plain(fd, Direction::Write, 0, "0123456789abcde\n");
        vec![CapturedEvent::Data(event)]
    })
}

/// Real threads. The run ends, in order, while the stalled output still takes nothing.
#[actix::test]
async fn a_stalled_output_that_drops_slows_nothing_and_loses_in_its_own_column() {
    const EVENTS: u64 = 10_000;
    let (page, recording, gate) = (Page::default(), Page::default(), Gate::default());
    let (stalled, stalled_recording) = (gate.clone(), gate.clone());
    let mut config = config(Clock::Live);
    config.placement = Placement::Threads { worker_arbiters: 2 };
    config.limits.max_memory = 256 * 1024;
    config.timings.drain_deadline = Duration::from_millis(100);
    // However busy the machine is.
    config.timings.worker_stall = Duration::from_mins(1);
    let events = |name, policy, writer: Box<dyn SinkWriter>| Output {
        policy,
        ..Output::new(name, Tap::Events(Arc::new(EventNames)), ByteStream(writer))
    };
    let outputs = vec![
        to("stalled", SinkPolicy::Drop, stalled),
        to("page", SinkPolicy::Stop, page.clone()),
        events("stalled recording", SinkPolicy::Drop, Box::new(stalled_recording)),
        events("recording", SinkPolicy::Retry, Box::new(recording.clone())),
    ];
    let handle = spawn(config, futures_util::stream::iter(many(EVENTS)), outputs);
    let summary = handle.finished().await;
    gate.open();
    assert!(
        matches!(summary.outcome, Outcome::Complete),
        "{:?}",
        summary.outcome
    );
    assert!(summary.balanced(), "{summary:#?}");
    assert_eq!(page.lines().len() as u64, EVENTS, "{summary:#?}");
    assert_eq!(recording.lines().len() as u64, EVENTS + 1);
    assert_eq!(
        (lost(&summary, "page"), lost(&summary, "recording")),
        (vec![], vec![])
    );
    for name in ["stalled", "stalled recording"] {
        let column = column(&summary, name);
        assert_eq!(column.produced.events, EVENTS);
        assert_eq!(column.written.events, 0);
        let reasons: Vec<_> = column.losses.iter().map(|row| row.reason).collect();
        assert_eq!(reasons, ["sink_full", "sink_deadline"], "{name}");
    }
}

/// Ten lines to three outputs. The second fails from the third line on.
async fn one_of_three_fails(policy: SinkPolicy, kind: Option<io::ErrorKind>) -> (Summary, [Page; 3]) {
    let writer = Switch {
        kind,
        ..Switch::default()
    };
    let (first, third) = (Page::default(), Page::default());
    let outputs = vec![
        to("first", SinkPolicy::Stop, first.clone()),
        to("second", policy, writer.clone()),
        to("third", SinkPolicy::Stop, third.clone()),
    ];
    let (feed, source) = Feed::new();
    let handle = spawn(config(Clock::Live), source, outputs);
    for number in 0..10 {
        writer.broken.store(number >= 2, SeqCst);
        feed.send(line(number));
        tokio::time::sleep(Duration::from_secs(1)).await;
        if policy == SinkPolicy::Stop && number == 2 {
            break;
        }
    }
    drop(feed);
    let summary = handle.finished().await;
    assert!(summary.balanced(), "{summary:#?}");
    assert_eq!(lost(&summary, "first"), []);
    assert_eq!(lost(&summary, "third"), []);
    (summary, [first, writer.page, third])
}

#[actix::test]
async fn one_full_disk_of_three_outputs_follows_its_own_policy() {
    tokio::time::pause();
    let (summary, pages) = one_of_three_fails(SinkPolicy::Stop, None).await;
    assert!(
        matches!(summary.outcome, Outcome::Failed(PipelineError::Sink { .. })),
        "{:?}",
        summary.outcome
    );
    assert_eq!(pages.map(|page| page.lines().len()), [3, 2, 3]);
    assert_eq!(lost(&summary, "second"), [("sink_error", 1)]);
    for policy in [SinkPolicy::Drop, SinkPolicy::Retry] {
        let (summary, pages) = one_of_three_fails(policy, None).await;
        assert!(
            matches!(summary.outcome, Outcome::Complete),
            "{:?}",
            summary.outcome
        );
        assert_eq!(pages.map(|page| page.lines().len()), [10, 2, 10]);
        assert_eq!(lost(&summary, "second"), [("sink_error", 8)]);
        assert!(column(&summary, "second").retries > 0);
    }
}

#[actix::test]
async fn a_reader_that_goes_away_ends_the_run_only_where_that_is_the_policy() {
    tokio::time::pause();
    let closed = Some(io::ErrorKind::BrokenPipe);
    let (summary, pages) = one_of_three_fails(SinkPolicy::Stop, closed).await;
    assert!(
        matches!(summary.outcome, Outcome::SinkClosed),
        "{:?}",
        summary.outcome
    );
    assert_eq!(pages.map(|page| page.lines().len()), [3, 2, 3]);
    let (summary, pages) = one_of_three_fails(SinkPolicy::Drop, closed).await;
    assert!(
        matches!(summary.outcome, Outcome::Complete),
        "{:?}",
        summary.outcome
    );
    assert_eq!(pages.map(|page| page.lines().len()), [10, 2, 10]);
    assert_eq!(lost(&summary, "second"), [("sink_closed", 8)]);
}

#[actix::test]
async fn a_run_ends_when_its_last_target_is_gone() {
    tokio::time::pause();
    let gone = || {
        let writer = Switch {
            kind: Some(io::ErrorKind::BrokenPipe),
            ..Switch::default()
        };
        writer.broken.store(true, SeqCst);
        writer
    };
    let outputs = vec![
        to("first", SinkPolicy::Drop, gone()),
        to("second", SinkPolicy::Drop, gone()),
    ];
    let (feed, source) = Feed::new();
    let handle = spawn(config(Clock::Live), source, outputs);
    feed.send(line(1));
    let summary = handle.finished().await;
    assert!(
        matches!(summary.outcome, Outcome::SinkClosed),
        "{:?}",
        summary.outcome
    );
    check(&summary);
}

/// Length of the payload that [`EventNames`] leaves out.
const LEFT_OUT: u64 = 10;

/// `data LENGTH` or `close`, a line for each event, and a line before all.
struct EventNames;

impl EventFormat for EventNames {
    fn takes(&self, event: &CapturedEvent) -> bool {
        event.payload_bytes() != LEFT_OUT
    }

    fn begin(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"begin\n");
    }

    fn write(&self, event: &CapturedEvent, out: &mut Vec<u8>) {
        match event {
            CapturedEvent::Data(data) => {
                out.extend_from_slice(format!("data {}\n", data.payload.len()).as_bytes());
            }
            CapturedEvent::Observed(_) => panic!("none of them is a fact"),
            CapturedEvent::Close { .. } => out.extend_from_slice(b"close\n"),
        }
    }
}

fn recording(policy: SinkPolicy, writer: impl SinkWriter + 'static) -> Output {
    Output {
        policy,
        ..Output::new("recording", Tap::Events(Arc::new(EventNames)), ByteStream(writer))
    }
}

/// Alone, nothing is decoded for it; beside records, it gets the same.
#[actix::test]
async fn an_output_of_captured_events_gets_them_all_in_order() {
    for (clock, beside) in [Clock::Live, Clock::Stream]
        .into_iter()
        .flat_map(|clock| [(clock, false), (clock, true)])
    {
        let (page, lines) = (Page::default(), Page::default());
        let mut outputs = vec![recording(SinkPolicy::Stop, page.clone())];
        outputs.extend(beside.then(|| to("lines", SinkPolicy::Stop, lines.clone())));
        let batches = [
            vec![line(1), line(22)],
            vec![close(Close::Socket { sock: 1 }, 0)],
            vec![line(4444)],
            vec![line(4444), line(333)],
        ];
        let handle = spawn(config(clock), futures_util::stream::iter(batches), outputs);
        let summary = handle.finished().await;
        check(&summary);
        assert_eq!(page.lines(), ["begin", "data 7", "data 8", "close", "data 9"]);
        assert_eq!(lines.lines().len(), if beside { 5 } else { 0 });
        let column = column(&summary, "recording");
        assert_eq!((column.written.events, column.written.bytes), (4, 24));
        assert_eq!(summary.statistics.seen, summary.statistics.delivered);
        assert_eq!(summary.statistics.started_workers > 0, beside);
    }
}

/// Takes one record at a time, and only whole ones; begins again when asked to.
#[derive(Clone, Default)]
struct Frames {
    places: Arc<Mutex<Vec<Vec<String>>>>,
    broken: Arc<AtomicBool>,
}

impl Target for Frames {
    fn write(&mut self, records: Unwritten<'_>) -> io::Result<Taken> {
        if self.broken.swap(false, SeqCst) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        assert_eq!(records.begun(), 0);
        let record = records.records().next().expect("something to write");
        let mut places = self.places.lock().unwrap();
        if places.is_empty() {
            places.push(Vec::new());
        }
        let text = String::from_utf8(record.to_vec()).unwrap();
        places.last_mut().expect("a place").push(text);
        Ok(Taken::written(record.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<Resumption> {
        self.places.lock().unwrap().push(Vec::new());
        Ok(Resumption::NewPlace)
    }
}

#[actix::test]
async fn a_target_of_records_gets_them_one_by_one_and_each_place_its_beginning() {
    tokio::time::pause();
    let (events, lines) = (Frames::default(), Frames::default());
    let outputs = vec![
        Output {
            policy: SinkPolicy::Retry,
            ..Output::new("events", Tap::Events(Arc::new(EventNames)), events.clone())
        },
        Output::new("lines", Tap::Records(Arc::new(UuidLines)), lines.clone()),
    ];
    let (feed, source) = Feed::new();
    let handle = spawn(config(Clock::Live), source, outputs);
    feed.data(on_socket(1, Direction::Write, 0, "a\nb\n"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    events.broken.store(true, SeqCst);
    feed.batch(vec![line(1), line(22)]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(feed);
    check(&handle.finished().await);
    let places = events.places.lock().unwrap().clone();
    assert_eq!(places[0], ["begin\n", "data 4\n"]);
    assert_eq!(places[1], ["begin\n", "data 7\n", "data 8\n"]);
    assert_eq!(lines.places.lock().unwrap()[0].len(), 4, "a record for each line");
}
