//! Holds processes of the captured tree from the moment they begin to execute an unknown file until it is
//! attached to: what they send first is captured, too.
//!
//! A process is stopped as by a debugger that attaches to it (`ptrace(2)`, `PTRACE_SEIZE` and
//! `PTRACE_INTERRUPT`). Unlike SIGSTOP, neither the process nor its parent notices: a shell or sudo would take
//! its child for suspended. When this program ends, however it does, the kernel lets the processes go on. One
//! that has a debugger already is not held.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::limits;
use crate::proc;
use crate::proc::priority::Thread;

/// Interval at which a process that is to continue and has not come to its stop yet is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

enum Order {
    Hold(u32),
    Release(u32),
}

/// Holds processes on request of other threads. A debugger is a thread, so one does it all.
#[derive(Clone)]
pub(super) struct Holder(Sender<Order>);

/// While one lives, its process is held.
pub(super) struct Held {
    holder: Holder,
    pid: u32,
}

impl Holder {
    /// A holder, and the work of its thread, which ends with the last holder.
    pub(super) fn new() -> (Self, impl FnOnce() + Send) {
        let (sender, orders) = channel();
        let work = move || {
            // A process that is to be held runs until this thread does.
            Thread::CURRENT.run_at_once();
            Debugger::default().work(&orders);
        };
        (Self(sender), work)
    }

