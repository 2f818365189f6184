//! Reports about a run on standard error: the attached files, and the events seen and lost.

pub(crate) mod attached;
pub(crate) mod captured_packets;
mod kernel;
pub(crate) mod late;
mod meaning;
pub(crate) mod packets;

use ecapture_actors::{
    ConnectionLosses, Loss, LossRow, Outcome, OutputStatistics, Stage, Statistics, Summary, Tally,
};
use ecapture_probe::survey::UncapturedProcess;
use ecapture_probe::{CaptureHandle, Modules};
use ecapture_protocols::decoder::SkipReason;
use ecapture_protocols::printable;

pub(crate) use kernel::KernelLosses;

/// Most processes that are named as silent.
const SILENT_LINES: usize = 20;

/// Reports how the run ended, what was seen and, name by name, what was lost.
pub(crate) fn summary(summary: &Summary) {
    if let Outcome::Failed(error) = &summary.outcome {
        tracing::error!("{error}");
    }
    figures(&summary.statistics);
    match &summary.outcome {
        Outcome::Failed(_) => {}
        // The reason why nothing was printed is reported elsewhere, and that is not a success.
        _ if summary.statistics.is_without_data() => {}
        Outcome::Complete | Outcome::SinkClosed => nothing_lost(&summary.statistics),
    }
    if !summary.balanced() {
        tracing::error!(
            "the figures do not add up; this is a bug in ecapture: {:?}",
            summary.statistics
        );
    }
}

/// Reports the figures of a running capture.
pub(crate) fn statistics(statistics: &Statistics) {
    figures(statistics);
    nothing_lost(statistics);
}

fn figures(statistics: &Statistics) {
    let written = match statistics.outputs.as_slice() {
        [only] if !only.of_events => {
            let Tally { events, bytes } = only.written;
            format!("written {events} records with {bytes} bytes; ")
        }
        _ => String::new(),
    };
    let observed = match statistics.observed {
        0 => String::new(),
        observed => format!(", {observed} of them about processes"),
    };
    tracing::info!(
        "seen {} events with {} bytes{observed}; {written}streams {} open, {} at peak, {} idle",
        statistics.seen.events,
        statistics.seen.bytes,
        statistics.live_workers,
        statistics.peak_workers,
        statistics.sleeping,
    );
    outputs(&statistics.outputs);
    reductions(statistics);
    if statistics.stalls > 0 {
        tracing::debug!(
            "reading waited {} times, {:?} in all",
            statistics.stalls,
            statistics.stall_time
        );
    }
    if statistics.sink_retries > 0 {
        tracing::info!("tried {} times to reopen the output", statistics.sink_retries);
    }
    if statistics.sink_unacknowledged > 0 {
        tracing::warn!(
            "may be lost: up to {} bytes that the collector had not acknowledged when its connection failed",
            statistics.sink_unacknowledged
        );
    }
    losses(&statistics.losses);
    losses_by_connection(&statistics.by_connection, statistics.other_connections);
}

/// What the limits, the load and failures of decoders changed in what is shown.
fn reductions(statistics: &Statistics) {
    if statistics.restarts > 0 {
        tracing::warn!(
            "restarted decoders {} times; {} connections are shown raw since then",
            statistics.restarts,
            statistics.quarantined
        );
    }
    if statistics.shed_connections > 0 {
        tracing::warn!(
            "connections forgotten to stay within --max-memory or --max-workers: {}",
            statistics.shed_connections
        );
    }
    if statistics.given_up > 0 {
        tracing::info!(
            "idle streams forgotten to stay within --max-memory: {}; those that continue are marked",
            statistics.given_up
        );
    }
    if statistics.late_notices > 0 {
        tracing::warn!(
            "decoding fell behind: responses were printed without their requests, as no_request, {} times",
            statistics.late_notices
        );
    }
}

