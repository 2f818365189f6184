//! Which processes have TLS in them, which of their functions would be captured, and what keeps
//! the others from it. Nothing is attached.

mod file;
mod fingerprints;
mod kernel_tls;
mod keyless;
mod mapping;
mod obstacle;
mod uncaptured;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use crate::file::inode::Inode;
use crate::file::library::{Library, Located};
use crate::kind::Kind;
use crate::proc::maps::Maps;
use crate::proc::priority::Priority;
use crate::proc::{self, Program};
use crate::{AttachPoint, limits};
use file::{FileSurvey, executable, library};
use fingerprints::Fingerprints;
use mapping::{Role, mappings};

pub use keyless::Keyless;
pub use obstacle::Obstacle;
pub use uncaptured::UncapturedProcess;

/// The findings in all processes that could be inspected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// By process.
    pub findings: Vec<Finding>,
    /// Number of processes that could not be inspected.
    pub hidden: usize,
}

/// A TLS implementation in a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Id of the process.
    pub pid: u32,
    /// The process's name, `/proc/PID/comm`.
    pub command: String,
    /// As the process sees it.
    pub file: PathBuf,
    /// How it was found.
    pub place: Place,
    /// Its name, such as `OpenSSL`.
    pub implementation: &'static str,
    /// Where it can be had.
    pub version: Option<String>,
    /// The functions that would be captured, and where.
    pub hooks: Vec<PlannedHook>,
    /// Why it would not be captured; then there are no hooks.
    pub obstacle: Option<Obstacle>,
    /// Which secrets of its handshakes a key log would have.
    pub keys: Keys,
    /// The file was deleted since the process began, as by an upgrade; it is reached all the same.
    pub deleted: bool,
}

/// A function that would be captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedHook {
    /// Its name.
    pub symbol: &'static str,
    /// Where its probe would be attached.
    pub point: AttachPoint,
}

/// Which secrets of the handshakes of a process a key log would have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// None.
    None,
    /// Those up to TLS 1.2: where the library keeps the client's random is not known.
    UpToTls12,
    /// All.
    All,
}

impl Keys {
    /// Returns it in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::UpToTls12 => "up to TLS 1.2",
            Self::All => "all",
        }
    }
}

/// How a TLS implementation was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// As a library in the memory of the process.
    Library,
    /// In the executable itself.
    Executable,
    /// As sockets that leave TLS to the kernel; the file is the executable.
    Kernel,
}

impl Survey {
    /// Surveys all processes but this program's own.
    pub fn of_all() -> Self {
        Self::of(proc::pids())
    }

    /// Surveys some processes. One that has ended has nothing.
    pub fn of(pids: impl IntoIterator<Item = u32>) -> Self {
        // If the kernel does not report it, or has no kernel TLS, no process is said to use it.
        let mut surveyor = Surveyor {
            kernel_tls: kernel_tls::sockets().unwrap_or_default(),
            ..Surveyor::default()
        };
        for pid in pids {
            match surveyor.process(pid) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => surveyor.survey.hidden += 1,
                _ => {}
            }
        }
        surveyor.survey
    }

    /// Number of processes that would be captured.
    pub fn captured(&self) -> usize {
        self.captured_pids().len()
    }

    /// Returns how many processes have TLS that would not be captured.
    pub fn missed(&self) -> usize {
        let captured = self.captured_pids();
        let missed = self.findings.iter().filter(|finding| {
            finding.obstacle.as_ref().is_some_and(Obstacle::hides_plaintext)
                && !captured.contains(&finding.pid)
        });
        missed.map(|finding| finding.pid).collect::<BTreeSet<_>>().len()
    }

    fn captured_pids(&self) -> BTreeSet<u32> {
        let captured = self.findings.iter().filter(|finding| finding.obstacle.is_none());
        captured.map(|finding| finding.pid).collect()
    }
}

