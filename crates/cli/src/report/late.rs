//! Tells which connections and programs were met too late.

use ecapture_probe::{CaptureHandle, Executor, LateConnections, LateProgram};

use super::WORST;
use crate::commands::doctor;

/// Tells that a process had a `file` with TLS before the probes stood in it.
pub(super) fn process(process: &Executor, file: &str, ended: bool, connected: bool) {
    let name = format!("{} ({})", doctor::printable(&process.command), process.pid);
    match (ended, connected) {
        (true, true) => tracing::warn!(
            "{name} had connected and ended before the probes stood in its {file}: what it sent over TLS is missing"
        ),
        (true, false) => {
            tracing::info!("{name} ended before the probes stood in its {file}; it had not connected");
        }
        (false, true) => tracing::info!(
            "{name} had begun to connect before the probes stood in its {file}: connections that it has ended \
             since are missing"
        ),
        (false, false) => {}
    }
}

/// Tells how many connections begin in the middle, and whose.
pub(crate) fn connections(capture: &CaptureHandle) {
    for line in lines(
        &capture.late_connections(),
        tracing::enabled!(tracing::Level::DEBUG),
    ) {
        match line {
            Line::Open(text) => tracing::info!("{text}"),
            Line::Missed(text) => tracing::warn!("{text}"),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Line {
    Open(String),
    Missed(String),
}

fn lines(late: &LateConnections, name_all: bool) -> Vec<Line> {
    let mut lines = Vec::new();
    let programs = late.programs();
    if late.open_before_capture > 0 {
        let of = |program: &LateProgram| program.open_before_capture;
        lines.push(Line::Open(format!(
            "{}: shown from their middle: {}",
            counted(late.open_before_capture, "open before the capture began"),
            named(&programs, of, late.open_before_capture, name_all)
        )));
    }
    if late.before_probes > 0 {
        let of = |program: &LateProgram| program.before_probes;
        lines.push(Line::Missed(format!(
            "{}: their beginning may be missing: {}",
            counted(late.before_probes, "older than the probes in their program"),
            named(&programs, of, late.before_probes, name_all)
        )));
    }
    lines
}

fn counted(connections: u64, what: &str) -> String {
    match connections {
        1 => format!("1 connection was {what}"),
        more => format!("{more} connections were {what}"),
    }
}

/// The programs with the most of them, and how many are not named.
fn named(programs: &[LateProgram], of: impl Fn(&LateProgram) -> u64, total: u64, name_all: bool) -> String {
    let mut concerned: Vec<_> = programs.iter().filter(|program| of(program) > 0).collect();
    concerned.sort_by_key(|program| u64::MAX - of(program));
    concerned.truncate(if name_all { usize::MAX } else { WORST });
    let rest = total - concerned.iter().map(|program| of(program)).sum::<u64>();
    let mut names: Vec<_> = concerned
        .iter()
        .map(|program| {
            let name = doctor::printable(&program.comm.to_string());
            format!("{name} ({}) {}", program.pid, of(program))
        })
        .collect();
    if rest > 0 {
        let hint = if name_all { "" } else { "; -d names more" };
        names.push(format!("others {rest}{hint}"));
    }
    names.join(", ")
}
