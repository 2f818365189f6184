//! Events as they arrive in a body.

use ecapture_protocols::Limits;
use ecapture_protocols::sse::SseDecoder;

use super::{Bencher, Bytes, MESSAGES, measure};

#[divan::bench]
fn ours(bencher: Bencher<'_, '_>) {
    let event = |index| {
        Bytes::from(format!(
            "event: tick\nid: {index}\ndata: {{\"price\":101.25}}\n\n"
        ))
    };
    let events: Vec<Bytes> = (0..MESSAGES).map(event).collect();
    let mut found = Vec::new();
    measure(bencher, &events, |events| {
        let mut decoder = SseDecoder::new(&Limits::default());
        found.clear();
        for event in events {
            decoder.push(event, &mut found);
        }
        assert_eq!(found.len(), MESSAGES);
    });
}
