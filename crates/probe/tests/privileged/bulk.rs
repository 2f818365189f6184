//! Many bytes: all of them in order, or exactly counted.

use std::collections::BTreeMap;

use ecapture_probe::{CaptureConfig, Processes};
use ecapture_protocols::Direction::{Read, Write};

use crate::support::{Captured, Peer, capture, capture_late, config, output, peers, python, sorted_lines};

const MEBIBYTE: u64 = 1 << 20;

/// Runs the bulk client against the bulk server. Returns both process ids and the digests of the
/// written bytes, as the client and as the server say.
fn transfer(
    config: &CaptureConfig,
    connections: u32,
    bytes: u64,
    write: u64,
) -> Option<Captured<(u32, u32, Vec<String>)>> {
    let peers = peers(&["python3", "openssl"])?;
    let mut server = peers.server("bulk_server.py", &[&connections.to_string()]);
    let port = server.line();
    Some(capture(config, move |_| {
        let mut command = python("bulk_client.py");
        command.args([
            &port,
            &connections.to_string(),
            &bytes.to_string(),
            &write.to_string(),
        ]);
        let mut client = Peer::start(command);
        let digests = sorted_lines(&client.rest());
        assert_eq!(digests, sorted_lines(&server.rest()));
        (client.pid(), server.pid(), digests)
    }))
}

#[test]
fn sixteen_threads_with_writes_of_any_size() {
    let config = CaptureConfig {
        ring_bytes: 128 << 20,
        ..config(Processes::All)
    };
    let Some(captured) = transfer(&config, 16, 3_000_000, 0) else {
        return;
    };
    captured.assert_nothing_lost();
    let (client, server, digests) = &captured.result;
    assert_eq!(digests.len(), 16);
    assert_eq!(captured.digests(*client, Write), *digests);
    assert_eq!(captured.digests(*server, Read), *digests);
}

#[test]
fn one_write_of_a_mebibyte_and_one_of_twenty() {
    let config = CaptureConfig {
        ring_bytes: 64 << 20,
        ..config(Processes::All)
    };
    for bytes in [MEBIBYTE, 20 * MEBIBYTE] {
        let Some(captured) = transfer(&config, 1, bytes, bytes) else {
            return;
        };
        captured.assert_nothing_lost();
        let (client, server, digests) = &captured.result;
        assert_eq!(captured.digests(*client, Write), *digests);
        assert_eq!(captured.digests(*server, Read), *digests);
        let times: Vec<_> = captured
            .data(*client, Write)
            .iter()
            .map(|data| data.timestamp_ns)
            .collect();
        assert_eq!(times.first(), times.last(), "it was one call");
    }
}

/// The records in a ring that nobody reads while a server receives `total` bytes in writes of `write` bytes.
fn unread(ring_bytes: u32, total: u64, write: u64) -> Option<(u32, Captured<()>)> {
    let peers = peers(&["python3", "openssl"])?;
    let mut server = peers.server("bulk_server.py", &["1"]);
    let port = server.line();
    let config = CaptureConfig {
        ring_bytes,
        ..config(Processes::One(server.pid()))
    };
    let captured = capture_late(&config, |_| {
        let mut command = python("bulk_client.py");
        command.args([&port, "1", &total.to_string(), &write.to_string()]);
        let digests = output(&mut command);
        assert_eq!(digests, server.rest());
    });
    Some((server.pid(), captured))
}

#[test]
fn most_of_the_ring_is_payload() {
    let ring_bytes = 256 * 1024;
    let Some((_, captured)) = unread(ring_bytes, MEBIBYTE, 1300) else {
        return;
    };
    assert!(captured.counters.ring_full_records > 0);
    assert!(
        captured.counters.data_bytes > u64::from(ring_bytes) / 2,
        "{:?}",
        captured.counters
    );
}

