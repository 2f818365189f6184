//! The report for people: the host, one row for each program, and the functions with `--debug`.

use std::io::{self, Write};

use ecapture_probe::survey::{Finding, Keys, Place, PlannedHook};
use ecapture_protocols::printable;

use super::page::{cut, paragraph, table};
use super::{Report, coverage, functions, others, programs};

/// Widest cells of the table of programs; the whole texts follow with `--debug`.
const TLS: usize = 22;
const NAME: usize = 15;
/// Where the lines below a program's row begin.
const DETAILS: usize = 4;

/// Writes the whole report.
pub(super) fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let checks = report.checks.iter().map(|check| {
        let verdict = if check.problem.is_some() { "PROBLEM" } else { "ok" };
        let observed = check
            .problem
            .as_ref()
            .map_or(check.observed.clone(), ToString::to_string);
        [verdict.to_owned(), check.name.to_owned(), observed]
    });
    let checks: Vec<_> = checks.chain(programs::rows(&report.programs)).collect();
    table(out, ["HOST", "NEEDED", "FOUND"], &checks)?;
    writeln!(out)?;
    if report.survey.findings.is_empty() {
        writeln!(out, "No known TLS implementation was found in a running process.")?;
        if report.checks.iter().all(|check| check.problem.is_none()) {
            writeln!(out, "`ecapture tls` also captures programs that start later.")?;
        }
    } else {
        write_programs(&report.survey.findings, out)?;
        writeln!(out)?;
    }
    paragraph(out, &format!("A capture {}.", coverage(&report.survey)), 0)?;
    others::write(&report.others, out)?;
    if !report.can_capture {
        writeln!(
            out,
            "Nothing can be captured until the problems above are solved."
        )?;
    }
    Ok(())
}

/// Processes whose findings differ in the process id only.
struct Program<'a> {
    finding: &'a Finding,
    pids: Vec<u32>,
}

fn by_program(findings: &[Finding]) -> Vec<Program<'_>> {
    let mut programs: Vec<Program<'_>> = Vec::new();
    for finding in findings {
        let same = |program: &&mut Program<'_>| {
            let pid = program.finding.pid;
            *program.finding
                == Finding {
                    pid,
                    ..finding.clone()
                }
        };
        match programs.iter_mut().find(same) {
            Some(program) => program.pids.push(finding.pid),
            None => programs.push(Program {
                finding,
                pids: vec![finding.pid],
            }),
        }
    }
    programs
}

fn write_programs(findings: &[Finding], out: &mut dyn Write) -> io::Result<()> {
    let programs = by_program(findings);
    let rows: Vec<_> = programs.iter().map(row).collect();
    let mut text = Vec::new();
    table(&mut text, ["PID", "COMMAND", "TLS", "IN", "CAPTURED"], &rows)?;
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines();
    writeln!(out, "{}", lines.next().unwrap_or_default())?;
    for (line, program) in lines.zip(&programs) {
        writeln!(out, "{line}")?;
        if let Some(obstacle) = &program.finding.obstacle {
            let reason = format!("{obstacle}; {}", obstacle.advice());
            paragraph(out, &printable(&reason), DETAILS)?;
        }
        if tracing::enabled!(tracing::Level::DEBUG) {
            details(program, out)?;
        }
    }
    Ok(())
}

fn row(program: &Program<'_>) -> [String; 5] {
    let finding = program.finding;
    let tls = match &finding.version {
        Some(version) => format!("{} {version}", finding.implementation),
        None => finding.implementation.to_owned(),
    };
    let place = match finding.place {
        Place::Library => finding.file.file_name().unwrap_or_default().display().to_string(),
        Place::Executable => "its program".to_owned(),
        Place::Kernel => "its sockets".to_owned(),
    };
    let pids = match program.pids.as_slice() {
        [first] => first.to_string(),
        [first, others @ ..] => format!("{first} +{}", others.len()),
        [] => String::new(),
    };
    let captured = match (&finding.obstacle, finding.keys) {
        (Some(_), Keys::All) => "keys only",
        (Some(_), _) => "NO",
        (None, Keys::None) => "no keys",
        (None, Keys::UpToTls12) => "1.2 keys",
        (None, Keys::All) => "yes",
    };
    let cell = |text: &str, most| cut(&printable(text), most);
    [
        pids,
        cell(&finding.command, NAME),
        cell(&tls, TLS),
        cell(&place, NAME),
        captured.to_owned(),
    ]
}

/// All processes, the whole path, and where each function would be captured and why there.
fn details(program: &Program<'_>, out: &mut dyn Write) -> io::Result<()> {
    let finding = program.finding;
    if program.pids.len() > 1 {
        let pids: Vec<_> = program.pids.iter().map(u32::to_string).collect();
        paragraph(out, &format!("processes: {}", pids.join(" ")), DETAILS)?;
    }
    let deleted = if finding.deleted { " (deleted)" } else { "" };
    let file = format!("file: {}{deleted}", finding.file.display());
    paragraph(out, &printable(&file), DETAILS)?;
    if finding.hooks.is_empty() {
        return Ok(());
    }
    paragraph(
        out,
        &format!("functions: {}", functions(finding).join(" ")),
        DETAILS,
    )?;
    let keys = format!("secrets in a key log: {}", finding.keys.as_str());
    paragraph(out, &keys, DETAILS)?;
    let points: Vec<_> = finding.hooks.iter().map(point).collect();
    table(out, ["    FUNCTION", "CAPTURED AT", "WHY THERE"], &points)
}

fn point(PlannedHook { symbol, point }: &PlannedHook) -> [String; 3] {
    let place = format!("{:#x} ({})", point.offset, point.kind);
    [format!("    {symbol}"), place, point.reason.to_string()]
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use ecapture_probe::survey::{Obstacle, Survey};

    use super::*;

    fn finding(pid: u32, command: &str, obstacle: Option<Obstacle>) -> Finding {
        Finding {
            pid,
            command: command.to_owned(),
            file: PathBuf::from("/usr/lib/x86_64-linux-gnu/libssl-0123456789abcdef.so.3"),
            place: Place::Library,
            implementation: "OpenSSL",
            version: Some("3.0.22-with-a-long-suffix".to_owned()),
            hooks: Vec::new(),
            obstacle,
            keys: Keys::All,
            deleted: false,
        }
    }

    #[test]
    fn a_program_has_one_row_and_no_line_is_too_wide() {
        let report = Report {
            checks: Vec::new(),
            can_capture: true,
            programs: Ok(Vec::new()),
            survey: Survey {
                findings: vec![
                    finding(4_194_301, "fifteen-letters", None),
                    finding(4_194_302, "fifteen-letters", None),
                    finding(4_194_303, "java", Some(Obstacle::Java)),
                ],
                hidden: 3,
            },
            others: Vec::new(),
        };
        let mut text = Vec::new();
        write(&report, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let rows: Vec<_> = text
            .lines()
            .filter(|line| line.contains("fifteen-letters"))
            .collect();
        assert_eq!(rows.len(), 1, "{text}");
        assert!(
            rows[0].starts_with("4194301 +1  ") && rows[0].ends_with("  yes"),
            "{text}"
        );
        assert!(text.contains("    if it uses Java's own TLS (JSSE)"), "{text}");
    }
}
