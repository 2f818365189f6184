//! Puts the programs onto the planned points and reports each outcome.

use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::Error;
use crate::file::elf::Image;
use crate::file::library::Library;
use crate::kernel::detach::{Hurry, Programs, Turn};
use crate::kernel::loading::{Attachment, LinkError, ProgramError};
use crate::modules::Modules;
use crate::plan::{Plan, Point, PointKind, Reason, Refusal, Returns};

/// Where probes were attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachPoint {
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// The kind of place.
    pub kind: PointKind,
    /// Why this place was chosen.
    pub reason: Reason,
}

/// The outcome for one function of one library.
#[derive(Debug, Clone)]
pub struct AttachReport {
    /// Path of the library or program.
    pub library: PathBuf,
    /// Name of the function.
    pub symbol: &'static str,
    /// Where it was attached, or why not.
    pub outcome: Result<AttachPoint, AttachError>,
}

/// Why nothing was attached for a function.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AttachError {
    /// There is no place in the file where a probe would do.
    #[error(transparent)]
    NoPoint(#[from] Refusal),
    /// The kernel did not take the program for it.
    #[error("the kernel refused the program {program}: {source}")]
    NoProgram {
        /// Name of the program.
        program: &'static str,
        /// The kernel's reason.
        source: ProgramError,
    },
    /// The kernel did not attach the program, or the capture has ended.
    #[error(transparent)]
    NotAttached(#[from] LinkError),
}

/// How a file is attached to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope {
    pub(crate) modules: Modules,
    /// The only process, if there is one.
    pub(crate) process: Option<NonZeroU32>,
    /// See [`Hooks::entries_only`](crate::Hooks::entries_only).
    pub(crate) entries_only: bool,
    /// The file's place among the [`AttachTimes`](crate::kernel::attach_times::AttachTimes) ones.
    pub(crate) cookie: u64,
}

/// Attaches everything that `library` offers.
pub(crate) fn library(
    programs: &Programs,
    library: &Library,
    scope: Scope,
) -> Result<Vec<AttachReport>, Error> {
    let image = Image::read(library, &scope.modules.symbols())?;
    if scope.modules.kinds_in(&image).is_empty() {
        return Err(Error::NoFunctions {
            path: library.path().to_owned(),
            expected: scope.modules.examples(),
        });
    }
    let plan = Plan::of(&image, scope.modules.families(), scope.entries_only);
    planned(&programs.turn(Hurry::No), &image, plan, scope)
}

/// Attaches to the planned points of an opened file. It reads nothing more: others may wait for the probes.
pub(crate) fn planned(
    turn: &Turn<'_>,
    image: &Image,
    Plan { points, refused }: Plan,
    scope: Scope,
) -> Result<Vec<AttachReport>, Error> {
    // All or none: half of a library is no use to anybody.
    let library = image.library();
    turn.lock()
        .ok_or(Error::Ended)?
        .reserve(points.iter().flat_map(uses), library.is_trusted())
        .map_err(|source| Error::Descriptors {
            path: library.path().to_owned(),
            source,
        })?;
    let mut links = Vec::new();
    let mut reports = Vec::new();
    let mut report = |symbol, outcome| {
        reports.push(AttachReport {
            library: image.path().to_owned(),
            symbol,
            outcome,
        });
    };
    let scope = Scope {
        cookie: scope.cookie | u64::from(scope.modules.place(image)) << 32,
        ..scope
    };
    for point in points {
        let outcome = match turn.lock() {
            Some(probes) => attach(&probes, image, &point, scope, &mut links),
            None => Err(LinkError::Ended.into()),
        };
        for symbol in point.symbols {
            report(symbol, outcome.clone());
        }
    }
    for (symbol, refusal) in refused {
        report(symbol, Err(refusal.into()));
    }
    turn.assign(links, library);
    Ok(reports)
}

/// At how many offsets each program of a point is attached.
fn uses(point: &Point) -> impl Iterator<Item = usize> {
    let returns = match &point.returns {
        Returns::Unseen => None,
        Returns::Probe(_) => Some(1),
        Returns::Instructions(_, offsets) => Some(offsets.len()),
    };
    returns.into_iter().chain([1])
}

/// The return comes first: a call that is then seen entering is seen returning too. One without the other
/// would only be counted, so nothing is attached when the kernel refused the program of either.
fn attach(
    probes: &Attachment,
    image: &Image,
    point: &Point,
    scope: Scope,
    links: &mut Vec<OwnedFd>,
) -> Result<AttachPoint, AttachError> {
    let returns = match &point.returns {
        Returns::Unseen => None,
        Returns::Probe(program) => Some((*program, vec![point.offset])),
        Returns::Instructions(program, offsets) => Some((*program, offsets.clone())),
    };
    let both: Vec<_> = returns
        .into_iter()
        .chain([(point.entry, vec![point.offset])])
        .collect();
    if let Some(refused) = both.iter().find_map(|(program, _)| probes.refusal(program)) {
        return Err(AttachError::NoProgram {
            program: refused.program,
            source: refused.reason.clone(),
        });
    }
    let pid = scope.process.map_or(0, NonZeroU32::get);
    // The kernel resolves a path once more: this one leads to the file that was read.
    let path = image.library().kernel_path();
    for (program, offsets) in both {
        probes.attach(
            program,
            &offsets,
            &path,
            pid,
            point.cookie.unwrap_or(scope.cookie),
            links,
        )?;
    }
    let Point {
        offset,
        kind,
        ref reason,
        ..
    } = *point;
    Ok(AttachPoint {
        offset,
        kind,
        reason: reason.clone(),
    })
}
