//! Captures without content beside captures of everything: what is left out, and that nothing else is.

use std::collections::BTreeMap;
use std::fs;

use aya::maps::{HashMap, Map, MapData, loaded_maps};
use ecapture_ebpf::framing::{Beginning, Framing, NEW_FRAMING};
use ecapture_probe::{CaptureConfig, Processes};
use ecapture_protocols::{AddressSource, CapturedEvent, DataEvent, Direction, Socket};

use crate::support::{Captured, Peer, capture, config, curl, output, peers, python};

/// The bytes of each direction of each session.
type Streams = BTreeMap<(u32, u64, bool), Vec<u8>>;

fn data<T>(captured: &Captured<T>) -> impl Iterator<Item = &DataEvent> {
    captured.events.iter().filter_map(|event| match event {
        CapturedEvent::Data(data) => Some(data),
        CapturedEvent::Close { .. } | CapturedEvent::Observed(_) => None,
    })
}

fn key(data: &DataEvent) -> (u32, u64, bool) {
    (
        data.process.pid,
        data.session.unwrap(),
        data.direction == Direction::Write,
    )
}

/// All bytes, which must be without gaps. A session may have the address of an earlier one.
fn streams<T>(captured: &Captured<T>) -> Streams {
    let (mut streams, mut ends) = (Streams::new(), BTreeMap::new());
    for data in data(captured) {
        let end: &mut u64 = ends.entry(key(data)).or_default();
        let position = data.stream_offset.unwrap();
        assert!(position == *end || position == 0, "{data:?}");
        *end = position + data.payload.len() as u64;
        streams
            .entry(key(data))
            .or_default()
            .extend_from_slice(&data.payload);
    }
    streams
}

/// Those of a capture of everything, without what is content: the same code, run here on the same calls.
fn without_content<T>(captured: &Captured<T>) -> Streams {
    let mut framings: BTreeMap<(u32, u64), Framing> = BTreeMap::new();
    let mut streams = Streams::new();
    for call in calls(captured) {
        let (pid, session, writes) = key(&call);
        let framing = framings.entry((pid, session)).or_insert(NEW_FRAMING);
        let mut bytes = call.payload.to_vec();
        let exact = |socket: &Socket| socket.address_source == AddressSource::Exact;
        let socket = call.socket.filter(exact);
        let beginning = Beginning {
            position: call.stream_offset.unwrap(),
            length: bytes.len() as u64,
            may_lack_bytes: call.joined_late.is_some() || socket.is_none(),
            sock: socket.map_or(0, |socket| socket.sock),
        };
        framing.leave_out(usize::from(writes), &beginning, &mut bytes, usize::MAX);
        streams.entry(key(&call)).or_default().append(&mut bytes);
    }
    streams
}

/// The calls of a capture: the events of one call have the same time.
fn calls<T>(captured: &Captured<T>) -> Vec<DataEvent> {
    let mut calls: Vec<DataEvent> = Vec::new();
    for data in data(captured) {
        let before = calls.iter_mut().rev().find(|call| key(call) == key(data));
        match before.filter(|call| call.timestamp_ns == data.timestamp_ns) {
            Some(call) => call.payload = [&call.payload[..], &data.payload].concat().into(),
            None => calls.push(data.clone()),
        }
    }
    calls
}

/// Runs `work` in a capture of everything and in one without content at once.
fn beside(work: impl FnOnce() + Send + 'static) -> [Captured<()>; 2] {
    let everything = CaptureConfig {
        ring_bytes: 64 << 20,
        ..config(Processes::All)
    };
    let heads = CaptureConfig {
        without_content: true,
        ..everything.clone()
    };
    let heads = capture(&heads, move |_| capture(&everything, move |_| work()));
    heads.assert_nothing_lost();
    heads.result.assert_nothing_lost();
    let Captured {
        events,
        counters,
        result,
    } = heads;
    let heads = Captured {
        events,
        counters,
        result: (),
    };
    [result, heads]
}

fn count(streams: &Streams, text: &str) -> usize {
    let count = |bytes: &Vec<u8>| memchr::memmem::find_iter(bytes, text).count();
    streams.values().map(count).sum()
}

/// Requests with content of every framing, over both versions.
fn exchange(directory: &str, port: &str) {
    let url = |path: &str| format!("https://127.0.0.1:{port}/{path}");
    let upload = format!("@{directory}/page");
    let [page, short, gzip, form] = ["page", "short", "gzip/page", "form"].map(url);
    let (page, short, gzip, form) = (&page[..], &short[..], &gzip[..], &form[..]);
    let chunked = "Transfer-Encoding: chunked";
    for version in ["--http1.1", "--http2"] {
        for arguments in [
            &[page, short, page, short][..],
            &["-I", page, short],
            &["--compressed", gzip, short],
            &["-d", "canary-form", form, short],
            &["-d", &upload, form, short],
            &["-H", chunked, "-d", &upload, form],
            &["--no-progress-meter", "--parallel", page, short, page, short],
        ] {
            output(&mut curl(&[&[version], arguments].concat()));
        }
    }
}

