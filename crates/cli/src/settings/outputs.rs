//! `-o FORMAT[:TARGET]`, and `--format` and `--eventaddr`, which are short for one of it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ecapture_actors::{PipelineLimits, SinkPolicy, Tap};
use ecapture_probe::Modules;
use ecapture_protocols::format::{Ends, WallClock};
use ecapture_protocols::privacy::Level;
use ecapture_protocols::{Filter, Options, View};

use super::filters;
use super::limits::{limits, statistics_interval};
use super::listen::ListenSettings;
use super::output_options::original_rotation;
use super::output_target::OutputTarget;
use super::privacy::PrivacySettings;
use super::unbuilt::refuse_unbuilt_globals;
use crate::args::{FormatName, Frames, GlobalArgs, OnSinkError, When};
use crate::audit;
use crate::held::CommandOutput;
use crate::outputs::{self, Facts, FileClock, Look, Looks, OutputFormat, Rotation, TableLook, Target};
use crate::usage::UsageError;

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
    /// `--verbose`.
    verbosity: u8,
    /// `--ends`, if it was given.
    ends: Option<Ends>,
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
    /// `--privacy`, `--redact`.
    pub(crate) privacy: PrivacySettings,
    /// `--listen`.
    pub(crate) listen: Option<ListenSettings>,
    /// The clock by which rotated files age.
    pub(crate) file_clock: FileClock,
    /// A capture of this host, not a replay.
    pub(crate) live: bool,
}

