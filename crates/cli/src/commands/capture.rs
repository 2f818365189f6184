//! From settings to attached probes: what `tls` and `record` have in common.

use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use ecapture_probe::target::Target;
use ecapture_probe::{
    Capture, CaptureConfig, Discovery, Kind, Library, Modules, Pipe, Processes, descriptors, host,
    local_time, target,
};
use ecapture_protocols::format::WallClock;
use nix::time::{ClockId, clock_gettime};

use crate::held::HeldCommand;
use crate::listen::{Attached, AttachedFiles, ChangeLibraries};
use crate::named_processes::{NamedProcesses, full_names};
use crate::report;
use crate::settings::{CaptureSettings, Libraries, OutputSettings};
use crate::stop::StopConditions;

/// Probes that capture, and the command that waits for them.
pub(crate) struct Prepared {
    pub(crate) capture: Capture,
    attached: Attached,
    command: Option<HeldCommand>,
    named: NamedProcesses,
}

impl Prepared {
    /// Checks the host, finds the libraries, attaches, and starts the command, which does not run yet.
    pub(crate) fn new(settings: &CaptureSettings, output: &OutputSettings) -> Result<Self> {
        host::check()?;
        check_process_numbers(settings)?;
        let named = NamedProcesses::find(settings)?;
        let limit = descriptors::raise();
        let mut capture = Capture::load(&CaptureConfig {
            libraries: libraries(settings)?,
            discovery: discovery(&settings.libraries),
            processes: processes(settings),
            set: settings.pids.clone(),
            excluded: settings.excluded.clone(),
            excluded_readers: own_output(settings),
            uid: settings.uid,
            cgroup: settings.cgroup.clone(),
            hooks: settings.hooks.clone(),
            ring_bytes: settings.ring_bytes,
            facts: output.takes_facts(),
            live: output.listen.is_some(),
            ..CaptureConfig::default()
        })?;
        report::attached::refused(capture.refused());
        report::attached::at_start(capture.attached());
        let attached = Arc::new(AttachedFiles::default());
        attached.add(capture.attached());
        let listed = Arc::clone(&attached);
        capture.discover(move |found| {
            listed.discovered(&found);
            report::attached::discovered(&found);
        })?;
        let command = match settings.command.as_slice() {
            [] => None,
            words => {
                let command = HeldCommand::start(words, output.command_output())?;
                if let Some(limit) = limit {
                    limit.give(command.pid());
                }
                capture.handle().add_pid(command.pid())?;
                Some(command)
            }
        };
        Ok(Self {
            attached: Attached {
                change: change_libraries(&capture, settings, &attached),
                files: attached,
            },
            capture,
            command,
            named,
        })
    }

    /// Lets the command run, if there is one, and splits off what a run needs besides the events.
    pub(crate) fn release(self) -> Result<(Capture, StopConditions, Attached)> {
        let command_pid = self.command.as_ref().map(HeldCommand::pid);
        let command_ended = self.command.map(HeldCommand::release).transpose()?;
        let conditions = StopConditions {
            capture: self.capture.handle(),
            command_pid,
            command_ended,
            named: self.named,
        };
        Ok((self.capture, conditions, self.attached))
    }
}

/// Changes what the capture is attached to while it runs.
fn change_libraries(
    capture: &Capture,
    settings: &CaptureSettings,
    attached: &Arc<AttachedFiles>,
) -> ChangeLibraries {
    let live = capture.libraries();
    let (attached, wanted) = (Arc::clone(attached), settings.libraries.clone());
    Box::new(move |files| {
        let live = live
            .as_ref()
            .context("this capture is attached to its libraries for good")?;
        let wanted = Libraries {
            files: files.to_vec(),
            ..wanted.clone()
        };
        let libraries: Vec<_> = named(&wanted)?.into_iter().map(|target| target.library).collect();
        let reports = live.change(&libraries, discovery(&wanted))?;
        if !libraries.is_empty() {
            let kept = libraries.iter().map(|library| library.path().to_owned());
            attached.keep(&kept.collect::<Vec<_>>());
        }
        attached.add(&reports);
        report::attached::at_start(&reports);
        Ok(())
    })
}

/// The pipe whose readers are not captured with the rest of the host.
fn own_output(settings: &CaptureSettings) -> Option<Pipe> {
    if !settings.pids.is_empty() || !settings.command.is_empty() {
        return None;
    }
    let pipe = Pipe::of(std::io::stdout().as_fd())?;
    let readers = pipe.readers();
    if !readers.is_empty() {
        tracing::info!(
            "not captured, because they read this output: {}",
            full_names(&readers)
        );
    }
    Some(pipe)
}

