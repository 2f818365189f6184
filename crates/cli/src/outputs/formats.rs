//! The formats of outputs. Adding one is adding its line here.

use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;

use ecapture_actors::Tap;
use ecapture_protocols::Filter;
use ecapture_protocols::format::protobuf::Framing;
use ecapture_protocols::format::{
    Audit, Ends, ExchangeLines, Filtered, Har, Heading, JsonLines, KeyLog, Otlp, Packets, Pcapng, Private,
    Protobuf, Text, WallClock,
};
use ecapture_protocols::privacy::Privacy;
use ecapture_protocols::recording::line::Recorder;
use ecapture_protocols::stat::Observations;

use super::beginning::Repeated;
use super::host_name;
use super::payload::Payload;
use super::targets::Target;
use crate::ecaptureq;
use crate::usage::UsageError;

/// A format of `-o`.
#[derive(Debug)]
pub(crate) struct OutputFormat {
    /// The first word of `-o`.
    pub(crate) name: &'static str,
    /// Its records hold text, which `--hex` dumps.
    pub(crate) has_text: bool,
    /// Which facts about processes it shows.
    pub(crate) facts: Facts,
    /// It takes secrets of handshakes.
    pub(crate) secrets: bool,
    /// It is made for others to read, so secrets are masked in it wherever it goes.
    pub(crate) handed_on: bool,
    /// A run empties its target: a second recording cannot follow one.
    pub(crate) replaces: bool,
    /// Which of its records every file of the output has.
    pub(crate) repeated: fn(&[u8]) -> Repeated,
    /// The form in which a WebSocket server gets each record.
    pub(crate) payload: Payload,
    /// Reads the part of `-o` after the colon, if there is one.
    pub(crate) target: fn(&'static str, Option<&str>) -> Result<Target, UsageError>,
    /// Makes the tap of the pipeline that feeds the target.
    pub(crate) tap: fn(&Look) -> Tap,
}

/// Which facts about processes a format shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Facts {
    /// None.
    Never,
    /// All, with `--debug`.
    Debug,
    /// All.
    Always,
}

/// How records look, where the user has a choice. Each format uses what it can.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    /// `--hex`.
    pub(crate) hex: bool,
    /// `--tsize`, `None` when off.
    pub(crate) truncate: Option<usize>,
    /// HTTP/2 as messages where the format would show frames.
    pub(crate) http2_messages: bool,
    /// Text shows facts about processes, too.
    pub(crate) facts: bool,
    /// HTTP/2 frames that belong to no message are shown, too.
    pub(crate) all_frames: bool,
    /// The target is a terminal.
    pub(crate) terminal: bool,
    /// Text is coloured.
    pub(crate) color: bool,
    /// `--time`.
    pub(crate) time: bool,
    /// How often `--verbose` was given.
    pub(crate) verbosity: u8,
    /// `--ends`, if it was given.
    pub(crate) ends: Option<Ends>,
    /// The target keeps records apart.
    pub(crate) messages: bool,
    /// Turns kernel time into wall-clock time.
    pub(crate) clock: WallClock,
    /// What may be shown; `None`: everything.
    pub(crate) privacy: Option<Arc<Privacy>>,
    /// A capture of this host, not a replay.
    pub(crate) live: bool,
    /// The start of the file, if the target is one.
    pub(crate) audit: Option<Arc<Audit>>,
}

/// In the order in which messages name them.
pub(crate) static FORMATS: [&OutputFormat; 11] = [
    &TEXT,
    &ORIGINAL,
    &JSON_LINES,
    &EXCHANGE,
    &HAR,
    &PROTOBUF,
    &PCAPNG,
    &RECORDING,
    &KEY_LOG,
    &ECAPTUREQ,
    &OTLP,
];

/// Text, with a line for people above each message on a terminal.
pub(crate) static TEXT: OutputFormat = OutputFormat {
    name: "text",
    has_text: true,
    facts: Facts::Debug,
    secrets: false,
    handed_on: false,
    replaces: false,
    repeated: |_| Repeated::Never,
    payload: Payload::Base64,
    target: Target::printed,
    tap: |look| {
        let heading = if look.terminal {
            Heading::Terminal
        } else {
            Heading::Original
        };
        Tap::Records(Arc::new(Text {
            heading,
            joins: look.ends.map_or(look.terminal, |ends| ends == Ends::Once),
            ..printed_text(look)
        }))
    },
};

/// Text as the original prints it, also on a terminal.
pub(crate) static ORIGINAL: OutputFormat = OutputFormat {
    name: "original",
    has_text: true,
    facts: Facts::Debug,
    secrets: false,
    handed_on: false,
    replaces: false,
    repeated: |_| Repeated::Never,
    payload: Payload::Base64,
    target: Target::printed,
    tap: |look| Tap::Records(Arc::new(printed_text(look))),
};

