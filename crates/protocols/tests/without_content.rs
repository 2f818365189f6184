//! Decoding without content: the records are the same whether content is real or zeros, and the same as with content
//! at `--privacy metadata`, except for what can only be found in content.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use ecapture_protocols::format::{JsonLines, Private, Text};
use ecapture_protocols::message::{Body, Gap, GapReason};
use ecapture_protocols::privacy::{Level, Privacy};
use ecapture_protocols::recording::line;
use ecapture_protocols::websocket::WebSocketDecoder;
use ecapture_protocols::{
    CapturedEvent, Comm, Content, DataEvent, Direction, Format, Limits, Message, Options, Origin, Output,
    Process, StreamDecoder, StreamOrigin, View, stream_decoder,
};

const STRUCTURED: View = View::Structured { frames: false };

/// A word of every content here.
const CANARY: &str = "c0ntentcanary";

fn options(view: View, without_content: bool) -> Options {
    Options {
        view,
        without_content,
        ..Options::default()
    }
}

fn metadata() -> Arc<Privacy> {
    Arc::new(Privacy {
        level: Level::Metadata,
        secrets: None,
    })
}

/// Both directions of one connection.
struct Connection {
    decoders: [Box<dyn StreamDecoder>; 2],
    /// Where each direction is.
    ends: [u64; 2],
    /// Those of each direction. Which of two directions is decoded first may depend on how much of each is enough to
    /// know the protocol.
    messages: [Vec<Message>; 2],
    /// What is in no message.
    skipped: u64,
    time: u64,
}

impl Connection {
    fn new(options: Options) -> Self {
        Self {
            decoders: [stream_decoder(options), stream_decoder(options)],
            ends: [0; 2],
            messages: [Vec::new(), Vec::new()],
            skipped: 0,
            time: 1,
        }
    }

    fn feed(&mut self, side: usize, bytes: &Bytes) {
        let time = self.time;
        self.act(side, &|decoder, output| decoder.feed(bytes, time, output));
        if self.decoders[side].has_parts() {
            self.act(side, &|decoder, output| decoder.emit_parts(output));
        }
    }

    fn gap(&mut self, side: usize, bytes: Option<u64>) {
        let reason = GapReason::KernelLoss;
        let time = self.time;
        self.act(side, &|decoder, output| {
            decoder.gap(Gap { bytes, reason }, time, output);
        });
    }

    fn act(&mut self, side: usize, act: &dyn Fn(&mut dyn StreamDecoder, &mut Output)) {
        let mut output = Output::default();
        act(&mut *self.decoders[side], &mut output);
        while self.decoders[side].has_more() {
            self.decoders[side].go_on(&mut output);
        }
        self.messages[side].append(&mut output.messages);
        self.skipped += output.skipped.iter().map(|skipped| skipped.bytes).sum::<u64>();
        for notice in output.notices {
            self.act(1 - side, &|decoder, output| decoder.notice(&notice, output));
        }
    }

    fn close(mut self) -> (Vec<Message>, u64) {
        for side in [0, 1] {
            self.act(side, &|decoder, output| decoder.close(output));
        }
        (self.messages.concat(), self.skipped)
    }
}

fn origin() -> Origin {
    Origin {
        process: Process {
            pid: 7,
            tid: 7,
            uid: None,
            comm: Comm::new([b'a'; 16]),
        },
        container_id: None,
        program: None,
        stream: Some(StreamOrigin {
            connection: 1,
            uuid: "7_7_a_3_1".into(),
            direction: Direction::Write,
            fd: Some(3),
            session: 0,
            socket: None,
            tls_version: None,
            other_end: false,
            joined_late: None,
        }),
    }
}

fn shown(format: Arc<dyn Format>, messages: &[Message]) -> String {
    let private = Private {
        format,
        privacy: metadata(),
    };
    String::from_utf8_lossy(&private.formatted(&origin(), messages)).into_owned()
}

/// Fails with the first line that differs.
fn assert_same([one, other]: [&str; 2], context: &str) {
    for (one, other) in one.lines().zip(other.lines()) {
        assert_eq!(one, other, "{context}");
    }
    assert_eq!(one.lines().count(), other.lines().count(), "{context}");
}

