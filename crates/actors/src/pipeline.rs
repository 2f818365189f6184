//! Wires the actors together and brings the run to its end.

use std::sync::Arc;

use actix::prelude::*;
use ecapture_protocols::{CapturedEvent, Format};
use futures_util::Stream;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use crate::conductor::{Conductor, NamedArbiter};
use crate::ledger::{KernelCounterSource, Ledger};
use crate::messages::Incidents;
use crate::processor::{Processor, ProcessorPorts, Shard};
use crate::ring_reader::{ReaderPorts, RingReader};
use crate::sink::{ByteStream, Sink, SinkPorts};
use crate::summary::{Outcome, PipelineError, Statistics, Summary};
use crate::worker::{Desk, Outbox, OutboxPorts, WorkerPorts};
use crate::{Clock, DecoderFactory, PipelineLimits, SinkPolicy, SinkWriter, Timings};

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

/// What a pipeline is made of, apart from its two ends.
#[derive(Clone)]
pub struct PipelineConfig {
    /// What counts as time.
    pub clock: Clock,
    /// Where the actors run.
    pub placement: Placement,
    /// Every bound.
    pub limits: PipelineLimits,
    /// Every period.
    pub timings: Timings,
    /// What to do when the output fails.
    pub sink_policy: SinkPolicy,
    /// Makes the decoders.
    pub decoders: DecoderFactory,
    /// Turns messages into bytes.
    pub format: Arc<dyn Format>,
    /// The counters. Adapters before the pipeline count what they drop in the same ledger.
    pub ledger: Arc<Ledger>,
    /// What the kernel side lost.
    pub kernel_counters: Option<Arc<dyn KernelCounterSource>>,
}

impl PipelineConfig {
    /// A capture on threads, with the default limits and a new ledger.
    pub fn new(decoders: DecoderFactory, format: Arc<dyn Format>) -> Self {
        Self {
            clock: Clock::Live,
            placement: Placement::Threads { worker_arbiters: 1 },
            limits: PipelineLimits::default(),
            timings: Timings::default(),
            sink_policy: SinkPolicy::default(),
            decoders,
            format,
            ledger: Arc::new(Ledger::new()),
            kernel_counters: None,
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
    /// Ends the run in order: what the source has ready is read, everything is decoded, written
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

/// Starts a pipeline that reads `source` and writes to `writer`. To be called on a System's
/// thread, which must go on running until [`PipelineHandle::finished`].
pub fn spawn<S>(config: PipelineConfig, source: S, writer: Box<dyn SinkWriter>) -> PipelineHandle
where
    S: Stream<Item = Vec<CapturedEvent>> + Send + Unpin + 'static,
{
    spawn_with(config, move || source, writer)
}

/// As [`spawn`], with a source that is made on the reader's Arbiter: one whose readiness comes
/// from that Arbiter's reactor need not wake any other thread.
pub fn spawn_with<S, F>(config: PipelineConfig, source: F, writer: Box<dyn SinkWriter>) -> PipelineHandle
where
    S: Stream<Item = Vec<CapturedEvent>> + Unpin + 'static,
    F: FnOnce() -> S + Send + 'static,
{
    assemble(config, source, writer).0
}

/// Starts all actors, the Sink first, so that each has its ports from the beginning.
fn assemble<S, F>(
    config: PipelineConfig,
    source: F,
    writer: Box<dyn SinkWriter>,
) -> (PipelineHandle, Addr<Processor>)
where
    S: Stream<Item = Vec<CapturedEvent>> + Unpin + 'static,
    F: FnOnce() -> S + Send + 'static,
{
    config.ledger.limit(&config.limits);
    let (incidents, received) = mpsc::unbounded_channel();
    let mut arbiters = Arbiters::new(config.placement);
    let sink = start_sink(&config, &mut arbiters, writer, &incidents);
    let processor = start_processor(&config, &mut arbiters, &sink, &incidents);
    let reader = start_reader(&config, &mut arbiters, &processor, source, incidents);
    let stop = Arc::new(Notify::new());
    let (publish, summary) = watch::channel(None);
    let conductor = Conductor {
        ledger: Arc::clone(&config.ledger),
        kernel_counters: config.kernel_counters.clone(),
        timings: config.timings,
        stop_reading: reader.downgrade().recipient(),
        source_ended: processor.clone().recipient(),
        sink: sink.recipient(),
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

fn start_sink(
    config: &PipelineConfig,
    arbiters: &mut Arbiters,
    writer: Box<dyn SinkWriter>,
    incidents: &Incidents,
) -> Addr<Sink> {
    let arbiter = arbiters.start("Sink", None);
    let ports = SinkPorts {
        clock: config.clock,
        limits: config.limits,
        timings: config.timings,
        policy: config.sink_policy,
        ledger: Arc::clone(&config.ledger),
        target: Box::new(ByteStream(writer)),
        incidents: incidents.clone(),
    };
    let mailbox = config.limits.sink_mailbox;
    start_on(arbiter.as_ref(), move |ctx| {
        ctx.set_mailbox_capacity(mailbox);
        Sink::new(ports)
    })
}

fn start_processor(
    config: &PipelineConfig,
    arbiters: &mut Arbiters,
    sink: &Addr<Sink>,
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
    let sink = sink.clone();
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
                format: Arc::clone(&config.format),
                ledger: Arc::clone(&config.ledger),
                desk,
                outbox: Arc::new(Outbox::new(OutboxPorts {
                    clock: config.clock,
                    records: sink.clone().recipient(),
                    news: itself.clone().recipient(),
                    incidents: incidents.clone(),
                    ledger: Arc::clone(&config.ledger),
                    chunk: config.limits.write_chunk,
                    retry_delay: config.timings.retry_delay,
                })),
            }),
        });
        Processor::new(ProcessorPorts {
            shards: shards.collect(),
            rounds: sink.clone().recipient(),
            finish: sink.recipient(),
            incidents,
        })
    })
}

