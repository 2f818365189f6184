//! Wires the actors together and brings the run to its end.

use std::sync::Arc;

use actix::prelude::*;
use ecapture_protocols::{CapturedEvent, Format, View};
use futures_util::Stream;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use crate::column::Column;
use crate::conductor::{ConductedSink, Conductor, NamedArbiter};
use crate::ledger::{KernelCounterSource, Ledger};
use crate::messages::Incidents;
use crate::processor::{Processor, ProcessorPorts, Shard};
use crate::ring_reader::{EventTap, ReaderPorts, RingReader};
use crate::sink::{Sink, SinkPorts};
use crate::summary::{Outcome, PipelineError, Statistics, Summary};
use crate::tending::{Renewal, tend};
use crate::worker::{Desk, Formatted, Outbox, OutboxPorts, Places, RecordPort, WorkerPorts};
use crate::{Clock, DecoderFactory, Output, PipelineLimits, SinkPolicy, Tap, Timings};

/// Where the actors run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// All on the caller's Arbiter: for tests on virtual time. The writer must not block.
    Inline,
    /// Reader, Processor and Sink on an Arbiter of their own each; the Workers on that of the
    /// Processor and, beyond one, on more. A connection's Workers share an Arbiter.
    Threads {
        /// Arbiters for Workers, at least 1.
        worker_arbiters: usize,
    },
}

impl Placement {
    /// Arbiters that run Workers.
    fn shards(self) -> usize {
        match self {
            Self::Inline => 1,
            Self::Threads { worker_arbiters } => worker_arbiters.max(1),
        }
    }
}

/// The configuration of a pipeline, apart from its two ends.
#[derive(Clone)]
pub struct PipelineConfig {
    /// The source of time.
    pub clock: Clock,
    /// Where the actors run.
    pub placement: Placement,
    /// Every bound.
    pub limits: PipelineLimits,
    /// Every period.
    pub timings: Timings,
    /// Makes the decoders.
    pub decoders: DecoderFactory,
    /// The counters. Adapters before the pipeline count what they drop in the same ledger.
    pub ledger: Arc<Ledger>,
    /// The losses of the kernel side.
    pub kernel_counters: Option<Arc<dyn KernelCounterSource>>,
    /// Asks the targets to begin again.
    pub renewal: Renewal,
}

impl PipelineConfig {
    /// A capture on threads, with the default limits and a new ledger.
    pub fn new(decoders: DecoderFactory) -> Self {
        Self {
            clock: Clock::Live,
            placement: Placement::Threads { worker_arbiters: 1 },
            limits: PipelineLimits::default(),
            timings: Timings::default(),
            decoders,
            ledger: Arc::new(Ledger::new()),
            kernel_counters: None,
            renewal: Renewal::default(),
        }
    }
}

/// A running pipeline. Clones refer to the same one; dropping all of them changes nothing.
#[derive(Clone)]
pub struct PipelineHandle {
    stop: Arc<Notify>,
    ledger: Arc<Ledger>,
    kernel_counters: Option<Arc<dyn KernelCounterSource>>,
    summary: watch::Receiver<Option<Summary>>,
}

impl PipelineHandle {
    /// Ends the run in order: the events that the source has ready are read, everything is decoded, written
    /// and flushed, within [`Timings::drain_deadline`].
    pub fn stop(&self) {
        self.stop.notify_one();
    }

    /// The figures so far. Cheap; may be called at any time.
    pub fn statistics(&self) -> Statistics {
        Statistics::of(&self.ledger, self.kernel_counters.as_deref())
    }

    /// Waits for the end of the run: of the source, by [`Self::stop`], because the output's
    /// reader went away, or by a failure.
    pub async fn finished(&self) -> Summary {
        let mut summary = self.summary.clone();
        match summary.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone().expect("waited until it is there"),
            // The System was stopped around the run.
            Err(_) => Summary {
                outcome: Outcome::Failed(PipelineError::ActorFailed { actor: "System" }),
                statistics: self.statistics(),
            },
        }
    }
}

