//! Captures of packets: what is in them comes out whatever happens to the packets on their way.

use std::collections::BTreeMap;

use ecapture_protocols::dissect::{Capture, Reason, Tally};
use ecapture_protocols::pcapng::{
    Block, InterfaceBlock, LinkType, PacketBlock, Reader, SecretsType, SectionBlock, Step, Writer,
};
use ecapture_protocols::tls::Obstacle;
use ecapture_protocols::{CapturedEvent, Direction};

const SUITES: &[u8] = include_bytes!("../../../tests/fixtures/packets-suites/capture.pcapng");
const HANDSHAKES: &[u8] = include_bytes!("../../../tests/fixtures/packets-handshakes/capture.pcapng");
const HANDSHAKE_KEYS: &[u8] = include_bytes!("../../../tests/fixtures/packets-handshakes/keys.log");
const CUT: &[u8] = include_bytes!("../../../tests/fixtures/packets-cut/capture.pcap");
const CUT_KEYS: &[u8] = include_bytes!("../../../tests/fixtures/packets-cut/keys.log");

/// A packet that owns its bytes.
#[derive(Debug, Clone)]
struct Owned {
    link_type: LinkType,
    timestamp_ns: u64,
    original_length: u32,
    data: Vec<u8>,
}

/// The packets and secrets of a file.
fn contents(file: &[u8]) -> (Vec<Owned>, Vec<u8>) {
    let (mut packets, mut keys) = (Vec::new(), Vec::new());
    let mut reader = Reader::default();
    let mut at = 0;
    while let Step::Block { length, block } = reader.read(&file[at..]).expect("a capture") {
        at += length;
        match block {
            Block::Packet(packet) => packets.push(Owned {
                link_type: packet.link_type,
                timestamp_ns: packet.timestamp_ns.expect("a time"),
                original_length: packet.original_length,
                data: packet.data.to_vec(),
            }),
            Block::Secrets { secrets, .. } => keys.extend_from_slice(secrets),
            _ => {}
        }
    }
    assert_eq!(at, file.len());
    (packets, keys)
}

/// A file of these packets, with an interface for each link type, and the secrets first.
fn file(packets: &[Owned], keys: &[u8]) -> Vec<u8> {
    let writer = Writer::default();
    let mut out = Vec::new();
    writer.section(&SectionBlock::default(), &mut out);
    writer.secrets(SecretsType::TLS_KEY_LOG, keys, &mut out);
    let mut links: Vec<LinkType> = Vec::new();
    for packet in packets {
        if !links.contains(&packet.link_type) {
            links.push(packet.link_type);
            let interface = InterfaceBlock {
                link_type: packet.link_type,
                snap_length: 0,
                name: None,
                description: None,
                filter: None,
                comment: None,
            };
            writer.interface(&interface, &mut out);
        }
        let interface = links.iter().position(|link| *link == packet.link_type);
        let block = PacketBlock {
            interface: u32::try_from(interface.expect("just added")).expect("few"),
            timestamp_ns: packet.timestamp_ns,
            original_length: packet.original_length,
            data: &packet.data,
            flags: None,
            drops: None,
            comment: "",
        };
        writer.packet(&block, &mut out);
    }
    out
}

/// What went through each connection, by client, server and direction; `<3>` stands for missing bytes.
type Streams = BTreeMap<(String, u8), Vec<u8>>;

fn streams(packets: &[Owned], keys: &[u8]) -> (Streams, Tally) {
    let file = file(packets, keys);
    let mut capture = Capture::default();
    capture.put_in_order();
    let mut reader = Reader::default();
    let (mut at, mut events) = (0, Vec::new());
    while let Step::Block { length, block } = reader.read(&file[at..]).expect("a capture") {
        at += length;
        match block {
            Block::Packet(packet) => capture.packet(&packet, &mut events),
            Block::Secrets { secrets, .. } => {
                capture.add_keys(secrets);
            }
            _ => {}
        }
    }
    let tally = capture.finish(&mut events);
    let mut streams = Streams::new();
    let mut ends = BTreeMap::new();
    for event in events {
        let CapturedEvent::Data(data) = event else {
            continue;
        };
        let key = (
            data.socket.expect("a socket").tuple.to_string(),
            data.direction.data_type(),
        );
        let stream = streams.entry(key.clone()).or_default();
        let offset = data.stream_offset.expect("an offset");
        let end = ends.entry(key).or_insert(offset);
        if *end != offset {
            let missing = offset
                .checked_sub(*end)
                .map_or("?".into(), |bytes| bytes.to_string());
            stream.extend_from_slice(format!("<{missing}>").as_bytes());
        }
        stream.extend_from_slice(&data.payload);
        *end = offset + data.payload.len() as u64;
    }
    (streams, tally)
}

