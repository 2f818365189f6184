//! `-- COMMAND`: a child that waits until it is being captured.
//!
//! The child is this program again: it stops itself, is put into the kernel's process filter,
//! is continued, and becomes the command. So its first byte is captured, and a fork needs no `unsafe`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use ecapture_probe::process::Running;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::sync::oneshot;

use crate::args::HELD_COMMAND;
use crate::exit::Exit;

/// Exit codes of shells for a command that cannot be run, POSIX.1 2.8.2.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Where the command's standard output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommandOutput {
    /// Where this program's goes.
    Shared,
    /// To standard error, so that on standard output every line is an event.
    StandardError,
}

/// A child that has been started and waits.
#[derive(Debug)]
pub(crate) struct HeldCommand {
    pid: Pid,
}

impl HeldCommand {
    /// Starts `command`; it does not run before [`Self::release`].
    pub(crate) fn start(command: &[OsString], output: CommandOutput) -> Result<Self> {
        let own_program = std::env::current_exe().context("cannot find this program's own file")?;
        let child = Command::new(own_program)
            .arg(HELD_COMMAND)
            .arg("--")
            .args(command)
            .stdout(match output {
                CommandOutput::Shared => Stdio::inherit(),
                CommandOutput::StandardError => std::io::stderr().into(),
            })
            .spawn()
            .context("cannot start a child process")?;
        let pid = Pid::from_raw(i32::try_from(child.id()).context("process id out of range")?);
        match waitpid(pid, Some(WaitPidFlag::WUNTRACED))? {
            WaitStatus::Stopped(..) => Ok(Self { pid }),
            other => bail!("the child process ended before it could be captured: {other:?}"),
        }
    }

    /// The process id, which stays the command's.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// Lets the command run. The receiver gets how it ended.
    pub(crate) fn release(self) -> Result<oneshot::Receiver<Exit>> {
        kill(self.pid, Signal::SIGCONT).context("cannot continue the child process")?;
        let (sender, receiver) = oneshot::channel();
        let pid = self.pid;
        std::thread::Builder::new()
            .name("wait-command".into())
            .spawn(move || {
                // The receiver is gone when the capture ended before the command did.
                let _ = sender.send(wait(pid));
            })?;
        Ok(receiver)
    }
}

/// Passes a termination request on to the command.
pub(crate) fn terminate(pid: u32) {
    if let Ok(pid) = i32::try_from(pid) {
        // It may have ended by itself in the meantime.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
}

/// Waits for the end alone: the command's stops are those of whoever holds it for a moment.
fn wait(pid: Pid) -> Exit {
    if let Ok(running) = Running::find(pid.as_raw().unsigned_abs()) {
        let mut end = [PollFd::new(running.descriptor(), PollFlags::POLLIN)];
        while poll(&mut end, PollTimeout::NONE) == Err(Errno::EINTR) {}
    }
    loop {
        match waitpid(pid, None) {
            Ok(WaitStatus::Exited(_, code)) => return Exit::Command(u8::try_from(code).unwrap_or(u8::MAX)),
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                return Exit::Command(128u8.saturating_add(u8::try_from(signal as i32).unwrap_or(0)));
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return Exit::Failure,
        }
    }
}

/// The child's side: waits for [`HeldCommand::release`], then becomes `command`.
/// Returns only when that fails.
pub(crate) fn become_command(command: &[OsString]) -> Exit {
    let Some((program, arguments)) = command.split_first() else {
        return Exit::Usage;
    };
    // Nobody else would ever continue it.
    let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
    if let Err(error) = raise(Signal::SIGSTOP) {
        tracing::error!(%error, "cannot wait to be captured");
        return Exit::Failure;
    }
    // The allocator keeps this program free of huge pages; that must not apply to the command.
    let _ = nix::sys::prctl::set_thp_disable(false);
    let _ = nix::sys::prctl::set_pdeathsig(None);
    let error = Command::new(program).args(arguments).exec();
    tracing::error!("cannot run {}: {error}", program.display());
    Exit::Command(if error.kind() == std::io::ErrorKind::NotFound {
        NOT_FOUND
    } else {
        NOT_EXECUTABLE
    })
}
