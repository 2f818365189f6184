//! Processes that are not captured: those that the user names, with all that they start, and whoever reads this
//! program's output. What a reader sends over TLS would come back to it as output, for ever.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::path::PathBuf;

use crate::{limits, proc};

/// The excluded processes, and what is known of others.
#[derive(Debug, Default)]
pub(crate) struct Excluded {
    roots: HashSet<u32>,
    pipe: Option<Pipe>,
    /// The processes seen, and whether each is excluded, which is looked up with its first event.
    known: HashMap<u32, bool>,
}

/// A pipe that this program writes to, by the name that the kernel gives it in `/proc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pipe(PathBuf);

impl Excluded {
    pub(crate) fn new(pids: &[u32], pipe: Option<Pipe>) -> Self {
        Self {
            roots: pids.iter().copied().collect(),
            pipe,
            known: HashMap::new(),
        }
    }

    /// Returns true if this process, or one of those that it descends from, is excluded, or reads
    /// the output.
    pub(crate) fn has(&mut self, pid: u32) -> bool {
        if self.roots.is_empty() && self.pipe.is_none() {
            return false;
        }
        if self.known.len() >= limits::EXCLUSIONS_KNOWN {
            self.known.clear();
        }
        let (roots, pipe) = (&self.roots, &self.pipe);
        *self
            .known
            .entry(pid)
            .or_insert_with(|| descends(pid, roots) || pipe.as_ref().is_some_and(|pipe| pipe.is_read_by(pid)))
    }

    /// The process has ended: its number goes to another one.
    pub(crate) fn forget(&mut self, pid: u32) {
        self.known.remove(&pid);
        self.roots.remove(&pid);
    }
}

fn descends(pid: u32, roots: &HashSet<u32>) -> bool {
    let ancestors = std::iter::successors(Some(pid), |pid| proc::parent(*pid));
    !roots.is_empty() && ancestors.take(limits::ANCESTORS).any(|pid| roots.contains(&pid))
}

impl Pipe {
    /// The pipe that `output` is; `None` when it is something else.
    pub fn of(output: BorrowedFd<'_>) -> Option<Self> {
        let name = fs::read_link(format!("/proc/self/fd/{}", output.as_raw_fd())).ok()?;
        let is_pipe = name.as_os_str().as_encoded_bytes().starts_with(b"pipe:[");
        is_pipe.then_some(Self(name))
    }

    /// The other processes that have its reading end now.
    pub fn readers(&self) -> Vec<u32> {
        let mut pids = proc::pids();
        pids.retain(|pid| *pid != std::process::id() && self.is_read_by(*pid));
        pids
    }

    /// A child that a shell's loop starts has the reading end as its own input.
    fn is_read_by(&self, pid: u32) -> bool {
        proc::open_files(pid)
            .filter(|(_, link)| *link == self.0)
            .any(|(descriptor, _)| proc::is_read_only(pid, &descriptor))
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::os::fd::AsFd as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn named_processes_are_excluded_with_their_children_and_readers_alone() {
        let (reader, writer) = io::pipe().unwrap();
        let mut child = Command::new("cat")
            .stdin(reader)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let pipe = Pipe::of(writer.as_fd()).unwrap();
        assert!(pipe.readers().contains(&child.id()), "{pipe:?}");
        let own = std::process::id();
        assert!(Excluded::new(&[], Some(pipe.clone())).has(child.id()));
        assert!(!Excluded::new(&[], Some(pipe)).has(own), "it writes");
        assert!(Excluded::new(&[own], None).has(child.id()), "a child");
        let mut excluded = Excluded::new(&[child.id()], None);
        assert!(excluded.has(child.id()) && !excluded.has(own));
        excluded.forget(child.id());
        assert!(!excluded.has(child.id()));
        assert!(!Excluded::default().has(child.id()));
        drop(writer);
        child.wait().unwrap();
    }
}
