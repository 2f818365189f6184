//! Files that may hold plaintext: nobody else reads them, and nobody else chooses where they are.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::geteuid;

const GROUP_OR_OTHERS: u32 = 0o077;
const GROUP_OR_OTHERS_WRITE: u32 = 0o022;
/// In such a folder files are removed by their owners only.
const STICKY: u32 = 0o1000;
const ROOT: u32 = 0;

/// Opens `path` for appending, and makes it with mode 0600 where there is none.
pub(crate) fn append(path: &Path) -> io::Result<File> {
    open(path, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_APPEND)
}

/// A file that will be replaced when the run begins, and is as it was when it does not.
#[derive(Debug)]
pub(crate) struct Replacement {
    file: Option<File>,
    /// Its path, when it was made here.
    made: Option<PathBuf>,
}

impl Replacement {
    /// Opens `path` without changing it, or makes it with mode 0600.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let made = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        match open(path, made) {
            Ok(file) => Ok(Self {
                file: Some(file),
                made: Some(path.to_owned()),
            }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Self {
                file: Some(open(path, OFlag::O_WRONLY | OFlag::O_CREAT)?),
                made: None,
            }),
            Err(error) => Err(error),
        }
    }

    /// The file as it is.
    pub(crate) fn file(&self) -> io::Result<File> {
        self.file.as_ref().ok_or(io::ErrorKind::NotFound)?.try_clone()
    }

    /// Empties it: from now on it is the new file.
    pub(crate) fn begin(self) -> io::Result<File> {
        let file = self.begin_over()?;
        // A named pipe has nothing to be cut.
        if file.metadata()?.is_file() {
            file.set_len(0)?;
        }
        Ok(file)
    }

    /// The same without emptying it, for a caller that overwrites what is there.
    pub(crate) fn begin_over(mut self) -> io::Result<File> {
        self.made = None;
        Ok(self.file.take().ok_or(io::ErrorKind::NotFound)?)
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if let Some(made) = &self.made {
            // The run did not begin; an empty file is left at worst.
            let _ = fs::remove_file(made);
        }
    }
}

/// Makes `path` with mode 0600, for appending. An error when there is something of that name.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    open(
        path,
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_APPEND,
    )
}

