//! Decides where in a library the probes are attached.
//!
//! The kernel executes the instruction under a probe somewhere else, one trap later, unless it can
//! emulate it (`arch/x86/kernel/uprobes.c`): that makes an entry probe about ten times cheaper. In
//! OpenSSL the exported functions begin with an instruction that is not emulated, but each pair
//! (`SSL_read` and `SSL_read_ex`) calls one internal function that begins with `push`, which is.
//! Where [`rules`] can prove this, the probes go there, else to the exported functions: a wrong
//! argument is worse than a slow probe. On arm64 they always go to the exported functions: no
//! internal function begins with one of the instructions that are emulated.
//!
//! Which functions matter is listed in `modules`.

mod family;
mod instruction;
mod refusal;
pub(crate) mod rules;

use std::fmt;

use crate::file::elf::{Function, Image};
use crate::kind::Kind;
use crate::limits;
pub(crate) use family::{Brings, Family, Hook, Locate};
pub use refusal::Refusal;

/// The kind of place to which a probe is attached. An `endbr64` at its beginning may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PointKind {
    /// The first instruction of the exported function.
    Entry,
    /// The first instruction of the internal function behind the exported ones.
    Internal,
}

impl fmt::Display for PointKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Entry => "entry",
            Self::Internal => "internal",
        })
    }
}

/// How the return of a function is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Returns {
    /// It is not.
    Unseen,
    /// By a return probe of this program.
    Probe(&'static str),
    /// By this program at each of these offsets in the file.
    Instructions(&'static str, Vec<u64>),
}

/// Where the probes for one or more exported functions are attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) symbols: Vec<&'static str>,
    pub(crate) entry: &'static str,
    pub(crate) returns: Returns,
    /// Offset in the file.
    pub(crate) offset: u64,
    pub(crate) kind: PointKind,
    pub(crate) reason: Reason,
    /// What the program asks for instead of the number of its file; see [`Hook::variables`].
    pub(crate) cookie: Option<u64>,
}

/// Why a probe is attached where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// There is no cheaper place.
    Exported,
    /// The user asked for entries only.
    EntriesOnly,
    /// The exported function is cheap already.
    Emulated,
    /// The internal function is cheap.
    Internal,
    /// A function of Go.
    Go,
    /// A function inside a program that has this.
    Inside(Kind),
    /// No cheaper place could be proved.
    NotProved(Refusal),
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exported => formatter.write_str("the exported function"),
            Self::EntriesOnly => formatter.write_str("only entries were asked for"),
            Self::Emulated => formatter.write_str("begins with an instruction that the kernel emulates"),
            Self::Internal => {
                formatter.write_str("function behind it, begins with an instruction that the kernel emulates")
            }
            Self::Go => formatter.write_str("the Go function, with a probe at each of its returns"),
            Self::Inside(kind) => write!(
                formatter,
                "the function inside {kind}, with a probe at each of its returns"
            ),
            Self::NotProved(refusal) => refusal.fmt(formatter),
        }
    }
}

/// Where the probes of a file go.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) points: Vec<Point>,
    /// Exported functions without a point.
    pub(crate) refused: Vec<(&'static str, Refusal)>,
}

impl Plan {
    /// Plans every point of a file. A family without functions in the file is left out.
    pub(crate) fn of(
        image: &Image,
        families: impl Iterator<Item = &'static Family>,
        entries_only: bool,
    ) -> Self {
        let mut plan = Self::default();
        for family in families {
            match family.locate {
                Locate::Exported | Locate::Go if !family.has_any(image) => {}
                Locate::Exported => {
                    for forms in family.operations {
                        plan.add_operation(image, family, forms, entries_only);
                    }
                }
                Locate::Go => {
                    for hook in family.hooks() {
                        plan.add(hook.symbol, go_point(image, *hook));
                    }
                }
                Locate::Proof(prove) => plan.points.extend(prove(image).unwrap_or_default()),
            }
        }
        plan
    }

    fn add_operation(&mut self, image: &Image, family: &Family, forms: &[Hook], entries_only: bool) {
        let reason = match forms {
            [plain, extended, ..] if !entries_only => {
                match internal_point(image, family, forms, [*plain, *extended]) {
                    Ok(point) => {
                        self.points.push(point);
                        return;
                    }
                    Err(refusal) => Reason::NotProved(refusal),
                }
            }
            [_, _, ..] => Reason::EntriesOnly,
            _ => Reason::Exported,
        };
        for hook in forms {
            self.add(hook.symbol, entry_point(image, *hook, &reason));
        }
    }

    fn add(&mut self, symbol: &'static str, point: Result<Point, Refusal>) {
        match point {
            Ok(point) => self.points.push(point),
            Err(refusal) => self.refused.push((symbol, refusal)),
        }
    }
}

