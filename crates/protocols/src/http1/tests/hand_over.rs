//! Streams that another protocol takes over.

use super::*;

#[test]
fn upgrade_to_websocket_in_both_directions() {
    let mut responses = Stream::new(TEXT);
    responses.asked(&[MethodClass::Other]);
    responses.feed(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x02hi");
    assert_eq!(
        responses.close(),
        ["HTTP/1.1 101 Switching Protocols|", "websocket hi"]
    );
    let mut requests = Stream::new(TEXT);
    requests
        .feed(b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n")
        .feed(b"\x81")
        .feed(b"\x82\0\0\0\0hi");
    assert_eq!(requests.close(), ["GET /ws HTTP/1.1|", "websocket hi"]);
}

#[test]
fn a_refused_upgrade_stays_http() {
    requests(
        "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        &["GET /ws HTTP/1.1|", "GET / HTTP/1.1|"],
    );
}

#[test]
fn the_protocol_in_a_tunnel_is_detected() {
    in_any_pieces(
        &[MethodClass::Connect, MethodClass::Other],
        b"HTTP/1.1 200 Connected\r\nContent-Length: 5\r\n\r\n220 mail\r\n",
        &["HTTP/1.1 200 Connected|", "raw 220 mail\r\n"],
    );
    requests(
        "CONNECT h:25 HTTP/1.1\r\n\r\nEHLO me and you\r\n",
        &["CONNECT h:25 HTTP/1.1|", "raw EHLO me and you\r\n"],
    );
}

#[test]
fn nested_tunnels_do_not_recurse() {
    let tunnel = "HTTP/1.1 101 Next\r\nUpgrade: x\r\n\r\n";
    assert_eq!(
        Stream::new(TEXT).feed(tunnel.repeat(20_000)).close().len(),
        20_000
    );
}