fn start_reader<S, F>(
    config: &PipelineConfig,
    arbiters: &mut Arbiters,
    processor: &Addr<Processor>,
    source: F,
    incidents: Incidents,
) -> Addr<RingReader>
where
    S: Stream<Item = Vec<CapturedEvent>> + Unpin + 'static,
    F: FnOnce() -> S + Send + 'static,
{
    let arbiter = arbiters.start("RingReader", None);
    let ports = ReaderPorts {
        clock: config.clock,
        limits: config.limits,
        timings: config.timings,
        ledger: Arc::clone(&config.ledger),
        batches: processor.clone().recipient(),
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
    use ecapture_protocols::format::Text;
    use ecapture_protocols::{DataEvent, Direction, Options, Process, stream_decoder};

    use super::*;
    use crate::messages::{ConnectionId, EventBatch, News, StreamRef, WorkerId, WorkerNews, WorkerReport};
    use crate::processor::Poison;

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

    /// On either placement: the run fails with the Processor's name, and what the Workers held is
    /// shown.
    #[actix::test]
    async fn a_processor_that_fails_ends_the_run_and_its_workers_in_order() {
        for placement in [Placement::Inline, Placement::Threads { worker_arbiters: 2 }] {
            let decoders: DecoderFactory = Arc::new(|_| stream_decoder(Options::default()));
            let mut config = PipelineConfig::new(decoders, Arc::new(Text::default()));
            config.placement = placement;
            let page = Page::default();
            let (feed, mut receiver) = mpsc::unbounded_channel();
            let source = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
            let (handle, processor) = assemble(config, move || source, Box::new(page.clone()));
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
    /// The idle request of a Worker crosses an event on its way to that Worker.
    #[actix::test]
    async fn an_idle_request_that_crosses_an_event_is_refused() {
        tokio::time::pause();
        let decoders: DecoderFactory = Arc::new(|_| stream_decoder(Options::default()));
        let mut config = PipelineConfig::new(decoders, Arc::new(Text::default()));
        config.placement = Placement::Inline;
        let page = Page::default();
        let (feed, mut receiver) = mpsc::unbounded_channel();
        let source = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
        let (handle, processor) = assemble(config, move || source, Box::new(page.clone()));
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
        let request = WorkerReport {
            stream,
            notices: Vec::new(),
            idle_after: Some(1),
            holds_on: false,
            answers: false,
            deadline_ns: None,
        };
        processor
            .try_send(WorkerNews(vec![News::Report(request)]))
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