/// A Go function's entry and its `ret` instructions.
fn go_point(image: &Image, hook: Hook) -> Result<Point, Refusal> {
    let function = image.function(hook.symbol).ok_or(Refusal::Missing)?;
    let offsets = offsets(image, rules::go_returns(image, function)?)?;
    Ok(Point {
        symbols: vec![hook.symbol],
        entry: hook.entry,
        returns: match hook.returns {
            Some(program) => Returns::Instructions(program, offsets),
            None => Returns::Unseen,
        },
        offset: offset(image, function.address)?,
        kind: PointKind::Entry,
        reason: Reason::Go,
        cookie: None,
    })
}

/// A function inside `kind`, proved to be the right one, and the instructions where it returns.
pub(crate) fn inside_point(
    image: &Image,
    kind: Kind,
    hook: Hook,
    function: Function,
) -> Result<Point, Refusal> {
    let returns = match hook.returns {
        Some(program) => Returns::Instructions(program, offsets(image, rules::returns(image, function)?)?),
        None => Returns::Unseen,
    };
    Ok(Point {
        symbols: vec![hook.symbol],
        entry: hook.entry,
        returns,
        offset: offset(image, function.address)?,
        kind: PointKind::Internal,
        reason: Reason::Inside(kind),
        cookie: None,
    })
}

pub(crate) fn entry_point(image: &Image, hook: Hook, reason: &Reason) -> Result<Point, Refusal> {
    let function = image.function(hook.symbol).ok_or(Refusal::Missing)?;
    let emulated = rules::emulated_start(image, function.address);
    let address = emulated.unwrap_or(function.address);
    let offset = offset(image, address)?;
    let reason = match emulated {
        Some(_) => Reason::Emulated,
        None => reason.clone(),
    };
    Ok(Point {
        symbols: vec![hook.symbol],
        entry: hook.entry,
        returns: hook.returns.map_or(Returns::Unseen, Returns::Probe),
        offset,
        kind: PointKind::Entry,
        reason,
        cookie: (!hook.variables.is_empty()).then(|| distances(image, hook.variables, address)),
    })
}

/// The distances of variables from the code at `address`, 32 bits for each: the same wherever the file is loaded.
fn distances(image: &Image, variables: &[&str], address: u64) -> u64 {
    let distance = |name: &&str| {
        let variable = image.variable(name)?;
        let distance = i32::try_from(variable.wrapping_sub(address).cast_signed()).ok()?;
        Some(u64::from(distance.cast_unsigned()))
    };
    let words = variables.iter().map(|name| distance(name).unwrap_or(0));
    words
        .zip([0, 32])
        .fold(0, |cookie, (word, shift)| cookie | word << shift)
}

/// The point behind the forms of an operation; the first two forms are the plain one and its `_ex`
/// form. All forms that exist must lead there.
fn internal_point(image: &Image, family: &Family, forms: &[Hook], pair: [Hook; 2]) -> Result<Point, Refusal> {
    let [plain, extended] = pair.map(|hook| image.function(hook.symbol));
    let (Some(plain), Some(_)) = (plain, extended) else {
        return Err(Refusal::NoExtendedForm);
    };
    let callee = rules::callee_of_plain(image, plain)?;
    for hook in &forms[1..] {
        let Some(function) = image.function(hook.symbol) else {
            continue;
        };
        let other = rules::only_callee(image, function)?;
        if other != callee.address {
            return Err(Refusal::OtherCallee { symbol: hook.symbol });
        }
    }
    for &symbol in family.also_read {
        if let Some(function) = image.function(symbol)
            && rules::only_callee(image, function) == Ok(callee.address)
        {
            return Err(Refusal::SharedCallee { symbol });
        }
    }
    if image.is_exported(callee.address) {
        return Err(Refusal::ExportedCallee);
    }
    let start = rules::emulated_start(image, callee.address).ok_or(Refusal::NotEmulated)?;
    let offset = offset(image, start)?;
    let symbols = forms.iter().map(|hook| hook.symbol);
    // The form whose last parameter is where the callee's is: the fifth in OpenSSL 3.3 and later.
    let entry = if callee.length_parameter == 4 {
        forms[forms.len() - 1]
    } else {
        pair[1]
    };
    Ok(Point {
        symbols: symbols
            .filter(|symbol| image.function(symbol).is_some())
            .collect(),
        entry: entry.entry,
        returns: entry.returns.map_or(Returns::Unseen, Returns::Probe),
        offset,
        kind: PointKind::Internal,
        reason: Reason::Internal,
        cookie: None,
    })
}

/// Where in the file a function returns. A probe costs the kernel time and memory, and a hostile
/// function returns everywhere.
fn offsets(image: &Image, returns: Vec<u64>) -> Result<Vec<u64>, Refusal> {
    if returns.len() > limits::RETURNS {
        return Err(Refusal::Returns {
            observed: returns.len(),
            most: limits::RETURNS,
        });
    }
    returns
        .into_iter()
        .map(|address| offset(image, address))
        .collect()
}

/// Where in the file the instruction at an address is.
pub(crate) fn offset(image: &Image, address: u64) -> Result<u64, Refusal> {
    let offset = image.file_offset(address).ok_or(Refusal::NotInCode { address })?;
    if !instruction::begins(image, address) {
        return Err(Refusal::NoInstruction { address });
    }
    Ok(offset)
}

#[cfg(test)]
mod tests;
