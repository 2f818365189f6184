//! A library or program, opened once: what is read, planned and attached to is one and the same
//! file, whatever happens to its path in the meantime.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Error;
use crate::file::inode::Inode;

const GROUP_OR_OTHERS_WRITE: u32 = 0o022;

/// A regular file that was found and is not open for reading: a named pipe makes nobody wait, and no device
/// is disturbed.
#[derive(Debug)]
pub(crate) struct Located {
    file: File,
    metadata: Metadata,
}

impl Located {
    /// The file that `path` leads to now. An error when that is not a regular file.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).custom_flags(libc::O_PATH).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Self { file, metadata })
    }

    pub(crate) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    pub(crate) fn inode(&self) -> Inode {
        Inode::of(&self.metadata)
    }

    /// Returns true if only root can have written it.
    pub(crate) fn is_trusted(&self) -> bool {
        is_trusted(&self.metadata)
    }

    /// Opens it for reading. `path` is for people.
    pub(crate) fn open(&self, path: PathBuf) -> io::Result<Library> {
        // The very file that was looked at, so the flags change nothing: they are for file systems that
        // call something else a regular file.
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(descriptor_path(&self.file))?;
        Ok(Library {
            opened: Arc::new(Opened {
                path,
                file,
                metadata: self.metadata.clone(),
                named: None,
            }),
        })
    }
}

/// An opened library or program. Cheap to clone; the file is closed with the last clone.
#[derive(Debug, Clone)]
pub struct Library {
    opened: Arc<Opened>,
}

#[derive(Debug)]
struct Opened {
    path: PathBuf,
    file: File,
    metadata: Metadata,
    named: Option<Named>,
}

/// A function of a file that the user names in place of one that is looked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NamedFunction {
    /// Its symbol.
    pub symbol: Option<String>,
    /// The offset of its first instruction in the file; then the symbol need not be there.
    pub offset: Option<u64>,
}

/// A named function, and the name that it has in the tables of functions.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) function: NamedFunction,
    pub(crate) stands_for: &'static str,
}

impl Library {
    /// Opens the regular file that `path` leads to now.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let located = Located::at(path).and_then(|located| located.open(path.to_owned()));
        located.map_err(|source| Error::Unreadable {
            path: path.to_owned(),
            source,
        })
    }

    /// The same file, in which a named function is in the place of another one.
    pub(crate) fn with(self, named: Named) -> std::io::Result<Self> {
        Ok(Self {
            opened: Arc::new(Opened {
                path: self.opened.path.clone(),
                file: self.opened.file.try_clone()?,
                metadata: self.opened.metadata.clone(),
                named: Some(named),
            }),
        })
    }

    pub(crate) fn named(&self) -> Option<&Named> {
        self.opened.named.as_ref()
    }

    /// The path by which it was found. Another file may be there by now.
    pub fn path(&self) -> &Path {
        &self.opened.path
    }

    pub(crate) fn file(&self) -> &File {
        &self.opened.file
    }

    /// Bytes it had when it was opened.
    pub(crate) fn size(&self) -> u64 {
        self.opened.metadata.len()
    }

    pub(crate) fn inode(&self) -> Inode {
        Inode::of(&self.opened.metadata)
    }

    /// Returns true if only root can have written it.
    pub(crate) fn is_trusted(&self) -> bool {
        is_trusted(&self.opened.metadata)
    }

    /// The path that leads the kernel to this very file.
    pub(crate) fn kernel_path(&self) -> PathBuf {
        descriptor_path(&self.opened.file)
    }
}

impl PartialEq for Library {
    fn eq(&self, other: &Self) -> bool {
        self.inode() == other.inode() && self.path() == other.path()
    }
}

impl Eq for Library {}

fn descriptor_path(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn is_trusted(metadata: &Metadata) -> bool {
    metadata.uid() == 0 && metadata.mode() & GROUP_OR_OTHERS_WRITE == 0
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_file_that_replaces_it_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libssl.so");
        std::fs::write(&path, "first").unwrap();
        let located = Located::at(&path).unwrap();
        let other = folder.path().join("other");
        std::fs::write(&other, "second").unwrap();
        std::fs::rename(&other, &path).unwrap();
        let library = located.open(path.clone()).unwrap();
        assert_eq!(std::fs::read(library.kernel_path()).unwrap(), b"first");
        assert_eq!(library.inode(), located.inode());
        assert_ne!(library, Library::open(&path).unwrap());
    }

    /// Opening it for reading would wait for a writer.
    #[test]
    fn a_named_pipe_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libssl.so");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let error = Library::open(&path).unwrap_err().to_string();
        assert!(error.contains("not a regular file"), "{error}");
    }

    #[test]
    fn devices_and_folders_are_refused() {
        for path in ["/dev/null", "/dev/zero", "/"] {
            let error = Library::open(Path::new(path)).unwrap_err();
            assert!(matches!(error, Error::Unreadable { .. }), "{error}");
        }
    }

    #[test]
    fn what_others_can_write_is_not_trusted() {
        use std::os::unix::fs::PermissionsExt as _;
        let file = tempfile::NamedTempFile::new().unwrap();
        for (mode, trusted) in [(0o644, true), (0o755, true), (0o664, false), (0o666, false)] {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(file.path(), permissions).unwrap();
            let located = Located::at(file.path()).unwrap();
            let owned_by_root = located.metadata().uid() == 0;
            assert_eq!(located.is_trusted(), trusted && owned_by_root, "{mode:o}");
        }
    }
}
