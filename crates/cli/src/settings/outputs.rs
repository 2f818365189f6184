//! `-o FORMAT[:TARGET]`, and `--format` and `--eventaddr`, which are short for one of it.

use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ecapture_actors::{PipelineLimits, SinkPolicy, Tap};
use ecapture_protocols::format::protobuf::Framing;
use ecapture_protocols::format::{Heading, JsonLines, Protobuf, Text, WallClock};
use ecapture_protocols::recording::line::Recorder;
use ecapture_protocols::{Options, View};

use super::limits::{limits, statistics_interval};
use super::target::Target;
use super::unbuilt::refuse_unbuilt_globals;
use crate::args::{FormatName, Frames, GlobalArgs, OnSinkError, When};
use crate::ecaptureq;
use crate::held::CommandOutput;
use crate::usage::UsageError;

/// What an output is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OutputFormat {
    Text,
    Original,
    Jsonl,
    Protobuf,
    Recording,
    Ecaptureq,
}

impl OutputFormat {
    /// Whether its records hold text, which `--hex` dumps.
    fn has_text(self) -> bool {
        match self {
            Self::Text | Self::Original | Self::Protobuf | Self::Ecaptureq => true,
            Self::Jsonl | Self::Recording => false,
        }
    }
}

/// The formats of `-o` by their names.
const FORMATS: [(&str, OutputFormat); 6] = [
    ("text", OutputFormat::Text),
    ("original", OutputFormat::Original),
    ("jsonl", OutputFormat::Jsonl),
    ("protobuf", OutputFormat::Protobuf),
    ("recording", OutputFormat::Recording),
    ("ecaptureq", OutputFormat::Ecaptureq),
];

const EXPECTED: &str = "FORMAT[:TARGET] with FORMAT text, original, jsonl, protobuf, recording or ecaptureq, and TARGET a file or tcp://HOST:PORT, as in \
                        `-o text -o jsonl:events.jsonl`";

/// One output.
#[derive(Debug, Clone)]
pub(crate) struct OutputTarget {
    /// The flag that names it.
    pub(crate) flag: &'static str,
    format: OutputFormat,
    /// Where to.
    pub(crate) target: Target,
    /// What happens when the target fails.
    pub(crate) policy: SinkPolicy,
}

impl OutputTarget {
    /// Reads one value of `-o`.
    fn parse(value: &str, policy: SinkPolicy) -> Result<Self, UsageError> {
        let wrong = || UsageError::Value {
            flag: "-o",
            expected: EXPECTED,
            observed: value.into(),
        };
        let (value, policy) = take_policy(value, policy)?;
        let (name, target) = match value.split_once(':') {
            Some((name, target)) => (name, Some(target)),
            None => (value, None),
        };
        let &(_, format) = FORMATS
            .iter()
            .find(|(known, _)| *known == name)
            .ok_or_else(wrong)?;
        let target = match target {
            target if format == OutputFormat::Ecaptureq => {
                Target::parse_ecaptureq("-o", target.unwrap_or_default())?
            }
            None | Some("-") => Target::StandardOutput,
            Some("") => return Err(wrong()),
            Some(target) => Target::parse("-o", target)?,
        };
        Ok(Self {
            flag: "-o",
            format,
            target,
            policy,
        })
    }

    /// Its name for people: the value of `-o` that stands for it.
    pub(crate) fn name(&self) -> String {
        let format = FORMATS.iter().find(|(_, format)| *format == self.format);
        let format = format.map_or("", |(name, _)| name);
        match &self.target {
            Target::StandardOutput => format.to_owned(),
            Target::File(path) => format!("{format}:{}", path.display()),
            Target::Tcp(address) => format!("{format}:tcp://{address}"),
            Target::Ecaptureq(address) => format!("{format}:ws://{address}/"),
        }
    }

    /// It is read on a terminal.
    fn is_terminal(&self) -> bool {
        self.target == Target::StandardOutput && std::io::stdout().is_terminal()
    }

    /// Whether the target is emptied when the run begins: a second recording cannot follow one.
    pub(crate) fn is_replaced(&self) -> bool {
        self.format == OutputFormat::Recording
    }
}

