//! Reads `/proc/PID` (kernel documentation, `filesystems/proc.rst`). No other place does.

pub(crate) mod container;
pub(crate) mod maps;
pub(crate) mod priority;
pub mod process;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::file::inode::Inode;

/// Suffix that the kernel adds to the path of a file that was deleted.
const DELETED: &[u8] = b" (deleted)";

/// The processes that run now, and those that have ended without anybody having waited for them.
pub(crate) fn pids() -> Vec<u32> {
    numbers(Path::new("/proc")).collect()
}

/// The file of this program. It has TLS functions for its own outputs, which nobody captures: what is written to
/// them would be captured, and written to them, without end.
pub(crate) fn own_program() -> Option<Inode> {
    let own = fs::metadata("/proc/self/exe").ok()?;
    Some(Inode::of(&own))
}

/// Returns true for a process that runs this program.
pub(crate) fn runs_own_program(pid: u32) -> bool {
    let program = fs::metadata(executable(pid)).ok();
    program.is_some_and(|program| own_program() == Some(Inode::of(&program)))
}

/// The threads of a process; none when it has ended.
pub(crate) fn threads(pid: u32) -> impl Iterator<Item = u32> {
    numbers(&folder(pid).join("task"))
}

/// Returns true for a process that exists, also when it has ended and nobody has waited for it.
pub(crate) fn exists(pid: u32) -> bool {
    folder(pid).exists()
}

/// Returns false for a process that has ended, whether or not somebody has waited for it: it has no
/// program any more.
pub(crate) fn is_running(pid: u32) -> bool {
    fs::read_link(executable(pid)).is_ok()
}

/// Returns true for a process that has neither ended nor is a kernel thread: those have no command
/// line. An error when it is hidden, or gone.
pub(crate) fn has_command_line(pid: u32) -> io::Result<bool> {
    Ok(!fs::read(folder(pid).join("cmdline"))?.is_empty())
}

/// The name of a process (`comm`). The kernel keeps 15 bytes, which may end within a character.
pub(crate) fn command(pid: u32) -> io::Result<String> {
    let bytes = fs::read(folder(pid).join("comm"))?;
    Ok(String::from_utf8_lossy(bytes.trim_ascii_end()).into_owned())
}

/// Leads to the program that a process runs, also when it was deleted or is in another mount
/// namespace.
pub(crate) fn executable(pid: u32) -> PathBuf {
    folder(pid).join("exe")
}

/// The program that a process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// As the kernel writes it, with the word for deleted files.
    pub(crate) path: PathBuf,
}

impl Program {
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let path = fs::read_link(executable(pid))?;
        Ok(Self { path })
    }

    /// Returns true if the file was deleted since the process began.
    pub(crate) fn is_deleted(&self) -> bool {
        self.path.as_os_str().as_bytes().ends_with(DELETED)
    }

    /// Its file name, without the word for deleted files. Unlike the names of its threads, a process
    /// cannot change it.
    pub(crate) fn name(&self) -> Option<&OsStr> {
        let name = self.path.file_name()?.as_bytes();
        Some(OsStr::from_bytes(name.strip_suffix(DELETED).unwrap_or(name)))
    }
}

/// The user of a process; `None` when it has ended.
pub(crate) fn user(pid: u32) -> Option<u32> {
    fs::metadata(folder(pid)).ok().map(|process| process.uid())
}

/// The process that started it.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    stat(pid, 4)?.try_into().ok()
}

/// When it began, in clock ticks since the host was booted.
pub(crate) fn started(pid: u32) -> Option<u64> {
    stat(pid, 22)
}

/// The user who logged in, whatever the process has become since; `None` if none did, or the kernel does not know.
pub(crate) fn login_user(pid: u32) -> Option<u32> {
    let user = fs::read_to_string(folder(pid).join("loginuid")).ok()?;
    user.trim().parse().ok().filter(|user| *user != u32::MAX)
}

/// The device number of its controlling terminal, major and minor.
pub(crate) fn terminal(pid: u32) -> Option<(u32, u32)> {
    let device = u32::try_from(stat(pid, 7)?).ok().filter(|device| *device != 0)?;
    Some((device >> 8 & 0xFFF, device & 0xFF | device >> 12 & 0xFFF00))
}

