//! `ecapture doctor`: whether capture can run here, and what it would see.

mod others;
mod page;
mod programs;
mod text;

use std::io::{self, Write};

use anyhow::{Context as _, Result, bail};
use ecapture_actors::SinkWriter;
use ecapture_probe::host::{self, Check};
use ecapture_probe::survey::{Finding, Obstacle, Place, PlannedHook, Survey};
use ecapture_probe::{Modules, ProgramCheck, ProgramFinding, ProgramObstacle};
use serde_json::json;

use crate::exit::Exit;
use crate::outputs::{FileClock, OpenTarget, RunFigures};
use crate::settings::OutputSettings;

/// Reports on the processes `pids`, or on all when there are none.
pub(crate) fn run(settings: &OutputSettings, pids: &[u32]) -> Result<Exit> {
    let host = host::check();
    // What is missing on the host would be the reason once more.
    let programs = host
        .is_ok()
        .then(|| ecapture_probe::check_programs(Modules::TLS, false))
        .transpose();
    let report = Report {
        checks: host::checks(),
        can_capture: host.is_ok() && programs.is_ok(),
        programs: programs.map(Option::unwrap_or_default),
        survey: if pids.is_empty() {
            Survey::of_all()
        } else {
            Survey::of(pids.iter().copied())
        },
        others: ecapture_probe::programs(pids),
    };
    let mut bytes = Vec::new();
    if settings.is_json() {
        report.json_lines(&mut bytes)
    } else {
        text::write(&report, &mut bytes)
    }
    .context("the report cannot be formatted")?;
    let first = &settings.outputs[0];
    let OpenTarget::Bytes(mut output) =
        first.open(Vec::new(), FileClock::default(), &RunFigures::default())?
    else {
        bail!(
            "{}: a report is written to standard output, a file or a collector",
            first.name()
        );
    };
    match write_all(output.as_mut(), &bytes) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written.context("the report cannot be written")?,
    }
    Ok(if report.can_capture {
        Exit::Success
    } else {
        Exit::Failure
    })
}

fn write_all(output: &mut dyn SinkWriter, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match output.write(bytes)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => bytes = &bytes[written..],
        }
    }
    output.flush()
}

struct Report {
    checks: Vec<Check>,
    can_capture: bool,
    /// Empty where the host cannot capture.
    programs: Result<Vec<ProgramCheck>, ecapture_probe::Error>,
    survey: Survey,
    /// Programs that are captured for something else.
    others: Vec<ProgramFinding>,
}

impl Report {
    fn json_lines(&self, out: &mut dyn Write) -> io::Result<()> {
        for check in &self.checks {
            let line = json!({
                "kind": "host",
                "check": check.name,
                "ok": check.problem.is_none(),
                "observed": check.observed,
                "problem": check.problem.as_ref().map(ToString::to_string),
            });
            writeln!(out, "{line}")?;
        }
        for line in programs::json(&self.programs) {
            writeln!(out, "{line}")?;
        }
        for finding in &self.survey.findings {
            writeln!(out, "{}", json_finding(finding))?;
        }
        for finding in &self.others {
            writeln!(out, "{}", json_other(finding))?;
        }
        let line = json!({
            "kind": "summary",
            "can_capture": self.can_capture,
            "captured": self.survey.captured(),
            "missed": self.survey.missed(),
            "hidden": self.survey.hidden,
        });
        writeln!(out, "{line}")
    }
}

/// The number of processes that a capture covers, in half a sentence.
pub(crate) fn coverage(survey: &Survey) -> String {
    let mut parts = vec![format!("covers {}", processes(survey.captured()))];
    if survey.missed() > 0 {
        parts.push(format!(
            "{} with TLS cannot be captured",
            processes(survey.missed())
        ));
    }
    if survey.hidden > 0 {
        parts.push(format!(
            "{} could not be inspected (permission denied)",
            processes(survey.hidden)
        ));
    }
    parts.join("; ")
}

fn processes(count: usize) -> String {
    let plural = if count == 1 { "" } else { "es" };
    format!("{count} process{plural}")
}

fn json_finding(finding: &Finding) -> serde_json::Value {
    json!({
        "kind": "process",
        "pid": finding.pid,
        "comm": finding.command,
        "tls": finding.implementation,
        "version": finding.version,
        "file": finding.file.to_string_lossy(),
        "deleted": finding.deleted,
        "place": match finding.place {
            Place::Library => "library",
            Place::Executable => "executable",
            Place::Kernel => "kernel",
        },
        "functions": functions(finding),
        "points": finding.hooks.iter().map(json_point).collect::<Vec<_>>(),
        "obstacle": finding.obstacle.as_ref().map(ToString::to_string),
        "keys": finding.keys.as_str(),
        "advice": finding.obstacle.as_ref().map(Obstacle::advice),
    })
}

fn json_other(finding: &ProgramFinding) -> serde_json::Value {
    json!({
        "kind": "audit",
        "module": finding.module,
        "file": finding.file.to_string_lossy(),
        "pids": finding.pids,
        "functions": finding.functions,
        "missing": finding.missing,
        "obstacle": finding.obstacle.as_ref().map(ToString::to_string),
        "advice": finding.obstacle.as_ref().map(ProgramObstacle::advice),
    })
}

fn functions(finding: &Finding) -> Vec<&'static str> {
    finding.hooks.iter().map(|hook| hook.symbol).collect()
}

fn json_point(hook: &PlannedHook) -> serde_json::Value {
    json!({
        "function": hook.symbol,
        "offset": hook.point.offset,
        "at": hook.point.kind.to_string(),
        "reason": hook.point.reason.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coverage_tells_what_is_missing() {
        let mut survey = Survey::default();
        assert_eq!(coverage(&survey), "covers 0 processes");
        survey.hidden = 3;
        assert_eq!(
            coverage(&survey),
            "covers 0 processes; 3 processes could not be inspected (permission denied)"
        );
    }
}