/// Starts a pipeline that reads `source` and writes to `outputs`. To be called on a System's
/// thread, which must continue to run until [`PipelineHandle::finished`].
pub fn spawn<S>(config: PipelineConfig, source: S, outputs: Vec<Output>) -> PipelineHandle
where
    S: Stream<Item = Vec<CapturedEvent>> + Send + Unpin + 'static,
{
    spawn_with(config, move || source, outputs)
}

/// Like [`spawn`], with a source that is made on the reader's Arbiter: one whose readiness comes
/// from that Arbiter's reactor need not wake any other thread.
pub fn spawn_with<S, F>(config: PipelineConfig, source: F, outputs: Vec<Output>) -> PipelineHandle
where
    S: Stream<Item = Vec<CapturedEvent>> + Unpin + 'static,
    F: FnOnce() -> S + Send + 'static,
{
    assemble(config, source, outputs).0
}

/// Starts all actors, the Sinks first, so that each has its ports from the beginning.
fn assemble<S, F>(
    mut config: PipelineConfig,
    source: F,
    outputs: Vec<Output>,
) -> (PipelineHandle, Addr<Processor>)
where
    S: Stream<Item = Vec<CapturedEvent>> + Unpin + 'static,
    F: FnOnce() -> S + Send + 'static,
{
    config.limits.outputs = outputs.len().max(1);
    config.ledger.limit(&config.limits);
    config.ledger.open_columns(columns(&outputs));
    let (incidents, received) = mpsc::unbounded_channel();
    let mut arbiters = Arbiters::new(config.placement);
    let sinks = start_sinks(&config, &mut arbiters, outputs, &incidents);
    let processor = start_processor(&config, &mut arbiters, &sinks, &incidents);
    let reader = start_reader(&config, &mut arbiters, &processor, &sinks, source, incidents);
    let stop = Arc::new(Notify::new());
    let (publish, summary) = watch::channel(None);
    let conductor = Conductor {
        ledger: Arc::clone(&config.ledger),
        kernel_counters: config.kernel_counters.clone(),
        timings: config.timings,
        stop_reading: reader.downgrade().recipient(),
        source_ended: processor.clone().recipient(),
        sinks: sinks.into_iter().map(StartedSink::conducted).collect(),
        outboxes: config.placement.shards(),
        stop: Arc::clone(&stop),
        incidents: received,
        arbiters: arbiters.named,
        summary: publish,
    };
    actix_rt::spawn(conductor.run());
    let handle = PipelineHandle {
        stop,
        ledger: config.ledger,
        kernel_counters: config.kernel_counters,
        summary,
    };
    (handle, processor)
}

/// The Arbiters of a pipeline, made one by one as the wiring asks for them.
struct Arbiters {
    placement: Placement,
    named: Vec<NamedArbiter>,
}

impl Arbiters {
    fn new(placement: Placement) -> Self {
        Self {
            placement,
            named: Vec::new(),
        }
    }

    /// An Arbiter for `name`, or `None` for the caller's own. `desk`: of the Workers that run there.
    fn start(&mut self, name: &'static str, desk: Option<&Arc<Desk>>) -> Option<actix_rt::ArbiterHandle> {
        match self.placement {
            Placement::Inline => None,
            Placement::Threads { .. } => {
                let arbiter = Arbiter::new();
                let handle = arbiter.handle();
                let desk = desk.cloned();
                self.named.push(NamedArbiter { name, arbiter, desk });
                Some(handle)
            }
        }
    }
}

/// Starts an actor on `arbiter`, or here.
fn start_on<A>(
    arbiter: Option<&actix_rt::ArbiterHandle>,
    create: impl FnOnce(&mut Context<A>) -> A + Send + 'static,
) -> Addr<A>
where
    A: Actor<Context = Context<A>>,
{
    match arbiter {
        None => A::create(create),
        Some(arbiter) => A::start_in_arbiter(arbiter, create),
    }
}

/// The outputs' columns in the ledger. The only output is always waited for: it slows no other one.
fn columns(outputs: &[Output]) -> Vec<Column> {
    let is_only = outputs.len() == 1;
    let columns = outputs.iter().map(|output| {
        let holds_reading = is_only || output.policy != SinkPolicy::Drop;
        let of_events = matches!(output.tap, Tap::Events(_));
        Column::new(output.name.clone(), of_events, holds_reading)
    });
    columns.collect()
}

