//! Log lines on their way to standard error or a log target. Nobody who writes one ever waits: a
//! pager that takes no more, or a collector that does not read, costs lines, which are counted and
//! reported when it continues.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::outputs::LogTarget;

/// Bytes of lines that may wait.
const WAITING_BYTES: usize = 1024 * 1024;

enum Task {
    Line(Vec<u8>),
    /// Number of lines left out.
    LeftOut(u64),
    Renew,
    Tend,
}

/// Hands lines to the thread that writes them. Cheap to clone.
#[derive(Clone)]
pub(super) struct LogQueue {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The target is to be renewed before the next line.
    renewal: bool,
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Number of lines that found no room or could not be written since this was last reported.
    dropped: u64,
    /// Lines whose report could not be written either.
    unreported: u64,
    /// A line is being written.
    writing: bool,
}

impl LogQueue {
    /// Writes to `target` on a separate thread. `dropped` makes the line that reports lines that
    /// were left out.
    pub(super) fn start(
        name: &str,
        target: impl LogTarget + 'static,
        dropped: fn(u64) -> String,
    ) -> io::Result<Self> {
        let queue = Self {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                changed: Condvar::new(),
            }),
        };
        let writer = queue.clone();
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || writer.serve(target, dropped))?;
        Ok(queue)
    }

    /// Waits until all lines are written, at most so long if there is a limit.
    pub(super) fn flush(&self, limit: Option<Duration>) {
        let is_busy = |state: &mut State| state.writing || !state.lines.is_empty() || state.dropped > 0;
        let (state, changed) = (self.state(), &self.shared.changed);
        // A poisoned lock has nothing to wait for.
        match limit {
            Some(limit) => drop(changed.wait_timeout_while(state, limit, is_busy)),
            None => drop(changed.wait_while(state, is_busy)),
        }
    }

    fn push(&self, line: &[u8]) {
        let mut state = self.state();
        if state.bytes + line.len() > WAITING_BYTES {
            state.dropped += 1;
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line.to_vec());
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Renews the target, between two lines.
    pub(super) fn renew(&self) {
        self.state().renewal = true;
        self.shared.changed.notify_all();
    }

    fn serve(&self, mut target: impl LogTarget, dropped: fn(u64) -> String) {
        loop {
            match self.next(target.tending_interval()) {
                Task::Line(line) => {
                    // There is nowhere else to report it; the target gets a report when it takes lines again.
                    let lost = u64::from(target.write_line(&line).is_err());
                    self.state().dropped += lost;
                }
                Task::LeftOut(lines) => {
                    if target.write_line(dropped(lines).as_bytes()).is_err() {
                        self.state().unreported += lines;
                    }
                }
                Task::Renew => target.renew(),
                Task::Tend => {
                    // The next line finds out.
                    let _failed = target.tend();
                }
            }
            self.state().writing = false;
            self.shared.changed.notify_all();
        }
    }

    /// Returns what is to be done next. If lines were left out, their report follows the lines that waited.
    fn next(&self, tending: Option<Duration>) -> Task {
        let mut state = self.state();
        loop {
            if mem::take(&mut state.renewal) {
                return Task::Renew;
            }
            if let Some(line) = state.lines.pop_front() {
                state.bytes -= line.len();
                state.writing = true;
                // Worth another try.
                state.dropped += mem::take(&mut state.unreported);
                return Task::Line(line);
            }
            if state.dropped > 0 {
                state.writing = true;
                return Task::LeftOut(mem::take(&mut state.dropped));
            }
            let changed = &self.shared.changed;
            let Some(interval) = tending else {
                state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let waited = changed.wait_timeout(state, interval);
            let (waiting, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            if timeout.timed_out() {
                return Task::Tend;
            }
            state = waiting;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The log's layers write each line at once.
impl Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::outputs::Plain;

    fn dropped(lines: u64) -> String {
        format!("{lines} left out\n")
    }

    #[test]
    fn lines_are_written_in_order() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut queue = LogQueue::start("log", Plain(writer), dropped).unwrap();
        for line in ["one\n", "two\n"] {
            queue.write_all(line.as_bytes()).unwrap();
        }
        queue.flush(None);
        let mut read = [0; 8];
        reader.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"one\ntwo\n");
    }

    #[test]
    fn a_target_that_takes_nothing_makes_nobody_wait() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut queue = LogQueue::start("log", Plain(writer), dropped).unwrap();
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        for _ in 0..2048 {
            queue.write_all(&line).unwrap();
        }
        queue.flush(Some(Duration::ZERO));
        assert!(queue.state().bytes <= WAITING_BYTES);
        let left_out = queue.state().dropped;
        // A pipe takes 64 KiB besides.
        assert!((900..=1024).contains(&left_out), "{left_out}");
        // Once it is read again, it continues, and reports the lines left out.
        let expected = (2048 - usize::try_from(left_out).unwrap()) * line.len();
        let mut read = vec![0; expected];
        reader.read_exact(&mut read).unwrap();
        let told = dropped(left_out);
        let mut last = vec![0; told.len()];
        reader.read_exact(&mut last).unwrap();
        assert_eq!(String::from_utf8(last).unwrap(), told);
    }
}
