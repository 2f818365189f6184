//! The cgroup whose processes are captured (kernel documentation, `admin-guide/cgroup-v2.rst`).

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Why a path is not a cgroup to filter by. Each message is one line with its fix.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// It cannot be opened.
    #[error("cannot open the cgroup {path}: {source}; {}", example())]
    Unreadable {
        /// As given.
        path: PathBuf,
        /// From the system.
        source: io::Error,
    },
    /// It is something else, or a cgroup of version 1.
    #[error("{path} is not a directory of the cgroup2 file system; {}", example())]
    NotCgroup2 {
        /// As given.
        path: PathBuf,
    },
}

/// Opens the folder of a cgroup.
pub(crate) fn open(path: &Path) -> Result<File, CgroupError> {
    let unreadable = |source| CgroupError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let folder = File::open(path).map_err(unreadable)?;
    let is_folder = folder.metadata().map_err(unreadable)?.is_dir();
    if !is_folder || !is_on_cgroup2(path).map_err(unreadable)? {
        return Err(CgroupError::NotCgroup2 {
            path: path.to_owned(),
        });
    }
    Ok(folder)
}

#[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
fn is_on_cgroup2(path: &Path) -> io::Result<bool> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the structure is plain numbers, and the path ends with a zero byte.
    let (result, status) = unsafe {
        let mut status = std::mem::zeroed::<libc::statfs>();
        (libc::statfs(path.as_ptr(), &raw mut status), status)
    };
    match result {
        0 => Ok(status.f_type == libc::CGROUP2_SUPER_MAGIC),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Advice on the directory to give instead.
fn example() -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    match mount_point(&mounts) {
        Some(root) => {
            format!(
                "give a directory below {root} (`cat /proc/PID/cgroup` shows that of a process, after 0::)"
            )
        }
        None => "no cgroup2 file system is mounted here: mount -t cgroup2 none /sys/fs/cgroup".to_owned(),
    }
}

/// Where cgroup2 is mounted, from lines of `/proc/self/mounts`.
fn mount_point(mounts: &str) -> Option<&str> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let point = fields.next()?;
        (fields.next()? == "cgroup2").then_some(point)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_point_is_found() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(mount_point(mounts), Some("/sys/fs/cgroup/unified"));
        assert_eq!(mount_point("tmpfs /tmp tmpfs rw 0 0\n"), None);
    }

    #[test]
    fn what_is_no_cgroup_is_refused_in_one_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for path in [Path::new("/nowhere"), Path::new("/tmp"), file.path()] {
            let error = open(path).unwrap_err().to_string();
            assert!(error.contains(path.to_str().unwrap()), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
