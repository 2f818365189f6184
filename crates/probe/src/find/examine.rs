//! Everything that is read of a file before anything is attached to it, without attaching.

use crate::file::elf::Image;
use crate::find::survey;
use crate::find::target::Kind;
use crate::plan::{self, Returns};
use crate::{Error, Library};

/// The offsets in a file at which probes would stand. For fuzzing: a file that anybody can have written is
/// read as a capture and `doctor` do.
#[doc(hidden)]
pub fn examine(library: &Library) -> Result<Vec<u64>, Error> {
    survey::look_for_marks(library);
    let image = Image::read(library, &plan::symbols())?;
    let _kinds = Kind::of(&image);
    let (points, _) = plan::points(&image, false);
    let mut offsets = Vec::new();
    for point in points {
        offsets.push(point.offset);
        if let Returns::Instructions(_, others) = point.returns {
            offsets.extend(others);
        }
    }
    Ok(offsets)
}
