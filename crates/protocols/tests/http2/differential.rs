//! Random HTTP/2 connections made and read by h2 on both ends, compared with the messages decoded.
//!
//! `ECAPTURE_DIFFERENTIAL` sets how many messages are compared (default 3000).

use crate::random::Random;
use crate::support::exchange::{Truth, connection, kind_name};
use crate::support::halves::{STRUCTURED, decode_all};
use bytes::Bytes;
use ecapture_protocols::Content;
use ecapture_protocols::message::{Field, Http2Message};

fn as_truth(message: &Http2Message) -> Truth {
    let mut fields = listed(&message.fields);
    fields.sort();
    let mut trailers = listed(&message.trailers);
    trailers.sort();
    assert_eq!(message.body.complete, message.reset.is_none(), "{message:?}");
    Truth {
        stream: message.stream,
        kind: kind_name(message.kind),
        pushed: message.pushed,
        fields,
        body: message.reset.is_none().then(|| message.body.data.clone()),
        trailers,
        reset: message.reset,
    }
}

fn listed(fields: &[Field]) -> Vec<(String, Vec<u8>)> {
    let listed = |field: &Field| {
        let name = String::from_utf8(field.name.clone().unwrap().to_vec()).unwrap();
        (name, field.value.clone().unwrap().to_vec())
    };
    fields.iter().map(listed).collect()
}

/// The messages of a half. A client resets what the server reset, and such frames are not messages.
fn messages(pieces: &[Bytes]) -> Vec<Truth> {
    let (contents, skipped) = decode_all(STRUCTURED, pieces);
    assert_eq!(skipped, []);
    let message = |content: &Content| match content {
        Content::Http2(message) => Some(as_truth(message)),
        _ => None,
    };
    let mut messages: Vec<Truth> = contents.iter().filter_map(message).collect();
    messages.sort();
    messages
}

#[test]
fn messages_are_those_that_h2_sent_and_received() {
    let wanted: usize = std::env::var("ECAPTURE_DIFFERENTIAL").map_or(3000, |wanted| wanted.parse().unwrap());
    let (mut compared, mut bytes, mut seed) = (0, 0, 0);
    while compared < wanted {
        let connection = connection(seed, 50);
        for (pieces, expected) in [
            (&connection.client, &connection.requests),
            (&connection.server, &connection.responses),
        ] {
            let found = messages(pieces);
            for (found, expected) in found.iter().zip(expected) {
                assert_eq!(found, expected, "seed {seed}");
            }
            assert_eq!(found.len(), expected.len(), "seed {seed}");
            let whole = pieces.concat();
            let split: Vec<Bytes> = Random::new(seed)
                .pieces(&whole, 3000)
                .into_iter()
                .map(Bytes::copy_from_slice)
                .collect();
            assert_eq!(messages(&split), found, "seed {seed}, split");
            compared += found.len();
            bytes += whole.len();
        }
        seed += 1;
    }
    println!("{compared} messages on {seed} connections, {bytes} bytes");
}
