//! Which file it is, whatever its path.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;

/// Device and number of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Inode {
    /// `dev_t` as `stat(2)` returns it.
    pub(crate) device: u64,
    /// Unique on its device while the file exists.
    pub(crate) number: u64,
}

impl Inode {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            number: metadata.ino(),
        }
    }
}
