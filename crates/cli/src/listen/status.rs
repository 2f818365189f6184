//! `GET /status`: the run, in JSON.

use ecapture_actors::{LossRow, OutputStatistics, Statistics, Tally};
use serde_json::{Value, json};

use super::{Live, Run};
use crate::settings::CaptureSettings;

/// The settings of a capture that cannot change.
pub(super) fn fixed(settings: &CaptureSettings) -> Value {
    let command = settings.command.iter().map(|word| word.to_string_lossy());
    json!({
        "not_pid": settings.excluded,
        "command": command.collect::<Vec<_>>(),
        "ring_bytes": settings.ring_bytes,
    })
}

/// The whole state of a run.
pub(super) fn of(run: &Run) -> Value {
    let statistics = run.pipeline.statistics();
    let attached = run.live.as_ref().map(|live| {
        let (files, unlisted) = live.attached().list();
        let files = files.into_iter();
        let files =
            files.map(|(file, functions)| json!({ "file": file.to_string_lossy(), "functions": functions }));
        json!({ "files": files.collect::<Vec<_>>(), "unlisted": unlisted })
    });
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "uptime_seconds": run.started.elapsed().as_secs_f64(),
        "kind": if run.live.is_some() { "capture" } else { "replay" },
        "settings": { "live": run.live.as_ref().map(Live::in_force), "fixed": run.fixed },
        "attached": attached,
        "outputs": outputs(&statistics.outputs),
        "ledger": ledger(&statistics),
    })
}

fn ledger(statistics: &Statistics) -> Value {
    json!({
        "seen": events(statistics.seen),
        "observed": statistics.observed,
        "delivered": events(statistics.delivered),
        "in_flight": events(statistics.in_flight),
        "lost": losses(&statistics.losses, false),
        "left_out": losses(&statistics.losses, true),
        "held_bytes": statistics.held_bytes,
        "streams": {
            "open": statistics.live_workers,
            "peak": statistics.peak_workers,
            "idle": statistics.sleeping,
            "forgotten": statistics.shed_connections + statistics.given_up,
            "restarts": statistics.restarts,
            "raw_since_failure": statistics.quarantined,
        },
        "reader_waits": { "times": statistics.stalls, "seconds": statistics.stall_time.as_secs_f64() },
    })
}

fn outputs(outputs: &[OutputStatistics]) -> Vec<Value> {
    let outputs = outputs.iter().map(|output| {
        json!({
            "name": output.name,
            "produced": records(output.produced),
            "written": records(output.written),
            "unwritten": records(output.unwritten),
            "lost": losses(&output.losses, false),
            "left_out": losses(&output.losses, true),
            "reopened": output.retries,
            "unacknowledged_bytes": output.unacknowledged,
            "not_selected": output.left_out,
        })
    });
    outputs.collect()
}

fn losses(rows: &[LossRow], intended: bool) -> Vec<Value> {
    let rows = rows.iter().filter(|row| row.intended == intended).map(|row| {
        json!({
            "stage": row.stage.as_str(),
            "reason": row.reason,
            "events": row.events,
            "bytes": row.bytes,
        })
    });
    rows.collect()
}

fn events(tally: Tally) -> Value {
    json!({ "events": tally.events, "bytes": tally.bytes })
}

fn records(tally: Tally) -> Value {
    json!({ "records": tally.events, "bytes": tally.bytes })
}
