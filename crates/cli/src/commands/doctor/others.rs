//! Programs that are captured for something other than TLS: shells.

use std::io::{self, Write};

use ecapture_probe::ProgramFinding;
use ecapture_protocols::printable;

use super::page::{paragraph, table};

/// Where the lines below a program's row begin.
const DETAILS: usize = 4;

/// Writes a row for each, and what is missing.
pub(super) fn write(findings: &[ProgramFinding], out: &mut dyn Write) -> io::Result<()> {
    if findings.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let rows: Vec<_> = findings.iter().map(row).collect();
    let mut text = Vec::new();
    table(&mut text, ["COMMAND", "RUNNING", "CAPTURED", "FILE"], &rows)?;
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines();
    writeln!(out, "{}", lines.next().unwrap_or_default())?;
    let mut findings = findings.iter();
    for line in lines {
        writeln!(out, "{line}")?;
        // A file with a long path takes further lines, which begin with spaces.
        if !line.starts_with(' ')
            && let Some(finding) = findings.next()
        {
            details(finding, out)?;
        }
    }
    Ok(())
}

fn row(finding: &ProgramFinding) -> [String; 4] {
    [
        format!("ecapture {}", finding.module),
        finding.pids.len().to_string(),
        if finding.obstacle.is_some() { "NO" } else { "yes" }.to_owned(),
        printable(&finding.file.display().to_string()).into_owned(),
    ]
}

fn details(finding: &ProgramFinding, out: &mut dyn Write) -> io::Result<()> {
    if let Some(obstacle) = &finding.obstacle {
        paragraph(
            out,
            &printable(&format!("{obstacle}; {}", obstacle.advice())),
            DETAILS,
        )?;
    }
    if !finding.missing.is_empty() {
        paragraph(
            out,
            &format!("it does not have {}", finding.missing.join(", ")),
            DETAILS,
        )?;
    }
    if tracing::enabled!(tracing::Level::DEBUG) && !finding.functions.is_empty() {
        paragraph(
            out,
            &format!("functions: {}", finding.functions.join(" ")),
            DETAILS,
        )?;
    }
    Ok(())
}