/// What is in an untouched file.
fn suites() -> (Vec<Owned>, Vec<u8>, Streams) {
    let (packets, keys) = contents(SUITES);
    let (expected, tally) = streams(&packets, &keys);
    assert_eq!(tally.decrypted, 15);
    assert_eq!(tally.not_shown, BTreeMap::new());
    assert!(!tally.has_losses());
    assert_eq!(expected.len(), 30);
    (packets, keys, expected)
}

/// Where the IP packet begins.
fn network(packet: &Owned) -> usize {
    match packet.link_type {
        LinkType::ETHERNET => 14,
        LinkType::LINUX_SLL => 16,
        _ => 20,
    }
}

fn as_raw(packet: &Owned) -> Owned {
    Owned {
        link_type: LinkType::RAW,
        data: packet.data[network(packet)..].to_vec(),
        ..packet.clone()
    }
}

#[test]
fn every_suite_is_decrypted() {
    let (.., streams) = suites();
    let requests: Vec<String> = streams
        .iter()
        .filter(|((_, direction), _)| *direction == Direction::Write.data_type())
        .map(|(_, bytes)| {
            String::from_utf8_lossy(bytes)
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned()
        })
        .collect();
    for expected in [
        "GET /TLS_AES_128_GCM_SHA256 HTTP/1.1",
        "GET /TLS_AES_256_GCM_SHA384 HTTP/1.1",
        "GET /TLS_CHACHA20_POLY1305_SHA256 HTTP/1.1",
        "GET /groups HTTP/1.1",
        "GET /six HTTP/1.1",
        "GET /any?n=3000 HTTP/1.1",
        "GET /sll?n=2000 HTTP/1.1",
        "PRI * HTTP/2.0",
    ] {
        assert!(
            requests.iter().any(|line| line == expected),
            "{expected}: {requests:?}"
        );
    }
    let bodies: Vec<_> = streams
        .values()
        .filter_map(|bytes| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let (_, body) = text.split_once("\r\n\r\nbody=")?;
            Some(body.to_owned())
        })
        .collect();
    for suite in [
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-ECDSA-AES128-SHA",
        "ECDHE-ECDSA-AES256-SHA384",
        "ECDHE-ECDSA-AES128-SHA256",
    ] {
        let count = bodies.iter().filter(|body| *body == suite).count();
        assert_eq!(count, 2, "{suite}: sent and echoed: {bodies:?}");
    }
}

/// KeyUpdate of both sides, early data, a resumed session of TLS 1.2, a MAC that is encrypted.
#[test]
fn handshakes_of_all_kinds_are_followed() {
    let (packets, _) = contents(HANDSHAKES);
    let (streams, tally) = streams(&packets, HANDSHAKE_KEYS);
    assert_eq!((tally.decrypted, tally.gaps), (7, 0), "{tally:?}");
    assert!(!tally.has_losses(), "{tally:?}");
    let all: Vec<&[u8]> = streams.values().map(Vec::as_slice).collect();
    for expected in [
        &b"hello one\nhello two\nhello three\n"[..],
        b"eno olleh\nowt olleh\neerht olleh\n",
        b"GET /early HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert!(all.contains(&expected), "{}", expected.escape_ascii());
    }
    let small = all
        .iter()
        .filter(|bytes| bytes.ends_with(b"small text\n"))
        .count();
    assert_eq!(small, 3);
}

