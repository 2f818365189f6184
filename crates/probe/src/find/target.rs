//! Which libraries and programs are worth attaching to.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use memchr::memmem;

use crate::file::elf::Image;
use crate::file::inode::Inode;
use crate::file::ld_cache;
use crate::file::library::{Library, Located};
use crate::host::clock::monotonic_ns;
use crate::proc::maps::Maps;
use crate::{Error, limits, plan, proc};

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
    /// The opened file. Its path is for people, through `/proc/PID/root` when it is in a container.
    pub library: Library,
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
    let library = Library::open(path)?;
    let kinds = Kind::of(&Image::read(&library, &plan::library_symbols())?);
    if kinds.is_empty() {
        return Err(Error::NoFunctions {
            path: path.to_owned(),
            expected: plan::examples(),
        });
    }
    Ok(Target {
        library,
        found: Found::Named,
        kinds,
    })
}

/// Every TLS library of this host, and every program with TLS functions of its own that runs
/// now. Each file once, by device and inode. Processes that cannot be looked into are skipped.
///
/// Of files that belong to others than root, as many are looked into as can be in a second.
pub fn discover() -> Vec<Target> {
    let mut seen = Seen::new();
    for path in installed() {
        if let Ok(located) = Located::at(&path) {
            seen.add(&located, path, Found::Installed);
        }
    }
    for pid in proc::pids() {
        seen.add_process(pid);
    }
    seen.finish()
}

/// The TLS libraries in the memory of these processes, and their programs when those have TLS functions. Each
/// file once.
pub fn of_processes(pids: &[u32]) -> Vec<Target> {
    let mut seen = Seen::new();
    for pid in pids {
        seen.add_process(*pid);
    }
    seen.finish()
}

struct Seen {
    inodes: HashSet<Inode>,
    targets: Vec<Target>,
    /// Files that are not trusted and were looked into, and how long that took.
    strangers: usize,
    time: Duration,
    left_out: usize,
}

impl Seen {
    fn new() -> Self {
        Self {
            inodes: HashSet::new(),
            targets: Vec::new(),
            strangers: 0,
            time: Duration::ZERO,
            left_out: 0,
        }
    }

    /// The program itself and the TLS libraries in the memory of a process.
    fn add_process(&mut self, pid: u32) {
        let found = Found::Process(pid);
        let program = proc::executable(pid);
        if let Ok(located) = Located::at(&program) {
            self.add(&located, program, found);
        }
        let Ok(maps) = Maps::read(pid, limits::MAPS_BYTES) else {
            return;
        };
        if maps.cut {
            tracing::warn!("process {pid} has mapped more than can be listed: the rest was not looked into");
        }
        for mapping in maps.executed().filter(|mapping| is_library_name(mapping.name())) {
            if let Ok(located) = mapping.locate(pid) {
                self.add(&located, proc::inside(pid, &mapping.path()), found);
            }
        }
    }

    fn add(&mut self, located: &Located, path: PathBuf, found: Found) {
        if !self.inodes.insert(located.inode()) {
            return;
        }
        if located.is_trusted() {
            self.look_into(located, path, found);
        } else if self.strangers < limits::STRANGERS_AT_START && self.time < limits::STRANGERS_TIME {
            let started = monotonic_ns();
            self.look_into(located, path, found);
            self.time += Duration::from_nanos(monotonic_ns().saturating_sub(started));
            self.strangers += 1;
        } else {
            self.left_out += 1;
        }
    }

    fn look_into(&mut self, located: &Located, path: PathBuf, found: Found) {
        let path = plain_path(&path, located).unwrap_or(path);
        let Ok(library) = located.open(path) else { return };
        match Image::of(&library, &plan::library_symbols()) {
            Ok(image) => {
                let kinds = Kind::of(&image);
                if !kinds.is_empty() {
                    self.targets.push(Target {
                        library,
                        found,
                        kinds,
                    });
                }
            }
            Err(error) if error.is_given_up() => {
                tracing::warn!("{} was not looked into: {error}", library.path().display());
            }
            // Scripts and the like.
            Err(_) => {}
        }
    }

    fn finish(self) -> Vec<Target> {
        if self.left_out > 0 {
            tracing::warn!(
                "files of others than root that were not looked into before the start, because there are too many: {}; \
                 name what matters with --libssl or --pid",
                self.left_out
            );
        }
        self.targets
    }
}

/// The path without links and without a detour through `/proc`, when it reaches the same file. It is for people
/// only: nothing is opened by it.
pub(crate) fn plain_path(path: &Path, located: &Located) -> Option<PathBuf> {
    let plain = fs::canonicalize(path).ok()?;
    let reached = fs::metadata(&plain).ok()?;
    (Inode::of(&reached) == located.inode()).then_some(plain)
}

fn installed() -> Vec<PathBuf> {
    let cache = fs::read(LD_CACHE).unwrap_or_default();
    let mut paths: Vec<_> = LIBRARY_NAMES
        .iter()
        .flat_map(|name| ld_cache::libraries(&cache, name))
        .collect();
    for directory in USUAL_DIRECTORIES {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if is_library_name(entry.file_name().as_bytes()) {
                paths.push(entry.path());
            }
        }
    }
    paths
}

/// `libssl.so.3` and the names that bundles give their copies, such as `libssl-1a2b.so.1.1`.
pub(crate) fn is_library_name(name: &[u8]) -> bool {
    let known = LIBRARY_NAMES
        .iter()
        .any(|library| name.starts_with(library.as_bytes()));
    known && memmem::find(name, b".so").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_libraries_are_recognized_by_name() {
        for name in [
            "libssl.so.3",
            "libssl-1a2b.so.1.1",
            "libgnutls.so.30",
            "libnspr4.so",
        ] {
            assert!(is_library_name(name.as_bytes()), "{name}");
        }
        for name in ["libz.so.1", "libssl", "myssl.so"] {
            assert!(!is_library_name(name.as_bytes()), "{name}");
        }
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