/// A part of what one side of a connection sends.
#[derive(Clone)]
enum Part {
    /// What frames it, and heads.
    Frame(Vec<u8>),
    Content(Vec<u8>),
}

impl Part {
    fn bytes(&self, zeros: bool) -> Vec<u8> {
        match self {
            Self::Content(content) if zeros => vec![0; content.len()],
            Self::Frame(bytes) | Self::Content(bytes) => bytes.clone(),
        }
    }
}

fn frame(bytes: impl AsRef<[u8]>) -> Part {
    Part::Frame(bytes.as_ref().to_vec())
}

fn content(bytes: impl AsRef<[u8]>) -> Part {
    Part::Content(bytes.as_ref().to_vec())
}

/// What both sides send in turn.
type Conversation = Vec<(usize, Vec<Part>)>;

/// Plays it, cut into pieces of this many bytes.
fn play(conversation: &Conversation, options: Options, zeros: bool, piece: usize) -> (Vec<Message>, u64) {
    let mut connection = Connection::new(options);
    for (side, parts) in conversation {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.bytes(zeros)).collect();
        for piece in bytes.chunks(piece) {
            connection.time += 1;
            connection.feed(*side, &Bytes::copy_from_slice(piece));
        }
    }
    connection.close()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn http1() -> Conversation {
    let form = format!("password={CANARY}");
    let coded = gzip(&CANARY.repeat(40));
    let events = format!("data: {CANARY}\n\ndata: {CANARY}\n\n");
    // What is inside looks like the next message.
    let message = format!("HTTP/1.1 204 {CANARY}\r\n\r\nGET /{CANARY} HTTP/1.1\r\n\r\n");
    let (chunk, rest) = coded.split_at(coded.len() / 2);
    vec![
        (
            0,
            vec![
                frame(format!(
                    "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n",
                    form.len()
                )),
                content(form),
                frame(
                    "GET /gzip HTTP/1.1\r\nHost: h\r\n\r\nGET /events HTTP/1.1\r\nHost: h\r\n\r\nGET /m HTTP/1.1\r\n\r\n",
                ),
            ],
        ),
        (
            1,
            vec![
                frame("HTTP/1.1 204 No Content\r\n\r\n"),
                frame("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"),
                frame(format!("{:x};a=b\r\n", chunk.len())),
                content(chunk),
                frame(format!("\r\n{:x}\r\n", rest.len())),
                content(rest),
                frame("\r\n0\r\nX-Trailer: 1\r\n\r\n"),
                frame(format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n",
                    events.len()
                )),
                content(events),
                frame("\r\n0\r\n\r\n"),
                frame(format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                    message.len()
                )),
                content(message),
            ],
        ),
    ]
}

fn http2_frame(kind: u8, flags: u8, stream: u32, length: usize) -> Part {
    let length = u32::try_from(length).unwrap().to_be_bytes();
    frame([&length[1..], &[kind, flags], &stream.to_be_bytes()].concat())
}

fn data(flags: u8, stream: u32, bytes: impl AsRef<[u8]>) -> [Part; 2] {
    let bytes = bytes.as_ref();
    [http2_frame(0, flags, stream, bytes.len()), content(bytes)]
}

fn headers(flags: u8, stream: u32, fields: &[(&str, &str)]) -> [Part; 2] {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for part in [name, value] {
            block.push(u8::try_from(part.len()).unwrap());
            block.extend_from_slice(part.as_bytes());
        }
    }
    [http2_frame(1, flags | 4, stream, block.len()), frame(block)]
}

fn request<'a>(path: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let method = if more.iter().any(|(name, _)| *name == ":protocol") {
        "CONNECT"
    } else {
        "POST"
    };
    let pseudo = [
        (":method", method),
        (":scheme", "https"),
        (":path", path),
        (":authority", "h"),
    ];
    [&pseudo[..], more].concat()
}

