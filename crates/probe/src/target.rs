//! Which libraries and programs are worth attaching to.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::elf::Image;
use crate::{Error, ld_cache, plan};

const LD_CACHE: &str = "/etc/ld.so.cache";
/// How the names of TLS libraries begin.
const LIBRARY_NAMES: [&str; 3] = ["libssl", "libgnutls", "libnspr4"];
/// Where libraries are when there is no cache (musl).
const USUAL_DIRECTORIES: [&str; 6] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/lib",
    "/lib",
];

/// A library or program with TLS functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Path that reaches it from here, through `/proc/PID/root` when it is in a container.
    pub path: PathBuf,
    /// Where it was found.
    pub found: Found,
    /// What it has functions of.
    pub kinds: Vec<Kind>,
}

/// A TLS implementation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// OpenSSL, BoringSSL and their relatives.
    OpenSsl,
    /// GnuTLS.
    GnuTls,
    /// Go's crypto/tls.
    Go,
    /// rustls, in a program or with its C functions.
    Rustls,
    /// NSPR, through which programs use NSS.
    Nspr,
    /// NSS itself, which says which of NSPR's descriptors are TLS.
    Nss,
}

impl Kind {
    pub(crate) fn of(image: &Image) -> Vec<Self> {
        let names = plan::library_symbols().into_iter();
        let mut kinds: Vec<_> = names
            .filter(|name| image.function(name).is_some())
            .filter_map(plan::kind)
            .collect();
        if plan::rustls::points(image).is_ok() {
            kinds.push(Self::Rustls);
        }
        kinds.dedup();
        kinds
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenSsl => "OpenSSL",
            Self::GnuTls => "GnuTLS",
            Self::Go => "Go crypto/tls",
            Self::Rustls => "rustls",
            Self::Nspr => "NSPR",
            Self::Nss => "NSS",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Where a target was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It was named by the user.
    Named,
    /// In the dynamic loader's cache or a usual directory.
    Installed,
    /// In the memory of this process.
    Process(u32),
}

/// Checks a library that the user named.
pub fn named(path: &Path) -> Result<Target, Error> {
    let kinds = Kind::of(&Image::read(path, &plan::library_symbols())?);
    if kinds.is_empty() {
        return Err(Error::NoFunctions {
            path: path.to_owned(),
            expected: plan::examples(),
        });
    }
    Ok(Target {
        path: path.to_owned(),
        found: Found::Named,
        kinds,
    })
}

/// Every TLS library of this host, and every program with TLS functions of its own that runs
/// now. Each file once, by device and inode. Processes that cannot be looked into are skipped.
pub fn discover() -> Vec<Target> {
    let mut seen = Seen::default();
    for path in installed() {
        seen.add(&path, Found::Installed);
    }
    for pid in processes() {
        for path in mapped(pid) {
            seen.add(&path, Found::Process(pid));
        }
    }
    seen.targets
}

/// The TLS libraries in the memory of one process, and its program when that has TLS functions.
pub fn of_process(pid: u32) -> Vec<Target> {
    let mut seen = Seen::default();
    for path in mapped(pid) {
        seen.add(&path, Found::Process(pid));
    }
    seen.targets
}

#[derive(Default)]
struct Seen {
    inodes: HashSet<(u64, u64)>,
    targets: Vec<Target>,
}

impl Seen {
    fn add(&mut self, path: &Path, found: Found) {
        let Ok(metadata) = fs::metadata(path) else { return };
        if !self.inodes.insert((metadata.dev(), metadata.ino())) {
            return;
        }
        let path = plain_path(path).unwrap_or_else(|| path.to_owned());
        let kinds = Image::read(&path, &plan::library_symbols()).map(|image| Kind::of(&image));
        if let Ok(kinds) = kinds
            && !kinds.is_empty()
        {
            self.targets.push(Target { path, found, kinds });
        }
    }
}

/// The path without links and without a detour through `/proc`, when it reaches the same file.
pub(crate) fn plain_path(path: &Path) -> Option<PathBuf> {
    let metadata = fs::metadata(path).ok()?;
    let plain = fs::canonicalize(path).ok()?;
    let reached = fs::metadata(&plain).ok()?;
    (reached.dev() == metadata.dev() && reached.ino() == metadata.ino()).then_some(plain)
}

fn installed() -> Vec<PathBuf> {
    let cache = fs::read(LD_CACHE).unwrap_or_default();
    let mut paths: Vec<_> = LIBRARY_NAMES
        .iter()
        .flat_map(|name| ld_cache::libraries(&cache, name))
        .collect();
    for directory in USUAL_DIRECTORIES {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if is_library_name(&entry.file_name().to_string_lossy()) {
                paths.push(entry.path());
            }
        }
    }
    paths
}

