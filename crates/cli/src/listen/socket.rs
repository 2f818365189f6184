//! The address that is listened on.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use crate::private_file;
use crate::settings::ListenAddress;

/// A bound address.
#[derive(Debug)]
pub(super) enum Socket {
    /// A loopback address.
    Tcp(TcpListener, SocketAddr),
    /// A socket file.
    Unix(UnixListener, PathBuf),
}

/// The file of a socket, which is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode: another program may have put a file of its own there.
    identity: (u64, u64),
}

impl Socket {
    /// The file, if there is one, remains as long as the returned value.
    pub(super) fn bind(address: &ListenAddress) -> io::Result<(Self, Option<SocketFile>)> {
        match address {
            ListenAddress::Tcp(address) => {
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                let bound = listener.local_addr()?;
                Ok((Self::Tcp(listener, bound), None))
            }
            ListenAddress::Unix(path) => {
                let (listener, file) = bind_file(path)?;
                listener.set_nonblocking(true)?;
                Ok((Self::Unix(listener, path.clone()), Some(file)))
            }
        }
    }

    /// For people, and to be copied into a request.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Tcp(_, address) => format!("http://{address}"),
            Self::Unix(_, path) => format!("unix://{}", path.display()),
        }
    }
}

/// Makes a socket with mode 0600. Whoever connects before it has that mode is refused by his user id.
fn bind_file(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    private_file::refuse_folder_of_others(path)?;
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path)?;
            UnixListener::bind(path)?
        }
        bound => bound?,
    };
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    let metadata = fs::symlink_metadata(path)?;
    let file = SocketFile {
        path: path.to_owned(),
        identity: (metadata.dev(), metadata.ino()),
    };
    Ok((listener, file))
}

/// Removes the socket that a killed run has left. An error if it is something else, or if somebody still listens.
fn remove_stale(path: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    let is_own = metadata.uid() == geteuid().as_raw();
    if !metadata.file_type().is_socket() || !is_own {
        return Err(io::Error::other(
            "there is a file that is not a socket of this user",
        ));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::other("another program listens there")),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_same = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if is_same {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_of_a_killed_run_is_replaced_and_that_of_a_running_one_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        drop(UnixListener::bind(&path).expect("a socket"));
        assert!(path.exists(), "as after a kill");
        let (listener, file) = bind_file(&path).expect("it is replaced");
        let mode = fs::metadata(&path).expect("a socket").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(bind_file(&path).is_err(), "somebody listens");
        drop((listener, file));
        assert!(!path.exists(), "removed at the end");
        fs::write(&path, "").expect("a file");
        assert!(bind_file(&path).is_err(), "a file is not a socket");
        assert!(path.exists());
    }
}