/// A row for each output, where there are several; what a recording got is always said.
fn outputs(outputs: &[OutputStatistics]) {
    for output in outputs
        .iter()
        .filter(|output| output.of_events || outputs.len() > 1)
    {
        let Tally { events, bytes } = output.written;
        let lost = match reasons(&output.losses) {
            lost if lost.is_empty() => String::new(),
            lost => format!("; lost, of {} produced: {lost}", output.produced.events),
        };
        let name = &output.name;
        if output.of_events {
            let bytes = if bytes > 0 {
                format!(" with {bytes} bytes")
            } else {
                String::new()
            };
            tracing::info!("recorded {events} events{bytes} in {name}{lost}");
        } else {
            tracing::info!("written {events} records with {bytes} bytes to {name}{lost}");
        }
    }
    for output in outputs.iter().filter(|output| output.left_out > 0) {
        let (left_out, name) = (output.left_out, &output.name);
        tracing::info!("left out {left_out} messages of {name} that its filter does not select");
    }
}

/// Reports that nothing was lost. The same line has the bytes that limits left out of bodies, and those that
/// never came from the kernel. Of a run that failed this is not known.
fn nothing_lost(statistics: &Statistics) {
    if statistics.has_unintended_loss() {
        return;
    }
    let by_limit = |row: &&LossRow| row.intended && row.reason == SkipReason::BodyLimit.as_str();
    let left_out: u64 = statistics
        .losses
        .iter()
        .filter(by_limit)
        .map(|row| row.bytes)
        .sum();
    let rows = || {
        statistics
            .by_connection
            .iter()
            .flat_map(|connection| &connection.losses)
    };
    let missing: u64 = rows()
        .filter(|row| row.stage == Stage::Kernel)
        .map(|row| row.bytes)
        .sum();
    match (left_out, missing) {
        (0, 0) => tracing::info!("nothing was lost"),
        (left_out, 0) => tracing::info!(
            "nothing was lost; {left_out} bytes of bodies were left out because of limits, each marked in its message"
        ),
        (_, missing) => tracing::warn!(
            "{missing} bytes are missing from connections, each gap marked in its place; nothing else was lost"
        ),
    }
}

/// Connections or programs that are named without `--debug`.
const WORST: usize = 10;

/// Reports the losses of connections: the largest ones, or all of them.
fn losses_by_connection(connections: &[ConnectionLosses], others: Tally) {
    let name_all = tracing::enabled!(tracing::Level::DEBUG);
    let named = if name_all {
        connections.len()
    } else {
        WORST.min(connections.len())
    };
    let (named, unnamed) = connections.split_at(named);
    for connection in named {
        tracing::warn!("lost from {}: {}", connection.uuid, reasons(&connection.losses));
    }
    let rest = unnamed.iter().fold(others, |sum, connection| {
        let Tally { events, bytes } = connection.total();
        Tally {
            events: sum.events + events,
            bytes: sum.bytes + bytes,
        }
    });
    if rest == Tally::default() {
        return;
    }
    let hint = if name_all { "" } else { "; -d lists more of them" };
    tracing::warn!(
        "lost from other connections: {} events, {} bytes{hint}",
        rest.events,
        rest.bytes
    );
}

/// The rows in one line: how much was lost where, and why.
pub(crate) fn reasons<'a>(rows: impl IntoIterator<Item = &'a LossRow>) -> String {
    let rows = rows.into_iter().map(|row| {
        let (stage, reason) = (row.stage.as_str(), row.reason);
        format!("{stage} {reason}: {} events, {} bytes", row.events, row.bytes)
    });
    rows.collect::<Vec<_>>().join("; ")
}

fn losses(rows: &[LossRow]) {
    for row in rows {
        if row.intended {
            tracing::info!("left out: {}", row_in_words(row));
        } else {
            tracing::warn!("lost: {}", row_in_words(row));
        }
    }
}

/// A row of the ledger, by its name and in words.
fn row_in_words(row: &LossRow) -> String {
    let (stage, reason) = (row.stage.as_str(), row.reason);
    let meaning = meaning::of(row.stage, reason);
    format!(
        "{stage} {reason}: {} events, {} bytes: {meaning}",
        row.events, row.bytes
    )
}

