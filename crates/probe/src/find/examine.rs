//! Everything that is read of a file before anything is attached to it, without attaching.

use crate::file::elf::Image;
use crate::find::survey;
use crate::modules::Modules;
use crate::plan::{Plan, Returns};
use crate::{Error, Library};

/// The offsets in a file at which probes would be attached. For fuzzing: a file that anybody can
/// have written is read as a capture and `doctor` do.
#[doc(hidden)]
pub fn examine(library: &Library) -> Result<Vec<u64>, Error> {
    survey::read_fingerprints(library);
    let image = Image::read(library, &Modules::ALL.symbols())?;
    let _kinds = Modules::ALL.kinds_in(&image);
    let Plan { points, .. } = Plan::of(&image, Modules::ALL.families(), false);
    let mut offsets = Vec::new();
    for point in points {
        offsets.push(point.offset);
        if let Returns::Instructions(_, others) = point.returns {
            offsets.extend(others);
        }
    }
    Ok(offsets)
}