/// One JSON object per message and line.
pub(crate) static JSON_LINES: OutputFormat = OutputFormat {
    name: "jsonl",
    has_text: false,
    facts: Facts::Always,
    secrets: false,
    handed_on: false,
    replaces: false,
    repeated: |_| Repeated::Never,
    payload: Payload::Line,
    target: Target::printed,
    tap: |look| {
        Tap::Records(Arc::new(JsonLines {
            wall_clock_offset_ns: look.clock.offset_ns,
            truncate: look.truncate,
            frames: look.all_frames,
            audit: look.audit.clone(),
            joins: look.ends == Some(Ends::Once),
        }))
    },
};

/// A line for each request with its response.
pub(crate) static EXCHANGE: OutputFormat = OutputFormat {
    name: "exchange",
    has_text: false,
    facts: Facts::Never,
    secrets: false,
    handed_on: false,
    replaces: false,
    repeated: |_| Repeated::Never,
    payload: Payload::Line,
    target: Target::printed,
    tap: |look| {
        Tap::Records(Arc::new(ExchangeLines {
            clock: look.clock,
            dated: look.time || !look.terminal,
            heads: look.verbosity > 0,
            bodies: look.verbosity > 1,
            truncate: look.truncate,
            ends: look.ends.unwrap_or_default(),
            audit: look.audit.clone(),
        }))
    },
};

/// A document with an entry for each request with its response.
static HAR: OutputFormat = OutputFormat {
    name: "har",
    has_text: false,
    facts: Facts::Never,
    secrets: false,
    handed_on: true,
    replaces: true,
    repeated: |_| Repeated::Never,
    payload: Payload::Document,
    target: |flag, target| match Target::printed(flag, target)? {
        file if file.path().is_some() => Ok(file),
        _ => Err(UsageError::Value {
            flag,
            expected: "a regular file as the TARGET of har, as in `-o har:FILE`: the end of the document is overwritten with each entry, so FILE is whole at any moment",
            observed: target.unwrap_or("no TARGET").to_owned(),
        }),
    },
    tap: |look| {
        Tap::Records(Arc::new(Har {
            wall_clock_offset_ns: look.clock.offset_ns,
            truncate: look.truncate,
            audit: look.audit.clone(),
        }))
    },
};

/// What `ecapture stat` adds up. `-o` cannot ask for it.
pub(crate) static STAT: OutputFormat = OutputFormat {
    name: "stat",
    has_text: false,
    facts: Facts::Never,
    secrets: false,
    handed_on: false,
    replaces: false,
    repeated: |_| Repeated::Never,
    payload: Payload::Binary,
    target: Target::printed,
    tap: |look| {
        Tap::Records(Arc::new(Observations {
            ends: look.ends.unwrap_or_default(),
        }))
    },
};

/// The original's log entries.
static PROTOBUF: OutputFormat = OutputFormat {
    name: "protobuf",
    has_text: true,
    facts: Facts::Never,
    secrets: false,
    handed_on: false,
    replaces: false,
    repeated: |_| Repeated::Never,
    payload: Payload::Binary,
    target: Target::printed,
    tap: |look| {
        Tap::Records(Arc::new(Protobuf {
            text: text(look),
            wall_clock_offset_ns: look.clock.offset_ns,
            framing: if look.messages {
                Framing::Message {
                    limit: ecaptureq::ENTRY_BYTES,
                }
            } else {
                Framing::Delimited
            },
        }))
    },
};

/// Packets of the plaintext, for Wireshark.
static PCAPNG: OutputFormat = OutputFormat {
    name: "pcapng",
    has_text: false,
    facts: Facts::Never,
    secrets: false,
    handed_on: false,
    replaces: true,
    repeated: |_| Repeated::Never,
    payload: Payload::Binary,
    target: Target::printed,
    tap: |look| Tap::Events(Arc::new(Pcapng::new(look.clock.offset_ns, look.audit.clone()))),
};

/// Events as they are captured, for `ecapture replay`.
pub(crate) static RECORDING: OutputFormat = OutputFormat {
    name: "recording",
    has_text: false,
    facts: Facts::Always,
    secrets: false,
    handed_on: false,
    replaces: true,
    repeated: |_| Repeated::Never,
    payload: Payload::Line,
    target: Target::printed,
    tap: |look| {
        Tap::Events(Arc::new(Recorder {
            wall_clock_offset_ns: look.clock.offset_ns,
            audit: look.audit.clone(),
        }))
    },
};