/// A Sink and its tap.
struct StartedSink {
    /// The number of its output.
    output: usize,
    tap: Tap,
    addr: Addr<Sink>,
}

impl StartedSink {
    fn conducted(self) -> ConductedSink {
        ConductedSink {
            finish: self.addr.recipient(),
            takes_events: matches!(self.tap, Tap::Events(_)),
        }
    }
}

fn start_sinks(
    config: &PipelineConfig,
    arbiters: &mut Arbiters,
    outputs: Vec<Output>,
    incidents: &Incidents,
) -> Vec<StartedSink> {
    let is_only = outputs.len() == 1;
    let sinks = outputs.into_iter().enumerate().map(|(number, output)| {
        let arbiter = arbiters.start("Sink", None);
        let tap = output.tap.clone();
        let mailbox = match tap {
            Tap::Events(_) => config.limits.event_sink_mailbox,
            Tap::Records(_) => config.limits.sink_mailbox,
        };
        let ports = SinkPorts {
            clock: config.clock,
            limits: config.limits,
            timings: config.timings,
            output: number,
            name: (!is_only).then_some(output.name),
            tap: output.tap,
            policy: output.policy,
            ledger: Arc::clone(&config.ledger),
            renewal: config.renewal.listen(),
            target: output.target,
            incidents: incidents.clone(),
        };
        let (renewal, interval) = (ports.renewal.clone(), ports.target.tending_interval());
        let addr = start_on(arbiter.as_ref(), move |ctx| {
            ctx.set_mailbox_capacity(mailbox);
            Sink::new(ports)
        });
        actix_rt::spawn(tend(addr.downgrade().recipient(), renewal, interval));
        StartedSink {
            output: number,
            tap,
            addr,
        }
    });
    sinks.collect()
}

/// The outputs that the Workers make records for: the Sinks, with the formats by their views.
#[derive(Clone, Default)]
struct RecordOutputs {
    views: Vec<View>,
    sinks: Vec<(usize, Arc<dyn Format>, Addr<Sink>)>,
}

impl RecordOutputs {
    fn of(sinks: &[StartedSink]) -> Self {
        let mut outputs = Self::default();
        for StartedSink { output, tap, addr } in sinks {
            if let Tap::Records(format) = tap {
                if !outputs.views.contains(&format.view()) {
                    outputs.views.push(format.view());
                }
                outputs.sinks.push((*output, Arc::clone(format), addr.clone()));
            }
        }
        outputs
    }

    fn formatted(&self) -> Vec<Formatted> {
        let formatted = self.sinks.iter().map(|(output, format, _)| {
            let view = format.view();
            Formatted {
                output: *output,
                view: self.views.iter().position(|&known| known == view).unwrap_or(0),
                format: Arc::clone(format),
            }
        });
        formatted.collect()
    }

    /// A port of its own for each Arbiter: see [`RecordPort::sink`].
    fn ports(&self) -> Vec<RecordPort> {
        let ports = self.sinks.iter().map(|(output, _, addr)| RecordPort {
            output: *output,
            sink: addr.clone().recipient(),
        });
        ports.collect()
    }
}

