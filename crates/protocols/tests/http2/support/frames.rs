//! Hand-made HTTP/2 frames.

use std::io::Write;

use bytes::Bytes;
use ecapture_protocols::event::{Direction, Origin, Process, StreamOrigin};
use ecapture_protocols::format::Text;
use ecapture_protocols::{Content, Format, Message};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;

/// The fields of a response that says nothing else.
pub(crate) const OK: &[(&str, &str)] = &[(":status", "200")];

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header block of literals without indexing.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "one octet of length");
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    block
}

pub(crate) fn headers(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, &block(fields))
}

pub(crate) fn data(stream: u32, flags: u8, content: &[u8]) -> Vec<u8> {
    frame(DATA, flags, stream, content)
}

pub(crate) fn text(contents: Vec<Content>) -> String {
    let origin = Origin {
        process: Process {
            pid: 1,
            tid: 1,
            uid: None,
            comm: "c".into(),
        },
        container_id: None,
        program: None,
        stream: Some(StreamOrigin {
            connection: 1,
            uuid: String::new(),
            direction: Direction::Read,
            fd: None,
            session: 0,
            socket: None,
            tls_version: None,
            joined_late: None,
            other_end: false,
        }),
    };
    let message = |content| Message {
        first_ns: 0,
        last_ns: 0,
        exchange: None,
        content,
    };
    let messages: Vec<Message> = contents.into_iter().map(message).collect();
    let out = Text::default().formatted(&origin, &messages);
    let text = String::from_utf8_lossy(&out).into_owned();
    text.replace("PID:1, Comm:c, Src::0, Dest::0,\n", "")
}

pub(crate) fn gzip(content: &[u8]) -> Bytes {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(content).unwrap();
    Bytes::from(encoder.finish().unwrap())
}
