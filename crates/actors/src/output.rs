//! One of a pipeline's outputs.

use std::sync::Arc;

use ecapture_protocols::{EventFormat, Format, View};

use crate::{ByteStream, SinkPolicy, SinkWriter, Target};

/// Where output goes, how it looks, and what happens when it cannot be written.
pub struct Output {
    /// Its name in the figures and in the log.
    pub name: String,
    /// The records or events that it gets.
    pub tap: Tap,
    /// The target that takes them.
    pub target: Box<dyn Target>,
    /// The policy on failures of the target.
    ///
    /// Beside other outputs, one with [`SinkPolicy::Drop`] also drops what its target is too slow for, so
    /// that it slows none of them. All others slow reading when their target is slow.
    pub policy: SinkPolicy,
}

/// Where in the pipeline an output begins.
#[derive(Clone)]
pub enum Tap {
    /// Events as they are captured, formatted by the output's Sink.
    Events(Arc<dyn EventFormat>),
    /// Records, formatted by the Workers.
    Records(Arc<dyn Format>),
}

impl Output {
    /// Records in `format`, as a stream of bytes.
    pub fn records(
        name: impl Into<String>,
        format: Arc<dyn Format>,
        writer: impl SinkWriter + 'static,
    ) -> Self {
        Self::new(name, Tap::Records(format), ByteStream(writer))
    }

    /// An output that ends the run when its target fails.
    pub fn new(name: impl Into<String>, tap: Tap, target: impl Target + 'static) -> Self {
        Self {
            name: name.into(),
            tap,
            target: Box::new(target),
            policy: SinkPolicy::default(),
        }
    }
}

impl Tap {
    /// The view that decoders have to emit for it, if it needs any.
    pub fn view(&self) -> Option<View> {
        match self {
            Self::Events(_) => None,
            Self::Records(format) => Some(format.view()),
        }
    }

    /// The bytes before the first record of a new target.
    pub fn beginning(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Self::Events(format) => format.begin(&mut bytes),
            Self::Records(format) => format.begin(&mut bytes),
        }
        bytes
    }
}
