//! Masked text messages, one per event.

use std::io::{self, Cursor, Read, Write};

use ecapture_protocols::websocket::WebSocketDecoder;
use tungstenite::protocol::{Role, WebSocket};

use super::{Bencher, Bytes, MESSAGES, Output, STRUCTURED, black_box, measure, options, run};

struct Pipe(Cursor<Vec<u8>>);

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn messages() -> Vec<Bytes> {
    let message = |index: usize| {
        let text =
            format!("{{\"sequence\":{index:06},\"symbol\":\"ECAP\",\"price\":101.25,\"volume\":4000}}");
        let key = index.to_be_bytes();
        let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).unwrap()];
        frame.extend_from_slice(&key[4..]);
        frame.extend(
            text.bytes()
                .zip(key[4..].iter().cycle())
                .map(|(byte, key)| byte ^ key),
        );
        Bytes::from(frame)
    };
    (0..MESSAGES).map(message).collect()
}

#[divan::bench]
fn ours(bencher: Bencher<'_, '_>) {
    let mut output = Output::default();
    measure(bencher, &messages(), |events| {
        run(
            &mut WebSocketDecoder::new(options(STRUCTURED)),
            events,
            &mut output,
        );
    });
}

#[divan::bench]
fn bare_tungstenite(bencher: Bencher<'_, '_>) {
    let wire = messages().concat();
    measure(bencher, &messages(), |_| {
        let pipe = Pipe(Cursor::new(wire.clone()));
        let mut socket = WebSocket::from_raw_socket(pipe, Role::Server, None);
        let messages = std::iter::from_fn(|| socket.read().ok()).map(black_box).count();
        assert_eq!(messages, MESSAGES);
    });
}
