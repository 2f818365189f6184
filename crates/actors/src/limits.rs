//! Every bound and every period of the pipeline, in one place.

use std::time::Duration;

/// Bounds of the pipeline.
///
/// Memory is divided: an eighth for captured bytes on their way to a Worker, a quarter for
/// formatted output on its way to its target (half of it for what a Sink keeps while that
/// fails), a quarter for bytes held by decoders, three eighths for the Workers themselves and for
/// streams that sleep.
/// Reading stops while either of the first two is used up; connections are shed, longest idle
/// first, while either of the others is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PipelineLimits {
    /// Bytes the pipeline may hold altogether.
    pub max_memory: usize,
    /// Workers alive at once, if their share of the memory allows as many. Beyond it the longest
    /// idle connections are shed.
    pub max_workers: usize,
    /// Bytes one decoder may hold before it must emit them as incomplete.
    pub buffered_per_connection: usize,
    /// Events read and not yet decoded.
    pub in_flight_events: usize,
    /// Events of one round of a replay, which is also how many are sorted at a time.
    pub round_events: usize,
    /// Event batches in the Processor's mailbox.
    pub processor_mailbox: usize,
    /// Batches in one Worker's mailbox.
    pub worker_mailbox: usize,
    /// Record batches in the Sink's mailbox.
    pub sink_mailbox: usize,
    /// Messages an actor handles before it lets the others on its Arbiter run.
    pub budget: u32,
    /// Bytes the Sink collects before it writes.
    pub write_chunk: usize,
    /// Notices kept for directions that have not been seen yet, of all connections under one key. Clients send about
    /// 100 requests at once over HTTP/2, and each has two notices.
    pub notice_backlog: usize,
    /// Failures of one connection's Workers within [`Timings::failure_window`] that put it in
    /// quarantine.
    pub failures_per_connection: usize,
    /// Failures of all Workers within [`Timings::failure_window`] that end the run.
    pub failures_per_run: usize,
    /// Outputs that divide the memory for output among them. The pipeline sets it.
    pub outputs: usize,
    /// Event batches in the mailbox of the Sink of an output of captured events.
    pub event_sink_mailbox: usize,
    /// Records of a Sink that wait for the other end of their exchange. Their bytes take at most a quarter of the
    /// output's memory.
    pub waiting_ends: usize,
}

impl Default for PipelineLimits {
    fn default() -> Self {
        Self {
            max_memory: 256 * 1024 * 1024,
            max_workers: usize::MAX,
            buffered_per_connection: 16 * 1024 * 1024,
            in_flight_events: 16 * 1024,
            round_events: 1024,
            processor_mailbox: 64,
            worker_mailbox: 64,
            sink_mailbox: 4096,
            budget: 128,
            write_chunk: 256 * 1024,
            notice_backlog: 256,
            failures_per_connection: 3,
            failures_per_run: 50,
            outputs: 1,
            event_sink_mailbox: 8,
            waiting_ends: 4096,
        }
    }
}

impl PipelineLimits {
    /// Memory of a live Worker, in bytes: with its decoder and its place in the Processor's tables but
    /// without the bytes that it holds (measured by the example `many_connections`, with 100,000 connections
    /// that are all live).
    pub const WORKER_BYTES: usize = 1984;
    /// Bytes of the notices kept for a direction without a Worker, for which it needs no room that others share:
    /// see [`Self::notice_bytes`].
    pub const NOTICE_BACKLOG_BYTES: usize = 4096;

    /// Number of connections whose losses are counted separately; those of all others are summed. A
    /// row takes some 200 bytes.
    pub const CONNECTIONS_WITH_LOSSES: usize = 1000;

    /// Memory of a stream without a Worker, in bytes: with its decoder and its place in the Processor's
    /// tables but without the bytes that it holds (measured by the example `many_connections`).
    pub const ASLEEP_BYTES: usize = 512;

    /// Addresses of this host that are remembered. Hosts with many containers have hundreds.
    pub const LOCAL_ADDRESSES: usize = 4096;

    /// Streams remembered that were ended and may continue. Each takes some 150 bytes.
    pub const ENDED: usize = 8192;

    /// Number of connections looked at in one run interval, to find the silent ones: enough that each has its
    /// turn every few seconds.
    pub const fn looked_at(connections: usize) -> usize {
        let share = connections / 32;
        if share < 4096 { 4096 } else { share }
    }

    /// As `Limits::expansion_bytes` and `Limits::expansion_ratio` of the decoders say unless they are set
    /// otherwise.
    const EXPANSION_BYTES: usize = 2 * 1024 * 1024;
    const EXPANSION_RATIO: usize = 128;

    /// Enough for a connection or two even if hardly any memory is allowed.
    const FEWEST_WORKERS: usize = 16;

    /// Bytes that a Worker decodes, and about as many that it formats, before the others on its
    /// Arbiter run and what it formatted is sent.
    pub const fn turn_bytes(&self) -> usize {
        self.write_chunk
    }

