//! Whole connections, because no other parser reads only one direction of them.

use ecapture_protocols::View;
use ecapture_protocols::http2::Http2Decoder;

use super::{Bencher, Bytes, Output, STRUCTURED, header_blocks, measure, options, run};

const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// A HEADERS and a DATA frame per event.
fn requests() -> Vec<Bytes> {
    let blocks = header_blocks::blocks().into_iter().enumerate();
    let request = |(index, block): (usize, Bytes)| {
        let mut event = if index == 0 { SETTINGS.to_vec() } else { Vec::new() };
        frame(&mut event, 1, 4, index, &block);
        frame(&mut event, 0, 1, index, b"{\"count\":1,\"id\":123}");
        Bytes::from(event)
    };
    blocks.map(request).collect()
}

fn frame(event: &mut Vec<u8>, frame_type: u8, flags: u8, index: usize, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    event.extend_from_slice(&length[1..]);
    event.extend_from_slice(&[frame_type, flags]);
    event.extend_from_slice(&u32::try_from(index * 2 + 1).unwrap().to_be_bytes());
    event.extend_from_slice(payload);
}

#[divan::bench]
fn ours_as_messages(bencher: Bencher<'_, '_>) {
    let mut output = Output::default();
    measure(bencher, &requests(), |events| {
        run(
            &mut Http2Decoder::new(options(STRUCTURED), true),
            events,
            &mut output,
        );
    });
}

#[divan::bench]
fn ours_as_frames(bencher: Bencher<'_, '_>) {
    let mut output = Output::default();
    measure(bencher, &requests(), |events| {
        run(
            &mut Http2Decoder::new(options(View::Text), true),
            events,
            &mut output,
        );
    });
}
