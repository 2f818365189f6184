//! Which libraries and programs are worth attaching to.

use std::collections::HashSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::file::elf::Image;
use crate::file::inode::Inode;
use crate::file::ld_cache;
use crate::file::library::{Library, Located, Named, NamedFunction};
use crate::find::survey::Keyless;
use crate::host::clock::monotonic_ns;
use crate::kind::Kind;
use crate::modules::Modules;
use crate::proc::maps::Maps;
use crate::{Error, limits, proc};

const LD_CACHE: &str = "/etc/ld.so.cache";
/// Where libraries are when there is no cache (musl).
const USUAL_DIRECTORIES: [&str; 6] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/lib",
    "/lib",
];

/// Where programs are installed.
const PROGRAM_DIRECTORIES: [&str; 5] = ["/bin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/libexec"];
/// The login shells of a host, wherever they are.
const SHELLS: &str = "/etc/shells";

/// A library or program with functions that are captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The opened file. Its path is for people, through `/proc/PID/root` when it is in a container.
    pub library: Library,
    /// Where it was found.
    pub found: FoundIn,
    /// The kinds that it has functions of.
    pub kinds: Vec<Kind>,
}

/// Where a target was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundIn {
    /// It was named by the user.
    Named,
    /// In the dynamic loader's cache or a usual directory.
    Installed,
    /// In the memory of this process.
    Process(u32),
}

/// Checks a library that the user named.
pub fn named(modules: Modules, path: &Path) -> Result<Target, Error> {
    let library = Library::open(path)?;
    let image = Image::read(&library, &modules.identifying_symbols())?;
    of_named(modules, &image)
}

/// Checks a library that the user named, together with a function in it.
pub fn named_with(modules: Modules, path: &Path, function: &NamedFunction) -> Result<Target, Error> {
    let unreadable = |source| Error::Unreadable {
        path: path.to_owned(),
        source,
    };
    let stands_for = modules.named_function(function).ok_or(Error::NoNames)?;
    let named = Named {
        function: function.clone(),
        stands_for,
    };
    let library = Library::open(path)?.with(named).map_err(unreadable)?;
    let image = Image::read(&library, &modules.identifying_symbols())?;
    if image.function(stands_for).is_none() {
        return Err(Error::NoNamedFunction {
            path: path.to_owned(),
            problem: match (&function.symbol, function.offset) {
                (_, Some(offset)) => format!("no code at the offset {offset:#x}"),
                (Some(symbol), None) => format!("no function {symbol} in .dynsym or .symtab"),
                (None, None) => "no function without a name".to_owned(),
            },
        });
    }
    of_named(modules, &image)
}

fn of_named(modules: Modules, image: &Image) -> Result<Target, Error> {
    let kinds = modules.kinds_in(image);
    if kinds.is_empty() {
        return Err(Error::NoFunctions {
            path: image.path().to_owned(),
            expected: modules.examples(),
        });
    }
    Ok(Target {
        library: image.library().clone(),
        found: FoundIn::Named,
        kinds,
    })
}

/// Every TLS library of this host, and every program with TLS functions of its own that runs now.
/// Each file once, by device and inode. Processes that cannot be inspected are skipped.
///
/// Files that belong to users other than root are inspected for a second in all; the rest is left out.
pub fn discover(modules: Modules) -> Vec<Target> {
    let mut seen = Seen::new(modules);
    for path in installed(modules) {
        if let Ok(located) = Located::at(&path) {
            seen.add(&located, path, FoundIn::Installed);
        }
    }
    for pid in proc::pids() {
        seen.add_process(pid);
    }
    seen.finish()
}

/// The TLS libraries in the memory of these processes, and their programs when those have TLS functions. Each
/// file once.
pub fn of_processes(modules: Modules, pids: &[u32]) -> Vec<Target> {
    let mut seen = Seen::new(modules);
    for pid in pids {
        seen.add_process(*pid);
    }
    seen.finish()
}

struct Seen {
    modules: Modules,
    inodes: HashSet<Inode>,
    targets: Vec<Target>,
    /// Number of files that are not trusted and were inspected, and how long that took.
    strangers: usize,
    time: Duration,
    left_out: usize,
}

impl Seen {
    fn new(modules: Modules) -> Self {
        Self {
            modules,
            inodes: proc::own_program().into_iter().collect(),
            targets: Vec::new(),
            strangers: 0,
            time: Duration::ZERO,
            left_out: 0,
        }
    }