/// Where the numbers of processes differ from the kernel's, those of a user's would mean other processes.
fn check_process_numbers(settings: &CaptureSettings) -> Result<()> {
    let by_number = !settings.pids.is_empty() || !settings.command.is_empty();
    match host::check_process_numbers() {
        Err(problem) if by_number => bail!("PID namespace: {problem}"),
        Err(problem) => tracing::warn!("PID namespace: {problem}"),
        Ok(()) => {}
    }
    Ok(())
}

fn processes(settings: &CaptureSettings) -> Processes {
    match settings.pids.as_slice() {
        [] if settings.command.is_empty() => Processes::All,
        [] => Processes::Set {
            follow_children: true,
        },
        [pid] if !settings.follow_children => Processes::One(*pid),
        _ => Processes::Set {
            follow_children: settings.follow_children,
        },
    }
}

/// What is attached to when it is executed later.
fn discovery(wanted: &Libraries) -> Discovery {
    match wanted.files.as_slice() {
        [] => Discovery::Kinds(wanted.kinds.to_vec()),
        files => Discovery::Paths(files.to_vec()),
    }
}

fn libraries(settings: &CaptureSettings) -> Result<Vec<Library>> {
    let wanted = &settings.libraries;
    let mut targets = named(wanted)?;
    if targets.is_empty() {
        // What the process loads later is found then.
        targets = if settings.pids.is_empty() {
            target::discover(Modules::TLS)
        } else {
            target::of_processes(Modules::TLS, &settings.pids)
        };
        // A program that is about to be run may carry the functions itself, as node does.
        let program = settings.command.first().and_then(|word| program_file(word));
        targets.extend(program.and_then(|path| target::named(Modules::TLS, &path).ok()));
        targets.retain(|target| wanted.want(&target.kinds));
    } else if wanted.kinds.contains(&Kind::Nss) {
        // NSPR alone does not show which of its descriptors are TLS.
        let found = target::discover(Modules::TLS).into_iter();
        targets.extend(found.filter(|target| target.kinds.contains(&Kind::Nss)));
    }
    if targets.is_empty() {
        let place = if settings.pids.is_empty() {
            "the loader's cache, the usual directories or running processes"
        } else {
            "these processes"
        };
        tracing::warn!(
            "no {} was found in {place}; waiting for one, or name the file with {}",
            names(wanted.kinds),
            wanted.flag
        );
    }
    Ok(targets.into_iter().map(|target| target.library).collect())
}

/// The files that the user named.
fn named(wanted: &Libraries) -> Result<Vec<Target>> {
    let targets = wanted.files.iter().map(|path| {
        let target = target::named(Modules::TLS, path)
            .map_err(|error| anyhow!("{}: {error}; give the path of {}", wanted.flag, wanted.example))?;
        if !wanted.want(&target.kinds) {
            bail!(
                "{}: {} has functions of {}, not of {}; `ecapture tls --libssl FILE` captures any of them",
                wanted.flag,
                path.display(),
                names(&target.kinds),
                names(wanted.kinds)
            );
        }
        Ok(target)
    });
    targets.collect()
}

fn names(kinds: &[Kind]) -> String {
    match kinds {
        [] => "TLS library".to_owned(),
        kinds => kinds
            .iter()
            .map(Kind::to_string)
            .collect::<Vec<_>>()
            .join(" and "),
    }
}

/// The file that runs when `word` is executed.
fn program_file(word: &std::ffi::OsStr) -> Option<PathBuf> {
    let path = PathBuf::from(word);
    if path.components().count() > 1 {
        return Some(path);
    }
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders)
        .map(|folder| folder.join(&path))
        .find(|file| file.is_file())
}

/// The wall clock, as the kernel's clock of events is turned into it.
pub(crate) fn wall_clock() -> Result<WallClock> {
    let nanoseconds = |clock| -> Result<i64> {
        let time = clock_gettime(clock)?;
        Ok(time.tv_sec() * 1_000_000_000 + time.tv_nsec())
    };
    let both = || -> Result<WallClock> {
        let now = nanoseconds(ClockId::CLOCK_REALTIME)?;
        Ok(WallClock {
            offset_ns: Some(now - nanoseconds(ClockId::CLOCK_MONOTONIC)?),
            utc_offset_s: local_time::utc_offset_s(now / 1_000_000_000),
        })
    };
    both().context("the clocks cannot be read")
}
