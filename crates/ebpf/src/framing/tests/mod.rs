extern crate std;

mod damaged;
mod frames;
mod http1;

use std::borrow::ToOwned as _;
use std::string::{String, ToString as _};
use std::vec::Vec;
use std::{format, vec};

use super::*;
use crate::limits::CHUNK_PAYLOAD;

const CLIENT: usize = 1;
const SERVER: usize = 0;

/// Looks at what is handed over of a call.
struct Checked<'bytes> {
    bytes: &'bytes [u8],
    sent: u64,
}

impl Call for Checked<'_> {
    fn read(&mut self, ahead: u64, window: &mut [u64; WINDOW_BYTES / 8], length: u32) -> bool {
        let bytes = &self.bytes[(self.sent + ahead) as usize..][..length as usize];
        for (word, bytes) in window.iter_mut().zip(bytes.chunks(8)) {
            let mut all = [0xEE; 8];
            all[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(all);
        }
        true
    }

    fn send(&mut self, _: bool, length: u64) {
        assert!(0 < length && length <= CHUNK_PAYLOAD as u64, "{length}");
        self.sent += length;
    }
}

struct Session {
    framing: Framing,
    positions: [u64; 2],
    joined_late: bool,
}

impl Session {
    fn new() -> Self {
        Self {
            framing: NEW_FRAMING,
            positions: [0; 2],
            joined_late: false,
        }
    }

    fn joined_late() -> Self {
        Self {
            joined_late: true,
            ..Self::new()
        }
    }

    /// What is handed over of a call.
    fn call(&mut self, direction: usize, bytes: &[u8]) -> Vec<u8> {
        self.call_readable(direction, bytes, usize::MAX)
    }

    fn call_readable(&mut self, direction: usize, bytes: &[u8], readable: usize) -> Vec<u8> {
        let position = self.positions[direction];
        if readable > bytes.len() {
            self.check_ranges(direction, position, bytes);
        }
        let mut sent = bytes.to_vec();
        let beginning = self.beginning(position, bytes);
        self.framing.leave_out(direction, &beginning, &mut sent, readable);
        self.positions[direction] += bytes.len() as u64;
        sent
    }

    fn beginning(&self, position: u64, bytes: &[u8]) -> Beginning {
        Beginning {
            position,
            length: bytes.len() as u64,
            may_lack_bytes: self.joined_late,
            sock: 0,
        }
    }

    /// All bytes are handed over, in order, in pieces and steps that are bounded.
    fn check_ranges(&self, direction: usize, position: u64, bytes: &[u8]) {
        let mut framing = self.framing;
        let beginning = self.beginning(position, bytes);
        framing.begin_call(direction, &beginning);
        let other = framing.streams[1 - direction];
        let stream = &mut framing.streams[direction];
        let mut call = Checked { bytes, sent: 0 };
        let most = 4 * bytes.len() + 4;
        let steps = (0..most).take_while(|_| !step(stream, &other, &mut call)).count();
        assert!(steps < most, "steps are bounded by the bytes");
        assert_eq!((stream.rest(), call.sent), (0, bytes.len() as u64));
    }

    /// Bytes that pass unseen.
    fn miss(&mut self, direction: usize, bytes: u64) {
        self.positions[direction] += bytes;
    }

    fn shown(&mut self, direction: usize, bytes: impl AsRef<[u8]>) -> String {
        let sent = self.call(direction, bytes.as_ref());
        let shown = sent.iter().map(|&byte| match byte {
            0 => "_".to_string(),
            b'\r' | b'\n' | b' '..=b'~' => char::from(byte).to_string(),
            _ => format!("<{byte:02x}>"),
        });
        shown.collect()
    }
}

/// Bytes in which an underscore stands for one of content, and what is handed over of them.
fn check(session: &mut Session, direction: usize, expected: &str) {
    let bytes = expected.replace('_', "x");
    assert_eq!(session.shown(direction, &bytes), expected);
}

/// The same in one call, in one call for each byte, and in two at every place, each time with other calls before.
fn check_split(before: &[(usize, &str)], direction: usize, expected: &str) {
    let prepared = || {
        let mut session = Session::new();
        for (direction, expected) in before {
            check(&mut session, *direction, expected);
        }
        session
    };
    let bytes = expected.replace('_', "x");
    for split in 0..bytes.len() {
        let mut session = prepared();
        let (first, second) = bytes.split_at(split);
        let shown = session.shown(direction, first) + &session.shown(direction, second);
        assert_eq!(shown, expected, "split at {split}");
    }
    let mut session = prepared();
    let shown: String = bytes
        .chars()
        .map(|byte| session.shown(direction, byte.to_string()))
        .collect();
    assert_eq!(shown, expected, "byte by byte");
}

const GET: &str = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
const HEAD_REQUEST: &str = "HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u32;
    [
        &length.to_be_bytes()[1..],
        &[kind, flags],
        &stream.to_be_bytes(),
        payload,
    ]
    .concat()
}

/// An HTTP/2 connection with every type of frame, and what is handed over of it.
fn frames() -> (Vec<u8>, Vec<u8>) {
    let sent = |content: &[u8], pad: &[u8]| {
        [
            frame(4, 0, 0, &[0, 3, 0, 0, 0, 100]),
            frame(1, 4, 1, b"\x82\x84"),
            frame(0, 0, 1, content),
            frame(0, 8, 1, &[pad, content].concat()),
            frame(0x2A, 0, 1, content),
            frame(9, 4, 1, b"\x88"),
            frame(0, 1, 1, b""),
            frame(7, 0, 0, &[0; 8]),
        ]
        .concat()
    };
    (sent(b"content", &[2]), sent(&[0; 7], &[2]))
}
