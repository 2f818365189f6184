//! One output: `-o FORMAT[:TARGET]`.

use std::io::IsTerminal as _;
use std::sync::{Arc, LazyLock};

use ecapture_actors::SinkPolicy;
use ecapture_protocols::Filter;

use super::filters;
use super::output_options::OutputOptions;
use crate::outputs::{
    self, Beginning, FORMATS, FileClock, FileOptions, Opening, OutputFormat, Payload, Rotation, RunFigures,
    Target,
};
use crate::usage::UsageError;

/// The form of a value of `-o`, for messages.
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
    pub(super) format: &'static OutputFormat,
    /// Where to.
    pub(crate) target: Target,
    /// The policy on failures of the target.
    pub(crate) policy: SinkPolicy,
    /// When its file is rotated.
    pub(super) rotation: Option<Rotation>,
    /// The lines of its file are a chain.
    pub(super) chain: bool,
    /// What is sent is compressed.
    pub(super) gzip: bool,
    /// What of the messages it gets.
    pub(super) filter: Option<Arc<Filter>>,
    /// Secrets are masked in it, or are not; `None`: as in all.
    pub(super) redact: Option<bool>,
}

impl OutputTarget {
    /// Reads one value of `-o`.
    pub(super) fn parse(value: &str, policy: SinkPolicy) -> Result<Self, UsageError> {
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
        Self::new("-o", format, target, &options, policy)
    }

    /// Reads what follows the format, from a flag of its own.
    pub(super) fn of_format(
        flag: &'static str,
        format: &'static OutputFormat,
        value: &str,
        policy: SinkPolicy,
    ) -> Result<Self, UsageError> {
        let (target, options) = OutputOptions::take(value)?;
        Self::new(flag, format, Some(target), &options, policy)
    }

    fn new(
        flag: &'static str,
        format: &'static OutputFormat,
        value: Option<&str>,
        options: &OutputOptions,
        policy: SinkPolicy,
    ) -> Result<Self, UsageError> {
        let target = (format.target)(flag, value)?;
        if options.rotation.is_some() && target.path().is_none() {
            return Err(UsageError::Value {
                flag,
                expected: "a file as the TARGET of rotate-size=, rotate-age= and keep=",
                observed: value.unwrap_or("no TARGET").into(),
            });
        }
        if options.chain && !(format.is(&outputs::JSON_LINES) && target.path().is_some()) {
            return Err(UsageError::Value {
                flag,
                expected: "jsonl and a file as the TARGET of chain, as in `-o jsonl:FILE,chain`",
                observed: value.unwrap_or("no TARGET").into(),
            });
        }
        if options.gzip && !target.is_collector() {
            return Err(UsageError::Value {
                flag,
                expected: "otlp and a collector as the TARGET of gzip, as in `-o otlp:http://HOST:4318,gzip`",
                observed: value.unwrap_or("no TARGET").into(),
            });
        }
        // A collector may be away for a while.
        let policy = if target.is_collector() {
            SinkPolicy::Retry
        } else {
            policy
        };
        Ok(Self {
            flag,
            format,
            target,
            policy: options.policy.unwrap_or(policy),
            rotation: options.rotation,
            chain: options.chain,
            gzip: options.gzip,
            filter: filters::of_output(options.filter.as_deref(), format.name, format.has_everything())?,
            redact: options.redact,
        })
    }

    /// Its name as it is shown: the value of `-o` that describes it.
    pub(crate) fn name(&self) -> String {
        let format = self.format.name;
        match self.target.name() {
            None => format.to_owned(),
            Some(target) => format!("{format}:{target}"),
        }
    }

    /// It is read on a terminal.
    pub(super) fn is_terminal(&self) -> bool {
        self.target.is_standard_output() && std::io::stdout().is_terminal()
    }

    /// Opens its target, which begins with `beginning`.
    pub(crate) fn open(
        &self,
        beginning: Vec<u8>,
        clock: FileClock,
        figures: &RunFigures,
    ) -> anyhow::Result<outputs::OpenTarget> {
        self.target.open(Opening {
            flag: self.flag,
            payload: self.format.payload,
            file: FileOptions {
                replaces: self.format.replaces,
                has_lines: !matches!(
                    self.format.payload,
                    Payload::Binary | Payload::Blocks | Payload::Document
                ),
                beginning: Beginning::new(beginning, self.format.repeated),
                whole_records: self.format.payload == Payload::Blocks,
                rotation: self.rotation,
                chain: self.chain,
                clock,
            },
            gzip: self.gzip,
            figures: figures.clone(),
        })
    }
}