/// Refuses a socket that somebody else may have made in place of the one that was meant.
pub(crate) fn check_socket(path: &Path) -> io::Result<()> {
    let folder = folder_of(path);
    refuse_links_of_others(folder)?;
    if is_shared(&fs::metadata(folder)?) {
        let socket = fs::symlink_metadata(path)?;
        if socket.is_symlink() || is_of_others(&socket) {
            return Err(refused(format!(
                "it is a link, or belongs to user {}, in a folder that others can write to",
                socket.uid()
            )));
        }
    }
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn open(path: &Path, flags: OFlag) -> io::Result<File> {
    let name = path
        .file_name()
        .ok_or_else(|| refused("it names no file".to_owned()))?;
    let folder = folder_of(path);
    refuse_links_of_others(folder)?;
    let folder = File::options()
        .read(true)
        .custom_flags((OFlag::O_PATH | OFlag::O_DIRECTORY).bits())
        .open(folder)?;
    let shared = is_shared(&folder.metadata()?);
    let mut flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    if shared {
        flags |= OFlag::O_NOFOLLOW;
    }
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    let file = File::from(openat(&folder, name, flags, mode).map_err(|error| {
        if error == nix::errno::Errno::ELOOP {
            refused(
                "it is a symbolic link in a directory that others can write to; name the file itself"
                    .to_owned(),
            )
        } else {
            error.into()
        }
    })?);
    let metadata = file.metadata()?;
    if shared {
        refuse_files_of_others(&metadata)?;
    }
    if metadata.is_file() && metadata.mode() & GROUP_OR_OTHERS != 0 {
        tracing::warn!(
            "others can read {} (mode {:03o}), and passwords may be written to it; chmod 600 keeps them out",
            path.display(),
            metadata.mode() & 0o777
        );
    }
    Ok(file)
}

/// An error if another user can replace a file at `path` that this process makes there.
pub(crate) fn refuse_folder_of_others(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    refuse_links_of_others(folder)?;
    let metadata = fs::metadata(folder)?;
    let is_sticky = metadata.mode() & STICKY != 0;
    if is_of_others(&metadata) || is_shared(&metadata) && !is_sticky {
        return Err(refused(format!(
            "others can replace files in {}",
            folder.display()
        )));
    }
    Ok(())
}

/// Returns true if anybody but root and this user decides what is in a folder.
fn is_shared(folder: &Metadata) -> bool {
    is_of_others(folder) || folder.mode() & GROUP_OR_OTHERS_WRITE != 0
}

fn is_of_others(metadata: &Metadata) -> bool {
    ![ROOT, geteuid().as_raw()].contains(&metadata.uid())
}

/// Somebody else's link on the way leads where he likes.
fn refuse_links_of_others(folder: &Path) -> io::Result<()> {
    let mut so_far = PathBuf::new();
    for component in folder.components() {
        so_far.push(component);
        if let Component::Normal(_) = component {
            let metadata = fs::symlink_metadata(&so_far)?;
            if metadata.is_symlink() && is_of_others(&metadata) {
                return Err(refused(format!(
                    "{} is a symbolic link of user {}",
                    so_far.display(),
                    metadata.uid()
                )));
            }
        }
    }
    Ok(())
}

/// Refuses an existing file in a folder that others can write to: it may be theirs to read.
fn refuse_files_of_others(metadata: &Metadata) -> io::Result<()> {
    if is_of_others(metadata) {
        return Err(refused(format!(
            "it belongs to user {}, in a directory that others can write to; remove it, or name another file",
            metadata.uid()
        )));
    }
    if metadata.is_file() && metadata.nlink() > 1 {
        return Err(refused(
            "it has another name (hard link), in a directory that others can write to; remove it, or name another file"
                .to_owned(),
        ));
    }
    Ok(())
}

fn refused(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, reason)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use tempfile::TempDir;

    use super::*;

    const NOBODY: u32 = 65534;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    /// A folder like `/tmp`.
    fn shared_folder() -> TempDir {
        let folder = TempDir::new().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        folder
    }

    #[test]
    fn only_the_owner_can_read_it() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("events");
        append(&path).unwrap().write_all(b"a").unwrap();
        append(&path).unwrap().write_all(b"b").unwrap();
        assert_eq!(
            (fs::read(&path).unwrap().as_slice(), mode(&path)),
            (&b"ab"[..], 0o600)
        );
        let path = folder.path().join("recording");
        let _file = Replacement::open(&path).unwrap().begin().unwrap();
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn a_file_is_replaced_when_the_run_begins() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("recording");
        drop(Replacement::open(&path).unwrap());
        assert!(!path.exists(), "what was made for nothing is removed");
        fs::write(&path, "precious").unwrap();
        drop(Replacement::open(&path).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        drop(Replacement::open(&path).unwrap().begin().unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn links_are_followed_only_where_nobody_else_makes_them() {
        let target = TempDir::new().unwrap();
        let target = target.path().join("target");
        let own = TempDir::new().unwrap();
        let shared = shared_folder();
        fs::create_dir(target.parent().unwrap()).unwrap_or_default();
        for (folder, followed) in [(&own, true), (&shared, false)] {
            let link = folder.path().join("events");
            symlink(&target, &link).unwrap();
            assert_eq!(append(&link).is_ok(), followed);
        }
        let error = append(&shared.path().join("events")).unwrap_err().to_string();
        assert!(error.contains("symbolic link"), "{error}");
    }

    #[test]
    fn files_and_links_of_others_are_refused() {
        if !geteuid().is_root() {
            return;
        }
        let shared = shared_folder();
        let theirs = shared.path().join("events");
        fs::write(&theirs, "").unwrap();
        chown(&theirs, Some(NOBODY), None).unwrap();
        let error = append(&theirs).unwrap_err().to_string();
        assert!(error.contains("belongs to user 65534"), "{error}");

        let mine = TempDir::new().unwrap();
        let link = shared.path().join("folder");
        symlink(mine.path(), &link).unwrap();
        std::os::unix::fs::lchown(&link, Some(NOBODY), None).unwrap();
        let error = append(&link.join("events")).unwrap_err().to_string();
        assert!(error.contains("symbolic link of user 65534"), "{error}");

        let other = shared.path().join("other");
        fs::write(&other, "").unwrap();
        fs::hard_link(&other, shared.path().join("name")).unwrap();
        let error = append(&other).unwrap_err().to_string();
        assert!(error.contains("hard link"), "{error}");
    }
}
