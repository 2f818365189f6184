//! What an output is made of ([`formats`]) and where it goes ([`targets`]): two tables, and what they list.

mod collector;
mod file;
mod formats;
mod log;
mod payload;
mod rotation;
mod standard_output;
mod switched;
mod targets;
mod tls;
mod web_socket;

use ecapture_actors::{ByteStream, SinkWriter};

pub(crate) use file::FileOptions;
pub(crate) use formats::{
    ECAPTUREQ, FORMATS, Facts, JSON_LINES, Look, ORIGINAL, OutputFormat, RECORDING, TEXT,
};
pub(crate) use log::{LogTarget, Plain};
pub(crate) use payload::Payload;
pub(crate) use rotation::{FileClock, Rotation};
pub(crate) use switched::Looks;
pub(crate) use targets::{Opening, TARGETS, Target};

/// An open target.
pub(crate) enum OpenTarget {
    /// It takes a stream of bytes.
    Bytes(Box<dyn SinkWriter>),
    /// It takes records.
    Records(Box<dyn ecapture_actors::Target>),
}

impl From<OpenTarget> for Box<dyn ecapture_actors::Target> {
    fn from(target: OpenTarget) -> Self {
        match target {
            OpenTarget::Bytes(writer) => Box::new(ByteStream(writer)),
            OpenTarget::Records(target) => target,
        }
    }
}
