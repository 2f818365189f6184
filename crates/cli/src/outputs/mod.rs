//! The format of an output ([`formats`]) and where it goes ([`targets`]): two tables, and what they list.

mod beginning;
mod collector;
mod file;
mod formats;
mod log;
mod otlp;
mod payload;
mod rotation;
mod run_figures;
mod standard_output;
mod switched;
mod table;
mod targets;
mod tls;
mod web_socket;

use ecapture_actors::{ByteStream, SinkWriter};

pub(crate) use beginning::Beginning;
pub(crate) use file::FileOptions;
pub(crate) use formats::{
    ECAPTUREQ, EXCHANGE, FORMATS, Facts, JSON_LINES, KEY_LOG, Look, ORIGINAL, OutputFormat, PACKETS,
    RECORDING, STAT, TEXT,
};
pub(crate) use log::{LogTarget, Plain};
pub(crate) use payload::Payload;
pub(crate) use rotation::{FileClock, Rotation};
pub(crate) use run_figures::RunFigures;
pub(crate) use switched::Looks;
pub(crate) use table::TableLook;
pub(crate) use targets::{Opening, TARGETS, Target};

/// The name of this host; `None` if the kernel does not say it.
pub(crate) fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

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
