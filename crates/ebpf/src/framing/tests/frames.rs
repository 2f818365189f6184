//! Frames of HTTP/2 and of WebSocket.

use super::*;

#[test]
fn frames_of_http_2() {
    let (bytes, expected) = frames();
    for preface in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""] {
        let bytes = [preface.as_bytes(), &bytes].concat();
        let expected = [preface.as_bytes(), &expected].concat();
        for split in 0..bytes.len() {
            let mut session = Session::new();
            let (first, second) = bytes.split_at(split);
            let sent = [session.call(SERVER, first), session.call(SERVER, second)].concat();
            assert_eq!(sent, expected, "{split}");
        }
    }
}

#[test]
fn frames_of_several_records() {
    for length in 0..13 {
        let mut session = Session::new();
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(1, 4, 1, &vec![b'h'; length]));
        for _ in 0..4_000 {
            bytes.extend(frame(8, 0, 0, &[0, 0, 0, 1]));
        }
        assert_eq!(session.call(CLIENT, &bytes), bytes, "{length}");
    }
}

#[test]
fn web_sockets() {
    let upgrade = "GET /chat HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    let switched = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
    let message = |content: &[u8]| {
        [
            &[0x81, 0x80 | content.len() as u8, 1, 2, 3, 4],
            content,
            &[0xC2, 126, 0, content.len() as u8],
            content,
            &[0x88, 2 + content.len() as u8, 3, 232],
            content,
            &[0x8A, 127, 0, 0, 0, 0, 0, 0, 0, content.len() as u8],
            content,
        ]
        .concat()
    };
    let (bytes, expected) = (message(b"content"), message(&[0; 7]));
    for split in 0..bytes.len() {
        for direction in [CLIENT, SERVER] {
            let mut session = Session::new();
            check(&mut session, CLIENT, upgrade);
            check(&mut session, SERVER, switched);
            let (first, second) = bytes.split_at(split);
            let sent = [session.call(direction, first), session.call(direction, second)].concat();
            assert_eq!(sent, expected, "{split}");
        }
    }
    // A server that does not switch.
    let mut session = Session::new();
    check(&mut session, CLIENT, upgrade);
    check(
        &mut session,
        SERVER,
        "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    );
    check(&mut session, CLIENT, GET);
}