impl OutputSettings {
    /// Resolves the global flags.
    pub(crate) fn resolve(global: &GlobalArgs) -> Result<Self, UsageError> {
        refuse_unbuilt_globals(global)?;
        let mut outputs = outputs(global)?;
        if let Some(text) = &global.filter {
            select(&mut outputs, &filters::parse("--filter", text)?)?;
        }
        refuse_shared(&outputs)?;
        let privacy = PrivacySettings::resolve(&global.privacy)?;
        privacy.check(&outputs)?;
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
            verbosity: global.verbose,
            ends: global.ends.map(Ends::from),
            truncate: usize::try_from(global.tsize).ok().filter(|&bytes| bytes > 0),
            color: global.color,
            debug: global.debug,
            fail_on_loss: global.fail_on_loss,
            limits: limits(global)?,
            statistics_interval: statistics_interval(global)?,
            privacy,
            listen: ListenSettings::resolve(&global.listening)?,
            file_clock: FileClock::default(),
            live: true,
        })
    }

    /// The same with only what these words before `--` select.
    pub(crate) fn selected_by(mut self, words: &[String]) -> Result<Self, UsageError> {
        if let Some(filter) = filters::of_words(words)? {
            select(&mut self.outputs, &filter)?;
        }
        Ok(self)
    }

    /// The same with one output: a recording in `file`.
    pub(crate) fn recording(&self, file: &Path) -> Self {
        let recording = OutputTarget {
            flag: "record",
            format: &outputs::RECORDING,
            target: Target::file(file),
            policy: SinkPolicy::Stop,
            rotation: None,
            chain: false,
            gzip: false,
            filter: None,
            redact: None,
        };
        Self {
            outputs: vec![recording],
            ..self.clone()
        }
    }

    /// The same with one output: a table of figures, with the filter of the first.
    pub(crate) fn counted(mut self, look: TableLook) -> Self {
        self.outputs.truncate(1);
        for output in &mut self.outputs {
            (output.flag, output.format) = ("stat", &outputs::STAT);
            output.target = Target::table(look);
        }
        self
    }

    /// The same with packets in `file`, beside the others or alone.
    pub(crate) fn with_packets(&self, file: &str, beside: bool) -> Result<Self, UsageError> {
        self.with(("--pcapfile", &outputs::PACKETS), file, beside)
    }

    /// The same with a key log in `file`, beside the others or alone.
    pub(super) fn with_key_log(&self, file: &str, beside: bool) -> Result<Self, UsageError> {
        self.with(("--keylogfile", &outputs::KEY_LOG), file, beside)
    }

    fn with(
        &self,
        (flag, format): (&'static str, &'static OutputFormat),
        file: &str,
        beside: bool,
    ) -> Result<Self, UsageError> {
        let policy = self
            .outputs
            .first()
            .map_or(SinkPolicy::Stop, |output| output.policy);
        let added = OutputTarget::of_format(flag, format, file, policy)?;
        let mut outputs = if beside { self.outputs.clone() } else { Vec::new() };
        outputs.push(added);
        refuse_shared(&outputs)?;
        self.privacy.check(&outputs)?;
        Ok(Self {
            outputs,
            ..self.clone()
        })
    }

    /// Returns true if an output takes facts about processes.
    pub(crate) fn takes_facts(&self) -> bool {
        self.outputs.iter().any(|output| match output.format.facts {
            Facts::Never => false,
            Facts::Debug => self.debug,
            Facts::Always => true,
        })
    }

    /// What is captured of TLS for these outputs.
    pub(super) fn tls_modules(&self) -> Modules {
        let takes_secrets = |output: &OutputTarget| output.format.secrets;
        if self.outputs.iter().all(takes_secrets) {
            Modules::SECRETS
        } else if self.outputs.iter().any(takes_secrets) {
            Modules::TLS.with(Modules::SECRETS)
        } else {
            Modules::TLS
        }
    }

    /// The tap of an output; `clock` turns kernel time into wall-clock time.
    /// With `looks` it may change.
    pub(crate) fn tap(&self, output: &OutputTarget, clock: WallClock, looks: Option<&Looks>) -> Tap {
        let look = self.look(output, clock);
        let filter = output.filter.as_ref();
        match looks {
            Some(looks) => looks.tap(output.format, look, filter),
            None => output.format.feed(&look, filter),
        }
    }

    fn look(&self, output: &OutputTarget, clock: WallClock) -> Look {
        let terminal = output.is_terminal();
        let privacy = self.privacy.of(output);
        let audit = output.target.is_file().then(|| {
            let filter = output.filter.as_ref().map(|filter| filter.as_str());
            Arc::new(audit::of(privacy.as_deref(), filter))
        });
        Look {
            hex: self.hex,
            truncate: self.truncate,
            http2_messages: self.frames == Some(Frames::Messages),
            facts: self.debug,
            all_frames: self.frames == Some(Frames::All),
            terminal,
            color: use_color(self.color, terminal),
            time: self.time,
            verbosity: self.verbosity,
            ends: self.ends,
            messages: output.target.keeps_records_apart(),
            clock,
            privacy,
            live: self.live,
            audit,
        }
    }

    /// Returns the filters that decide early what no output wants: those of all outputs of messages, if each has one.
    /// There are none if they may change during the run.
    pub(crate) fn deciding_filters(&self) -> Vec<Arc<Filter>> {
        let of_messages = self
            .outputs
            .iter()
            .filter(|output| !output.format.has_everything());
        let filters: Option<Vec<_>> = of_messages.map(|output| output.filter.clone()).collect();
        filters.filter(|_| self.listen.is_none()).unwrap_or_default()
    }

    /// Returns the number of the only process that any output can show anything of, if there is one.
    pub(crate) fn only_process(&self) -> Option<u32> {
        if self.outputs.iter().any(|output| output.format.has_everything()) {
            return None;
        }
        let sets: Option<Vec<_>> = self
            .deciding_filters()
            .iter()
            .map(|filter| filter.processes())
            .collect();
        let all: BTreeSet<u32> = sets?.into_iter().flatten().collect();
        all.first().copied().filter(|_| all.len() == 1)
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

    /// Returns true if a filter may ask for values that are not shown, now or later.
    fn reads_values(&self) -> bool {
        self.listen.is_some() || self.outputs.iter().any(|output| output.filter.is_some())
    }

    /// Returns true if no output may show content and no filter asks for it. Then the kernel leaves it out if it can,
    /// and nothing that is printed depends on it.
    pub(crate) fn leaves_content_out(&self) -> bool {
        self.privacy.level == Level::Metadata && self.filter_of_content().is_none()
    }

    /// The filter of an output that asks for content, if there is one.
    pub(crate) fn filter_of_content(&self) -> Option<&Filter> {
        let mut filters = self.outputs.iter().filter_map(|output| output.filter.as_deref());
        filters.find(|filter| filter.reads_content())
    }

    /// How the decoders of one view are set up.
    pub(crate) fn decoder_options(&self, view: View) -> Options {
        Options {
            view,
            conceals: self.privacy.level == Level::Metadata && !self.reads_values(),
            without_content: self.leaves_content_out(),
            parts: !self.whole && !view.joins() && !self.privacy.needs_whole(&self.outputs),
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
            format: &outputs::ECAPTUREQ,
            target: Target::served("--ecaptureq", address)?,
            policy,
            rotation: None,
            chain: false,
            gzip: false,
            filter: None,
            redact: None,
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
                FormatName::Exchange => &outputs::EXCHANGE,
            },
            target: match &global.eventaddr {
                Some(value) => Target::parse("--eventaddr", value)?,
                None => Target::standard_output(),
            },
            policy,
            rotation,
            chain: false,
            gzip: false,
            filter: None,
            redact: None,
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

/// Two outputs would mix their records.
fn refuse_shared(outputs: &[OutputTarget]) -> Result<(), UsageError> {
    for (number, output) in outputs.iter().enumerate() {
        if output.target.path().is_some() && !output.target.is_file() {
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

/// Restricts all outputs of messages.
fn select(outputs: &mut [OutputTarget], filter: &Arc<Filter>) -> Result<(), UsageError> {
    for output in outputs {
        if !output.format.has_everything() {
            output.filter = filters::both(Some(filter), output.filter.as_ref())?;
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
    use clap::Parser as _;

    use super::*;
    use crate::args::Cli;

    fn parse(value: &str) -> Result<(String, SinkPolicy), String> {
        OutputTarget::parse(value, SinkPolicy::Stop)
            .map(|output| (output.name(), output.policy))
            .map_err(|error| error.to_string())
    }

    fn settings(words: &[&str]) -> OutputSettings {
        let words = [&["ecapture", "tls"], words].concat();
        OutputSettings::resolve(&Cli::try_parse_from(words).unwrap().global).unwrap()
    }

    #[test]
    fn content_is_left_out_at_metadata_unless_a_filter_asks_for_it() {
        for (words, expected) in [
            (&["--privacy", "metadata"][..], true),
            (&["--privacy", "metadata", "--listen", "127.0.0.1:0"], true),
            (&["--privacy", "metadata", "--filter", "http.host == \"a\""], true),
            (
                &["--privacy", "metadata", "--filter", "body contains \"a\""],
                false,
            ),
            (
                &[
                    "--privacy",
                    "metadata",
                    "-o",
                    "text",
                    "-o",
                    "jsonl:f,filter=len(body) > 3",
                ],
                false,
            ),
            (&["--privacy", "headers"], false),
            (&[], false),
        ] {
            let settings = settings(words);
            assert_eq!(settings.leaves_content_out(), expected, "{words:?}");
            for view in [View::Text, View::TextMessages, View::Joined] {
                let options = settings.decoder_options(view);
                assert_eq!(options.without_content, expected, "{words:?}");
            }
        }
        let filter = "http and body contains \"a\"";
        let settings = settings(&["--privacy", "metadata", "--filter", filter]);
        assert_eq!(settings.filter_of_content().map(Filter::as_str), Some(filter));
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
                "text, original, jsonl, exchange, har, protobuf, pcapng, recording, keylog, ecaptureq or otlp",
            ),
            (
                "xml:f",
                "text, original, jsonl, exchange, har, protobuf, pcapng, recording, keylog, ecaptureq or otlp",
            ),
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
