//! Addresses where they are not plain IPv4 of the calling thread's own socket, by each way to learn which
//! sockets a thread uses.

use ecapture_probe::{CaptureConfig, Hooks, Processes};
use ecapture_protocols::Direction::{Read, Write};
use ecapture_protocols::{AddressSource, CapturedEvent, Close, Side};

use crate::support::{capture, config, curl, output, peers, python};

/// First as this kernel does it best, then from system calls.
fn both_ways() -> [CaptureConfig; 2] {
    [false, true].map(|system_calls| CaptureConfig {
        hooks: Hooks {
            system_calls,
            ..Hooks::default()
        },
        ..config(Processes::All)
    })
}

#[test]
fn ipv6() {
    let Some(peers) = peers(&["curl", "python3", "openssl"]) else {
        return;
    };
    let mut server = peers.server("https_server.py", &["::1"]);
    let (pid, port) = (server.pid(), server.line());
    let url = format!("https://[::1]:{port}/");
    for config in both_ways() {
        let url = url.clone();
        let captured = capture(&config, move |_| output(&mut curl(&[&url])));
        let event = captured.data(pid, Read)[0];
        let socket = event.socket.unwrap();
        assert_eq!(socket.tuple.destination.to_string(), format!("[::1]:{port}"));
        assert_eq!(socket.tuple.source.ip().to_string(), "::1");
        assert_eq!(socket.address_source, AddressSource::Exact);
        assert!(event.fd.is_some());
    }
}

#[test]
fn ipv4_inside_an_ipv6_socket() {
    let Some(peers) = peers(&["curl", "python3", "openssl"]) else {
        return;
    };
    let mut server = peers.server("https_server.py", &["::"]);
    let (pid, port) = (server.pid(), server.line());
    let url = format!("https://127.0.0.1:{port}/");
    for config in both_ways() {
        let url = url.clone();
        let captured = capture(&config, move |_| output(&mut curl(&[&url])));
        let tuple = captured.data(pid, Write)[0].socket.unwrap().tuple;
        assert_eq!(tuple.destination.to_string(), format!("127.0.0.1:{port}"));
    }
}

/// Sixteen connections of one thread, whose calls use memory BIOs, in turn.
#[test]
fn memory_bios_of_many_connections() {
    let Some(peers) = peers(&["python3", "openssl"]) else {
        return;
    };
    let mut server = peers.server("asyncio_server.py", &[]);
    let (pid, port) = (server.pid(), server.line());
    for config in both_ways() {
        let captured = capture(&config, {
            let port = port.clone();
            move |_| output(python("line_client.py").args([&port, "16", "20"]))
        });
        captured.assert_nothing_lost();
        let received = captured.data(pid, Read);
        assert_eq!(received.len(), 16 * 20);
        for event in &received {
            // Each line begins with the port that it was sent from.
            let line = std::str::from_utf8(&event.payload).unwrap();
            let socket = event.socket.unwrap();
            assert_eq!(
                line.split(' ').next().unwrap(),
                socket.tuple.source.port().to_string()
            );
            assert_eq!(socket.tuple.destination.to_string(), format!("127.0.0.1:{port}"));
            assert_eq!(socket.local, Some(Side::Destination));
            assert_eq!(socket.address_source, AddressSource::Heuristic);
        }
    }
}

/// The first call of a thread's first session has its socket already.
#[test]
fn the_first_call_with_a_memory_bio() {
    let Some(peers) = peers(&["python3", "openssl"]) else {
        return;
    };
    let mut server = peers.server("asyncio_server.py", &[]);
    let server_port = server.line();
    for config in both_ways() {
        let server_port = server_port.clone();
        let captured = capture(&config, move |_| {
            output(python("asyncio_client.py").arg(server_port))
        });
        let (pid, port) = captured.result.trim().split_once(' ').unwrap();
        let sent = captured.data(pid.parse().unwrap(), Write);
        assert_eq!(sent.len(), 1);
        assert_eq!(
            sent[0].socket.unwrap().tuple.source.to_string(),
            format!("127.0.0.1:{port}")
        );
    }
}

/// The unread bytes of a connection that both sides have closed belong to it, with its addresses.
#[test]
fn a_closed_connection_is_read_to_its_end() {
    let Some(peers) = peers(&["python3", "openssl"]) else {
        return;
    };
    let mut server = peers.server("asyncio_server.py", &[]);
    let server_port = server.line();
    for config in both_ways() {
        let server_port = server_port.clone();
        let captured = capture(&config, move |_| {
            output(python("late_reader.py").arg(server_port))
        });
        let mut words = captured.result.split_whitespace();
        let (pid, port) = (words.next().unwrap().parse().unwrap(), words.next().unwrap());
        assert_eq!(captured.text(pid, Read), "echo late\n");
        let socket = captured.data(pid, Read)[0].socket.unwrap();
        assert_eq!(socket.tuple.source.to_string(), format!("127.0.0.1:{port}"));
        // From the line that was sent on: before it, another connection may have had the same address.
        let mut order = captured.events.iter().filter_map(|event| match event {
            CapturedEvent::Data(data) if data.process.pid == pid => Some(Some(data.direction)),
            CapturedEvent::Close {
                close: Close::Socket { sock },
                ..
            } if *sock == socket.sock => Some(None),
            _ => None,
        });
        assert!(order.any(|step| step == Some(Write)));
        assert_eq!(order.collect::<Vec<_>>(), [Some(Read), None]);
    }
}