#[test]
fn a_ring_that_is_too_small_loses_exactly_what_it_says() {
    let total = 4 * MEBIBYTE;
    let Some((pid, captured)) = unread(256 * 1024, total, 10_000) else {
        return;
    };
    let events = captured.data(pid, Read);
    let mut next = 0;
    let mut jumped = 0;
    for event in &events {
        let offset = event.stream_offset.unwrap();
        jumped += offset.checked_sub(next).unwrap();
        next = offset + event.payload.len() as u64;
    }
    let received: u64 = events.iter().map(|event| event.payload.len() as u64).sum();
    let counters = captured.counters;
    assert!(
        counters.ring_full_records > 0 && counters.ring_full_bytes > 0,
        "{counters:?}"
    );
    assert_eq!(received, counters.data_bytes);
    assert_eq!(received + counters.ring_full_bytes, total);
    assert_eq!(jumped + received + (total - next), total);
    assert_eq!(events.len() as u64, counters.data_records);
}

/// One process writes more than the ring holds, while nobody reads it.
#[test]
fn a_flood_leaves_room_for_others() {
    let Some(peers) = peers(&["python3", "openssl"]) else {
        return;
    };
    let mut flooded = peers.server("bulk_server.py", &["1"]);
    let mut innocent = peers.server("bulk_server.py", &["1"]);
    let (flooded_port, innocent_port) = (flooded.line(), innocent.line());
    let config = CaptureConfig {
        ring_bytes: 1 << 20,
        ..config(Processes::Set {
            follow_children: false,
        })
    };
    let (total, little) = (4 * MEBIBYTE, 30_000);
    let captured = capture_late(&config, |handle| {
        for server in [&flooded, &innocent] {
            handle.add_pid(server.pid()).unwrap();
        }
        for (port, bytes) in [(&flooded_port, total), (&innocent_port, little)] {
            let mut command = python("bulk_client.py");
            command.args([port, "1", &bytes.to_string(), "10000"]);
            output(&mut command);
        }
        handle.ring_users()
    });
    let bytes_of = |pid| -> u64 {
        let events = captured.data(pid, Read);
        events.iter().map(|event| event.payload.len() as u64).sum()
    };
    assert_eq!(bytes_of(innocent.pid()), little, "the innocent one is whole");
    let counters = captured.counters;
    assert_eq!(counters.ring_full_records, 0, "{counters:?}");
    assert_eq!(bytes_of(flooded.pid()) + counters.ring_share_bytes, total);
    let users = &captured.result;
    assert_eq!(users[0].pid, flooded.pid(), "{users:?}");
    assert_eq!(users[0].refused_bytes, counters.ring_share_bytes);
    for server in [&mut flooded, &mut innocent] {
        server.rest();
    }
}

#[test]
fn a_jump_inside_the_stream_is_as_long_as_the_loss() {
    let Some(peers) = peers(&["python3", "openssl"]) else {
        return;
    };
    let total = 16 * MEBIBYTE;
    let mut server = peers.server("bulk_server.py", &["1"]);
    let (port, pid) = (server.line(), server.pid());
    // The reader keeps up now and then, so records are lost in between.
    let config = CaptureConfig {
        ring_bytes: 64 * 1024,
        ..config(Processes::One(pid))
    };
    let captured = capture(&config, move |_| {
        let mut command = python("bulk_client.py");
        command.args([&port, "1", &total.to_string(), "100000"]);
        assert_eq!(output(&mut command), server.rest());
    });
    let mut lost = BTreeMap::new();
    let mut next = 0;
    for event in captured.data(pid, Read) {
        let offset = event.stream_offset.unwrap();
        if offset != next {
            lost.insert(next, offset - next);
        }
        next = offset + event.payload.len() as u64;
    }
    let jumped: u64 = lost.values().sum::<u64>() + (total - next);
    assert_eq!(jumped, captured.counters.ring_full_bytes);
    assert!(jumped > 0, "the ring was never full");
}