fn http2() -> Conversation {
    let grpc = [("content-type", "application/grpc")];
    let ok = |more: &[(&'static str, &'static str)]| [&[(":status", "200")], more].concat();
    let message = [&[0, 0, 0, 0, 13][..], CANARY.as_bytes()].concat();
    let events = format!("data: {CANARY}\n\n");
    let text = [&[0x81, 13][..], CANARY.as_bytes()].concat();
    let masked: Vec<u8> = [&[0x81, 0x8d, 1, 2, 3, 4][..], CANARY.as_bytes()].concat();
    let padded = [CANARY.as_bytes(), &[0; 3]].concat();
    let sent = [
        &[frame("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), http2_frame(4, 0, 0, 0)][..],
        &headers(0, 1, &request("/grpc", &grpc)),
        &data(1, 1, &message),
        &headers(1, 3, &request("/events", &[])),
        &headers(0, 5, &request("/chat", &[(":protocol", "websocket")])),
        &data(0, 5, &masked),
        &headers(1, 7, &request("/gzip", &[])),
    ];
    let received = [
        // SETTINGS_ENABLE_CONNECT_PROTOCOL
        &[http2_frame(4, 0, 0, 6), frame([0, 8, 0, 0, 0, 1])][..],
        &headers(0, 1, &ok(&grpc)),
        &data(0, 1, &message),
        &headers(1, 1, &[("grpc-status", "0")]),
        &headers(0, 3, &ok(&[("content-type", "text/event-stream")])),
        &data(1, 3, events),
        &headers(0, 5, &ok(&[])),
        &data(0, 5, text),
        &headers(0, 7, &ok(&[("content-encoding", "gzip")])),
        &[
            http2_frame(0, 8, 7, padded.len() + 1),
            frame([3]),
            content(padded),
        ],
        &data(1, 7, gzip(CANARY)),
    ];
    vec![(0, sent.concat()), (1, received.concat())]
}

/// A frame of a WebSocket; `kept` bytes of its payload are no content.
fn web_socket(first: u8, mask: Option<[u8; 4]>, payload: &[u8], kept: usize) -> Vec<Part> {
    let length = u8::try_from(payload.len()).unwrap();
    let mut head = vec![first, length | if mask.is_some() { 0x80 } else { 0 }];
    head.extend(mask.into_iter().flatten());
    let sent = payload
        .iter()
        .enumerate()
        .map(|(index, byte)| byte ^ mask.map_or(0, |mask| mask[index % 4]));
    let sent: Vec<u8> = sent.collect();
    vec![frame(head), frame(&sent[..kept]), content(&sent[kept..])]
}

fn web_sockets() -> Conversation {
    let mask = Some([0xff, 0xfe, 0xfd, 0xfc]);
    let close = [&[3, 0xe9][..], CANARY.as_bytes()].concat();
    let handshake = "GET /chat HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    let sent = [
        web_socket(0x81, mask, CANARY.as_bytes(), 0),
        web_socket(0x02, mask, CANARY.as_bytes(), 0),
        web_socket(0x89, mask, b"", 0),
        web_socket(0x80, mask, CANARY.as_bytes(), 0),
        web_socket(0x88, mask, &close, 2),
    ];
    let received = [
        // Compressed.
        web_socket(0xc1, None, &[0xaa, 0x56, 0x4a, 0x54], 0),
        // Neither compressed nor text in UTF-8, although the headers say so.
        web_socket(0xc1, None, &[0xff; 9], 0),
        web_socket(0x81, None, &[0xff; 9], 0),
        web_socket(0x88, None, &close, 2),
    ];
    vec![
        (0, vec![frame(handshake)]),
        (1, vec![frame(answer)]),
        (0, sent.concat()),
        (1, received.concat()),
    ]
}

fn tunnel() -> Conversation {
    vec![
        (0, vec![frame("CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n")]),
        (1, vec![frame("HTTP/1.1 200 OK\r\n\r\n")]),
        (
            0,
            vec![content([&[22, 3, 1, 0, 200][..], CANARY.as_bytes()].concat())],
        ),
        // The last character is cut.
        (1, vec![content([CANARY.as_bytes(), &[0xe4, 0xbd]].concat())]),
        (1, vec![content([&[0xa0, b'\n'][..], CANARY.as_bytes()].concat())]),
        // Whether a line has ended is not known.
        (0, vec![content("line\n")]),
        (0, vec![frame("FOO / HTTP/1.1\r\n\r\n")]),
    ]
}

fn conversations() -> [(&'static str, Conversation); 4] {
    [
        ("http1", http1()),
        ("http2", http2()),
        ("web sockets", web_sockets()),
        ("tunnel", tunnel()),
    ]
}

#[test]
fn zeros_are_shown_as_the_real_content_is() {
    for (name, conversation) in conversations() {
        for view in [STRUCTURED, View::TextMessages, View::Joined] {
            for parts in [false, true] {
                for piece in [1, 7, usize::MAX] {
                    let context = format!("{name} {view:?} {parts} {piece}");
                    let options = Options {
                        parts,
                        ..options(view, true)
                    };
                    let [real, zeros] = [false, true].map(|zeros| play(&conversation, options, zeros, piece));
                    let of = |format: Arc<dyn Format>| {
                        [&real.0, &zeros.0].map(|messages| shown(Arc::clone(&format), messages))
                    };
                    let [real_lines, zero_lines] = of(Arc::new(JsonLines::default()));
                    assert_same([&real_lines, &zero_lines], &context);
                    let [real_text, zero_text] = of(Arc::new(Text::default()));
                    assert_same([&real_text, &zero_text], &context);
                    assert_eq!(real.1, zeros.1);
                    assert!(!real_text.contains(CANARY) && !real_lines.contains(CANARY));
                }
            }
        }
    }
}

#[test]
fn content_is_not_kept() {
    for (name, conversation) in &conversations()[..3] {
        for view in [STRUCTURED, View::TextMessages, View::Joined, View::Bodies] {
            let (messages, skipped) = play(conversation, options(view, true), false, usize::MAX);
            assert!(
                !format!("{messages:?}").contains(CANARY),
                "{name} {view:?}: {messages:?}"
            );
            assert_eq!(skipped, 0, "{name} {view:?}: every byte is in a message");
        }
    }
}

/// Its kinds and the sizes of content, of one direction after the other.
fn sizes(conversation: &Conversation) -> Vec<String> {
    let (messages, _) = play(conversation, options(STRUCTURED, true), true, usize::MAX);
    let size = |message: &Message| match &message.content {
        Content::Http1(message) => format!("http1 {}", message.body.wire_len),
        Content::Http2(message) => format!("http2 {} {}", message.stream, message.body.wire_len),
        Content::WebSocket(message) => {
            let close = message.data.first_chunk().map(|code| u16::from_be_bytes(*code));
            format!("{} {} {close:?}", message.opcode, message.payload_len)
        }
        Content::Raw(raw) => format!("raw {}", raw.data.len()),
        other => panic!("{other:?}"),
    };
    let mut sizes: Vec<String> = messages.iter().map(size).collect();
    sizes.sort();
    sizes
}

#[test]
fn sizes_are_right() {
    let coded = gzip(&CANARY.repeat(40)).len();
    let mut expected = ["0", "0", "0", "0", "22", "42", "61"].map(|size| format!("http1 {size}"));
    assert_eq!(sizes(&http1()).len(), 8);
    expected.sort();
    let found = sizes(&http1());
    for size in expected.iter().chain([&format!("http1 {coded}")]) {
        assert!(found.contains(size), "{size}: {found:?}");
    }
    let found = sizes(&http2());
    let last = format!("http2 7 {}", 16 - 3 + gzip(CANARY).len());
    // The request and the response of each stream. The DATA of streams 1, 3 and 5 is a body.
    let expected = ["1 18", "1 18", "3 0", "3 21", "5 15", "5 19", "7 0"].map(|size| format!("http2 {size}"));
    for size in expected.iter().chain([&last]) {
        assert!(found.contains(size), "{size}: {found:?}");
    }
    assert_eq!(
        sizes(&web_sockets()),
        [
            "1 13 None",
            "1 4 None",
            "1 9 None",
            "1 9 None",
            "2 26 None",
            "8 15 Some(1001)",
            "8 15 Some(1001)",
            "9 0 None",
            "http1 0",
            "http1 0",
        ]
    );
    assert_eq!(
        sizes(&tunnel()),
        [
            "http1 0", "http1 0", "raw 15", "raw 15", "raw 18", "raw 18", "raw 5"
        ]
    );
}

#[test]
fn bodies_beyond_the_limit_are_counted_and_not_lost() {
    let limits = Limits {
        body_bytes: 10,
        websocket_message_bytes: 10,
        ..Limits::default()
    };
    let options = Options {
        limits,
        ..options(STRUCTURED, true)
    };
    for (name, conversation) in &conversations()[..3] {
        let (messages, skipped) = play(conversation, options, true, usize::MAX);
        assert_eq!(skipped, 0, "{name}");
        let (unlimited, _) = play(
            conversation,
            Options {
                limits: Limits::default(),
                ..options
            },
            true,
            usize::MAX,
        );
        assert_eq!(messages, unlimited, "{name}");
    }
}

#[test]
fn an_event_stream_is_shown_in_parts_as_any_body() {
    let text = content("data: x\n\n");
    let sized = |length: usize| frame(format!("{length:x}\r\n"));
    let http1 = [
        vec![frame(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        )],
        vec![sized(9), text.clone(), frame("\r\n")],
        vec![sized(9), text, frame("\r\n0\r\n\r\n")],
    ];
    let fields = [(":status", "200"), ("content-type", "text/event-stream")];
    let http2 = [
        [&[http2_frame(4, 0, 0, 0)][..], &headers(0, 1, &fields)].concat(),
        data(0, 1, "data: x\n\n").to_vec(),
        data(1, 1, "data: x\n\n").to_vec(),
    ];
    let asked = [
        vec![frame("GET / HTTP/1.1\r\nHost: h\r\n\r\n")],
        [
            &[frame("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), http2_frame(4, 0, 0, 0)][..],
            &headers(1, 1, &request("/", &[])),
        ]
        .concat(),
    ];
    for (asked, pieces) in asked.into_iter().zip([http1, http2]) {
        for view in [STRUCTURED, View::TextMessages] {
            let answered = pieces.iter().map(|piece| (1, piece.clone()));
            let conversation: Conversation = std::iter::once((0, asked.clone())).chain(answered).collect();
            let options = Options {
                parts: true,
                ..options(view, true)
            };
            let (messages, _) = play(&conversation, options, true, usize::MAX);
            let parts: Vec<_> = messages
                .iter()
                .filter(|message| !message.is_request())
                .filter_map(|message| match &message.content {
                    Content::Http1(message) => Some(message.body.wire_len),
                    Content::Http2(message) => Some(message.body.wire_len),
                    _ => None,
                })
                .collect();
            assert_eq!(parts, [0, 9, 18], "{view:?}: {messages:?}");
        }
    }
}

#[test]
fn a_gap_leaves_the_sizes_of_what_was_received() {
    let mut connection = Connection::new(options(STRUCTURED, true));
    let handshake = &web_sockets()[..2];
    for (side, parts) in handshake {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.bytes(true)).collect();
        connection.feed(*side, &bytes.into());
    }
    // A compressed message, with a hole in its payload.
    connection.feed(1, &Bytes::from_static(&[0xc1, 10, 0, 0, 0]));
    connection.gap(1, Some(4));
    connection.feed(1, &Bytes::from_static(&[0, 0, 0, 0x8a, 0]));
    // Where it goes on is not known: zeros are never a frame.
    connection.gap(1, None);
    connection.feed(1, &Bytes::from_static(&[0; 100]));
    let (messages, skipped) = connection.close();
    let payloads: Vec<_> = messages
        .iter()
        .filter_map(|message| match &message.content {
            Content::WebSocket(message) => Some((message.opcode, message.payload_len, message.complete)),
            _ => None,
        })
        .collect();
    assert_eq!(payloads, [(1, 3, false), (0, 3, true), (10, 0, true)]);
    assert_eq!(skipped, 100);
}

#[test]
fn frames_are_found_again_whatever_their_payloads_are() {
    // The mask makes of zeros what is no text.
    let text = [0x81, 0x85, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0];
    let close = [0x88, 0x84, 0, 0, 0, 0, 3, 0xe8, 0, 0];
    let mut decoder = WebSocketDecoder::attached(options(STRUCTURED, true)).from_client(true);
    let mut output = Output::default();
    decoder.feed(&Bytes::from([&text[..], &close].concat()), 1, &mut output);
    decoder.close(&mut output);
    let found: Vec<_> = output
        .messages
        .iter()
        .map(|message| match &message.content {
            Content::WebSocket(message) => (message.opcode, message.payload_len, message.data.to_vec()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(found, [(1, 5, vec![]), (8, 4, vec![3, 0xe8])]);
}

/// The data events of a recording, by connection as its process sees it.
fn recorded(case: &Path) -> Vec<Vec<DataEvent>> {
    let text = fs::read_to_string(case.join("events.jsonl")).unwrap();
    let mut connections: BTreeMap<_, Vec<DataEvent>> = BTreeMap::new();
    for line in text.lines().skip(1) {
        if let CapturedEvent::Data(event) = line::parse(line.as_bytes()).unwrap() {
            let sock = event.socket.map(|socket| socket.sock);
            let key = (event.process.pid, event.session, sock);
            connections.entry(key).or_default().push(event);
        }
    }
    connections.into_values().collect()
}

fn cases() -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let all = own.join("../../../../tests/fixtures");
    let entries = [own, all].map(|folder| fs::read_dir(folder).unwrap());
    let paths = entries.into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> = paths.filter(|path| path.join("events.jsonl").exists()).collect();
    cases.sort();
    assert!(cases.len() > 15, "{cases:?}");
    cases
}

fn decode(events: &[DataEvent], options: Options) -> Vec<Message> {
    let mut connection = Connection::new(options);
    for event in events {
        let side = usize::from(event.direction == Direction::Read);
        let start = event.stream_offset.unwrap();
        connection.time = event.timestamp_ns;
        if start > connection.ends[side] {
            connection.gap(side, Some(start - connection.ends[side]));
        }
        connection.ends[side] = start + event.payload.len() as u64;
        connection.feed(side, &event.payload);
    }
    connection.close().0
}

/// What is found in content alone: messages of gRPC, server-sent events, WebSockets in HTTP/2.
fn is_in_content(message: &Message) -> bool {
    match &message.content {
        Content::Grpc(_) | Content::ServerSentEvent(_) => true,
        Content::WebSocket(message) => message.stream.is_some(),
        _ => false,
    }
}

/// A body has the size that it has on the wire, because its codings are not undone. Returns true if it had any.
fn without_codings(message: &mut Message) -> bool {
    let undo = |body: &mut Body| {
        body.len = body.wire_len;
        !std::mem::take(&mut body.encoding).is_empty()
    };
    match &mut message.content {
        Content::Http1(message) => undo(&mut message.body),
        Content::Http2(message) => undo(&mut message.body),
        _ => false,
    }
}

#[test]
fn recordings_have_the_same_records_except_for_what_is_found_in_content() {
    let mut absent: BTreeMap<String, usize> = BTreeMap::new();
    let mut coded: BTreeMap<String, usize> = BTreeMap::new();
    for case in cases() {
        let name = case.file_name().unwrap().to_str().unwrap().to_owned();
        for events in recorded(&case) {
            let mut before = decode(&events, options(STRUCTURED, false));
            let all = before.len();
            before.retain(|message| !is_in_content(message));
            *absent.entry(name.clone()).or_default() += all - before.len();
            let codings = before
                .iter_mut()
                .filter_map(|message| without_codings(message).then_some(()));
            *coded.entry(name.clone()).or_default() += codings.count();
            let after = decode(&events, options(STRUCTURED, true));
            let [before, after] =
                [before, after].map(|messages| shown(Arc::new(JsonLines::default()), &messages));
            assert_same([&before, &after], &name);
        }
    }
    absent.retain(|_, number| *number > 0);
    coded.retain(|_, number| *number > 0);
    let names = |found: BTreeMap<String, usize>| found.into_keys().collect::<Vec<_>>();
    assert_eq!(names(absent), ["event-stream", "grpc", "grpc-node"]);
    let expected = [
        "content-codings",
        "curl-nginx-http1",
        "curl-nginx-http2",
        "nghttp-nginx",
        "python-nginx",
    ];
    assert_eq!(names(coded), expected);
}
