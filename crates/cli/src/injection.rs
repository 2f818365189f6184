//! `--inject`: failures on purpose, to see how the pipeline reacts, and older kernels in part.

use std::sync::Arc;
use std::time::Duration;

use ecapture_actors::inject::{DropEvent, ReaderStall, SinkError, SlowSink, worker_panic};
use ecapture_actors::{DecoderFactory, Ledger};
use ecapture_probe::Hooks;
use ecapture_protocols::CapturedEvent;
use futures_util::Stream;

use crate::outputs::{FileClock, OpenTarget};
use crate::usage::UsageError;

/// Batches of events, as a pipeline reads them.
pub(crate) type Source = Box<dyn Stream<Item = Vec<CapturedEvent>> + Send + Unpin>;

/// One failure that is to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Injection {
    /// The decoder panics at each event whose number is a multiple of this.
    WorkerPanic {
        /// At least 1.
        every: u64,
    },
    /// The output fails after this many bytes, and again after each reopening.
    SinkError {
        /// At least 1.
        after: u64,
    },
    /// Every write takes so long.
    SlowSink(Duration),
    /// The source is silent for this long before every batch.
    ReaderStall(Duration),
    /// Each data event whose number is a multiple of this is lost before it is read.
    DropEvent {
        /// At least 1.
        every: u64,
    },
    /// The clock by which files age advances by this much each time it is read, and not otherwise.
    FileClock(Duration),
}

/// Longest pause: below the time after which a stop gives up on the output.
const LONGEST_PAUSE_MS: u64 = 1000;

impl Injection {
    /// Reads one value of `--inject`.
    pub(crate) fn parse(value: &str) -> Result<Self, UsageError> {
        let wrong = |expected| UsageError::Value {
            flag: "--inject",
            expected,
            observed: value.into(),
        };
        let (name, argument) = value.split_once(':').unwrap_or((value, ""));
        let count = |key: &str, expected| {
            let digits = argument.strip_prefix(key).unwrap_or_default();
            let number = digits.parse().ok().filter(|&number: &u64| number > 0);
            number.ok_or_else(|| wrong(expected))
        };
        let pause = |expected| {
            let milliseconds = argument.parse().ok();
            let milliseconds = milliseconds.filter(|number| (1..=LONGEST_PAUSE_MS).contains(number));
            milliseconds
                .map(Duration::from_millis)
                .ok_or_else(|| wrong(expected))
        };
        match name {
            "worker-panic" => Ok(Self::WorkerPanic {
                every: count("every=", "worker-panic:every=N with N of 1 or more events")?,
            }),
            "sink-error" => Ok(Self::SinkError {
                after: count("after=", "sink-error:after=N with N of 1 or more bytes")?,
            }),
            "slow-sink" => pause("slow-sink:MS with 1 to 1000 milliseconds").map(Self::SlowSink),
            "reader-stall" => pause("reader-stall:MS with 1 to 1000 milliseconds").map(Self::ReaderStall),
            "file-clock" => pause("file-clock:MS with 1 to 1000 milliseconds").map(Self::FileClock),
            "drop-event" => Ok(Self::DropEvent {
                every: count("every=", "drop-event:every=N with N of 1 or more events")?,
            }),
            _ => Err(wrong(
                "worker-panic:every=N, sink-error:after=N, slow-sink:MS, reader-stall:MS, drop-event:every=N or file-clock:MS",
            )),
        }
    }

    /// The clock of files that it asks for.
    pub(crate) fn file_clock(self) -> Option<FileClock> {
        match self {
            Self::FileClock(step) => Some(FileClock::Steps(step)),
            _ => None,
        }
    }

    /// Puts the failure into the decoders, if that is where it happens.
    pub(crate) fn into_decoders(self, decoders: DecoderFactory) -> DecoderFactory {
        match self {
            Self::WorkerPanic { every } => worker_panic(decoders, every),
            _ => decoders,
        }
    }

    /// Puts the failure into the output, if that is where it happens and it is one of bytes.
    pub(crate) fn into_target(self, target: OpenTarget) -> OpenTarget {
        match (self, target) {
            (Self::SinkError { after }, OpenTarget::Bytes(writer)) => {
                OpenTarget::Bytes(Box::new(SinkError::new(writer, after)))
            }
            (Self::SlowSink(pause), OpenTarget::Bytes(writer)) => {
                OpenTarget::Bytes(Box::new(SlowSink::new(writer, pause)))
            }
            (_, target) => target,
        }
    }

    /// Puts the failure into the source, if that is where it happens.
    pub(crate) fn into_source(self, source: Source, ledger: &Arc<Ledger>) -> Source {
        match self {
            Self::ReaderStall(pause) => Box::new(ReaderStall::new(source, pause)),
            Self::DropEvent { every } => Box::new(DropEvent::new(source, every, Arc::clone(ledger))),
            _ => source,
        }
    }
}

/// Reads the values of `--inject` of a capture: `discovery-hold:FILE`, `system-calls`, `tables:N`.
pub(crate) fn capture_hooks(values: &[String]) -> Result<Hooks, UsageError> {
    let mut hooks = Hooks::default();
    for value in values {
        match value.split_once(':') {
            None if value == "system-calls" => hooks.system_calls = true,
            // Read with the flags of packets.
            None if value == "clsact" => {}
            Some(("discovery-hold", file)) if !file.is_empty() => hooks.hold_discovery = Some(file.into()),
            Some(("tables", entries)) if entries.parse().is_ok_and(|entries: u32| entries > 0) => {
                hooks.table_entries = entries.parse().ok();
            }
            _ => {
                return Err(UsageError::Value {
                    flag: "--inject",
                    expected: "discovery-hold:FILE, system-calls, clsact, or tables:N with N of 1 or more entries",
                    observed: value.clone(),
                });
            }
        }
    }
    Ok(hooks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_understood() {
        let parsed = |value| Injection::parse(value).unwrap();
        assert_eq!(
            parsed("worker-panic:every=50"),
            Injection::WorkerPanic { every: 50 }
        );
        assert_eq!(parsed("sink-error:after=1"), Injection::SinkError { after: 1 });
        assert_eq!(
            parsed("slow-sink:20"),
            Injection::SlowSink(Duration::from_millis(20))
        );
        assert_eq!(
            parsed("reader-stall:5"),
            Injection::ReaderStall(Duration::from_millis(5))
        );
        assert_eq!(parsed("drop-event:every=7"), Injection::DropEvent { every: 7 });
    }

    #[test]
    fn a_wrong_form_names_the_right_one() {
        for (value, part) in [
            ("worker-panic", "worker-panic:every=N"),
            ("worker-panic:every=0", "worker-panic:every=N"),
            ("worker-panic:after=1", "worker-panic:every=N"),
            ("sink-error:after=", "sink-error:after=N"),
            ("slow-sink:1s", "slow-sink:MS"),
            ("reader-stall:60000", "reader-stall:MS"),
            ("drop-event:every=-1", "drop-event:every=N"),
            ("earthquake", "worker-panic:every=N, sink-error:after=N"),
        ] {
            let error = Injection::parse(value).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains(value), "{value}: {error}");
        }
    }
}