/// Names the processes that filled the ring, when something was lost because it was full.
pub(crate) fn ring_users(capture: &CaptureHandle) {
    /// Most that are named.
    const NAMED: usize = 5;
    let lost = capture.counters().is_ok_and(|counters| {
        counters.ring_full_records + counters.ring_share_records + counters.close_lost > 0
    });
    let users = capture.ring_users();
    if !lost || users.is_empty() {
        return;
    }
    let total: u64 = users.iter().map(|user| user.filled_bytes).sum();
    let named = users.iter().take(NAMED).map(|user| {
        let comm = user.comm.to_string();
        let name = printable(&comm);
        let percent = user.filled_bytes * 100 / total.max(1);
        format!("{name} ({}): {percent} %", user.pid)
    });
    tracing::warn!(
        "the ring buffer was filled by {}; a larger --mapsize gives it more room",
        named.collect::<Vec<_>>().join(", ")
    );
}

/// Reports how many secrets of handshakes were observed.
pub(crate) fn secrets(capture: &CaptureHandle) {
    let tally = capture.tally();
    tracing::info!(
        "seen {} handshakes, with {} secrets for the key log",
        tally.handshakes(),
        tally.secrets()
    );
}

/// Says what may be the reason when a capture saw nothing at all.
pub(crate) fn nothing_seen(summary: &Summary, capture: &CaptureHandle, modules: Modules) {
    let statistics = &summary.statistics;
    // Facts about processes come from TLS alone; a command or statement may be one without bytes.
    let of_others = if modules.have(Modules::TLS) {
        modules != Modules::TLS && statistics.seen.bytes > 0
    } else {
        statistics.observed > 0
    };
    if statistics.seen.events > statistics.observed || of_others || capture.tally().secrets() > 0 {
        return;
    }
    let others = match capture.counters() {
        Ok(counters) if counters.filtered_calls > 0 => format!(
            "no captured process called the attached functions (other processes did, {} times)",
            counters.filtered_calls
        ),
        _ => "no program called the attached functions".to_owned(),
    };
    tracing::warn!(
        "nothing was captured: {others}; `ecapture doctor` lists what can be captured, and why the rest cannot"
    );
}

/// Says that a replay printed nothing, and why.
pub(crate) fn nothing_replayed(summary: &Summary, interrupted: bool) {
    let filtered = |row: &&LossRow| row.stage == Stage::Reader && row.reason == Loss::Filtered.as_str();
    let filtered: u64 = summary
        .statistics
        .losses
        .iter()
        .filter(filtered)
        .map(|row| row.events)
        .sum();
    match summary.statistics.seen.events {
        0 if interrupted => tracing::info!("nothing was lost: the replay was stopped before its first event"),
        0 => tracing::warn!("nothing was replayed: the recording has no data"),
        seen if seen == filtered => tracing::warn!(
            "nothing was replayed: none of the {seen} recorded events belongs to a process that --pid and --uid select"
        ),
        _ => {}
    }
}

/// Names the processes that are connected, most probably by TLS, and could not be captured.
pub(crate) fn uncaptured(processes: &[UncapturedProcess]) {
    for process in processes.iter().take(SILENT_LINES) {
        let (local, remote) = process.connection;
        let why = match &process.obstacle {
            Some(obstacle) => format!("{obstacle}; {}", obstacle.advice()),
            None => "no TLS implementation that ecapture knows was found in it".to_owned(),
        };
        let name = printable(&process.command);
        let pid = process.pid;
        tracing::warn!("no events from {name} ({pid}), connected from {local} to {remote}: {why}");
    }
    if processes.len() > SILENT_LINES {
        tracing::warn!(
            "no events from {} more processes; `ecapture doctor` lists them",
            processes.len() - SILENT_LINES
        );
    }
}
