//! Recorded directions of HTTP/2 connections, and ways to drive a decoder over them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ecapture_protocols::decoder::Skipped;
use ecapture_protocols::http2::{Http2Decoder, starts_connection};
use ecapture_protocols::recording::original::OriginalLine;
use ecapture_protocols::{Content, Limits, Options, Output, StreamDecoder, View};

pub(crate) const TEXT: View = View::Text;
pub(crate) const STRUCTURED: View = View::Structured { frames: false };

/// One direction of one connection, as events.
pub(crate) struct Half {
    pub(crate) fd: u32,
    pub(crate) data_type: u8,
    pub(crate) events: Vec<Bytes>,
}

impl Half {
    pub(crate) fn bytes(&self) -> Bytes {
        Bytes::from(self.events.concat())
    }
}

/// Returns the folder of recorded cases; otherwise prints why nothing is tested and returns `None`.
#[expect(clippy::print_stdout, reason = "a test that tests nothing says so")]
pub(crate) fn oracle() -> Option<PathBuf> {
    let shared = std::env::var_os("ECAPTURE_SHARED");
    if shared.is_none() {
        println!("ECAPTURE_SHARED is not set: the recorded cases are not tested");
    }
    Some(Path::new(&shared?).join("fixtures/oracle"))
}

/// All directions in a case that are HTTP/2 from their first byte on.
pub(crate) fn halves(case: &Path) -> Vec<Half> {
    let mut halves = BTreeMap::new();
    for line in std::fs::read(case.join("events.jsonl"))
        .unwrap()
        .split(|&byte| byte == b'\n')
    {
        if line.is_empty() {
            continue;
        }
        let fields: serde_json::Value = serde_json::from_slice(line).unwrap();
        let number = |name: &str| fields[name].as_u64().unwrap();
        let Some(file) = OriginalLine::parse(line).unwrap().payload_file() else {
            continue;
        };
        let mut payload = std::fs::read(case.join(file)).unwrap();
        payload.truncate(usize::try_from(number("DataLen")).unwrap());
        let key = (number("Pid"), number("Fd"), number("DataType"));
        halves
            .entry(key)
            .or_insert_with(Vec::new)
            .push(Bytes::from(payload));
    }
    let halves = halves.into_iter().map(|((_, fd, data_type), events)| Half {
        fd: u32::try_from(fd).unwrap(),
        data_type: u8::try_from(data_type).unwrap(),
        events,
    });
    halves.filter(|half| starts_connection(&half.bytes())).collect()
}

/// Returns the names of the cases with HTTP/2.
pub(crate) fn case_names(oracle: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(oracle)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("h2-") || name == "grpc-01" || name == "up-01-testdata")
        .collect();
    names.sort();
    names
}

pub(crate) fn options(view: View) -> Options {
    Options {
        view,
        ..Options::default()
    }
}

/// A decoder of messages from the beginning of a connection, within these limits.
pub(crate) fn limited(limits: Limits) -> Http2Decoder {
    let view = STRUCTURED;
    alone(Http2Decoder::new(
        Options {
            limits,
            view,
            ..Options::default()
        },
        true,
    ))
}

/// Returns the messages of a direction of a connection, fed in these pieces.
pub(crate) fn decode<P: AsRef<[u8]>>(view: View, pieces: &[P]) -> Vec<Content> {
    decode_all(view, pieces).0
}

/// Messages, and the bytes skipped.
pub(crate) fn decode_all<P: AsRef<[u8]>>(view: View, pieces: &[P]) -> (Vec<Content>, Vec<Skipped>) {
    let mut decoder = Http2Decoder::new(options(view), true);
    let mut output = Output::default();
    for piece in pieces {
        decoder.feed(&Bytes::copy_from_slice(piece.as_ref()), 0, &mut output);
    }
    decoder.close(&mut output);
    let table = options(view).limits.hpack_table_bytes;
    assert!(
        decoder.buffered_bytes() <= table,
        "nothing but the dynamic table stays"
    );
    (contents(output.messages), output.skipped)
}

pub(crate) fn contents(messages: Vec<ecapture_protocols::Message>) -> Vec<Content> {
    messages.into_iter().map(|message| message.content).collect()
}

/// Returns the decoder of a direction whose other direction reports no requests, so that no response
/// waits for one.
pub(crate) fn alone(mut decoder: Http2Decoder) -> Http2Decoder {
    for _ in 0..4 {
        decoder.notice_overdue(&mut Output::default());
    }
    decoder
}
