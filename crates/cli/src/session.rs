//! One run of the pipeline: from a source of events to an exit code.

use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use ecapture_actors::{
    Clock, DecoderFactory, Ledger, Outcome, Output, PipelineConfig, PipelineHandle, Placement, SinkPolicy,
    Summary, Tap, spawn, spawn_with,
};
use ecapture_probe::Capture;
use ecapture_protocols::format::WallClock;
use ecapture_protocols::privacy::Level;
use ecapture_protocols::{CapturedEvent, Unwanted, View, stream_decoder};
use futures_util::stream;
use tokio::signal::unix::{Signal, SignalKind};
use tokio::sync::mpsc;

use crate::exit::Exit;
use crate::hang_up::{OnHangUp, on_hang_up};
use crate::injection::{Injection, Source};
use crate::listen::{Attached, Live, Run, Server};
use crate::memory;
use crate::outputs::{Looks, OpenTarget, RunFigures};
use crate::recording::{Recording, RecordingError};
use crate::report;
use crate::selection::{NoUser, Selection};
use crate::settings::{CaptureSettings, OutputSettings};
use crate::stop::{Stop, StopConditions};

/// A configured pipeline with opened outputs.
pub(crate) struct Session {
    config: PipelineConfig,
    outputs: Vec<Opened>,
    fail_on_loss: bool,
    statistics_interval: Option<Duration>,
    server: Option<Server>,
    looks: Option<Arc<Looks>>,
    /// For outputs that send the figures of the run.
    figures: RunFigures,
    /// While it lives, SIGHUP opens files again.
    _on_hang_up: Option<OnHangUp>,
}

/// An output whose target is open.
struct Opened {
    name: String,
    tap: Tap,
    policy: SinkPolicy,
    target: OpenTarget,
}

impl From<Opened> for Output {
    fn from(opened: Opened) -> Self {
        Self {
            name: opened.name,
            tap: opened.tap,
            target: opened.target.into(),
            policy: opened.policy,
        }
    }
}

impl Session {
    /// Opens the outputs.
    pub(crate) fn new(settings: &OutputSettings, clock: WallClock) -> Result<Self> {
        if settings.privacy.level == Level::Metadata {
            memory::wipe_freed();
        }
        let server = settings.listen.as_ref().map(Server::bind).transpose()?;
        let looks = server.is_some().then(Arc::<Looks>::default);
        let figures = RunFigures::default();
        let outputs = settings.outputs.iter().map(|output| {
            let tap = settings.tap(output, clock, looks.as_deref());
            let target = output.open(tap.beginning(), settings.file_clock, &figures)?;
            Ok(Opened {
                name: output.name(),
                tap,
                policy: output.policy,
                target,
            })
        });
        let outputs: Vec<Opened> = outputs.collect::<Result<_>>()?;
        let mut config = PipelineConfig::new(decoders(settings, &outputs));
        let has_file = settings
            .outputs
            .iter()
            .any(|output| output.target.is_regular_file());
        let renewal = config.renewal.clone();
        config.limits = settings.limits;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        // Reader and Sink take little; what is left decodes.
        config.placement = Placement::Threads {
            worker_arbiters: (processors / 2).clamp(1, 8),
        };
        Ok(Self {
            config,
            outputs,
            fail_on_loss: settings.fail_on_loss,
            statistics_interval: settings.statistics_interval,
            server,
            looks,
            figures,
            _on_hang_up: has_file.then(|| on_hang_up(move || renewal.ask())),
        })
    }

    /// Runs a capture until one of `conditions` stops it.
    pub(crate) async fn capture(
        mut self,
        capture: Capture,
        conditions: StopConditions,
        settings: (&OutputSettings, &CaptureSettings),
        attached: Attached,
    ) -> Result<Exit> {
        let counters = capture.handle();
        self.config.kernel_counters = Some(Arc::new(report::KernelLosses(counters.clone())));
        let outputs = self.outputs.into_iter().map(Output::from).collect();
        let pipeline = spawn_with(self.config, move || capture.into_events(), outputs);
        self.figures.begin(pipeline.clone());
        // Whoever reads that the capture runs may send a signal at once.
        let watched = watch(pipeline.clone(), self.statistics_interval)?;
        let stop = Stop::of(pipeline.clone());
        let looks = self.looks.unwrap_or_default();
        let run = || {
            let live = Live::new(counters.clone(), looks, settings.0, settings.1, attached);
            Run::capture(pipeline.clone(), settings.1, live)
        };
        let _file = self.server.map(|server| server.serve(run())).transpose()?;
        tracing::info!("capturing; press Ctrl-C to stop");
        let command_exit = tokio::select! {
            exit = stop.capture(conditions) => exit?,
            never = watched => match never {},
        };
        let summary = pipeline.finished().await;
        report::summary(&summary);
        report::packets::summary(&counters);
        if settings.1.modules().have(ecapture_probe::Modules::SECRETS) {
            report::secrets(&counters);
        }
        report::ring_users(&counters);
        report::late::connections(&counters);
        report::nothing_seen(&summary, &counters, settings.1.modules());
        Ok(exit(&summary, self.fail_on_loss).unwrap_or(command_exit.unwrap_or(Exit::Success)))
    }

