//! Reports the connections and programs that were found too late.

use ecapture_probe::{CaptureHandle, Executor, LateProgram};
use ecapture_protocols::printable;

use super::WORST;

/// Reports that a process had mapped a `file` with TLS before the probes were attached to it.
pub(super) fn process(process: &Executor, file: &str, ended: bool, connected: bool) {
    let name = format!("{} ({})", printable(&process.command), process.pid);
    match (ended, connected) {
        (true, true) => tracing::warn!(
            "{name} connected and ended before the probes were attached to its {file}: its TLS traffic may be missing"
        ),
        (true, false) => {
            tracing::info!(
                "{name} ended before the probes were attached to its {file}; it had not connected"
            );
        }
        (false, true) => tracing::info!(
            "{name} began to connect before the probes were attached to its {file}: connections that it has closed \
             since then may be missing"
        ),
        (false, false) => {}
    }
}

/// Reports how many connections begin in the middle, and whose they are.
pub(crate) fn connections(capture: &CaptureHandle) {
    let late = capture.tally().late_connections();
    let name_all = tracing::enabled!(tracing::Level::DEBUG);
    for line in lines(
        late.open_before_capture,
        late.before_probes,
        &late.programs(),
        name_all,
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

fn lines(open: u64, missed: u64, programs: &[LateProgram], name_all: bool) -> Vec<Line> {
    let mut lines = Vec::new();
    if open > 0 {
        let of = |program: &LateProgram| program.open_before_capture;
        lines.push(Line::Open(format!(
            "{}: shown from the middle: {}",
            counted(open, "open before the capture began"),
            named(programs, of, open, name_all)
        )));
    }
    if missed > 0 {
        let of = |program: &LateProgram| program.before_probes;
        lines.push(Line::Missed(format!(
            "{}: the beginning may be missing: {}",
            counted(missed, "opened before the probes were attached"),
            named(programs, of, missed, name_all)
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
            let comm = program.comm.to_string();
            let name = printable(&comm);
            format!("{name} ({}) {}", program.pid, of(program))
        })
        .collect();
    if rest > 0 {
        let hint = if name_all { "" } else { "; -d lists more" };
        names.push(format!("others {rest}{hint}"));
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use ecapture_protocols::Comm;

    use super::*;

    fn program(pid: u32, name: &str, open_before_capture: u64, before_probes: u64) -> LateProgram {
        LateProgram {
            pid,
            comm: Comm::from(name),
            open_before_capture,
            before_probes,
        }
    }

    #[test]
    fn nothing_is_said_when_nothing_was_late() {
        assert_eq!(lines(0, 0, &[], false), []);
    }

    #[test]
    fn each_kind_names_only_its_own_programs() {
        let programs = [program(1, "curl", 0, 1), program(2, "nginx", 2, 0)];
        assert_eq!(
            lines(2, 1, &programs, false),
            [
                Line::Open(
                    "2 connections were open before the capture began: shown from the middle: nginx (2) 2".to_owned()
                ),
                Line::Missed(
                    "1 connection was opened before the probes were attached: the beginning may be missing: curl (1) 1".to_owned()
                ),
            ]
        );
    }

    #[test]
    fn those_with_most_come_first_and_the_rest_is_counted() {
        let programs: Vec<_> = (1..=12).map(|pid| program(pid, "app", 0, pid.into())).collect();
        let all: u64 = (1..=12).sum();
        let [Line::Missed(short)] = &lines(0, all, &programs, false)[..] else {
            panic!("one line");
        };
        assert!(short.contains(": app (12) 12, app (11) 11, "), "{short}");
        assert!(short.ends_with("app (3) 3, others 3; -d lists more"), "{short}");
        let [Line::Missed(long)] = &lines(0, all + 5, &programs, true)[..] else {
            panic!("one line");
        };
        assert!(long.ends_with("app (2) 2, app (1) 1, others 5"), "{long}");
    }

    /// A thread may have any bytes for its name.
    #[test]
    fn a_name_cannot_write_to_the_terminal() {
        let [Line::Missed(text)] = &lines(0, 1, &[program(1, "a\u{1b}[2J", 0, 1)], false)[..] else {
            panic!("one line");
        };
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}
