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
pub mod dissect;
pub mod event;
pub mod exchange;
mod expansion;
pub mod filter;
pub mod format;
pub mod grpc;
mod head;
mod hello;
mod http1;
pub mod http2;
pub mod limits;
pub mod message;
pub mod packet;
pub mod pcapng;
pub mod privacy;
mod raw;
pub mod recording;
pub mod redact;
pub mod sse;
pub mod stat;
mod text;
pub mod tls;
mod unwanted;
pub mod websocket;
mod write;

pub use body::BodyBuilder;
pub use decoder::{Detection, Options, Output, PeerNotice, StreamDecoder, View};
pub use detect::stream_decoder;
pub use event::{
    AddressSource, CapturedEvent, Close, Comm, CommandEnd, DataEvent, Direction, Fact, JoinedLate, Login,
    Missing, Observed, Origin, Process, ProcessTls, Secret, SecretLabel, SecretValue, Shell, ShellCommand,
    Side, Socket, SqlError, SqlOutcome, SqlParameter, SqlQuery, SqlRequest, SqlServer, StreamOrigin,
    TlsVersion, Tuple,
};
pub use exchange::{Asked, Exchange, Pairing};
pub use filter::{Filter, FilterError, Subject};
pub use format::{EventFormat, Format, RecordEnd, Records};
pub use limits::Limits;
pub use message::{Content, Message};
pub use text::printable;
pub use unwanted::Unwanted;
