//! Puts the programs onto the planned points and reports each outcome.

use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::programs::uprobe::UProbeScope;
use aya::programs::{Program, ProgramError, UProbe};

use crate::Error;
use crate::elf::Image;
use crate::plan::{self, Hook, Point, PointKind};

/// Where probes were attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachPoint {
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// What stands there.
    pub kind: PointKind,
    /// Why this place was chosen.
    pub reason: String,
}

/// The outcome for one function of one library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachReport {
    /// Path of the library or program.
    pub library: PathBuf,
    /// Name of the function.
    pub symbol: &'static str,
    /// Where it was attached, or why not.
    pub outcome: Result<AttachPoint, String>,
}

/// Attaches everything that `library` offers.
pub(crate) fn library(ebpf: &mut Ebpf, library: &Path) -> Result<Vec<AttachReport>, Error> {
    let names = plan::OPENSSL.map(|hook| hook.symbol);
    let image = Image::read(library, &names)?;
    if image.is_empty() {
        let expected = names.join(", ");
        return Err(Error::NoFunctions {
            path: library.to_owned(),
            expected,
        });
    }
    let mut reports = Vec::new();
    for hook in plan::OPENSSL {
        let outcome = match plan::point(&image, hook) {
            Ok(point) => attach(ebpf, &image, point)?,
            Err(reason) => Err(reason),
        };
        reports.push(AttachReport {
            library: library.to_owned(),
            symbol: hook.symbol,
            outcome,
        });
    }
    Ok(reports)
}

/// The return comes first: a call that is then seen entering is seen returning too.
fn attach(ebpf: &mut Ebpf, image: &Image, point: Point) -> Result<Result<AttachPoint, String>, Error> {
    let Point {
        hook: Hook { entry, returns, .. },
        offset,
        kind,
        reason,
    } = point;
    for program in returns.into_iter().chain([entry]) {
        let probe = uprobe(ebpf, program)?;
        if let Err(error) = probe.attach(offset, image.path(), UProbeScope::AllProcesses) {
            return Ok(Err(cause(&error)));
        }
    }
    Ok(Ok(AttachPoint { offset, kind, reason }))
}

/// The loaded probe of that name.
pub(crate) fn uprobe<'ebpf>(ebpf: &'ebpf mut Ebpf, name: &'static str) -> Result<&'ebpf mut UProbe, Error> {
    let missing = || Error::ObjectIncomplete { what: "uprobe", name };
    let program: &mut Program = ebpf.program_mut(name).ok_or_else(missing)?;
    program.try_into().map_err(|_| missing())
}

/// An error with all its sources, in one line.
fn cause(error: &ProgramError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    text
}
