use super::*;
use crate::event::{SecretLabel, SecretValue};

#[test]
fn key_logs_are_read_line_by_line() {
    let random = "ab".repeat(32);
    let secret = "0c".repeat(48);
    let mut keys = KeyLog::default();
    let added = keys.add(
        format!(
            "# comment\r\n\nCLIENT_RANDOM {random} {secret}\r\nEXPORTER_SECRET {random} {secret}\nnonsense\n\
             CLIENT_RANDOM {random} 0\nSERVER_TRAFFIC_SECRET_0  {random}  {secret}"
        )
        .as_bytes(),
    );
    assert_eq!(
        added,
        Added {
            secrets: 2,
            malformed: 2,
            refused: 0
        }
    );
    let found = keys.get(&[0xAB; 32], SecretLabel::Master).unwrap();
    assert_eq!(found.as_bytes(), [0x0C; 48]);
    assert!(keys.get(&[0xAB; 32], SecretLabel::ClientTraffic0).is_none());
    assert!(!format!("{keys:?}").contains("0c"));
}

/// The vectors of RFC 8448 §3: keys of a handshake secret.
#[test]
fn keys_of_tls_1_3_are_those_of_the_rfc() {
    let secret = from_hex("b67b7d690cc16c4e75e54213cb2d37b4e9c912bcded9105d42befd59d391ad38");
    let secret = SecretValue::new(&secret).unwrap();
    let mut key = [0; 16];
    assert!(derive::expand_label(
        derive::Hash::Sha256,
        &secret,
        b"key",
        &mut key
    ));
    assert_eq!(key.as_slice(), from_hex("3fce516009c21727d0f2e4e86ee403bc"));
    let mut iv = [0; 12];
    derive::expand_label(derive::Hash::Sha256, &secret, b"iv", &mut iv);
    assert_eq!(iv.as_slice(), from_hex("5d313eb2671276ee13000b30"));
}

fn from_hex(digits: &str) -> Vec<u8> {
    (0..digits.len() / 2)
        .map(|at| u8::from_str_radix(&digits[at * 2..at * 2 + 2], 16).unwrap())
        .collect()
}

#[test]
fn whatever_comes_in_is_bounded_and_named() {
    let keys = KeyLog::default();
    let mut out = Vec::new();
    let mut session = Session::default();
    session.feed(
        &keys,
        crate::Direction::Write,
        b"GET / HTTP/1.1\r\n\r\n",
        &mut out,
    );
    assert_eq!(session.obstacle(), Some(Obstacle::NoHandshake));
    let mut session = Session::default();
    let record = [&b"\x17\x03\x03\x40\x00"[..], &vec![7; 0x4000]].concat();
    for _ in 0..100 {
        session.feed(&keys, crate::Direction::Read, &record, &mut out);
        assert!(session.held() < 600_000);
    }
    assert_eq!(session.obstacle(), Some(Obstacle::NoHandshake));
    assert!(out.is_empty());
}

/// The server's records wait for the client's hello, which is not in the capture.
#[test]
fn a_gap_behind_records_that_wait_is_the_end() {
    let keys = KeyLog::default();
    let mut out = Vec::new();
    let mut session = Session::default();
    let records = b"\x16\x03\x03\x00\x02\x0E\x00\x16\x03\x03\x00\x02\x0E\x00\x16\x03\x03";
    session.feed(&keys, crate::Direction::Read, records, &mut out);
    assert_eq!(session.held(), records.len());
    session.gap(&keys, crate::Direction::Read, 100, &mut out);
    assert_eq!(session.obstacle(), Some(Obstacle::NoHandshake));
    assert_eq!((session.held(), out.len()), (0, 0));
}
