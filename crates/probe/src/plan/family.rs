//! The functions to plan for, by family.

use super::{Point, Refusal};
use crate::file::elf::Image;
use crate::kind::Kind;

/// Functions of one implementation.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) kind: Kind,
    /// Each operation with its forms, in the order in which they are attached to. The plain form of
    /// an operation and its `_ex` forms are one entry.
    pub(crate) operations: &'static [&'static [Hook]],
    /// Functions that are looked up, too, and never attached to. For exported functions: those that
    /// must not share an internal function with an operation.
    pub(crate) also_read: &'static [&'static str],
    pub(crate) locate: Locate,
}

/// How the functions of a family are found in a file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Locate {
    /// By their exported names. Returns are seen by return probes.
    Exported,
    /// By their names in Go's function table. Go moves stacks, so no return probe may change one:
    /// a probe is attached to each return instruction.
    Go,
    /// By a proof about the file, for functions whose names promise nothing.
    Proof(fn(&Image) -> Result<Vec<Point>, Refusal>),
}

/// A function to attach to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hook {
    pub(crate) symbol: &'static str,
    /// Program for its entry; it may itself be one for the return.
    pub(crate) entry: &'static str,
    /// Program for its return.
    pub(crate) returns: Option<&'static str>,
    pub(crate) brings: Brings,
    /// A file that has this function has the family.
    pub(crate) identifies: bool,
    /// At most two variables that the program at its entry reads: the cookie of the probe has the distance of each
    /// from the probe's place, 0 if the file does not have it.
    pub(crate) variables: &'static [&'static str],
}

/// The kind of records that the program at a function puts into the ring buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Brings {
    /// The captured content.
    Content,
    /// Secrets of handshakes.
    Secrets,
    /// The number of bytes that the function moved, without the bytes.
    Length,
    /// Nothing: it is needed to understand others.
    Nothing,
}

impl Brings {
    /// Returns true for what a capture is made for.
    pub(crate) fn is_wanted(self) -> bool {
        matches!(self, Self::Content | Self::Secrets)
    }
}

impl Family {
    pub(crate) fn hooks(&self) -> impl Iterator<Item = &'static Hook> + use<> {
        self.operations.iter().copied().flatten()
    }

    /// Returns true if the file has a function of this family, whatever it is good for.
    pub(crate) fn has_any(&self, image: &Image) -> bool {
        self.hooks().any(|hook| image.function(hook.symbol).is_some())
    }

    /// Returns true if its functions have names to look up.
    pub(crate) fn is_found_by_name(&self) -> bool {
        match self.locate {
            Locate::Exported | Locate::Go => true,
            Locate::Proof(_) => false,
        }
    }

    /// Why a proof refuses the file; `None` also where there is nothing to prove anything of.
    pub(crate) fn refusal(&self, image: &Image) -> Option<Refusal> {
        match self.locate {
            Locate::Exported | Locate::Go => None,
            Locate::Proof(prove) => prove(image).err().filter(|refusal| *refusal != Refusal::Missing),
        }
    }

    /// Returns true if the file has what identifies the family.
    pub(crate) fn is_in(&self, image: &Image) -> bool {
        match self.locate {
            Locate::Exported | Locate::Go => {
                let mut hooks = self.hooks().filter(|hook| hook.identifies);
                hooks.any(|hook| image.function(hook.symbol).is_some())
            }
            Locate::Proof(prove) => prove(image).is_ok(),
        }
    }
}