/// Runs on a thread that takes only what time others leave: reading every program is much work,
/// and a capture must not wait for it. Of the processes `pids`, or of all when there are none.
pub fn in_background(pids: Vec<u32>, tell: impl FnOnce(Survey) + Send + 'static) {
    std::thread::spawn(move || {
        Priority::Last.take();
        tell(if pids.is_empty() {
            Survey::of_all()
        } else {
            Survey::of(pids)
        });
    });
}

/// The TLS in a program that would not be captured, and why.
pub(crate) fn obstacle_in(library: &Library) -> Option<(&'static str, Obstacle)> {
    let mut finding = Finding {
        pid: 0,
        command: String::new(),
        file: library.path().to_owned(),
        place: Place::Executable,
        implementation: "",
        version: None,
        hooks: Vec::new(),
        obstacle: None,
        keys: Keys::None,
        deleted: false,
    };
    executable(&mut finding, &FileSurvey::without_keys(library));
    let obstacle = finding.obstacle.filter(Obstacle::hides_plaintext)?;
    Some((finding.implementation, obstacle))
}

/// Reads a file as a survey does.
pub(crate) fn read_fingerprints(library: &Library) {
    let _fingerprints = Fingerprints::read(library);
}

#[derive(Default)]
struct Surveyor {
    survey: Survey,
    files: HashMap<Inode, Rc<FileSurvey>>,
    /// Inodes of sockets.
    kernel_tls: HashSet<u64>,
}

impl Surveyor {
    fn process(&mut self, pid: u32) -> io::Result<()> {
        if proc::runs_own_program(pid) || !proc::has_command_line(pid)? {
            return Ok(());
        }
        let maps = Maps::read(pid, limits::MAPS_BYTES)?;
        let program = Program::of(pid)?;
        let command = proc::command(pid)?;
        let about = |file: &Path, place| Finding {
            pid,
            command: command.clone(),
            file: file.to_owned(),
            place,
            implementation: "",
            version: None,
            hooks: Vec::new(),
            obstacle: None,
            keys: Keys::None,
            deleted: false,
        };
        let mut findings = self.libraries(&maps, &about(Path::new(""), Place::Library));
        findings.extend(self.kernel_tls(about(&program.path, Place::Kernel)));
        findings.extend(self.executable(&program, about(&program.path, Place::Executable)));
        // NSPR without NSS is not TLS.
        let has_nss = findings
            .iter()
            .any(|finding| finding.implementation == Kind::Nss.name());
        findings.retain(|finding| has_nss || finding.implementation != Kind::Nspr.name());
        self.survey.findings.append(&mut findings);
        Ok(())
    }

    fn libraries(&mut self, maps: &Maps, blank: &Finding) -> Vec<Finding> {
        let mappings = mappings(maps);
        let crypto = mappings.iter().find(|(role, _)| *role == Role::Crypto);
        let crypto =
            crypto.and_then(|(_, mapping)| self.file(mapping.locate(blank.pid), &mapping.path()).ok());
        let libraries = mappings.iter().filter(|(role, _)| *role != Role::Crypto);
        let findings = libraries.filter_map(|(role, mapping)| {
            let mut finding = Finding {
                file: mapping.path(),
                deleted: mapping.deleted,
                ..blank.clone()
            };
            if *role == Role::Java {
                finding.implementation = "Java";
                finding.obstacle = Some(Obstacle::Java);
                return Some(finding);
            }
            match self.file(mapping.locate(blank.pid), &finding.file) {
                // Like a program, it carries TLS, or does not.
                Ok(file) if *role == Role::Other => {
                    let has_tls =
                        executable(&mut finding, &file) && finding.obstacle != Some(Obstacle::GoWithoutTls);
                    return has_tls.then_some(finding);
                }
                Err(_) if *role == Role::Other => return None,
                Ok(file) => library(&mut finding, &file, crypto.as_deref()),
                Err(error) => {
                    finding.implementation = "unknown";
                    finding.obstacle = Some(Obstacle::Unreachable(Arc::new(error)));
                }
            }
            Some(finding)
        });
        findings.collect()
    }

