//! Running processes: which ones a name means, whose children they are, and when they end.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Program;

/// The name of a process (`/proc/PID/comm`).
pub fn name(pid: u32) -> io::Result<String> {
    super::command(pid)
}

/// The processes that run now whose name, or whose program's file name, is `name`; not this one.
pub fn named(name: &str) -> Vec<u32> {
    let is_named = |pid: &u32| {
        let runs_file = Program::of(*pid).is_ok_and(|program| program.name() == Some(OsStr::new(name)));
        runs_file || super::command(*pid).is_ok_and(|command| command == name)
    };
    let mut pids = super::pids();
    pids.retain(|pid| *pid != std::process::id() && is_named(pid));
    pids
}

/// The children of these processes, their children, and so on, as they run now; without the processes
/// themselves.
pub fn descendants(pids: &[u32]) -> BTreeSet<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for pid in super::pids() {
        if let Some(parent) = super::parent(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = BTreeSet::new();
    let mut parents = pids.to_vec();
    while let Some(parent) = parents.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            if !pids.contains(&child) && found.insert(child) {
                parents.push(child);
            }
        }
    }
    found
}

/// A process by its descriptor (`pidfd_open(2)`): a later process with the same number is another one.
#[derive(Debug)]
pub struct Running(OwnedFd);

impl Running {
    /// The process that has this number now. An error also for a thread that is not the first of its process.
    pub fn find(pid: u32) -> io::Result<Self> {
        // SAFETY: it takes plain numbers; a descriptor that it returns is new and nobody else's.
        #[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
        unsafe {
            match libc::syscall(libc::SYS_pidfd_open, pid, 0) {
                -1 => Err(io::Error::last_os_error()),
                descriptor => {
                    let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
                    Ok(Self(OwnedFd::from_raw_fd(descriptor)))
                }
            }
        }
    }

    /// Becomes readable when it has ended.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Resolves when it has ended. Must be polled inside a tokio runtime with I/O enabled.
    pub async fn ended(self) -> io::Result<()> {
        // SAFETY: the descriptor is owned and neither closed nor replaced while it is registered.
        #[expect(unsafe_code, reason = "tokio asks for this promise about the descriptor")]
        let registered = unsafe { AsyncFd::register_with_interest(self.0, Interest::READABLE) };
        registered?.readable().await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn children_and_names_are_found() {
        let mut command = Command::new("sh");
        command
            .args(["-c", "cat; true"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut shell = command.spawn().unwrap();
        let own = std::process::id();
        // The shell may not have started its child yet.
        let child = loop {
            let found = descendants(&[shell.id()]);
            if let Some(child) = found
                .into_iter()
                .find(|pid| name(*pid).is_ok_and(|name| name == "cat"))
            {
                break child;
            }
            std::thread::yield_now();
        };
        assert!(descendants(&[own]).contains(&child));
        assert!(!descendants(&[own]).contains(&own));
        assert!(named("cat").contains(&child));
        assert!(!named("ca").contains(&child));
        drop(shell.stdin.take());
        shell.wait().unwrap();
        assert!(Running::find(shell.id()).is_err());
    }

    #[test]
    fn the_end_of_a_process_is_noticed() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let running = Running::find(child.id()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .unwrap();
        drop(child.stdin.take());
        runtime.block_on(running.ended()).unwrap();
        assert!(child.wait().unwrap().success());
    }
}
