//! Puts the programs onto the planned points and reports each outcome.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::programs::uprobe::{UProbeAttachPoint, UProbeScope};
use aya::programs::{Program, ProgramError, UProbe};

use crate::elf::Image;
use crate::multi::MultiUprobes;
use crate::plan::{self, Point, PointKind, Returns};
use crate::target::Kind;
use crate::{Error, host};

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

/// The loaded uprobes, with whatever was loaded along with them.
pub(crate) struct Probes {
    ebpf: Ebpf,
    /// Where the kernel knows such links; else the programs are aya's.
    multi: Option<MultiUprobes>,
}

impl Probes {
    pub(crate) fn new(ebpf: Ebpf, multi: Option<MultiUprobes>) -> Self {
        Self { ebpf, multi }
    }

    fn attach(
        &mut self,
        program: &'static str,
        offsets: &[u64],
        path: &Path,
        scope: Scope,
    ) -> Result<Result<(), String>, Error> {
        let Scope { process, cookie, .. } = scope;
        if let Some(multi) = &mut self.multi {
            let pid = process.map_or(0, NonZeroU32::get);
            return Ok(multi
                .attach(program, offsets, path, pid, cookie)
                .map_err(|error| error.to_string()));
        }
        let scope = process.map_or(UProbeScope::AllProcesses, UProbeScope::OneProcess);
        for &offset in offsets {
            let point = UProbeAttachPoint {
                location: offset.into(),
                // Before Linux 5.15 they are refused.
                cookie: host::has_cookie().then_some(cookie),
            };
            if let Err(error) = uprobe(&mut self.ebpf, program)?.attach(point, path, scope) {
                return Ok(Err(cause(&error)));
            }
        }
        Ok(Ok(()))
    }
}

/// How a file is attached to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope {
    /// The only process, if there is one.
    pub(crate) process: Option<NonZeroU32>,
    /// See [`CaptureConfig::entries_only`](crate::CaptureConfig::entries_only).
    pub(crate) entries_only: bool,
    /// The file's place among the [`Standing`](crate::standing::Standing) ones.
    pub(crate) cookie: u64,
}

/// Attaches everything that `library` offers.
pub(crate) fn library(probes: &mut Probes, library: &Path, scope: Scope) -> Result<Vec<AttachReport>, Error> {
    let image = Image::read(library, &plan::symbols())?;
    if Kind::of(&image).is_empty() {
        return Err(Error::NoFunctions {
            path: library.to_owned(),
            expected: plan::examples(),
        });
    }
    self::image(probes, &image, scope)
}

/// Attaches everything that an opened file offers.
pub(crate) fn image(probes: &mut Probes, image: &Image, scope: Scope) -> Result<Vec<AttachReport>, Error> {
    let (points, failures) = plan::points(image, scope.entries_only);
    let mut reports = Vec::new();
    let mut report = |symbol, outcome| {
        reports.push(AttachReport {
            library: image.path().to_owned(),
            symbol,
            outcome,
        });
    };
    for point in points {
        let outcome = attach(probes, image, &point, scope)?;
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
    probes: &mut Probes,
    image: &Image,
    point: &Point,
    scope: Scope,
) -> Result<Result<AttachPoint, String>, Error> {
    let returns = match &point.returns {
        Returns::Unseen => None,
        Returns::Probe(program) => Some((*program, vec![point.offset])),
        Returns::Instructions(program, offsets) => Some((*program, offsets.clone())),
    };
    for (program, offsets) in returns.into_iter().chain([(point.entry, vec![point.offset])]) {
        if let Err(reason) = probes.attach(program, &offsets, image.path(), scope)? {
            return Ok(Err(reason));
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