/// `libssl.so.3` and the names that bundles give their copies, such as `libssl-1a2b.so.1.1`.
pub(crate) fn is_library_name(name: &str) -> bool {
    LIBRARY_NAMES.iter().any(|library| name.starts_with(library)) && name.contains(".so")
}

pub(crate) fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The program itself and the TLS libraries in the memory of a process.
fn mapped(pid: u32) -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::from(format!("/proc/{pid}/exe"))];
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    for line in maps.lines() {
        if let Some(path) = mapped_library(pid, line)
            && paths.last() != Some(&path)
        {
            paths.push(path);
        }
    }
    paths
}

/// The library that a line of `/proc/PID/maps` names. A deleted file is reached through its
/// mapping.
fn mapped_library(pid: u32, line: &str) -> Option<PathBuf> {
    let mut fields = line.splitn(6, ' ');
    let range = fields.next()?;
    if !fields.next()?.contains('x') {
        return None;
    }
    let path = fields.nth(3)?.trim_start();
    let name = path.rsplit('/').next()?;
    if !is_library_name(name) {
        return None;
    }
    Some(PathBuf::from(if path.ends_with(" (deleted)") {
        format!("/proc/{pid}/map_files/{range}")
    } else {
        format!("/proc/{pid}/root{path}")
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_executable_mappings_of_tls_libraries_count() {
        let executable = "7f00-7f10 r-xp 0001f000 fe:00 1234    /usr/lib/libssl.so.3";
        assert_eq!(
            mapped_library(7, executable),
            Some(PathBuf::from("/proc/7/root/usr/lib/libssl.so.3"))
        );
        let data = "7f00-7f10 rw-p 0001f000 fe:00 1234    /usr/lib/libssl.so.3";
        assert_eq!(mapped_library(7, data), None);
        let other = "7f00-7f10 r-xp 0001f000 fe:00 1234    /usr/lib/libz.so.1";
        assert_eq!(mapped_library(7, other), None);
        assert_eq!(mapped_library(7, "7f00-7f10 r-xp 00000000 00:00 0 "), None);
    }

    #[test]
    fn a_deleted_library_is_reached_through_its_mapping() {
        let line = "7f00-7f10 r-xp 0001f000 fe:00 1234    /opt/a b/libssl-9f.so.3 (deleted)";
        assert_eq!(
            mapped_library(7, line),
            Some(PathBuf::from("/proc/7/map_files/7f00-7f10"))
        );
    }

    #[test]
    fn a_text_file_is_refused_in_one_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "not a library").unwrap();
        let error = named(file.path()).unwrap_err();
        assert!(matches!(error, Error::NotALibrary { .. }), "{error}");
        assert!(!error.to_string().contains('\n'));
    }

    #[test]
    fn a_missing_file_is_refused() {
        let error = named(Path::new("/nowhere/libssl.so")).unwrap_err();
        assert!(matches!(error, Error::Unreadable { .. }), "{error}");
    }

    #[test]
    fn a_library_without_tls_functions_is_refused() {
        let error = named(Path::new("/proc/self/exe")).unwrap_err();
        assert!(matches!(error, Error::NoFunctions { .. }), "{error}");
    }
}
