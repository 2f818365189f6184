//! The formats of outputs. Adding one is adding its line here.

use std::sync::Arc;

use ecapture_actors::Tap;
use ecapture_protocols::format::protobuf::Framing;
use ecapture_protocols::format::{Heading, JsonLines, Protobuf, Text, WallClock};
use ecapture_protocols::recording::line::Recorder;

use super::payload::Payload;
use super::targets::Target;
use crate::ecaptureq;
use crate::usage::UsageError;

/// What an output is made of.
#[derive(Debug)]
pub(crate) struct OutputFormat {
    /// The first word of `-o`.
    pub(crate) name: &'static str,
    /// Its records hold text, which `--hex` dumps.
    pub(crate) has_text: bool,
    /// Which facts about processes it shows.
    pub(crate) facts: Facts,
    /// A run empties its target: a second recording cannot follow one.
    pub(crate) replaces: bool,
    /// What a WebSocket server gets of each record.
    pub(crate) payload: Payload,
    /// Reads what stands behind the colon of `-o`, if anything does.
    pub(crate) target: fn(&'static str, Option<&str>) -> Result<Target, UsageError>,
    /// What the pipeline is to hand to the target.
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
#[derive(Debug, Clone, Copy)]
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
    /// The target keeps records apart.
    pub(crate) messages: bool,
    /// Turns kernel time into wall-clock time.
    pub(crate) clock: WallClock,
}

/// In the order in which messages name them.
pub(crate) static FORMATS: [&OutputFormat; 6] =
    [&TEXT, &ORIGINAL, &JSON_LINES, &PROTOBUF, &RECORDING, &ECAPTUREQ];

/// Text, with a line for people above each message on a terminal.
pub(crate) static TEXT: OutputFormat = OutputFormat {
    name: "text",
    has_text: true,
    facts: Facts::Debug,
    replaces: false,
    payload: Payload::Base64,
    target: Target::printed,
    tap: |look| {
        Tap::Records(Arc::new(Text {
            heading: if look.terminal {
                Heading::Terminal
            } else {
                Heading::Original
            },
            ..printed_text(look)
        }))
    },
};

/// Text as the original prints it, also on a terminal.
pub(crate) static ORIGINAL: OutputFormat = OutputFormat {
    name: "original",
    has_text: true,
    facts: Facts::Debug,
    replaces: false,
    payload: Payload::Base64,
    target: Target::printed,
    tap: |look| Tap::Records(Arc::new(printed_text(look))),
};

/// One JSON object per message and line.
pub(crate) static JSON_LINES: OutputFormat = OutputFormat {
    name: "jsonl",
    has_text: false,
    facts: Facts::Always,
    replaces: false,
    payload: Payload::Line,
    target: Target::printed,
    tap: |look| {
        Tap::Records(Arc::new(JsonLines {
            wall_clock_offset_ns: look.clock.offset_ns,
            truncate: look.truncate,
            frames: look.all_frames,
        }))
    },
};

/// The original's log entries.
static PROTOBUF: OutputFormat = OutputFormat {
    name: "protobuf",
    has_text: true,
    facts: Facts::Never,
    replaces: false,
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

/// Events as they are captured, for `ecapture replay`.
pub(crate) static RECORDING: OutputFormat = OutputFormat {
    name: "recording",
    has_text: false,
    facts: Facts::Always,
    replaces: true,
    payload: Payload::Line,
    target: Target::printed,
    tap: |look| {
        Tap::Events(Arc::new(Recorder {
            wall_clock_offset_ns: look.clock.offset_ns,
        }))
    },
};

/// The original's log entries, for the clients of a server.
pub(crate) static ECAPTUREQ: OutputFormat = OutputFormat {
    name: "ecaptureq",
    has_text: true,
    facts: Facts::Never,
    replaces: false,
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
        ..Text::default()
    }
}

impl OutputFormat {
    /// Returns true if both are the same line of the table.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.name == other.name
    }

    /// The format of that name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        FORMATS.into_iter().find(|format| format.name == name)
    }
}
