//! The functions attached to, and the programs that the kernel refused.

use ecapture_probe::{AttachReport, Discovered, Refused};
use ecapture_protocols::printable;

/// Warns of the data that cannot be captured because the kernel refused a program.
pub(crate) fn refused(programs: &[Refused]) {
    for Refused {
        program,
        reason,
        lost,
    } in programs
    {
        tracing::warn!("not captured: {lost}; this kernel refused the program {program}: {reason}");
    }
}

/// Files that one line names.
const FILES_IN_A_LINE: usize = 4;

/// Says in one line which files the capture begins with. Where the probes are, and what is missing, is logged
/// for each of them with `--debug`.
pub(crate) fn at_start(reports: &[AttachReport]) {
    let by_file = || reports.chunk_by(|one, other| one.library == other.library);
    let attached: Vec<_> = by_file()
        .filter(|reports| reports.iter().any(|report| report.outcome.is_ok()))
        .map(|reports| &reports[0].library)
        .collect();
    for reports in by_file().filter(|reports| reports.iter().all(|report| report.outcome.is_err())) {
        tracing::warn!("attached no probes to {}", reports[0].library.display());
    }
    match attached.as_slice() {
        [] => {}
        [file] => tracing::info!("attached to {}", file.display()),
        files => {
            let names = files.iter().take(FILES_IN_A_LINE);
            let names = names.map(|file| file.file_name().unwrap_or_default().display().to_string());
            let names = names.collect::<Vec<_>>().join(", ");
            let more = match files.len().saturating_sub(FILES_IN_A_LINE) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            tracing::info!("attached to {} files: {names}{more} (-d lists them)", files.len());
        }
    }
    functions(reports);
}

/// Says which file was attached to while the capture runs.
pub(crate) fn attached(reports: &[AttachReport]) {
    for reports in reports.chunk_by(|one, other| one.library == other.library) {
        let library = reports[0].library.display();
        if reports.iter().any(|report| report.outcome.is_ok()) {
            tracing::info!("attached to {library}");
        } else {
            tracing::warn!("attached no probes to {library}");
        }
    }
    functions(reports);
}

fn functions(reports: &[AttachReport]) {
    for reports in reports.chunk_by(|one, other| one.library == other.library) {
        let library = reports[0].library.display();
        let attached: Vec<&str> = reports
            .iter()
            .filter(|report| report.outcome.is_ok())
            .map(|report| report.symbol)
            .collect();
        tracing::debug!("functions of {library}: {}", attached.join(", "));
        for report in reports {
            match &report.outcome {
                Ok(point) => {
                    tracing::debug!(
                        "{} at {:#x} ({}): {}",
                        report.symbol,
                        point.offset,
                        point.kind,
                        point.reason
                    );
                }
                Err(reason) => tracing::debug!("not attached: {} of {library}: {reason}", report.symbol),
            }
        }
    }
}

/// Reports the result for a file that a process began to execute during the capture.
pub(crate) fn discovered(found: &Discovered) {
    match found {
        Discovered::Attached { process, reports } => {
            tracing::debug!(
                "{} ({}) runs a new library or program",
                process.command,
                process.pid
            );
            attached(reports);
        }
        Discovered::GivenUp {
            process,
            file,
            reason,
        } => tracing::warn!(
            "{} ({}) is not captured: {}: {reason}",
            process.command,
            process.pid,
            file.display()
        ),
        Discovered::NotCaptured {
            process,
            file,
            implementation,
            obstacle,
        } => tracing::warn!(
            "{} ({}) cannot be captured: {implementation} in {}: {obstacle}; {}",
            printable(&process.command),
            process.pid,
            file.display(),
            obstacle.advice()
        ),
        Discovered::Keyless { process, file, why } => tracing::warn!(
            "a key log has no secrets of {} ({}): {}: {why}",
            printable(&process.command),
            process.pid,
            file.display()
        ),
        Discovered::TooLate {
            process,
            file,
            ended,
            connected,
        } => super::late::process(process, file, *ended, *connected),
    }
}
