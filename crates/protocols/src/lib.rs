//! Passive protocol decoders for captured plaintext.
//!
//! Bytes of one direction of one connection go in, [`Message`]s come out. Nothing here knows a
//! runtime, a clock, a file or a socket, and nothing is `unsafe`: an actor, a test or a fuzzer can
//! drive a decoder.
//!
//! Where to start: [`event`] is what the capture delivers, [`decoder`] is the contract that every
//! protocol fulfils, [`message`] is what a decoder emits, and [`mod@format`] turns messages into
//! text or JSON Lines. Every bound is in [`limits`].
#![forbid(unsafe_code)]

pub mod body;
mod content_coding;
pub mod decoder;
mod detect;
pub mod event;
mod expansion;
pub mod format;
pub mod grpc;
mod http1;
pub mod http2;
pub mod limits;
pub mod message;
mod raw;
pub mod recording;
pub mod sse;
mod text;
pub mod websocket;
mod write;

pub use body::BodyBuilder;
pub use decoder::{Detection, Options, Output, PeerNotice, StreamDecoder, View};
pub use detect::stream_decoder;
pub use event::{
    AddressSource, CapturedEvent, Close, Comm, DataEvent, Direction, Fact, JoinedLate, Observed, Origin,
    Process, ProcessTls, Side, Socket, StreamOrigin, TlsVersion, Tuple,
};
pub use format::{EventFormat, Format, RecordEnd, Records};
pub use limits::Limits;
pub use message::{Content, Message};
pub use text::printable;
