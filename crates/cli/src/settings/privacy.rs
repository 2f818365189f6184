//! What may be shown: `--privacy`, `--redact`, `--redact-file`.

use std::path::Path;
use std::sync::Arc;

use ecapture_protocols::limits::PATTERN_FILE_BYTES;
use ecapture_protocols::privacy::{Level, Privacy, Secrets};

use super::output_target::OutputTarget;
use crate::args::{PrivacyArgs, PrivacyLevel};
use crate::usage::UsageError;

/// What may be shown in the outputs of a run.
#[derive(Debug, Clone)]
pub(crate) struct PrivacySettings {
    /// How much of each message.
    pub(crate) level: Level,
    /// Secrets are masked, or are not; `None`: in some outputs.
    redact: Option<bool>,
    secrets: Arc<Secrets>,
}

impl PrivacySettings {
    pub(super) fn resolve(args: &PrivacyArgs) -> Result<Self, UsageError> {
        let file = args.redact_file.as_deref();
        Ok(Self {
            level: match args.privacy {
                PrivacyLevel::Metadata => Level::Metadata,
                PrivacyLevel::Headers => Level::Headers,
                PrivacyLevel::Full => Level::Full,
            },
            redact: if args.no_redact {
                Some(false)
            } else {
                (args.redact || file.is_some()).then_some(true)
            },
            secrets: Arc::new(file.map_or_else(|| Ok(Secrets::default()), secrets_of)?),
        })
    }

    /// What is shown in `output`; `None`: everything.
    pub(super) fn of(&self, output: &OutputTarget) -> Option<Arc<Privacy>> {
        let privacy = Privacy {
            level: self.level,
            secrets: self.masks(output).then(|| Arc::clone(&self.secrets)),
        };
        (!privacy.is_off()).then(|| Arc::new(privacy))
    }

    /// Refuses outputs that hold bytes as captured, if not all of them may be shown.
    pub(super) fn check(&self, outputs: &[OutputTarget]) -> Result<(), UsageError> {
        for output in outputs.iter().filter(|output| output.format.has_everything()) {
            let (flag, name) = (output.flag, output.name());
            if self.level < Level::Full {
                return Err(UsageError::Outputs {
                    flag: "--privacy",
                    problem: format!("{name} has bytes or keys as captured, so bodies and header fields too"),
                    instead: "write jsonl instead, or leave --privacy out".to_owned(),
                });
            }
            if self.masks(output) {
                return Err(UsageError::Outputs {
                    flag,
                    problem: format!(
                        "{name} has bytes or keys as captured, in which secrets cannot be masked"
                    ),
                    instead: "append `,no-redact` to write it with them, or write jsonl instead".to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Returns true if messages must not be shown in parts: a pattern may match what two of them have.
    pub(super) fn needs_whole(&self, outputs: &[OutputTarget]) -> bool {
        self.secrets.searches_text() && outputs.iter().any(|output| self.masks(output))
    }

    fn masks(&self, output: &OutputTarget) -> bool {
        let by_default = || output.format.handed_on || output.target.leaves_host();
        output.redact.or(self.redact).unwrap_or_else(by_default)
    }
}

fn secrets_of(file: &Path) -> Result<Secrets, UsageError> {
    let wrong = |problem: String| UsageError::Outputs {
        flag: "--redact-file",
        problem: format!("{}: {problem}", file.display()),
        instead: "each line is `header NAME`, `query NAME` or `text REGEX`".to_owned(),
    };
    let text = read(file).map_err(|error| wrong(error.to_string()))?;
    Secrets::parse(&text).map_err(|error| wrong(error.to_string()))
}

/// Reads a file, and at most one byte more than it may have.
fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;

    let mut text = String::new();
    let most = PATTERN_FILE_BYTES as u64 + 1;
    std::fs::File::open(path)?.take(most).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::Cli;
    use crate::settings::OutputSettings;

    fn settings(words: &[&str]) -> Result<OutputSettings, UsageError> {
        let words = [&["ecapture", "tls"], words].concat();
        let cli = Cli::try_parse_from(words).unwrap();
        OutputSettings::resolve(&cli.global)
    }

    /// Whether secrets are masked in each output.
    fn masked(words: &[&str]) -> Vec<bool> {
        let settings = settings(words).unwrap();
        let masks = |output| {
            settings
                .privacy
                .of(output)
                .is_some_and(|privacy| privacy.secrets.is_some())
        };
        settings.outputs.iter().map(masks).collect()
    }

    #[test]
    fn secrets_are_masked_in_what_leaves_the_host() {
        for (words, expected) in [
            (&[][..], &[false][..]),
            (&["-o", "text", "-o", "jsonl:tcp://10.0.0.1:1"], &[false, true]),
            (
                &["-o", "text:ws://h/", "-o", "text:wss://127.0.0.1/"],
                &[true, false],
            ),
            (&["--ecaptureq", "ws://0.0.0.0:28257/"], &[false, true]),
            (&["--ecaptureq", "ws://127.0.0.1:28257/"], &[false, false]),
            (
                &["--redact", "-o", "text", "-o", "jsonl:f,no-redact"],
                &[true, false],
            ),
            (
                &["--no-redact", "-o", "text:tcp://h:1", "-o", "jsonl:f,redact"],
                &[false, true],
            ),
            (&["-o", "recording:tcp://h:1,no-redact"], &[false]),
            (
                &["--redact", "-o", "keylog:f,no-redact", "-o", "text"],
                &[false, true],
            ),
        ] {
            assert_eq!(masked(words), expected, "{words:?}");
        }
    }

    #[test]
    fn bytes_as_captured_are_refused() {
        for words in [
            &["-o", "recording:tcp://h:1"][..],
            &["-o", "pcapng:f,redact"],
            &["--redact", "-o", "keylog:f"],
            &["--privacy", "headers", "-o", "recording:f"],
            &["--privacy", "metadata", "-o", "pcapng:f,no-redact"],
            &["--privacy", "metadata", "-o", "text", "-o", "keylog:f"],
        ] {
            let error = settings(words).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("as captured"), "{words:?}: {error}");
        }
    }

    #[test]
    fn levels_hold_for_all_outputs() {
        let settings = settings(&["--privacy", "metadata", "-o", "text", "-o", "jsonl:f"]).unwrap();
        for output in &settings.outputs {
            assert_eq!(settings.privacy.of(output).unwrap().level, Level::Metadata);
        }
    }
}
