//! Puts the programs onto the planned points and reports each outcome.

use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::programs::uprobe::UProbeScope;
use aya::programs::{Program, ProgramError, UProbe};

use crate::Error;
use crate::elf::Image;
use crate::plan::{self, Point, PointKind, Returns};

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
pub(crate) fn library(
    ebpf: &mut Ebpf,
    library: &Path,
    scope: UProbeScope,
    entries_only: bool,
) -> Result<Vec<AttachReport>, Error> {
    let image = Image::read(library, &plan::symbols())?;
    let expected = plan::library_symbols();
    if expected.iter().all(|name| image.function(name).is_none()) {
        return Err(Error::NoFunctions {
            path: library.to_owned(),
            expected: plan::examples(),
        });
    }
    self::image(ebpf, &image, scope, entries_only)
}

/// Attaches everything that an opened file offers.
pub(crate) fn image(
    ebpf: &mut Ebpf,
    image: &Image,
    scope: UProbeScope,
    entries_only: bool,
) -> Result<Vec<AttachReport>, Error> {
    let (points, failures) = plan::points(image, entries_only);
    let mut reports = Vec::new();
    let mut report = |symbol, outcome| {
        reports.push(AttachReport {
            library: image.path().to_owned(),
            symbol,
            outcome,
        });
    };
    for point in points {
        let outcome = attach(ebpf, image, &point, scope)?;
        for symbol in point.symbols {
            report(symbol, outcome.clone());
        }
    }
    for (symbol, reason) in failures {
        report(symbol, Err(reason));
    }
    Ok(reports)
}

/// The return comes first: a call that is then seen entering is seen returning too.
fn attach(
    ebpf: &mut Ebpf,
    image: &Image,
    point: &Point,
    scope: UProbeScope,
) -> Result<Result<AttachPoint, String>, Error> {
    let returns = match &point.returns {
        Returns::Unseen => Vec::new(),
        Returns::Probe(program) => vec![(*program, point.offset)],
        Returns::Instructions(program, offsets) => offsets.iter().map(|offset| (*program, *offset)).collect(),
    };
    for (program, offset) in returns.into_iter().chain([(point.entry, point.offset)]) {
        if let Err(error) = uprobe(ebpf, program)?.attach(offset, image.path(), scope) {
            return Ok(Err(cause(&error)));
        }
    }
    let Point {
        offset,
        kind,
        ref reason,
        ..
    } = *point;
    Ok(Ok(AttachPoint {
        offset,
        kind,
        reason: reason.clone(),
    }))
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
