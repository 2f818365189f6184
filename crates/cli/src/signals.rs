//! The signals that ask this program to end, or to reopen its files. A separate thread waits for them, so that
//! they are received whatever else is blocked: a log, an output, a file that is being read.

use std::fs::File;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::{SigSet, Signal, raise};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::hang_up;
use crate::telemetry;

/// Time after a second signal at which the program ends, whatever it waits for. It is longer than the run
/// itself takes to give up its output.
const LAST_RESORT: Duration = Duration::from_secs(5);
/// How long the log may take then.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Signals that nobody has looked at yet.
const WAITING: usize = 8;

static LISTENERS: OnceLock<broadcast::Sender<Asked>> = OnceLock::new();
static WAS_ASKED: AtomicBool = AtomicBool::new(false);

/// The request that a signal makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// SIGINT, which a terminal sends to the command that is captured, too.
    Interrupt,
    /// SIGTERM, and SIGHUP if the terminal is gone or there are no files to be opened again.
    Terminate,
}

/// Waits for signals from now on. Until somebody listens, one ends the program at once.
/// Must come before any other thread is started.
pub(crate) fn start() -> Result<()> {
    let mut signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT]);
    // As under nohup(1).
    if !is_ignored(Signal::SIGHUP) {
        signals.add(Signal::SIGHUP);
    }
    let terminal = Terminal::at_start();
    signals.thread_block().context("cannot wait for signals")?;
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || wait(&signals, &terminal))
        .context("cannot wait for signals")?;
    Ok(())
}

/// Lets signals through again, for a program that this one becomes.
pub(crate) fn unblock() {
    let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT, Signal::SIGHUP];
    // It fails for no set of signals.
    let _ = SigSet::from_iter(signals).thread_unblock();
}

/// Returns true if a signal has asked this program to end.
pub(crate) fn was_asked() -> bool {
    WAS_ASKED.load(Ordering::Acquire)
}

/// Receives every signal from now on.
pub(crate) fn listen() -> Listener {
    Listener(listeners().subscribe())
}

/// While one lives, a signal is handed to it instead of ending the program at once.
#[derive(Debug)]
pub(crate) struct Listener(broadcast::Receiver<Asked>);

impl Listener {
    /// The next signal.
    pub(crate) async fn asked(&mut self) -> Asked {
        loop {
            match self.0.recv().await {
                Ok(asked) => return asked,
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}

fn listeners() -> &'static broadcast::Sender<Asked> {
    LISTENERS.get_or_init(|| broadcast::Sender::new(WAITING))
}

fn wait(signals: &SigSet, terminal: &Terminal) {
    let mut times = 0;
    loop {
        let Ok(signal) = signals.wait() else { continue };
        if signal == Signal::SIGHUP && !terminal.is_gone() && hang_up::reopen_files() {
            continue;
        }
        times += 1;
        WAS_ASKED.store(true, Ordering::Release);
        let asked = match signal {
            Signal::SIGQUIT => end(signal),
            Signal::SIGINT => Asked::Interrupt,
            _ => Asked::Terminate,
        };
        if listeners().send(asked).is_err() {
            end(signal);
        }
        if times == 2 {
            // Without the thread, it takes a SIGQUIT.
            let _ = thread::Builder::new().spawn(move || end_at_last(signal));
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a thread of its own, for when the runtime does not answer any more"
)]
fn end_at_last(signal: Signal) -> ! {
    thread::sleep(LAST_RESORT);
    end(signal)
}

/// Ends the program by that signal, after undoing what must not stay.
#[expect(
    clippy::exit,
    clippy::disallowed_methods,
    reason = "it is the end that was asked for twice, or that nobody else receives"
)]
fn end(signal: Signal) -> ! {
    ecapture_probe::restore_grace_periods();
    ecapture_probe::leave_links();
    telemetry::flush(Some(LAST_WORDS));
    let _ = SigSet::from(signal).thread_unblock();
    let _ = raise(signal);
    // It is ignored, as in a background job of a shell script.
    std::process::exit(128 + signal as i32)
}

/// The terminal that controls this program. When it hangs up, the kernel takes it from all its processes before
/// any of them gets the signal.
struct Terminal {
    was_there: bool,
}

impl Terminal {
    fn at_start() -> Self {
        Self {
            was_there: Self::is_there(),
        }
    }

    fn is_gone(&self) -> bool {
        self.was_there && !Self::is_there()
    }

    fn is_there() -> bool {
        File::open("/dev/tty").is_ok()
    }
}

/// Returns true if whoever started this program wants that signal to be ignored (`SigIgn` of
/// `/proc/PID/status`).
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 << (signal as i32 - 1) != 0)
}