/// Takes the options behind the target off: `,on-error=POLICY`.
fn take_policy(value: &str, policy: SinkPolicy) -> Result<(&str, SinkPolicy), UsageError> {
    let Some((rest, option)) = value.rsplit_once(',') else {
        return Ok((value, policy));
    };
    let wrong = || UsageError::Value {
        flag: "-o",
        expected: "on-error=stop, on-error=drop or on-error=retry after the comma",
        observed: value.into(),
    };
    match option.split_once('=') {
        Some(("on-error", "stop")) => Ok((rest, SinkPolicy::Stop)),
        Some(("on-error", "drop")) => Ok((rest, SinkPolicy::Drop)),
        Some(("on-error", "retry")) => Ok((rest, SinkPolicy::Retry)),
        // A word and a value: an option that was mistyped, not the end of a file's name.
        Some((key, _)) if key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') => Err(wrong()),
        _ => Ok((value, policy)),
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
}

impl OutputSettings {
    /// Resolves the global flags.
    pub(crate) fn resolve(global: &GlobalArgs) -> Result<Self, UsageError> {
        refuse_unbuilt_globals(global)?;
        let outputs = outputs(global)?;
        refuse_shared(&outputs)?;
        if global.hex && !outputs.iter().any(|output| output.format.has_text()) {
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
        })
    }

    /// The same with one output: a recording in `file`.
    pub(crate) fn recording(&self, file: &Path) -> Self {
        let recording = OutputTarget {
            flag: "record",
            format: OutputFormat::Recording,
            target: Target::File(file.to_owned()),
            policy: SinkPolicy::Stop,
        };
        Self {
            outputs: vec![recording],
            ..self.clone()
        }
    }

    /// Whether an output takes facts about processes.
    pub(crate) fn takes_facts(&self) -> bool {
        let takes = |output: &OutputTarget| match output.format {
            OutputFormat::Text | OutputFormat::Original => self.debug,
            OutputFormat::Protobuf | OutputFormat::Ecaptureq => false,
            OutputFormat::Jsonl | OutputFormat::Recording => true,
        };
        self.outputs.iter().any(takes)
    }

    /// What an output gets; `clock` turns kernel time into wall-clock time.
    pub(crate) fn tap(&self, output: &OutputTarget, clock: WallClock) -> Tap {
        let is_terminal = output.is_terminal();
        let wall_clock_offset_ns = clock.offset_ns;
        match output.format {
            OutputFormat::Text | OutputFormat::Original => Tap::Records(Arc::new(Text {
                color: use_color(self.color, is_terminal),
                terminal: is_terminal,
                heading: if is_terminal && output.format == OutputFormat::Text {
                    Heading::Terminal
                } else {
                    Heading::Original
                },
                time: self.time,
                clock,
                ..self.text()
            })),
            OutputFormat::Protobuf => Tap::Records(Arc::new(Protobuf {
                text: self.text(),
                wall_clock_offset_ns,
                ..Protobuf::default()
            })),
            OutputFormat::Ecaptureq => Tap::Records(Arc::new(Protobuf {
                text: self.text(),
                wall_clock_offset_ns,
                framing: Framing::Message {
                    limit: ecaptureq::ENTRY_BYTES,
                },
            })),
            OutputFormat::Jsonl => Tap::Records(Arc::new(JsonLines {
                wall_clock_offset_ns,
                truncate: self.truncate,
                frames: self.frames == Some(Frames::All),
            })),
            OutputFormat::Recording => Tap::Events(Arc::new(Recorder { wall_clock_offset_ns })),
        }
    }

    /// The text format as a file gets it.
    fn text(&self) -> Text {
        Text {
            hex: self.hex,
            truncate: self.truncate,
            http2_messages: self.frames == Some(Frames::Messages),
            facts: self.debug,
            ..Text::default()
        }
    }

    /// For a report of its own: JSON Lines instead of text.
    pub(crate) fn is_json(&self) -> bool {
        self.outputs
            .first()
            .is_some_and(|output| output.format == OutputFormat::Jsonl)
    }

    /// Where the output of `-- COMMAND` goes: messages share standard output with nothing.
    pub(crate) fn command_output(&self) -> CommandOutput {
        if self
            .outputs
            .iter()
            .any(|output| output.target == Target::StandardOutput)
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
            format: OutputFormat::Ecaptureq,
            target: Target::parse_ecaptureq("--ecaptureq", address)?,
            policy,
        });
    }
    Ok(outputs)
}

/// Those of `-o`, or of the flags that are short for one.
fn printed_outputs(global: &GlobalArgs, policy: SinkPolicy) -> Result<Vec<OutputTarget>, UsageError> {
    if global.output.is_empty() {
        return Ok(vec![OutputTarget {
            flag: "--eventaddr",
            format: match global.format.unwrap_or(FormatName::Text) {
                FormatName::Text => OutputFormat::Text,
                FormatName::Original => OutputFormat::Original,
                FormatName::Jsonl => OutputFormat::Jsonl,
            },
            target: match &global.eventaddr {
                Some(value) => Target::parse("--eventaddr", value)?,
                None => Target::StandardOutput,
            },
            policy,
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

/// Two outputs would mix what they write.
fn refuse_shared(outputs: &[OutputTarget]) -> Result<(), UsageError> {
    for (number, output) in outputs.iter().enumerate() {
        let is_device = |path: &Path| path.exists() && !path.is_file();
        if matches!(&output.target, Target::File(path) if is_device(path)) {
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
            ("text:ws://h:1", "use a file or tcp://HOST:PORT"),
            ("text:f,on-eror=drop", "on-error=drop"),
            ("text:f,on-error=wait", "on-error=retry"),
        ] {
            let error = parse(value).unwrap_err();
            assert!(error.contains(part), "{value}: {error}");
        }
    }
}
