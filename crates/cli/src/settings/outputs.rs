//! `-o FORMAT[:TARGET]`, and `--format` and `--eventaddr`, which are short for one of it.

use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use ecapture_actors::{PipelineLimits, SinkPolicy, Tap};
use ecapture_protocols::format::WallClock;
use ecapture_protocols::{Options, View};

use super::limits::{limits, statistics_interval};
use super::listen::ListenSettings;
use super::output_options::{OutputOptions, original_rotation};
use super::unbuilt::refuse_unbuilt_globals;
use crate::args::{FormatName, Frames, GlobalArgs, OnSinkError, When};
use crate::held::CommandOutput;
use crate::outputs::{
    self, FORMATS, Facts, FileClock, FileOptions, Look, Looks, Opening, OutputFormat, Payload, Rotation,
    Target,
};
use crate::usage::UsageError;

/// What `-o` takes.
static EXPECTED: LazyLock<String> = LazyLock::new(|| {
    let names = FORMATS.map(|format| format.name);
    let (last, others) = names.split_last().expect("formats are listed");
    format!(
        "FORMAT[:TARGET] with FORMAT {} or {last}, and TARGET {}, as in `-o text -o jsonl:events.jsonl`",
        others.join(", "),
        outputs::TARGETS
    )
});

/// One output.
#[derive(Debug, Clone)]
pub(crate) struct OutputTarget {
    /// The flag that names it.
    pub(crate) flag: &'static str,
    format: &'static OutputFormat,
    /// Where to.
    pub(crate) target: Target,
    /// What happens when the target fails.
    pub(crate) policy: SinkPolicy,
    /// When its file is rotated.
    rotation: Option<Rotation>,
}

impl OutputTarget {
    /// Reads one value of `-o`.
    fn parse(value: &str, policy: SinkPolicy) -> Result<Self, UsageError> {
        let wrong = || UsageError::Value {
            flag: "-o",
            expected: EXPECTED.as_str(),
            observed: value.into(),
        };
        let (rest, options) = OutputOptions::take(value)?;
        let (name, target) = match rest.split_once(':') {
            Some((name, target)) => (name, Some(target)),
            None => (rest, None),
        };
        let format = OutputFormat::named(name).ok_or_else(wrong)?;
        if target == Some("") {
            return Err(wrong());
        }
        let target = (format.target)("-o", target)?;
        if options.rotation.is_some() && target.path().is_none() {
            return Err(UsageError::Value {
                flag: "-o",
                expected: "a file as the TARGET of rotate-size=, rotate-age= and keep=",
                observed: value.into(),
            });
        }
        Ok(Self {
            flag: "-o",
            format,
            target,
            policy: options.policy.unwrap_or(policy),
            rotation: options.rotation,
        })
    }

    /// Its name for people: the value of `-o` that describes it.
    pub(crate) fn name(&self) -> String {
        let format = self.format.name;
        match self.target.name() {
            None => format.to_owned(),
            Some(target) => format!("{format}:{target}"),
        }
    }

    /// It is read on a terminal.
    fn is_terminal(&self) -> bool {
        self.target.is_standard_output() && std::io::stdout().is_terminal()
    }

    /// Opens its target, in which `beginning` stands first.
    pub(crate) fn open(&self, beginning: Vec<u8>, clock: FileClock) -> anyhow::Result<outputs::OpenTarget> {
        self.target.open(Opening {
            flag: self.flag,
            payload: self.format.payload,
            file: FileOptions {
                replaces: self.format.replaces,
                has_lines: self.format.payload != Payload::Binary,
                beginning,
                rotation: self.rotation,
                clock,
            },
        })
    }
}

/// How and where messages are printed.
#[derive(Debug, Clone)]
pub(crate) struct OutputSettings {
    /// At least one.
    pub(crate) outputs: Vec<OutputTarget>,
    /// `None`: what the format shows unless asked.
    pub(crate) frames: Option<Frames>,
    /// No message in parts.
    pub(crate) whole: bool,
    /// `--hex`.
    pub(crate) hex: bool,
    /// `--time`.
    time: bool,
    /// `--tsize`, `None` when off.
    pub(crate) truncate: Option<usize>,
    color: When,
    /// `--debug`: the text format prints facts about processes, too.
    debug: bool,
    /// Exit with code 3 after any loss.
    pub(crate) fail_on_loss: bool,
    /// Memory of the pipeline, Workers, and bytes per connection.
    pub(crate) limits: PipelineLimits,
    /// `--stats`.
    pub(crate) statistics_interval: Option<Duration>,
    /// `--listen`.
    pub(crate) listen: Option<ListenSettings>,
    /// What tells the age of files that are rotated.
    pub(crate) file_clock: FileClock,
}

