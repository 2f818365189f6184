//! Our decoders beside bare parsers on the same bytes: `cargo bench -p ecapture-protocols --bench
//! decode`.
//!
//! Each group prints time, bytes and messages per second of ours and of the bare parser.
#![expect(clippy::unwrap_used, reason = "benchmarks fail by panicking")]

mod header_blocks;
mod http1;
mod http2;
mod server_sent_events;
mod websocket;

use std::hint::black_box;

use bytes::Bytes;
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use ecapture_protocols::{Options, Output, StreamDecoder, View};

/// Messages per iteration.
const MESSAGES: usize = 1000;
const STRUCTURED: View = View::Structured { frames: false };

fn main() {
    divan::main();
}

fn options(view: View) -> Options {
    Options {
        view,
        ..Options::default()
    }
}

/// Counts the bytes of `events` and runs `decode` over them.
fn measure(bencher: Bencher<'_, '_>, events: &[Bytes], mut decode: impl FnMut(&[Bytes])) {
    let bytes: usize = events.iter().map(Bytes::len).sum();
    let counted = bencher
        .counter(BytesCount::new(bytes))
        .counter(ItemsCount::new(MESSAGES));
    counted.bench_local(|| decode(events));
}

/// Feeds `events` to a new decoder and checks that every message came out.
fn run(decoder: &mut dyn StreamDecoder, events: &[Bytes], output: &mut Output) {
    let mut messages = 0;
    for event in events {
        decoder.feed(event, 1, output);
        messages += output.messages.len();
        black_box(&output.messages);
        output.clear();
    }
    assert!(messages >= MESSAGES, "{messages} messages");
}