fn start_processor(
    config: &PipelineConfig,
    arbiters: &mut Arbiters,
    sinks: &[StartedSink],
    incidents: &Incidents,
) -> Addr<Processor> {
    let desk = Arc::new(Desk::default());
    let arbiter = arbiters.start("Processor", Some(&desk));
    let extra = config.placement.shards() - 1;
    let mut shard_arbiters = vec![(None, desk)];
    shard_arbiters.extend((0..extra).map(|_| {
        let desk = Arc::new(Desk::default());
        (arbiters.start("Workers", Some(&desk)), desk)
    }));
    let config = config.clone();
    let outputs = RecordOutputs::of(sinks);
    let incidents = incidents.clone();
    start_on(arbiter.as_ref(), move |ctx: &mut Context<Processor>| {
        ctx.set_mailbox_capacity(config.limits.processor_mailbox);
        let started_at = Instant::now();
        let itself = ctx.address().downgrade();
        let shards = shard_arbiters.into_iter().map(|(arbiter, desk)| Shard {
            arbiter,
            ports: Arc::new(WorkerPorts {
                clock: config.clock,
                started_at,
                limits: config.limits,
                timings: config.timings,
                decoders: Arc::clone(&config.decoders),
                views: outputs.views.clone(),
                formatted: outputs.formatted(),
                ledger: Arc::clone(&config.ledger),
                desk,
                places: Places::default(),
                outbox: Arc::new(Outbox::new(OutboxPorts {
                    clock: config.clock,
                    records: outputs.ports(),
                    reports: itself.clone().recipient(),
                    incidents: incidents.clone(),
                    ledger: Arc::clone(&config.ledger),
                    chunk: config.limits.write_chunk,
                    retry_delay: config.timings.retry_delay,
                })),
            }),
        });
        let shards = shards.collect();
        let sinks: Vec<Addr<Sink>> = outputs.sinks.into_iter().map(|(_, _, addr)| addr).collect();
        Processor::new(ProcessorPorts {
            shards,
            rounds: sinks.iter().map(|sink| sink.clone().recipient()).collect(),
            finish: sinks.into_iter().map(Addr::recipient).collect(),
            incidents,
        })
    })
}

