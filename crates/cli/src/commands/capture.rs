//! From settings to attached probes: the common part of `tls` and `record`.

use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use ecapture_probe::target::Target;
use ecapture_probe::{
    Capture, CaptureConfig, Discovery, Kind, Library, ModuleOptions, Modules, Pipe, Processes,
    can_leave_content_out, descriptors, host, local_time, target,
};
use ecapture_protocols::format::WallClock;
use ecapture_protocols::printable;
use ecapture_protocols::privacy::Level;
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
        report_content(settings, output);
        let named = NamedProcesses::find(settings)?;
        let limit = descriptors::raise();
        let mut capture = Capture::load(&CaptureConfig {
            modules: settings.modules(),
            libraries: libraries(settings)?,
            discovery: discovery(settings.wanted()),
            options: ModuleOptions {
                shell_status: settings.shell_status,
                redaction: settings.redaction,
            },
            processes: processes(settings, output),
            set: settings.pids.clone(),
            excluded: settings.excluded.clone(),
            excluded_readers: own_output(settings),
            uid: settings.uid,
            cgroup: settings.cgroup.clone(),
            hooks: settings.hooks.clone(),
            ring_bytes: settings.ring_bytes,
            facts: output.takes_facts(),
            live: output.listen.is_some(),
            without_content: output.leaves_content_out(),
            packets: settings.packets.clone(),
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

/// Changes the files that the capture is attached to while it runs.
fn change_libraries(
    capture: &Capture,
    settings: &CaptureSettings,
    attached: &Arc<AttachedFiles>,
) -> ChangeLibraries {
    let live = capture.libraries();
    let (attached, wanted) = (Arc::clone(attached), settings.libraries.clone());
    let alone = settings.further.is_empty();
    Box::new(move |files| {
        if !alone {
            bail!("the files of a run with several kinds of capture cannot be changed");
        }
        let live = live
            .as_ref()
            .context("this capture is attached to its libraries for good")?;
        let wanted = Libraries {
            files: files.to_vec(),
            ..wanted.clone()
        };
        let libraries: Vec<_> = named(&wanted)?.into_iter().map(|target| target.library).collect();
        let reports = live.change(&libraries, discovery(std::iter::once(&wanted)))?;
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

/// The number of the only process whose calls any output can show, if its filters say so. Every call of TLS belongs
/// to a session, which is an object of one process, so that nothing that is shown depends on other processes.
pub(crate) fn only_process(settings: &CaptureSettings, output: &OutputSettings) -> Option<u32> {
    let is_alone =
        settings.modules() == Modules::TLS && settings.pids.is_empty() && settings.command.is_empty();
    output.only_process().filter(|pid| is_alone && *pid > 0)
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

/// Says why content is read although no output may show it, if it is.
fn report_content(settings: &CaptureSettings, output: &OutputSettings) {
    if output.privacy.level != Level::Metadata || !settings.modules().have(Modules::TLS) {
        return;
    }
    if let Some(filter) = output.filter_of_content() {
        tracing::warn!(
            "--privacy metadata: bodies are read, counted and overwritten, because the filter `{}` asks for content",
            printable(filter.as_str())
        );
    } else if !can_leave_content_out() {
        tracing::warn!(
            "--privacy metadata: bodies are read, counted and overwritten, because the kernel cannot leave them out \
             before Linux 5.17"
        );
    }
}

fn processes(settings: &CaptureSettings, output: &OutputSettings) -> Processes {
    match settings.pids.as_slice() {
        [] if settings.command.is_empty() => match only_process(settings, output) {
            Some(pid) => {
                tracing::debug!(
                    "pushed into the kernel: only process {pid}, as no output can show another one"
                );
                Processes::Numbered(pid)
            }
            None => Processes::All,
        },
        [] => Processes::Set {
            follow_children: true,
        },
        [pid] if !settings.follow_children => Processes::One(*pid),
        _ => Processes::Set {
            follow_children: settings.follow_children,
        },
    }
}

/// What is attached to when it is executed later. Of kinds whose files are named, nothing else is, unless no kind is
/// left.
fn discovery<'a>(wanted: impl Iterator<Item = &'a Libraries>) -> Discovery {
    let (named, found): (Vec<_>, Vec<_>) = wanted.partition(|wanted| !wanted.files.is_empty());
    match (named.as_slice(), found.as_slice()) {
        (named, []) => Discovery::Paths(named.iter().flat_map(|wanted| wanted.files.clone()).collect()),
        ([], found) if found.iter().all(|wanted| wanted.kinds.is_empty()) => Discovery::Kinds(Vec::new()),
        ([], [only]) => Discovery::Kinds(only.kinds.to_vec()),
        _ => Discovery::Kinds(found.iter().flat_map(|wanted| wanted.all_kinds()).collect()),
    }
}

fn libraries(settings: &CaptureSettings) -> Result<Vec<Library>> {
    let mut targets = Vec::new();
    for wanted in settings.wanted() {
        let named = named(wanted)?;
        let is_missing = |kind: &Kind| !named.iter().any(|target| target.kinds.contains(kind));
        if !named.is_empty() && wanted.also.iter().any(is_missing) {
            let found = target::discover(wanted.module).into_iter();
            let is_also = |target: &Target| target.kinds.iter().any(|kind| wanted.also.contains(kind));
            targets.extend(found.filter(is_also));
        }
        targets.extend(named);
    }
    let found: Vec<_> = settings
        .wanted()
        .filter(|wanted| wanted.files.is_empty())
        .collect();
    if let Some(modules) = found.iter().map(|wanted| wanted.module).reduce(Modules::with) {
        let unnamed = find(settings, modules);
        for wanted in &found {
            if !unnamed.iter().any(|target| wanted.want(&target.kinds)) {
                say_none(settings, wanted);
            }
        }
        let is_wanted = |target: &Target| found.iter().any(|wanted| wanted.want(&target.kinds));
        targets.extend(unnamed.into_iter().filter(is_wanted));
    }
    Ok(targets.into_iter().map(|target| target.library).collect())
}

/// What there is for these modules. What a process loads later is found then.
fn find(settings: &CaptureSettings, modules: Modules) -> Vec<Target> {
    let mut targets = if settings.pids.is_empty() {
        target::discover(modules)
    } else {
        target::of_processes(modules, &settings.pids)
    };
    // A program that is about to be run may carry the functions itself, as node does.
    let program = settings.command.first().and_then(|word| program_file(word));
    targets.extend(program.and_then(|path| target::named(modules, &path).ok()));
    targets
}

fn say_none(settings: &CaptureSettings, wanted: &Libraries) {
    let place = if settings.pids.is_empty() {
        "the loader's cache, the usual directories or running processes"
    } else {
        "these processes"
    };
    tracing::warn!(
        "no {} was found in {place}; waiting for one, or name the file with {}",
        names(wanted),
        wanted.flag
    );
}

/// The files that the user named.
fn named(wanted: &Libraries) -> Result<Vec<Target>> {
    let targets = wanted.files.iter().map(|path| {
        let target = match &wanted.function {
            None => target::named(wanted.module, path),
            Some(function) => target::named_with(wanted.module, path, function),
        }
        .map_err(|error| anyhow!("{}: {error}; give the path of {}", wanted.flag, wanted.example))?;
        if !wanted.want(&target.kinds) {
            bail!(
                "{}: {} has functions of {}, not of {}; `ecapture tls --libssl FILE` captures any of them",
                wanted.flag,
                path.display(),
                kinds(&target.kinds),
                names(wanted)
            );
        }
        Ok(target)
    });
    targets.collect()
}

fn names(wanted: &Libraries) -> String {
    match wanted.kinds {
        [] | [Kind::Bash, ..] => wanted.what.to_owned(),
        several => kinds(several),
    }
}

fn kinds(kinds: &[Kind]) -> String {
    kinds
        .iter()
        .map(Kind::to_string)
        .collect::<Vec<_>>()
        .join(" and ")
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