#[test]
fn reordered_packets_are_put_in_order() {
    let (packets, keys, expected) = suites();
    for distance in [1, 2, 3] {
        let mut packets = packets.clone();
        for at in (0..packets.len().saturating_sub(distance)).step_by(distance + 1) {
            packets.swap(at, at + distance);
        }
        let (found, tally) = streams(&packets, &keys);
        assert!(found == expected, "{distance}: {tally:?}");
    }
}

#[test]
fn packets_that_are_there_twice_count_once() {
    let (packets, keys, expected) = suites();
    // As when two interfaces see them, and as when they are sent again.
    let twice: Vec<_> = packets
        .iter()
        .flat_map(|packet| [packet.clone(), as_raw(packet)])
        .collect();
    assert!(streams(&twice, &keys).0 == expected);
    let (found, tally) = streams(&[&packets[..], &packets[packets.len() / 2..]].concat(), &keys);
    assert!(found == expected, "{tally:?}");
}

#[test]
fn link_layers_make_no_difference() {
    let (packets, keys, expected) = suites();
    let wrapped = |link_type: LinkType, before: &dyn Fn(u16) -> Vec<u8>| {
        let packets: Vec<_> = packets
            .iter()
            .map(|packet| {
                let mut raw = as_raw(packet);
                let protocol = if raw.data[0] >> 4 == 4 { 0x0800 } else { 0x86DD };
                raw.data = [before(protocol), raw.data].concat();
                raw.original_length = u32::try_from(raw.data.len()).expect("short");
                raw.link_type = link_type;
                raw
            })
            .collect();
        assert!(streams(&packets, &keys).0 == expected, "{link_type:?}");
    };
    wrapped(LinkType::RAW, &|_| Vec::new());
    wrapped(LinkType::NULL, &|_| vec![2, 0, 0, 0]);
    wrapped(LinkType::LOOP, &|_| vec![0, 0, 0, 2]);
    wrapped(LinkType::ETHERNET, &|protocol| {
        [&[0; 12][..], &[0x81, 0, 0, 42], &protocol.to_be_bytes()].concat()
    });
    wrapped(LinkType::ETHERNET, &|protocol| {
        [
            &[0; 12][..],
            &[0x88, 0xA8, 0, 7, 0x81, 0, 0, 42],
            &protocol.to_be_bytes(),
        ]
        .concat()
    });
}

/// IPv4 packets in fragments of 400 bytes, the last one first.
#[test]
fn fragments_are_put_together() {
    let (packets, keys, expected) = suites();
    let fragments: Vec<_> = packets
        .iter()
        .flat_map(|packet| fragmented(&as_raw(packet)))
        .collect();
    assert!(fragments.len() > packets.len() + 20);
    let (found, tally) = streams(&fragments, &keys);
    assert!(found == expected, "{tally:?}");
    // One fragment of each is missing.
    let some: Vec<_> = fragments
        .iter()
        .filter(|packet| packet.data[6] & 0x20 == 0)
        .cloned()
        .collect();
    let (_, tally) = streams(&some, &keys);
    assert!(tally.fragments_lost > 0 && tally.has_losses());
}

fn fragmented(packet: &Owned) -> Vec<Owned> {
    if packet.data[0] != 0x45 || packet.data.len() <= 420 {
        return vec![packet.clone()];
    }
    let total = usize::from(u16::from_be_bytes([packet.data[2], packet.data[3]]));
    let (header, payload) = packet.data[..total].split_at(20);
    let pieces: Vec<_> = payload.chunks(400).enumerate().collect();
    let last = pieces.len() - 1;
    let fragment = |&(number, piece): &(usize, &[u8])| {
        let mut data = [header, piece].concat();
        let length = u16::try_from(data.len()).expect("short");
        data[2..4].copy_from_slice(&length.to_be_bytes());
        let more = if number < last { 0x2000 } else { 0 };
        let place = u16::try_from(number * 50).expect("short") | more;
        data[6..8].copy_from_slice(&place.to_be_bytes());
        Owned {
            original_length: length.into(),
            data,
            ..packet.clone()
        }
    };
    pieces.iter().rev().map(fragment).collect()
}