fn start_reader<S, F>(
    config: &PipelineConfig,
    arbiters: &mut Arbiters,
    processor: &Addr<Processor>,
    sinks: &[StartedSink],
    source: F,
    incidents: Incidents,
) -> Addr<RingReader>
where
    S: Stream<Item = Vec<CapturedEvent>> + Unpin + 'static,
    F: FnOnce() -> S + Send + 'static,
{
    let arbiter = arbiters.start("RingReader", None);
    let decodes = sinks.iter().any(|sink| matches!(sink.tap, Tap::Records(_)));
    let taps = sinks.iter().filter_map(|sink| match &sink.tap {
        Tap::Events(format) => Some(EventTap::new(
            sink.output,
            Arc::clone(format),
            sink.addr.clone().recipient(),
        )),
        Tap::Records(_) => None,
    });
    let ports = ReaderPorts {
        clock: config.clock,
        limits: config.limits,
        timings: config.timings,
        ledger: Arc::clone(&config.ledger),
        batches: decodes.then(|| processor.clone().recipient()),
        taps: taps.collect(),
        ended: processor.clone().recipient(),
        incidents,
    };
    start_on(arbiter.as_ref(), move |ctx| RingReader::new(ports, source(), ctx))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;
    use std::time::Duration;

    use bytes::Bytes;
    use ecapture_protocols::format::{JsonLines, Text};
    use ecapture_protocols::{DataEvent, Direction, Options, Process, stream_decoder};

    use super::*;
    use crate::SinkWriter;
    use crate::messages::{
        ConnectionId, EventBatch, StreamRef, TurnReport, WorkerId, WorkerReport, WorkerReports,
    };
    use crate::processor::{Poison, Stall};

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl SinkWriter for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn text(page: Page) -> Output {
        Output::records("page", Arc::new(Text::default()), page)
    }

    fn event(fd: u32, text: &str) -> CapturedEvent {
        CapturedEvent::Data(DataEvent {
            timestamp_ns: 1,
            process: Process {
                pid: 1,
                tid: 1,
                uid: None,
                comm: "app".into(),
            },
            container_id: None,
            program: None,
            direction: Direction::Write,
            fd: Some(fd),
            session: None,
            socket: None,
            tls_version: None,
            stream_offset: None,
            joined_late: None,
            payload: Bytes::copy_from_slice(text.as_bytes()),
        })
    }

    /// On either placement: the run fails with the Processor's name, and everything the Workers held is
    /// shown.
    #[actix::test]
    async fn a_processor_that_fails_ends_the_run_and_its_workers_in_order() {
        for placement in [Placement::Inline, Placement::Threads { worker_arbiters: 2 }] {
            let decoders: DecoderFactory = Arc::new(|_, _| stream_decoder(Options::default()));
            let mut config = PipelineConfig::new(decoders);
            config.placement = placement;
            let page = Page::default();
            let (feed, mut receiver) = mpsc::unbounded_channel();
            let source = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
            let (handle, processor) = assemble(config, move || source, vec![text(page.clone())]);
            feed.send(
                (1..=10)
                    .map(|fd| event(fd, "GET /half HTTP/1.1\r\nHost"))
                    .collect::<Vec<_>>(),
            )
            .unwrap();
            while handle.statistics().delivered.events < 10 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let _ = processor.try_send(Poison);
            let summary = handle.finished().await;
            assert!(
                matches!(
                    summary.outcome,
                    Outcome::Failed(PipelineError::ActorFailed { actor: "Processor" })
                ),
                "{:?}",
                summary.outcome
            );
            assert!(summary.balanced(), "{summary:#?}");
            assert_eq!(summary.statistics.live_workers, 0);
            assert_eq!(summary.statistics.losses, []);
            let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
            assert_eq!(text.matches("GET /half").count(), 10, "{text}");
        }
    }

    /// The events of both directions were taken, but the notice of the request waits in the Processor's mailbox
    /// for much longer than a response waits for it.
    #[actix::test]
    async fn a_busy_processor_costs_no_response_its_request() {
        tokio::time::pause();
        let decoders: DecoderFactory = Arc::new(|_, view| {
            stream_decoder(Options {
                view,
                ..Options::default()
            })
        });
        let mut config = PipelineConfig::new(decoders);
        config.placement = Placement::Inline;
        let page = Page::default();
        let (feed, mut receiver) = mpsc::unbounded_channel();
        let source = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
        let output = Output::records("page", Arc::new(JsonLines::default()), page.clone());
        let (handle, processor) = assemble(config, move || source, vec![output]);
        let request = event(4, "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n");
        let mut response = event(4, "HTTP/1.1 204 No Content\r\n\r\n");
        if let CapturedEvent::Data(data) = &mut response {
            data.direction = Direction::Read;
        }
        let events = vec![request, response];
        handle
            .ledger
            .see(2, events.iter().map(CapturedEvent::payload_bytes).sum());
        let batch = EventBatch {
            first_sequence: 1,
            advance_ns: None,
            events,
        };
        processor.try_send(batch).ok().unwrap();
        processor.try_send(Stall(Duration::from_secs(2))).ok().unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let written = || String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        assert!(!written().contains("204"), "not shown without it: {}", written());
        tokio::time::sleep(Duration::from_millis(1_001)).await;
        assert!(written().contains(r#""pairing":"certain""#), "{}", written());
        drop(feed);
        assert!(handle.finished().await.balanced());
    }

    /// The idle request of a Worker crosses an event on its way to that Worker.
    #[actix::test]
    async fn an_idle_request_that_crosses_an_event_is_refused() {
        tokio::time::pause();
        let decoders: DecoderFactory = Arc::new(|_, _| stream_decoder(Options::default()));
        let mut config = PipelineConfig::new(decoders);
        config.placement = Placement::Inline;
        let page = Page::default();
        let (feed, mut receiver) = mpsc::unbounded_channel();
        let source = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
        let (handle, processor) = assemble(config, move || source, vec![text(page.clone())]);
        feed.send(vec![event(4, "GET /first HTTP/1.1\r\nHo")]).unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        let rest = "st: example.org\r\n\r\n";
        let events = vec![event(4, rest)];
        handle.ledger.see(1, rest.len() as u64);
        let crossing = EventBatch {
            first_sequence: 2,
            advance_ns: None,
            events,
        };
        processor.try_send(crossing).ok().unwrap();
        let stream = StreamRef {
            connection: ConnectionId(0),
            direction: Direction::Write,
            worker: WorkerId(0),
        };
        let request = TurnReport {
            stream,
            notices: Vec::new(),
            idle_after: Some(1),
            holds_on: false,
            asks: None,
            caught_up: None,
            answers: false,
            deadline_ns: None,
        };
        processor
            .try_send(WorkerReports(vec![WorkerReport::Turn(request)]))
            .ok()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(handle.statistics().live_workers, 1);
        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        assert!(
            text.contains("GET /first HTTP/1.1\r\nHost: example.org"),
            "{text}"
        );
        drop(feed);
        assert!(handle.finished().await.balanced());
    }
}