    /// Runs a recording to its end, or until a signal, with the failures that were asked for.
    pub(crate) async fn replay(
        mut self,
        recording: Recording,
        selection: &Selection,
        injections: &[Injection],
    ) -> Result<Exit> {
        self.config.clock = Clock::Stream;
        if !injections.is_empty() {
            // With one Arbiter for all Workers the same events fail in every run.
            self.config.placement = Placement::Threads { worker_arbiters: 1 };
        }
        let failure = Arc::new(Mutex::new(None));
        let filter = Filter {
            selection: selection.clone(),
            ledger: Arc::clone(&self.config.ledger),
        };
        let mut source = batches(recording, filter, Arc::clone(&failure))?;
        for injection in injections {
            self.config.decoders = injection.into_decoders(self.config.decoders);
            let outputs = self.outputs.into_iter().map(|output| Opened {
                target: injection.into_target(output.target),
                ..output
            });
            self.outputs = outputs.collect();
            source = injection.into_source(source, &self.config.ledger);
        }
        let outputs = self.outputs.into_iter().map(Output::from).collect();
        let pipeline = spawn(self.config, source, outputs);
        self.figures.begin(pipeline.clone());
        let stop = Stop::of(pipeline.clone());
        let watched = watch(pipeline.clone(), self.statistics_interval)?;
        let run = || Run::replay(pipeline.clone());
        let _file = self.server.map(|server| server.serve(run())).transpose()?;
        tracing::debug!("replaying");
        let interrupted = tokio::select! {
            interrupted = stop.replay() => interrupted,
            never = watched => match never {},
        };
        let summary = pipeline.finished().await;
        report::summary(&summary);
        report::nothing_replayed(&summary, interrupted);
        if let Some(error) = failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(error.into());
        }
        Ok(exit(&summary, self.fail_on_loss).unwrap_or(Exit::Success))
    }
}

/// Makes decoders of the views that the outputs need. Those of one view share their options.
fn decoders(settings: &OutputSettings, outputs: &[Opened]) -> DecoderFactory {
    let views = outputs.iter().filter_map(|output| output.tap.view());
    let options: Vec<_> = views
        .map(|view| Arc::new(settings.decoder_options(view)))
        .collect();
    let otherwise = Arc::new(settings.decoder_options(View::default()));
    let filters = settings.deciding_filters();
    Arc::new(move |origin, view| {
        if !filters.is_empty() && filters.iter().all(|filter| filter.rules_out(origin)) {
            return Box::new(Unwanted);
        }
        let known = options.iter().find(|options| options.view == view);
        stream_decoder(Arc::clone(known.unwrap_or(&otherwise)))
    })
}

/// Batches of a recording that are read ahead.
const BATCHES_AHEAD: usize = 4;

/// Leaves events that are not selected out of a recording.
struct Filter {
    selection: Selection,
    ledger: Arc<Ledger>,
}

impl Filter {
    fn apply(
        &self,
        recording: &Path,
        batch: Vec<CapturedEvent>,
    ) -> Result<Vec<CapturedEvent>, RecordingError> {
        if self.selection.is_all() {
            return Ok(batch);
        }
        let filtered = self.selection.filter(batch, &self.ledger);
        filtered.map_err(|NoUser| RecordingError::NoUser {
            path: recording.to_owned(),
        })
    }
}

/// The recording's batches; what ends it early is left in `failure`. Read on a thread of their own: a
/// recording may be a pipe, and nothing waits for its writer when the run is to end.
fn batches(
    recording: Recording,
    filter: Filter,
    failure: Arc<Mutex<Option<RecordingError>>>,
) -> Result<Source> {
    let (sender, mut receiver) = mpsc::channel(BATCHES_AHEAD);
    std::thread::Builder::new()
        .name("recording".into())
        .spawn(move || {
            let path = recording.path().to_owned();
            for batch in recording {
                let batch = batch.and_then(|events| filter.apply(&path, events));
                let sent = batch.map(|events| sender.blocking_send(events));
                match sent {
                    Ok(Ok(())) => {}
                    // Nobody reads any more.
                    Ok(Err(_)) => return,
                    Err(error) => {
                        *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        return;
                    }
                }
            }
        })?;
    Ok(Box::new(stream::poll_fn(move |context| {
        receiver.poll_recv(context)
    })))
}

/// Prints the figures so far on SIGUSR1, and at every interval if there is one. Never ends by itself.
/// Listens from the moment of the call.
fn watch(pipeline: PipelineHandle, interval: Option<Duration>) -> Result<impl Future<Output = Infallible>> {
    let asked = signal(SignalKind::user_defined1())?;
    Ok(tell_figures(pipeline, asked, interval))
}

async fn tell_figures(pipeline: PipelineHandle, mut asked: Signal, interval: Option<Duration>) -> Infallible {
    let mut ticks = interval.map(tokio::time::interval);
    if let Some(ticks) = &mut ticks {
        ticks.tick().await;
    }
    loop {
        let tick = async {
            match &mut ticks {
                Some(ticks) => ticks.tick().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = asked.recv() => {}
            _ = tick => {}
        }
        report::statistics(&pipeline.statistics());
    }
}

/// The exit code that the pipeline's end asks for, if it asks for one.
fn exit(summary: &Summary, fail_on_loss: bool) -> Option<Exit> {
    match &summary.outcome {
        Outcome::Failed(_) => Some(Exit::Failure),
        _ if !summary.balanced() => Some(Exit::Failure),
        _ if fail_on_loss && summary.statistics.has_unintended_loss() => Some(Exit::Loss),
        Outcome::SinkClosed => Some(Exit::Success),
        Outcome::Complete => None,
    }
}

/// A listener for one signal.
fn signal(kind: SignalKind) -> Result<Signal> {
    tokio::signal::unix::signal(kind).context("cannot listen for signals")
}
