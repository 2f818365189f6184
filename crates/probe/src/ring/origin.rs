//! Describes an event's process: the program that it runs, and its container. Each process is looked up once.

use std::collections::HashMap;
use std::sync::Arc;

use ecapture_protocols::{CapturedEvent, Close};

use crate::Tally;
use crate::proc::{Program, container};

/// Maximum number of processes that are remembered. With more, all are forgotten.
const PROCESSES: usize = 16 * 1024;

/// The origins of processes, each looked up when its first event comes, while it most probably still runs.
#[derive(Default)]
pub(crate) struct Origins {
    of_processes: HashMap<u32, Origin>,
}

#[derive(Debug, Clone)]
struct Origin {
    program: Option<Arc<str>>,
    container: Option<Arc<str>>,
}

impl Origins {
    /// Adds program and container to an event, and notes each process with its first event in
    /// `tally`. A process that ends is forgotten, as its number goes to another one; so is one that
    /// executes another program. Returns true for the first event of a process.
    pub(crate) fn complete(&mut self, event: &mut CapturedEvent, tally: &Tally) -> bool {
        let mut is_first = false;
        match event {
            CapturedEvent::Data(data) => {
                let origin = self.of(data.process.pid, |pid| {
                    is_first = true;
                    tally.note_active(pid);
                });
                data.program.clone_from(&origin.program);
                data.container_id.clone_from(&origin.container);
            }
            CapturedEvent::Close {
                close: Close::Process { pid },
                ..
            } => {
                if self.of_processes.remove(pid).is_some() {
                    tally.forget_active(*pid);
                }
            }
            CapturedEvent::Observed(observed) => {
                let origin = self.of(observed.process.pid, |pid| tally.note_active(pid));
                observed.program.clone_from(&origin.program);
                observed.container_id.clone_from(&origin.container);
            }
            CapturedEvent::Close { .. } => {}
        }
        is_first
    }

    fn of(&mut self, pid: u32, hear: impl FnOnce(u32)) -> &Origin {
        if self.of_processes.len() >= PROCESSES && !self.of_processes.contains_key(&pid) {
            self.of_processes.clear();
        }
        self.of_processes.entry(pid).or_insert_with(|| {
            hear(pid);
            Origin {
                program: program(pid),
                container: container::of(pid).map(Arc::from),
            }
        })
    }
}

/// The file name of the program that a process runs.
fn program(pid: u32) -> Option<Arc<str>> {
    let program = Program::of(pid).ok()?;
    Some(Arc::from(program.name()?.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_looked_up_once() {
        let mut origins = Origins::default();
        let mut heard = Vec::new();
        for pid in [std::process::id(), 1, std::process::id()] {
            origins.of(pid, |pid| heard.push(pid));
        }
        assert_eq!(heard, [std::process::id(), 1]);
    }

    #[test]
    fn the_program_is_the_file_that_runs() {
        let own = std::env::current_exe().unwrap();
        assert_eq!(
            program(std::process::id()).as_deref(),
            own.file_name().and_then(|name| name.to_str())
        );
        assert_eq!(program(u32::MAX), None, "there is no such process");
    }
}