/// Each packet in turn is not in the capture: everything else still comes, or is named.
#[test]
fn a_missing_packet_costs_what_it_carried_and_no_more() {
    let (packets, keys, expected) = suites();
    let mut with_gap = 0;
    for missing in 0..packets.len() {
        let mut packets = packets.clone();
        packets.remove(missing);
        let (found, tally) = streams(&packets, &keys);
        let same = expected
            .iter()
            .filter(|(key, bytes)| found.get(*key) == Some(bytes))
            .count();
        assert!(same >= expected.len() - 2, "packet {missing}: {tally:?}");
        if found != expected {
            assert!(tally.has_losses(), "packet {missing}: {tally:?}");
            with_gap += usize::from(tally.gaps > 0);
        }
        for (key, bytes) in found {
            let is_whole = expected[&key] == bytes;
            assert!(
                is_whole != has_mark(&bytes),
                "packet {missing}: {key:?}: {tally:?}"
            );
        }
    }
    assert!(with_gap > 10, "{with_gap}");
}

/// Returns true if bytes are missing according to their offsets.
fn has_mark(bytes: &[u8]) -> bool {
    bytes
        .windows(2)
        .any(|pair| pair[0] == b'<' && (pair[1] == b'?' || pair[1].is_ascii_digit()))
}

/// Times go back where a program captures several interfaces; an answer is not from before its request.
#[test]
fn times_do_not_go_back_a_little() {
    let (mut packets, keys) = contents(SUITES);
    let times = |packets: &[Owned]| -> Vec<u64> {
        let file = file(packets, &keys);
        let (mut capture, mut reader) = (Capture::default(), Reader::default());
        let (mut at, mut events) = (0, Vec::new());
        while let Step::Block { length, block } = reader.read(&file[at..]).expect("a capture") {
            at += length;
            match block {
                Block::Packet(packet) => capture.packet(&packet, &mut events),
                Block::Secrets { secrets, .. } => drop(capture.add_keys(secrets)),
                _ => {}
            }
        }
        events.iter().map(CapturedEvent::timestamp_ns).collect()
    };
    let ordered = times(&packets);
    for packet in packets.iter_mut().skip(3).step_by(5) {
        packet.timestamp_ns -= 300_000_000;
    }
    let found = times(&packets);
    assert!(found.is_sorted() && found != ordered, "{found:?}");
    // One that is long before the others is of another capture, or the clock was set.
    for packet in packets.iter_mut().rev().take(10) {
        packet.timestamp_ns -= 5_000_000_000_000;
    }
    assert!(!times(&packets).is_sorted());
}

/// As dumpcap writes two interfaces in turns, if every other packet is of the first one.
#[test]
fn packets_of_several_interfaces_are_put_in_order() {
    let (mut packets, keys, expected) = suites();
    for (number, packet) in (0..).zip(&mut packets) {
        packet.timestamp_ns = 1_000_000_000_000 + number * 1_000_000;
    }
    let in_turns = packets.chunks(200).flat_map(|some| {
        // What has another link type is of another interface.
        let first = some.iter().step_by(2).map(as_raw);
        first.chain(some.iter().skip(1).step_by(2).cloned())
    });
    let in_turns: Vec<_> = in_turns.collect();
    let (found, tally) = streams(&in_turns, &keys);
    assert!(found == expected, "{tally:?}");
    assert_eq!(tally.gaps, 0);
}

/// Packets are cut after 1000 bytes: a record with a hole is a gap, and what follows it is there.
#[test]
fn a_snap_length_leaves_gaps_of_known_length() {
    let (packets, _) = contents(CUT);
    let (streams, tally) = streams(&packets, CUT_KEYS);
    assert_eq!((tally.decrypted, tally.gaps), (2, 2), "{tally:?}");
    for ((name, direction), bytes) in streams {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if direction == Direction::Read.data_type() {
            let (before, after) = text
                .split_once("<5035>")
                .unwrap_or_else(|| panic!("{name}: {text}"));
            assert!(before.contains("/one?n=20"), "{before}");
            assert!(after.contains("/three?n=20"), "{after}");
        } else {
            assert_eq!(text.matches("GET /").count(), 3, "{text}");
        }
    }
}