    pub(super) fn hold(&self, pid: u32) -> Held {
        // Without its thread nobody is held.
        let _ended = self.0.send(Order::Hold(pid));
        Held {
            holder: self.clone(),
            pid,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ended = self.holder.0.send(Order::Release(self.pid));
    }
}

#[derive(Default)]
struct Debugger {
    /// Threads of each process, and for how many files it is held.
    held: HashMap<u32, (Vec<libc::pid_t>, usize)>,
    /// Threads that are to continue once they have stopped.
    going_on: Vec<libc::pid_t>,
}

impl Debugger {
    fn work(mut self, orders: &Receiver<Order>) {
        loop {
            let order = if self.going_on.is_empty() {
                orders.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                orders.recv_timeout(LOOK_AGAIN)
            };
            match order {
                Ok(Order::Hold(pid)) => self.hold(pid),
                Ok(Order::Release(pid)) => self.release(pid),
                Err(RecvTimeoutError::Timeout) => {}
                // The kernel lets all go that are held by a thread that ends.
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.going_on.retain(|thread| !go_on(*thread));
        }
    }

    fn hold(&mut self, pid: u32) {
        let (_, files) = self.held.entry(pid).or_insert_with(|| (stop(pid), 0));
        *files += 1;
    }

    fn release(&mut self, pid: u32) {
        if let Some((_, files)) = self.held.get_mut(&pid) {
            *files -= 1;
            if *files == 0
                && let Some((threads, _)) = self.held.remove(&pid)
            {
                self.going_on.extend(threads);
            }
        }
    }
}

/// Stops the threads of a process. A program that has just begun has one.
fn stop(pid: u32) -> Vec<libc::pid_t> {
    let first = libc::pid_t::try_from(pid).unwrap_or(0);
    let mut stopped = Vec::from_iter(seize(first).then_some(first));
    let threads = proc::threads(pid).filter_map(|thread| libc::pid_t::try_from(thread).ok());
    let others = threads
        .filter(|thread| *thread != first)
        .take(limits::HELD_THREADS);
    stopped.extend(others.filter(|thread| seize(*thread)));
    stopped
}

fn seize(thread: libc::pid_t) -> bool {
    // SAFETY: these requests take no pointers; a thread that has ended or has a debugger is an error.
    #[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
    unsafe {
        let seized = libc::ptrace(libc::PTRACE_SEIZE, thread, 0usize, 0usize) == 0;
        if seized {
            libc::ptrace(libc::PTRACE_INTERRUPT, thread, 0usize, 0usize);
        }
        seized
    }
}

/// Lets a thread continue. Returns false if it has not stopped yet.
fn go_on(thread: libc::pid_t) -> bool {
    let Some((code, status)) = state(thread) else {
        return false;
    };
    if code != libc::CLD_TRAPPED && code != libc::CLD_STOPPED {
        reap(thread);
        return true;
    }
    // The low byte of a stop is the signal: one that was sent to the process is passed on to it.
    let signal = if status >> 8 == 0 { status & 0xFF } else { 0 };
    // SAFETY: this request takes no pointers.
    #[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
    unsafe {
        libc::ptrace(
            libc::PTRACE_DETACH,
            thread,
            0usize,
            usize::try_from(signal).unwrap_or(0),
        ) == 0
    }
}

/// How a held thread stopped or ended (`si_code` and `si_status` of `waitid(2)`), which stays to be waited for.
/// `None` when it runs.
fn state(thread: libc::pid_t) -> Option<(libc::c_int, libc::c_int)> {
    let options =
        libc::WSTOPPED | libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL | libc::__WNOTHREAD;
    // SAFETY: all zeros is a valid value, which means that nothing happened; the call fills it in.
    #[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
    let (result, info) = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let id = libc::id_t::try_from(thread).unwrap_or(0);
        (libc::waitid(libc::P_PID, id, &raw mut info, options), info)
    };
    if result != 0 {
        // Somebody has waited for its end.
        return Some((libc::CLD_EXITED, 0));
    }
    // SAFETY: the call has filled in the fields of a child, or left zeros.
    #[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    (pid != 0).then_some((info.si_code, status))
}

/// Passes the end of a held thread on to its parent. A child of this process is left to whoever waits for it.
fn reap(thread: libc::pid_t) {
    let is_own = u32::try_from(thread)
        .ok()
        .and_then(proc::parent)
        .is_none_or(|parent| parent == std::process::id());
    if is_own {
        return;
    }
    // SAFETY: a null pointer means that the status is of no interest.
    #[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
    unsafe {
        libc::waitpid(
            thread,
            std::ptr::null_mut(),
            libc::WNOHANG | libc::__WALL | libc::__WNOTHREAD,
        );
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::process::{Command, Stdio};

    use super::*;

    fn state_of(pid: u32) -> char {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let state = stat.rsplit_once(") ").unwrap().1;
        state.chars().next().unwrap()
    }

    #[test]
    fn a_process_stands_still_until_all_have_released_it() {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut input = child.stdin.take().unwrap();
        let mut line = String::new();
        input.write_all(b"before\n").unwrap();
        output.read_line(&mut line).unwrap();
        let (holder, work) = Holder::new();
        let debugger = std::thread::spawn(work);
        let (first, second) = (holder.hold(child.id()), holder.hold(child.id()));
        while state_of(child.id()) != 't' {
            std::thread::yield_now();
        }
        drop(first);
        // Orders are carried out in turn: by the time this process is held, the release was seen.
        let mut other = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let third = holder.hold(other.id());
        while state_of(other.id()) != 't' {
            std::thread::yield_now();
        }
        assert_eq!(state_of(child.id()), 't');
        drop(second);
        input.write_all(b"after\n").unwrap();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "before\nafter\n");
        // What ends the thread lets everybody go.
        std::mem::forget(third);
        drop(input);
        assert!(child.wait().unwrap().success());
        other.kill().unwrap();
        assert!(!other.wait().unwrap().success());
        drop(debugger);
    }

    #[test]
    fn a_held_child_that_is_killed_is_left_to_its_parent() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let (holder, work) = Holder::new();
        let debugger = std::thread::spawn(work);
        let held = holder.hold(child.id());
        while state_of(child.id()) != 't' {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        while state_of(child.id()) != 'Z' {
            std::thread::yield_now();
        }
        drop((held, holder));
        debugger.join().unwrap();
        assert!(!child.wait().unwrap().success());
    }
}