impl OutputSettings {
    /// Resolves the global flags.
    pub(crate) fn resolve(global: &GlobalArgs) -> Result<Self, UsageError> {
        refuse_unbuilt_globals(global)?;
        let outputs = outputs(global)?;
        refuse_shared(&outputs)?;
        if global.hex && !outputs.iter().any(|output| output.format.has_text) {
            return Err(UsageError::Value {
                flag: "--hex",
                expected: "the text or protobuf format (JSON Lines carries binary as base64)",
                observed: outputs
                    .iter()
                    .map(OutputTarget::name)
                    .collect::<Vec<_>>()
                    .join(", "),
            });
        }
        Ok(Self {
            outputs,
            frames: global.frames,
            whole: global.whole,
            hex: global.hex,
            time: global.time,
            truncate: usize::try_from(global.tsize).ok().filter(|&bytes| bytes > 0),
            color: global.color,
            debug: global.debug,
            fail_on_loss: global.fail_on_loss,
            limits: limits(global)?,
            statistics_interval: statistics_interval(global)?,
            listen: ListenSettings::resolve(&global.listening)?,
            file_clock: FileClock::default(),
        })
    }

    /// The same with one output: a recording in `file`.
    pub(crate) fn recording(&self, file: &Path) -> Self {
        let recording = OutputTarget {
            flag: "record",
            format: &outputs::RECORDING,
            target: Target::file(file),
            policy: SinkPolicy::Stop,
            rotation: None,
        };
        Self {
            outputs: vec![recording],
            ..self.clone()
        }
    }

    /// Whether an output takes facts about processes.
    pub(crate) fn takes_facts(&self) -> bool {
        self.outputs.iter().any(|output| match output.format.facts {
            Facts::Never => false,
            Facts::Debug => self.debug,
            Facts::Always => true,
        })
    }

    /// What an output gets; `clock` turns kernel time into wall-clock time.
    /// With `looks` it may change.
    pub(crate) fn tap(&self, output: &OutputTarget, clock: WallClock, looks: Option<&Looks>) -> Tap {
        let look = self.look(output, clock);
        match looks {
            Some(looks) => looks.tap(output.format, look),
            None => (output.format.tap)(&look),
        }
    }

    fn look(&self, output: &OutputTarget, clock: WallClock) -> Look {
        let terminal = output.is_terminal();
        Look {
            hex: self.hex,
            truncate: self.truncate,
            http2_messages: self.frames == Some(Frames::Messages),
            facts: self.debug,
            all_frames: self.frames == Some(Frames::All),
            terminal,
            color: use_color(self.color, terminal),
            time: self.time,
            messages: output.target.keeps_records_apart(),
            clock,
        }
    }

    /// For a report of its own: JSON Lines instead of text.
    pub(crate) fn is_json(&self) -> bool {
        self.outputs
            .first()
            .is_some_and(|output| output.format.is(&outputs::JSON_LINES))
    }

    /// Where the output of `-- COMMAND` goes: messages share standard output with nothing.
    pub(crate) fn command_output(&self) -> CommandOutput {
        if self
            .outputs
            .iter()
            .any(|output| output.target.is_standard_output())
        {
            CommandOutput::StandardError
        } else {
            CommandOutput::Shared
        }
    }

    /// How the decoders of one view are set up.
    pub(crate) fn decoder_options(&self, view: View) -> Options {
        Options {
            view,
            parts: !self.whole,
            ..Options::default()
        }
    }
}

/// Where the log goes beside standard error: to the target of `--logaddr`, and to eCaptureQ clients.
pub(crate) fn log_targets(global: &GlobalArgs) -> Result<Vec<Target>, UsageError> {
    let mut targets = Vec::new();
    if let Some(value) = &global.logaddr {
        targets.push(Target::parse("--logaddr", value)?);
    }
    let is_served = |output: &String| output.split(':').next() == Some(outputs::ECAPTUREQ.name);
    if global.ecaptureq.is_some() || global.output.iter().any(is_served) {
        targets.push(Target::served_logs());
    }
    Ok(targets)
}

fn outputs(global: &GlobalArgs) -> Result<Vec<OutputTarget>, UsageError> {
    let policy = match global.on_sink_error {
        OnSinkError::Stop => SinkPolicy::Stop,
        OnSinkError::Drop => SinkPolicy::Drop,
        OnSinkError::Retry => SinkPolicy::Retry,
    };
    let mut outputs = printed_outputs(global, policy)?;
    if let Some(address) = &global.ecaptureq {
        outputs.push(OutputTarget {
            flag: "--ecaptureq",
            format: &outputs::ECAPTUREQ,
            target: Target::served("--ecaptureq", address)?,
            policy,
            rotation: None,
        });
    }
    Ok(outputs)
}

