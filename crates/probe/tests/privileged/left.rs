//! The records left in the ring when nobody reads any more.

use std::process::Command;

use ecapture_probe::{Capture, Processes};
use ecapture_protocols::{CapturedEvent, Direction};
use futures_util::StreamExt;

use crate::support::{Peer, config, peers, wait_until};

/// The end of a connection is not data, so no data is lost with it.
#[test]
fn records_of_ends_are_not_counted_as_left() {
    let Some(peers) = peers(&["python3", "openssl"]) else {
        return;
    };
    let mut server = peers.server("https_server.py", &["127.0.0.1"]);
    let address = format!("127.0.0.1:{}", server.line());
    let mut command = Command::new("openssl");
    command.args(["s_client", "-quiet", "-connect", &address]);
    let mut client = Peer::start(command);
    let capture = Capture::load(&config(Processes::One(client.pid()))).unwrap();
    let handle = capture.handle();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut stream = runtime.block_on(async { capture.into_events() });
    client.tell("GET / HTTP/1.1\r\nHost: a\r\n\r");
    runtime.block_on(async {
        loop {
            let batch = stream.next().await.unwrap();
            let mut data = batch.iter().filter_map(|event| match event {
                CapturedEvent::Data(data) => Some(data),
                CapturedEvent::Close { .. } | CapturedEvent::Observed(_) => None,
            });
            if data.any(|data| data.direction == Direction::Read && data.payload.starts_with(b"HTTP/1.")) {
                break;
            }
        }
    });
    let before = handle.counters().unwrap();
    // Nobody reads from here on.
    client.tell("GET / HTTP/1.1\r\nHost: a\r\n\r");
    wait_until(|| handle.counters().unwrap().data_records > before.data_records);
    let left = handle.counters().unwrap();
    let (records, bytes) = handle.tally().left_in_ring(&left);
    assert!(records > 0 && bytes > 0, "{left:?}");
    drop(client);
    wait_until(|| handle.counters().unwrap().close_records > left.close_records);
    let counters = handle.counters().unwrap();
    let (records, bytes) = handle.tally().left_in_ring(&counters);
    let written = counters.data_records - left.data_records;
    assert!(records > 0 && bytes > 0, "{counters:?}");
    assert_eq!(
        records - written,
        handle.tally().left_in_ring(&left).0,
        "the ends are not among them: {counters:?}"
    );
}
