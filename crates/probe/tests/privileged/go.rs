//! A stripped Go program, whose functions only its line table knows.

use std::fs;
use std::process::{Command, Stdio};

use ecapture_probe::{CaptureConfig, Modules, target};
use ecapture_protocols::Direction::{Read, Write};
use ecapture_protocols::{AddressSource, CapturedEvent, Close, Side};

use crate::support::{Peer, capture, output, peers, python};

#[test]
fn nats_server() {
    let Some(peers) = peers(&["nats-server", "python3", "openssl"]) else {
        return;
    };
    // It cannot say which free port it took; this one is not ephemeral.
    let port = "14222";
    let configuration = format!(
        "listen: 127.0.0.1:{port}\ntls {{ cert_file: {:?}, key_file: {:?} }}\n",
        peers.certificate(),
        peers.key()
    );
    let path = peers.directory().join("nats.conf");
    fs::write(&path, configuration).unwrap();
    let mut command = Command::new("nats-server");
    command.arg("-c").arg(path).stderr(Stdio::null());
    let mut server = Peer::start(command);
    server.wait_for(port.parse().unwrap());
    let found = target::discover(Modules::TLS);
    let program = found
        .iter()
        .find(|target| target.library.path().ends_with("nats-server"))
        .unwrap();
    let libraries = vec![program.library.clone()];
    let config = CaptureConfig {
        libraries,
        ..CaptureConfig::default()
    };
    let captured = capture(&config, move |_| output(python("nats_client.py").arg(port)));
    captured.assert_nothing_lost();
    let (answer, client_port) = captured.result.trim().split_once(' ').unwrap();
    assert_eq!(answer, "PONG");
    let pid = server.pid();
    let received = captured.text(pid, Read);
    assert_eq!(
        received,
        "CONNECT {\"verbose\":false,\"tls_required\":true}\r\nPING\r\n"
    );
    assert!(captured.text(pid, Write).contains("PONG\r\n"));
    let events = captured.data(pid, Read);
    for event in &events {
        let socket = event.socket.unwrap();
        assert_eq!(
            socket.tuple.to_string(),
            format!("127.0.0.1:{client_port}-127.0.0.1:{port}")
        );
        assert_eq!(socket.local, Some(Side::Destination));
        assert_eq!(socket.address_source, AddressSource::Exact);
    }
    let closed = captured.events.iter().any(|event| {
        matches!(event, CapturedEvent::Close { close: Close::Session { session, .. }, .. }
            if Some(*session) == events[0].session)
    });
    assert!(closed);
}