#[test]
fn what_the_kernel_leaves_out_is_the_content() {
    let Some(peers) = peers(&["curl", "nginx", "openssl"]) else {
        return;
    };
    let directory = peers.directory().display().to_string();
    let page = "canary-page ".repeat(60_000);
    fs::write(peers.directory().join("page"), &page).unwrap();
    fs::write(peers.directory().join("short"), "canary-short").unwrap();
    let port = "18445";
    let locations = format!(
        "location /gzip/ {{ alias {directory}/; gzip on; gzip_types *; }}
         location /form {{ proxy_pass http://unix:{directory}/form; }}"
    );
    let answering =
        format!("server {{ listen unix:{directory}/form; location / {{ return 200 canary-answer; }} }}");
    let _server = peers.nginx(port, "http2", &locations, &answering);
    let [everything, heads] = beside(move || exchange(&directory, port));
    let (whole, observed) = (streams(&everything), streams(&heads));
    let expected = without_content(&everything);
    assert_eq!(
        expected.keys().collect::<Vec<_>>(),
        observed.keys().collect::<Vec<_>>()
    );
    for (key, bytes) in &expected {
        assert!(*bytes == observed[key], "{key:?}");
    }
    assert!(count(&whole, "canary") > 60_000);
    assert_eq!(count(&observed, "canary"), 0);
    for head in ["GET /", "POST /", "HTTP/1.1 200 OK\r\n", "PRI * HTTP/2.0"] {
        assert!(count(&whole, head) > 5, "{head}");
        assert_eq!(count(&observed, head), count(&whole, head), "{head}");
    }
    assert_eq!(heads.counters.data_bytes, everything.counters.data_bytes);
    let left_out = heads.counters.left_out_bytes;
    assert!(left_out > 10 * page.len() as u64, "{left_out}");
    assert_eq!(everything.counters.left_out_bytes, 0);
}

#[test]
fn bytes_of_no_known_protocol_are_left_out_whole() {
    let Some(peers) = peers(&["python3", "openssl"]) else {
        return;
    };
    let mut server = peers.server("bulk_server.py", &["2"]);
    let port = server.line();
    let [everything, heads] = beside(move || {
        let mut command = python("bulk_client.py");
        command.args([&port, "2", "3000000", "0"]);
        Peer::start(command).rest();
        server.rest();
    });
    let (whole, observed) = (streams(&everything), streams(&heads));
    assert_eq!(whole.len(), observed.len());
    for (key, bytes) in &whole {
        assert_eq!(observed[key].len(), bytes.len());
        assert!(observed[key].iter().all(|&byte| byte == 0), "{key:?}");
    }
    assert_eq!(heads.counters.left_out_bytes, heads.counters.data_bytes);
}

/// A session, or a direction of it, as the programs name it: its address, its process, and the direction or 0.
type Key = [u8; 16];

fn key_of(session: u64, pid: u32, direction: u32) -> Key {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&session.to_ne_bytes());
    key[8..12].copy_from_slice(&pid.to_ne_bytes());
    key[12..].copy_from_slice(&direction.to_ne_bytes());
    key
}

/// The capture's map with this name.
fn map(name: &str) -> Map {
    let infos = loaded_maps().map(|info| info.unwrap());
    let found = infos.filter(|info| info.name_as_str() == Some(name)).last();
    Map::from_map_data(MapData::from_id(found.unwrap().id()).unwrap()).unwrap()
}

/// The only session of a process whose content is left out.
fn session_of(pid: u32) -> u64 {
    let framings: HashMap<_, Key, [u8; size_of::<Framing>()]> = map("FRAMING").try_into().unwrap();
    let keys = framings.keys().map(|key| key.unwrap());
    let mut sessions = keys.filter(|key| key[8..12] == pid.to_ne_bytes());
    u64::from_ne_bytes(sessions.next().unwrap()[..8].try_into().unwrap())
}

/// Asks for three paths on a connection. While it asks for the second one, the programs are made to believe that another
/// call in its direction is being followed.
fn ask_beside_another_call(client: &mut Peer) {
    for line in ["open", "get /first"] {
        client.tell(line);
        assert_eq!(client.line(), "done");
    }
    let key = key_of(session_of(client.pid()), client.pid(), 1);
    let mut followed: HashMap<_, Key, u32> = map("FOLLOWED").try_into().unwrap();
    followed.insert(key, 1, 0).unwrap();
    client.tell("get /second");
    assert_eq!(client.line(), "done");
    followed.remove(&key).unwrap();
    client.tell("get /third");
    assert_eq!(client.line(), "done");
}

#[test]
fn a_call_beside_another_one_of_its_direction_is_counted_and_framing_goes_on() {
    let Some(peers) = peers(&["python3", "openssl"]) else {
        return;
    };
    let mut server = peers.server("https_server.py", &["127.0.0.1"]);
    let mut command = python("told_client.py");
    command.arg(server.line());
    let mut client = Peer::start(command);
    assert_eq!(client.line(), "done");
    let pid = client.pid();
    let heads = CaptureConfig {
        without_content: true,
        ..config(Processes::All)
    };
    let captured = capture(&heads, move |_| ask_beside_another_call(&mut client));
    let sent = captured.text(pid, Direction::Write);
    assert!(sent.starts_with("GET /first HTTP/1.1\r\n"), "{sent}");
    assert!(sent.contains("\r\n\r\nGET /third HTTP/1.1\r\n"), "{sent}");
    assert!(!sent.contains("second"), "{sent}");
    let last = captured.data(pid, Direction::Write).pop().unwrap();
    let behind = last.stream_offset.unwrap() + last.payload.len() as u64;
    assert_eq!(captured.counters.cut_bytes, behind - sent.len() as u64);
    let answers = captured.text(pid, Direction::Read);
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 3, "{answers}");
}