    /// The program itself and the TLS libraries in the memory of a process.
    fn add_process(&mut self, pid: u32) {
        let found = FoundIn::Process(pid);
        let program = proc::executable(pid);
        if let Ok(located) = Located::at(&program) {
            self.add(&located, program, found);
        }
        let Ok(maps) = Maps::read(pid, limits::MAPS_BYTES) else {
            return;
        };
        if maps.cut {
            tracing::warn!("process {pid} has more mappings than can be listed: the rest was not inspected");
        }
        let modules = self.modules;
        for mapping in maps
            .executed()
            .filter(|mapping| modules.name_library(mapping.name()))
        {
            if let Ok(located) = mapping.locate(pid) {
                self.add(&located, proc::inside(pid, &mapping.path()), found);
            }
        }
    }

    fn add(&mut self, located: &Located, path: PathBuf, found: FoundIn) {
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

    fn look_into(&mut self, located: &Located, path: PathBuf, found: FoundIn) {
        let path = plain_path(&path, located).unwrap_or(path);
        let Ok(library) = located.open(path) else { return };
        match Image::of(&library, &self.modules.identifying_symbols()) {
            Ok(image) => {
                let kinds = self.modules.kinds_in(&image);
                if !kinds.is_empty() {
                    self.targets.push(Target {
                        library,
                        found,
                        kinds,
                    });
                } else if let FoundIn::Process(pid) = found
                    && self.modules.have(Modules::SECRETS)
                    && let Some(why) = Keyless::of(&image)
                {
                    tracing::warn!(
                        "a key log has no secrets of process {pid}: {}: {why}",
                        library.path().display()
                    );
                }
            }
            Err(error) if error.is_given_up() => {
                tracing::warn!("{} was not inspected: {error}", library.path().display());
            }
            // Scripts and the like.
            Err(_) => {}
        }
    }

    fn finish(self) -> Vec<Target> {
        if self.left_out > 0 {
            tracing::warn!(
                "{} files that are not root's were not inspected before the start, because there are too many; name those \
                 that matter with --libssl or --pid",
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

fn installed(modules: Modules) -> Vec<PathBuf> {
    let cache = fs::read(LD_CACHE).unwrap_or_default();
    let mut paths: Vec<_> = modules
        .library_names()
        .flat_map(|name| ld_cache::libraries(&cache, name))
        .collect();
    paths.extend(installed_programs(modules));
    for directory in USUAL_DIRECTORIES {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if modules.name_library(entry.file_name().as_bytes()) {
                paths.push(entry.path());
            }
        }
    }
    paths
}

/// Programs are known by their names until they run.
pub(crate) fn installed_programs(modules: Modules) -> Vec<PathBuf> {
    let names: Vec<_> = modules.programs_by_name().collect();
    if names.is_empty() {
        return Vec::new();
    }
    let directories = PROGRAM_DIRECTORIES.iter().map(Path::new);
    let usual = directories.flat_map(|directory| names.iter().map(|name| directory.join(name)));
    let shells = fs::read_to_string(SHELLS).unwrap_or_default();
    let is_one = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| names.contains(&name))
    };
    usual
        .chain(shells.lines().map(PathBuf::from).filter(is_one))
        .collect()
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
            assert!(Modules::TLS.name_library(name.as_bytes()), "{name}");
        }
        for name in ["libz.so.1", "libssl", "myssl.so"] {
            assert!(!Modules::TLS.name_library(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_text_file_is_refused_in_one_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "not a library").unwrap();
        let error = named(Modules::TLS, file.path()).unwrap_err();
        assert!(matches!(error, Error::NotALibrary { .. }), "{error}");
        assert!(!error.to_string().contains('\n'));
    }

    #[test]
    fn a_missing_file_is_refused() {
        let error = named(Modules::TLS, Path::new("/nowhere/libssl.so")).unwrap_err();
        assert!(matches!(error, Error::Unreadable { .. }), "{error}");
    }

    #[test]
    fn a_library_without_tls_functions_is_refused() {
        let error = named(Modules::TLS, Path::new("/proc/self/exe")).unwrap_err();
        assert!(matches!(error, Error::NoFunctions { .. }), "{error}");
    }
}