#[test]
fn what_cannot_be_decrypted_is_counted_by_its_reason() {
    let (packets, keys, _) = suites();
    let only = |tally: &Tally| {
        let rows: Vec<_> = tally.not_shown.iter().collect();
        let [(&Reason::Tls(reason), row)] = rows[..] else {
            panic!("{tally:?}");
        };
        assert!(tally.has_losses());
        (reason, row.connections, row.first.len())
    };
    let (found, tally) = streams(&packets, b"");
    assert_eq!(only(&tally), (Obstacle::NoKey, 15, 5));
    assert!(found.is_empty());
    // The secrets of other connections under the randoms of these.
    let text = String::from_utf8(keys.clone()).expect("text");
    let wrong: String = text
        .lines()
        .filter_map(|line| {
            let (first, secret) = line.rsplit_once(' ')?;
            Some(format!("{first} {}\n", secret.chars().rev().collect::<String>()))
        })
        .collect();
    let (_, tally) = streams(&packets, wrong.as_bytes());
    assert_eq!(only(&tally), (Obstacle::WrongKey, 15, 5));
    // Without the packets of the handshakes.
    let late: Vec<_> = packets
        .iter()
        .filter(|packet| !is_handshake(&as_raw(packet).data))
        .cloned()
        .collect();
    let (_, tally) = streams(&late, &keys);
    assert_eq!(only(&tally).0, Obstacle::NoHandshake);
}

/// SYNs, and segments whose payload begins with a handshake record.
fn is_handshake(ip: &[u8]) -> bool {
    let header = if ip[0] >> 4 == 4 { 20 } else { 40 };
    let tcp = &ip[header..];
    let payload = &tcp[usize::from(tcp[12] >> 4) * 4..];
    tcp[13] & 2 != 0 || payload.starts_with(&[22, 3])
}

#[test]
fn captures_of_plaintext_are_shown_as_they_are() {
    let mut packets = Vec::new();
    let mut segment = |from: u16, to: u16, sequence: u32, payload: &[u8]| {
        let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 1];
        ip.extend_from_slice(&from.to_be_bytes());
        ip.extend_from_slice(&to.to_be_bytes());
        ip.extend_from_slice(&sequence.to_be_bytes());
        ip.extend_from_slice(&[0, 0, 0, 0, 0x50, 0x18, 0, 0, 0, 0, 0, 0]);
        ip.extend_from_slice(payload);
        let length = u16::try_from(ip.len()).expect("short");
        ip[2..4].copy_from_slice(&length.to_be_bytes());
        packets.push(Owned {
            link_type: LinkType::RAW,
            timestamp_ns: 1,
            original_length: length.into(),
            data: ip,
        });
    };
    // The sequence numbers wrap; what the server says is captured first.
    segment(80, 4000, 5, b"HTTP/1.1 200 OK\r\n\r\n");
    segment(4000, 80, u32::MAX - 3, b"GET / HTTP/1.1\r\n");
    segment(4000, 80, 12, b"\r\n");
    segment(5000, 25, 7, b"220 mail\r\n");
    let (found, tally) = streams(&packets, b"");
    assert_eq!((tally.plain, tally.not_shown[&Reason::Other].connections), (1, 1));
    assert!(!tally.has_losses());
    let name = "10.0.0.1:4000-10.0.0.1:80".to_owned();
    assert_eq!(found[&(name.clone(), 0)], b"HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(found[&(name, 1)], b"GET / HTTP/1.1\r\n\r\n");
}

/// Damaged packets, a byte at a time: nothing panics, and what other packets carry is there.
#[test]
fn damaged_packets_do_no_harm() {
    let (packets, keys, expected) = suites();
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    for _ in 0..300 {
        let mut packets = packets.clone();
        for _ in 0..5 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let number = usize::try_from(random >> 32).expect("64 bits") % packets.len();
            let data = &mut packets[number].data;
            let at = usize::try_from(random & 0xFFFF).expect("16 bits") % data.len();
            data[at] ^= u8::try_from(random >> 20 & 0xFF).expect("8 bits") | 1;
        }
        let (found, tally) = streams(&packets, &keys);
        let same = expected
            .iter()
            .filter(|(key, bytes)| found.get(*key) == Some(bytes))
            .count();
        assert!(same + 12 >= expected.len(), "{same}: {tally:?}");
    }
}