    /// Captured bytes that one Worker may have got and not decoded. What goes beyond waits in the Processor, where it
    /// can still be dropped in favour of the other streams.
    pub const fn stream_bytes(&self) -> usize {
        self.in_flight_bytes() / 16
    }

    /// The same when many streams together keep reading waiting.
    pub const LEAST_STREAM_BYTES: usize = 64 * 1024;

    /// Payload of one round of a replay, whose output is kept until its end: as much as fills the output's
    /// share if each byte becomes as many as content codings are allowed to make of it.
    pub const fn round_bytes(&self) -> usize {
        let bytes = self.output_memory() / Self::EXPANSION_RATIO;
        if bytes == 0 { 1 } else { bytes }
    }

    /// Streams that begin in one round of a replay. What content codings may make of a few bytes, they may
    /// make of the first bytes of each.
    pub const fn round_streams(&self) -> usize {
        let streams = self.output_memory() / Self::EXPANSION_BYTES;
        if streams == 0 { 1 } else { streams }
    }

    /// Captured bytes read and not yet decoded.
    pub const fn in_flight_bytes(&self) -> usize {
        self.max_memory / 8
    }

    /// Workers that may be alive at once: what fits into their share of the memory, but never
    /// fewer than a handful.
    pub fn workers(&self) -> usize {
        self.max_workers.min(self.fitting_workers())
    }

    /// Workers that fit into their share of the memory, together with what sleeps.
    pub fn fitting_workers(&self) -> usize {
        let fitting = self.max_memory / 8 * 3 / Self::WORKER_BYTES;
        fitting.max(Self::FEWEST_WORKERS)
    }

    /// Bytes held by all decoders together.
    pub const fn held_bytes(&self) -> usize {
        self.max_memory / 4
    }

    /// Bytes of requests that wait for the Workers of their responses, all together: a part of what decoders may
    /// hold.
    pub const fn notice_bytes(&self) -> usize {
        self.held_bytes() / 8
    }

    /// Formatted bytes of all outputs not yet written.
    pub const fn output_memory(&self) -> usize {
        self.max_memory / 4
    }

    /// Formatted bytes of one output not yet written.
    pub const fn output_bytes(&self) -> usize {
        self.output_memory() / if self.outputs == 0 { 1 } else { self.outputs }
    }

    /// Formatted bytes that a Sink keeps while its target fails.
    pub const fn sink_buffer(&self) -> usize {
        self.output_bytes() / 2
    }
}

/// The pipeline's periods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// How often a Worker looks at the time.
    pub run_interval: Duration,
    /// Silence after which incomplete messages are shown; a plain stream also ends then.
    pub idle: Duration,
    /// Silence after which a connection's Workers end and only its decoders are kept; longer than `idle`.
    pub hibernate: Duration,
    /// Silence after which a connection whose close was missed is ended, and a plain stream forgotten.
    pub age_limit: Duration,
    /// How long a stop waits for everything to be written.
    pub drain_deadline: Duration,
    /// How long one Worker may refuse events before they are dropped.
    pub worker_stall: Duration,
    /// How long reading waits for streams that have more on the way than their share, before that is dropped.
    pub reading_patience: Duration,
    /// Time after which one turn of a Worker ends with the current event.
    pub turn_time: Duration,
    /// How long one turn of a Worker of a capture may take before its connection gets no decoder any
    /// more. Turns take milliseconds; less than the watchdog waits.
    pub turn_limit: Duration,
    /// Pause between two tries of a refused delivery.
    pub retry_delay: Duration,
    /// Pause before the second restart in a row; doubles from there.
    pub restart_delay: Duration,
    /// The window in which failures are counted.
    pub failure_window: Duration,
    /// First pause of a Sink that retries; doubles from there.
    pub sink_retry_delay: Duration,
    /// Longest pause of a Sink that retries.
    pub sink_retry_delay_max: Duration,
    /// Pause before a target that is at work is asked again.
    pub busy_delay: Duration,
    /// How often the watchdog asks each Arbiter, and how long it waits for an answer.
    pub watchdog_interval: Duration,
    /// How long a record waits for the other end of its exchange; in a replay in the recording's time.
    pub other_end: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            run_interval: Duration::from_millis(100),
            idle: Duration::from_millis(1_100),
            hibernate: Duration::from_secs(10),
            age_limit: Duration::from_mins(10),
            drain_deadline: Duration::from_secs(3),
            worker_stall: Duration::from_secs(1),
            reading_patience: Duration::from_millis(20),
            turn_time: Duration::from_millis(10),
            turn_limit: Duration::from_secs(5),
            retry_delay: Duration::from_millis(1),
            restart_delay: Duration::from_millis(50),
            failure_window: Duration::from_secs(10),
            sink_retry_delay: Duration::from_millis(100),
            sink_retry_delay_max: Duration::from_secs(5),
            busy_delay: Duration::from_millis(5),
            watchdog_interval: Duration::from_secs(5),
            other_end: Duration::from_millis(500),
        }
    }
}