/// Its working directory, as the process sees it.
pub(crate) fn working_directory(pid: u32) -> io::Result<PathBuf> {
    fs::read_link(folder(pid).join("cwd"))
}

/// Up to `most` bytes of the environment that its program began with.
pub(crate) fn environment(pid: u32, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(folder(pid).join("environ"))?
        .take(most)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A field of `stat` after the second one, by its number. The second one, the name in parentheses, may hold
/// anything.
fn stat(pid: u32, field: usize) -> Option<u64> {
    let stat = fs::read(folder(pid).join("stat")).ok()?;
    let behind_name = memchr::memrchr(b')', &stat)? + 1;
    let text = std::str::from_utf8(&stat[behind_name..]).ok()?;
    text.split_ascii_whitespace()
        .nth(field.checked_sub(3)?)?
        .parse()
        .ok()
}

/// A path as the process sees it, as it is seen from here.
pub(crate) fn inside(pid: u32, path: &Path) -> PathBuf {
    let mut root = folder(pid).join("root").into_os_string();
    if !path.is_absolute() {
        root.push("/");
    }
    root.push(path);
    PathBuf::from(root)
}

/// The number of the network namespace of a process.
pub(crate) fn network(pid: u32) -> io::Result<u64> {
    Ok(fs::metadata(folder(pid).join("ns/net"))?.ino())
}

/// A table of the network namespace of a process, such as `tcp6`.
pub(crate) fn network_table(pid: u32, name: &str) -> io::Result<String> {
    fs::read_to_string(folder(pid).join("net").join(name))
}

/// The open files of a process, and what each is called, such as `socket:[7]`; none when it has
/// ended.
pub(crate) fn open_files(pid: u32) -> impl Iterator<Item = (OsString, PathBuf)> {
    let entries = fs::read_dir(folder(pid).join("fd"))
        .into_iter()
        .flatten()
        .flatten();
    entries.filter_map(|entry| Some((entry.file_name(), fs::read_link(entry.path()).ok()?)))
}

/// Returns true if an open file of a process can be read from but not written to: `flags` of
/// `fdinfo` (octal) without a right to write.
pub(crate) fn is_read_only(pid: u32, descriptor: &OsStr) -> bool {
    let information = fs::read_to_string(folder(pid).join("fdinfo").join(descriptor)).unwrap_or_default();
    let flags = information.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & libc::O_ACCMODE == libc::O_RDONLY)
}

fn folder(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}"))
}

fn numbers(folder: &Path) -> impl Iterator<Item = u32> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_is_recognized_in_every_process_that_runs_it() {
        assert!(runs_own_program(std::process::id()));
        let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(!runs_own_program(other.id()));
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn the_program_is_the_file_that_runs() {
        let own = std::env::current_exe().unwrap();
        let program = Program::of(std::process::id()).unwrap();
        assert_eq!(program.name(), own.file_name());
        assert!(!program.is_deleted());
        assert!(Program::of(u32::MAX).is_err(), "there is no such process");
    }

    #[test]
    fn a_deleted_program_keeps_its_name() {
        let program = Program {
            path: PathBuf::from("/usr/bin/curl (deleted)"),
        };
        assert!(program.is_deleted());
        assert_eq!(program.name(), Some(OsStr::new("curl")));
    }

    #[test]
    fn a_path_inside_leads_through_the_root_of_the_process() {
        for path in ["/usr/lib/libssl.so", "usr/lib/libssl.so"] {
            let expected = Path::new("/proc/7/root/usr/lib/libssl.so");
            assert_eq!(inside(7, Path::new(path)), expected);
        }
    }

    #[test]
    fn this_process_is_described() {
        let own = std::process::id();
        assert!(pids().contains(&own) && exists(own) && is_running(own));
        assert!(threads(own).any(|thread| thread == own));
        assert!(has_command_line(own).unwrap());
        assert_eq!(parent(own), Some(std::os::unix::process::parent_id()));
        assert_eq!(user(u32::MAX), None);
    }
}
