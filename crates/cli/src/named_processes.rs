//! The processes that `--pid` names: their children are pointed out, and the capture ends with the last of them.

use anyhow::{Context as _, Result, bail};
use ecapture_probe::process::{self, Running};
use ecapture_protocols::printable;
use nix::errno::Errno;

use crate::settings::CaptureSettings;

/// Most children that are named.
const NAMED_CHILDREN: usize = 5;

/// The processes, by the names that users see.
pub(crate) struct NamedProcesses(Vec<(String, Running)>);

impl NamedProcesses {
    /// Must come before anything is captured by number.
    pub(crate) fn find(settings: &CaptureSettings) -> Result<Self> {
        let mut processes = Vec::new();
        for pid in &settings.pids {
            match Running::find(*pid) {
                Ok(process) => processes.push((full_name(*pid), process)),
                Err(error) if error.raw_os_error() == Some(Errno::ESRCH as i32) => {
                    bail!("--pid {pid}: no such process; `pgrep -l NAME` finds the id of a running program")
                }
                // A thread that is not its process's first has a number, too.
                Err(error) => {
                    return Err(error).with_context(|| {
                        format!("--pid {pid}: it is not a process; `ps -L` shows the process of a thread")
                    });
                }
            }
        }
        if !settings.follow_children {
            point_out_children(&settings.pids);
        }
        Ok(Self(processes))
    }

    /// Resolves, with what to say, when all have ended; never when none was named.
    pub(crate) async fn ended(&mut self) -> Result<String> {
        if self.0.is_empty() {
            std::future::pending::<()>().await;
        }
        let mut names = Vec::new();
        for (name, process) in self.0.drain(..) {
            process
                .ended()
                .await
                .context("cannot wait for the end of a process")?;
            names.push(name);
        }
        let have = if names.len() == 1 { "has" } else { "have" };
        Ok(format!("{} {have} ended; the capture stops", names.join(", ")))
    }
}

fn point_out_children(pids: &[u32]) {
    let children = process::descendants(pids);
    if children.is_empty() {
        return;
    }
    let named: Vec<_> = children
        .iter()
        .take(NAMED_CHILDREN)
        .map(|pid| full_name(*pid))
        .collect();
    let more = match children.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    tracing::warn!(
        "children of the processes given by --pid are not captured: {}{more}; --follow-children captures them",
        named.join(", ")
    );
}

/// Names and numbers of processes.
pub(crate) fn full_names(pids: &[u32]) -> String {
    pids.iter()
        .map(|pid| full_name(*pid))
        .collect::<Vec<_>>()
        .join(", ")
}

fn full_name(pid: u32) -> String {
    match process::name(pid) {
        Ok(name) => format!("{} ({pid})", printable(&name)),
        Err(_) => format!("process {pid}"),
    }
}