/// Those of `-o`, or of the flags that are short for one.
fn printed_outputs(global: &GlobalArgs, policy: SinkPolicy) -> Result<Vec<OutputTarget>, UsageError> {
    let rotation = rotation_of_eventaddr(global)?;
    if global.output.is_empty() {
        return Ok(vec![OutputTarget {
            flag: "--eventaddr",
            format: match global.format.unwrap_or(FormatName::Text) {
                FormatName::Text => &outputs::TEXT,
                FormatName::Original => &outputs::ORIGINAL,
                FormatName::Jsonl => &outputs::JSON_LINES,
            },
            target: match &global.eventaddr {
                Some(value) => Target::parse("--eventaddr", value)?,
                None => Target::standard_output(),
            },
            policy,
            rotation,
        }]);
    }
    let both = |flag, instead: &str| UsageError::Outputs {
        flag,
        problem: "it is short for one output and cannot be combined with -o".to_owned(),
        instead: instead.to_owned(),
    };
    if global.format.is_some() {
        return Err(both("--format", "leave it out: each -o names its format"));
    }
    if global.eventaddr.is_some() {
        return Err(both("--eventaddr", "write `-o FORMAT:TARGET` instead"));
    }
    global
        .output
        .iter()
        .map(|value| OutputTarget::parse(value, policy))
        .collect()
}

/// The rotation that the original's flags ask for.
fn rotation_of_eventaddr(global: &GlobalArgs) -> Result<Option<Rotation>, UsageError> {
    let rotation = original_rotation(global);
    let target = global
        .eventaddr
        .as_ref()
        .map(|value| Target::parse("--eventaddr", value));
    let is_to_file = matches!(&target, Some(Ok(target)) if target.path().is_some());
    if rotation.is_none() || is_to_file {
        return Ok(rotation);
    }
    Err(UsageError::Outputs {
        flag: "--eventroratesize, --eventroratetime",
        problem: "they rotate the file of --eventaddr, and there is none".to_owned(),
        instead: "add `--eventaddr FILE`, or write `-o FORMAT:FILE,rotate-size=100M,rotate-age=1h`"
            .to_owned(),
    })
}

/// Two outputs would mix what they write.
fn refuse_shared(outputs: &[OutputTarget]) -> Result<(), UsageError> {
    for (number, output) in outputs.iter().enumerate() {
        let is_device = |path: &Path| path.exists() && !path.is_file();
        if output.target.path().is_some_and(is_device) {
            continue;
        }
        let other = outputs[..number]
            .iter()
            .find(|other| other.target == output.target);
        if let Some(other) = other {
            return Err(UsageError::Outputs {
                flag: "-o",
                problem: format!("{} and {} go to the same place", other.name(), output.name()),
                instead: "give each a file of its own, as in `-o text -o jsonl:events.jsonl`".to_owned(),
            });
        }
    }
    Ok(())
}

fn use_color(when: When, terminal: bool) -> bool {
    match when {
        When::Always => true,
        When::Never => false,
        When::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> Result<(String, SinkPolicy), String> {
        OutputTarget::parse(value, SinkPolicy::Stop)
            .map(|output| (output.name(), output.policy))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn outputs_are_a_format_a_target_and_a_policy() {
        for (value, name, policy) in [
            ("text", "text", SinkPolicy::Stop),
            ("text:-", "text", SinkPolicy::Stop),
            ("jsonl:a,b.jsonl", "jsonl:a,b.jsonl", SinkPolicy::Stop),
            ("jsonl:tcp://h:1/", "jsonl:tcp://h:1", SinkPolicy::Stop),
            ("recording:/a:b,on-error=drop", "recording:/a:b", SinkPolicy::Drop),
            ("text,on-error=retry", "text", SinkPolicy::Retry),
        ] {
            assert_eq!(parse(value), Ok((name.to_owned(), policy)), "{value}");
        }
    }

    #[test]
    fn wrong_outputs_name_the_right_form() {
        for (value, part) in [
            ("", "FORMAT[:TARGET]"),
            (
                "events.jsonl",
                "text, original, jsonl, protobuf, recording or ecaptureq",
            ),
            ("xml:f", "text, original, jsonl, protobuf, recording or ecaptureq"),
            ("text:", "FORMAT[:TARGET]"),
            ("text:tcp://h", "tcp://HOST:PORT"),
            ("text:ws://", "ws://HOST"),
            ("text:f,on-eror=drop", "on-error=drop"),
            ("text:f,on-error=wait", "on-error=retry"),
            ("text,rotate-size=1M", "a file"),
            ("text:tcp://h:1,rotate-age=1h", "a file"),
        ] {
            let error = parse(value).unwrap_err();
            assert!(error.contains(part), "{value}: {error}");
        }
    }
}
