//! Feeds each input of a fuzz corpus to its decoder, repeated 1, 2, 4 and 8 times, whole and byte by byte:
//! `repeated FOLDER`. `tests/bench/linear` runs it under callgrind, which dumps its counts after each call of
//! [`measured`], and compares them.
#![expect(
    clippy::print_stdout,
    reason = "the order of the measured calls is the output"
)]

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ecapture_protocols::http2::Http2Decoder;
use ecapture_protocols::websocket::WebSocketDecoder;
use ecapture_protocols::{BodyBuilder, Limits, Options, Output, StreamDecoder, View, stream_decoder};

/// The longest inputs of each decoder; short ones seldom have a shape of their own.
const INPUTS: usize = 4;
/// An input is repeated to this length before anything is measured.
const LEAST: usize = 1024;
/// The bytes that steer the fuzz target come first.
const STEERING: usize = 4;
/// Bytes of an event.
const EVENT: usize = 16 * 1024;

fn main() {
    let folder = std::env::args().nth(1).expect("usage: repeated FOLDER");
    for target in [
        "content_coding",
        "detection",
        "http1",
        "http2",
        "sse",
        "websocket",
    ] {
        for path in longest(&Path::new(&folder).join(target)) {
            let input = fs::read(&path).expect("was listed just now");
            let input = input.get(STEERING..).unwrap_or_default();
            if input.is_empty() {
                continue;
            }
            let unit = input.repeat(LEAST.div_ceil(input.len()));
            for size in [EVENT, 1] {
                for times in [1, 2, 4, 8] {
                    println!("{} {size} {times}", path.display());
                    measured(target, &Bytes::from(unit.repeat(times)), size);
                }
            }
        }
    }
}

fn longest(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the corpus's folder");
    let mut paths: Vec<(u64, PathBuf)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.metadata().ok()?.len(), entry.path()))
        })
        .collect();
    paths.sort();
    paths
        .into_iter()
        .rev()
        .take(INPUTS)
        .map(|(_, path)| path)
        .collect()
}

#[inline(never)]
fn measured(target: &str, bytes: &Bytes, size: usize) {
    let options = Options {
        view: View::Structured { frames: false },
        ..Options::default()
    };
    let start: &[u8] = match target {
        "http1" => b"HTTP/1.1 200 OK\r\n",
        "sse" => b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
        _ => b"",
    };
    let decoder: Box<dyn StreamDecoder> = match target {
        "content_coding" => return decode_body(bytes, size),
        "http2" => Box::new(Http2Decoder::new(options, true)),
        "websocket" => Box::new(WebSocketDecoder::attached(options)),
        _ => stream_decoder(options),
    };
    feed(decoder, start, bytes, size);
}

fn feed(mut decoder: Box<dyn StreamDecoder>, start: &[u8], bytes: &Bytes, size: usize) {
    let mut output = Output::default();
    if !start.is_empty() {
        decoder.feed(&Bytes::copy_from_slice(start), 1, &mut output);
    }
    let mut rest = bytes.clone();
    while !rest.is_empty() {
        let event = rest.split_to(size.min(rest.len()));
        decoder.feed(&event, 1, &mut output);
        output.clear();
    }
    decoder.close(&mut output);
}

fn decode_body(bytes: &Bytes, size: usize) {
    for coding in ["gzip", "deflate", "br", "zstd"] {
        let mut body = BodyBuilder::new(Some(coding.as_bytes()), None, None, &Limits::default());
        let mut rest = bytes.clone();
        while !rest.is_empty() {
            body.push(&rest.split_to(size.min(rest.len())));
        }
        body.finish(true);
    }
}