/// Packets as the interfaces carry them, with the keys that decrypt them, as a pcapng file. `-m pcap` asks for it, and
/// `-o` cannot.
pub(crate) static PACKETS: OutputFormat = OutputFormat {
    name: "packets",
    has_text: false,
    facts: Facts::Never,
    secrets: true,
    handed_on: false,
    replaces: true,
    repeated: |block| match block.first() {
        // The types of blocks (draft-ietf-opsawg-pcapng): interfaces, secrets.
        Some(0x01) => Repeated::Always,
        Some(0x0A) if block.get(1) == Some(&0) => Repeated::Recent,
        _ => Repeated::Never,
    },
    payload: Payload::Blocks,
    target: |flag, target| match Target::printed(flag, target)? {
        file if file.is_standard_output() || file.path().is_some() => Ok(file),
        _ => Err(UsageError::Value {
            flag,
            expected: "a file for packets, or `-` for standard output",
            observed: target.unwrap_or_default().to_owned(),
        }),
    },
    tap: |look| {
        Tap::Events(Arc::new(Packets {
            wall_clock_offset_ns: look.clock.offset_ns.unwrap_or(0),
            hardware: std::env::consts::ARCH,
            application: concat!("ecapture ", env!("CARGO_PKG_VERSION")),
            audit: look.audit.clone(),
        }))
    },
};

/// Secrets of handshakes, for Wireshark.
pub(crate) static KEY_LOG: OutputFormat = OutputFormat {
    name: "keylog",
    has_text: false,
    facts: Facts::Never,
    secrets: true,
    handed_on: false,
    replaces: false,
    repeated: |_| Repeated::Never,
    payload: Payload::Line,
    target: Target::printed,
    tap: |look| {
        Tap::Events(Arc::new(KeyLog {
            audit: look.audit.clone(),
        }))
    },
};

/// The original's log entries, for the clients of a server.
pub(crate) static ECAPTUREQ: OutputFormat = OutputFormat {
    name: "ecaptureq",
    has_text: true,
    facts: Facts::Never,
    secrets: false,
    handed_on: false,
    replaces: false,
    repeated: |_| Repeated::Never,
    payload: Payload::Binary,
    target: |flag, address| Target::served(flag, address.unwrap_or_default()),
    tap: |look| {
        Tap::Records(Arc::new(Protobuf {
            text: text(look),
            wall_clock_offset_ns: look.clock.offset_ns,
            framing: Framing::Message {
                limit: ecaptureq::ENTRY_BYTES,
            },
        }))
    },
};

/// Spans and metrics, for a collector.
pub(crate) static OTLP: OutputFormat = OutputFormat {
    name: "otlp",
    has_text: false,
    facts: Facts::Never,
    secrets: false,
    handed_on: true,
    replaces: false,
    repeated: |_| Repeated::Never,
    payload: Payload::Binary,
    target: |flag, address| Target::collected(flag, address.unwrap_or_default()),
    tap: |look| {
        let host = host_name().filter(|_| look.live).map(Arc::from);
        Tap::Records(Arc::new(Otlp::new(look.clock, seed(look.live), host)))
    },
};

/// What makes the ids of a capture differ from those of all others; replays have the same ones.
fn seed(live: bool) -> [u8; 16] {
    let mut seed = [0; 16];
    if live {
        let random = File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut seed));
        if let Err(error) = random {
            tracing::warn!("ids of traces depend on this run's events alone: /dev/urandom: {error}");
        }
    }
    seed
}

/// Text with a line above each message.
fn printed_text(look: &Look) -> Text {
    Text {
        color: look.color,
        terminal: look.terminal,
        time: look.time,
        clock: look.clock,
        ..text(look)
    }
}

/// Text without such lines.
fn text(look: &Look) -> Text {
    Text {
        hex: look.hex,
        truncate: look.truncate,
        http2_messages: look.http2_messages,
        facts: look.facts,
        audit: look.audit.clone(),
        ..Text::default()
    }
}

impl OutputFormat {
    /// Makes the tap of the pipeline that feeds the target: with the messages that `filter` selects, and what may be
    /// shown of them. Events are not restricted.
    pub(crate) fn feed(&self, look: &Look, filter: Option<&Arc<Filter>>) -> Tap {
        let mut format = match (self.tap)(look) {
            Tap::Records(format) => format,
            events @ Tap::Events(_) => return events,
        };
        if let Some(privacy) = &look.privacy {
            let privacy = Arc::clone(privacy);
            format = Arc::new(Private { format, privacy });
        }
        if let Some(filter) = filter {
            let filter = Arc::clone(filter);
            format = Arc::new(Filtered { format, filter });
        }
        Tap::Records(format)
    }

    /// Returns true for a format that no filter restricts: recordings, packets and secrets.
    pub(crate) fn has_everything(&self) -> bool {
        self.secrets || self.replaces && self.payload != Payload::Document
    }

    /// Returns true if both are the same line of the table.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.name == other.name
    }

    /// The format of that name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        FORMATS.into_iter().find(|format| format.name == name)
    }
}
