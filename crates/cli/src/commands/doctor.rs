//! `ecapture doctor`: whether capture can run here, and what it would see.

mod programs;

use std::collections::HashSet;
use std::io::{self, Write};

use anyhow::{Context as _, Result};
use ecapture_actors::SinkWriter;
use ecapture_probe::ProgramCheck;
use ecapture_probe::host::{self, Check};
use ecapture_probe::survey::{Finding, Obstacle, Place, Planned, Survey};
use ecapture_protocols::printable;
use serde_json::json;

use crate::args::FormatName;
use crate::exit::Exit;
use crate::output;
use crate::settings::OutputSettings;

pub(crate) fn run(settings: &OutputSettings) -> Result<Exit> {
    let host = host::check();
    // What is missing on the host would be the reason once more.
    let programs = host.is_ok().then(ecapture_probe::check_programs).transpose();
    let report = Report {
        checks: host::checks(),
        can_capture: host.is_ok() && programs.is_ok(),
        programs: programs.map(Option::unwrap_or_default),
        survey: Survey::of_all(),
    };
    let mut bytes = Vec::new();
    match settings.format {
        FormatName::Text => report.text(&mut bytes),
        FormatName::Jsonl => report.json_lines(&mut bytes),
    }
    .context("the report cannot be formatted")?;
    let mut output = output::open(&settings.target)?;
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
}

impl Report {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let checks = self.checks.iter().map(|check| {
            let verdict = if check.problem.is_some() { "PROBLEM" } else { "ok" };
            let told = check
                .problem
                .as_ref()
                .map_or(check.observed.clone(), ToString::to_string);
            [verdict.to_owned(), check.name.to_owned(), told]
        });
        let checks = checks.chain(programs::rows(&self.programs));
        table(out, ["HOST", "NEEDED", "FOUND"], checks.collect())?;
        writeln!(out)?;
        let rows: Vec<_> = self.survey.findings.iter().map(row).collect();
        let rows_are_none = rows.is_empty();
        if !rows_are_none {
            table(
                out,
                ["PID", "COMMAND", "TLS", "FILE", "CAPTURED FUNCTIONS, OR WHY NOT"],
                rows,
            )?;
            writeln!(out)?;
        }
        let points = if tracing::enabled!(tracing::Level::DEBUG) {
            points(&self.survey.findings)
        } else {
            Vec::new()
        };
        if !points.is_empty() {
            table(out, ["FILE", "FUNCTION", "CAPTURED AT", "WHY THERE"], points)?;
            writeln!(out)?;
        }
        if rows_are_none {
            writeln!(out, "No TLS that is known was found in a process that runs now.")?;
            if self.checks.iter().all(|check| check.problem.is_none()) {
                writeln!(out, "`ecapture tls` captures programs that start later, too.")?;
            }
        }
        writeln!(out, "A capture {}.", coverage(&self.survey))?;
        if !self.can_capture {
            writeln!(
                out,
                "Nothing can be captured until the problems above are solved."
            )?;
        }
        Ok(())
    }

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

/// How many processes a capture covers, in half a sentence.
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
            "{} could not be looked into (permission denied)",
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
        "advice": finding.obstacle.as_ref().map(Obstacle::advice),
    })
}

fn functions(finding: &Finding) -> Vec<&'static str> {
    finding.hooks.iter().map(|hook| hook.symbol).collect()
}

fn json_point(hook: &Planned) -> serde_json::Value {
    json!({
        "function": hook.symbol,
        "offset": hook.point.offset,
        "at": hook.point.kind.to_string(),
        "reason": hook.point.reason,
    })
}

/// Where each function of each file would be captured, and why there. Files of one name in several
/// containers may differ.
fn points(findings: &[Finding]) -> Vec<[String; 4]> {
    let mut told = HashSet::new();
    let mut rows = Vec::new();
    for finding in findings {
        for Planned { symbol, point } in &finding.hooks {
            if told.insert((&finding.file, symbol, point.offset)) {
                let place = format!("{:#x} ({})", point.offset, point.kind);
                let file = printable(&finding.file.to_string_lossy()).into_owned();
                rows.push([file, (*symbol).to_owned(), place, point.reason.clone()]);
            }
        }
    }
    rows
}

fn row(finding: &Finding) -> [String; 5] {
    let tls = match &finding.version {
        Some(version) => format!("{} {version}", finding.implementation),
        None => finding.implementation.to_owned(),
    };
    let deleted = if finding.deleted { " (deleted)" } else { "" };
    let file = match finding.place {
        Place::Library => format!("{}{deleted}", finding.file.display()),
        Place::Executable => format!("{} (itself)", finding.file.display()),
        Place::Kernel => format!("{} (its sockets)", finding.file.display()),
    };
    let verdict = match &finding.obstacle {
        Some(obstacle) => format!("NO: {obstacle}; {}", obstacle.advice()),
        None => functions(finding).join(" "),
    };
    [
        finding.pid.to_string(),
        finding.command.clone(),
        tls,
        file,
        verdict,
    ]
    .map(|cell| printable(&cell).into_owned())
}

/// Columns of equal width, but for the last.
fn table<const COLUMNS: usize>(
    out: &mut dyn Write,
    head: [&str; COLUMNS],
    mut rows: Vec<[String; COLUMNS]>,
) -> io::Result<()> {
    rows.insert(0, head.map(str::to_owned));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; COLUMNS] = std::array::from_fn(|column| width(column).unwrap_or(0));
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let mut out = Vec::new();
        let rows = vec![["12345".to_owned(), "x".to_owned()]];
        table(&mut out, ["PID", "NAME"], rows).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "PID    NAME\n12345  x\n");
    }

    #[test]
    fn coverage_tells_what_is_missing() {
        let mut survey = Survey::default();
        assert_eq!(coverage(&survey), "covers 0 processes");
        survey.hidden = 3;
        assert_eq!(
            coverage(&survey),
            "covers 0 processes; 3 processes could not be looked into (permission denied)"
        );
    }
}