    fn executable(&mut self, program: &Program, mut finding: Finding) -> Option<Finding> {
        finding.deleted = program.is_deleted();
        let located = Located::at(&proc::executable(finding.pid));
        let file = self.file(located, &finding.file).ok()?;
        executable(&mut finding, &file).then_some(finding)
    }

    fn kernel_tls(&self, mut finding: Finding) -> Option<Finding> {
        if self.kernel_tls.is_empty() {
            return None;
        }
        let sockets = uncaptured::socket_inodes(finding.pid);
        let connections = sockets.filter(|inode| self.kernel_tls.contains(inode)).count();
        finding.implementation = "kernel TLS";
        finding.obstacle = Some(Obstacle::KernelTls(connections));
        (connections > 0).then_some(finding)
    }

    /// The TLS in a file, which is read once for all processes.
    fn file(&mut self, located: io::Result<Located>, path: &Path) -> io::Result<Rc<FileSurvey>> {
        let located = located?;
        if let Some(file) = self.files.get(&located.inode()) {
            return Ok(Rc::clone(file));
        }
        let file = Rc::new(FileSurvey::of(&located.open(path.to_owned())?));
        self.files.insert(located.inode(), Rc::clone(&file));
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(pid: u32, obstacle: Option<Obstacle>) -> Finding {
        Finding {
            pid,
            command: "program".to_owned(),
            file: PathBuf::from("/program"),
            place: Place::Executable,
            implementation: "OpenSSL",
            version: None,
            hooks: Vec::new(),
            obstacle,
            keys: Keys::None,
            deleted: false,
        }
    }

    #[test]
    fn a_process_counts_once_and_as_captured_if_anything_of_it_is() {
        let survey = Survey {
            findings: vec![
                finding(1, None),
                finding(1, Some(Obstacle::NoSymbols)),
                finding(2, Some(Obstacle::Java)),
                finding(2, Some(Obstacle::NoFunctions)),
                finding(3, Some(Obstacle::GoWithoutTls)),
            ],
            hidden: 0,
        };
        assert_eq!((survey.captured(), survey.missed()), (1, 1));
    }

    #[test]
    fn what_was_linked_in_without_symbols_is_told() {
        let file = |fingerprints| FileSurvey {
            kinds: Vec::new(),
            hooks: Vec::new(),
            derives: false,
            has_place: false,
            unusable: None,
            rustls: None,
            fingerprints,
        };
        let mut found = finding(1, None);
        assert!(!executable(&mut found, &file(Fingerprints::default())));
        let stripped = Fingerprints::of(b"ssl/statem/statem OpenSSL 3.0.2 15 Mar 2022 and so on");
        assert!(executable(&mut found, &file(stripped)));
        assert_eq!(found.obstacle, Some(Obstacle::NoSymbols));
        assert_eq!(found.version.as_deref(), Some("3.0.2"));
    }

    #[test]
    fn sockets_of_kernel_tls_are_told_with_their_process() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = std::fs::File::from(std::os::fd::OwnedFd::from(listener));
        let surveyor = |inode| Surveyor {
            kernel_tls: HashSet::from([inode]),
            ..Surveyor::default()
        };
        let blank = finding(std::process::id(), None);
        let inode = std::os::unix::fs::MetadataExt::ino(&socket.metadata().unwrap());
        let found = surveyor(inode).kernel_tls(blank.clone()).unwrap();
        assert_eq!(found.obstacle, Some(Obstacle::KernelTls(1)));
        assert_eq!(surveyor(0).kernel_tls(blank), None);
    }

    #[test]
    fn this_program_is_not_part_of_it() {
        assert_eq!(Survey::of([std::process::id()]).hidden, 0);
        assert!(
            Survey::of([std::process::id()])
                .findings
                .iter()
                .all(|finding| finding.place == Place::Library)
        );
    }
}
