//! Secrets in every place that masking and each level of privacy cover: none is in any format, however the bytes
//! are cut and wherever the capture joins.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use bytes::Bytes;
use ecapture_protocols::format::{
    Ends, ExchangeLines, Har, Heading, JsonLines, Otlp, Private, Protobuf, Text, WallClock,
};
use ecapture_protocols::message::{Gap, GapReason};
use ecapture_protocols::privacy::{Level, Privacy, Secrets};
use ecapture_protocols::{
    Comm, Content, Direction, Format, Message, Options, Origin, Output, Process, StreamDecoder, StreamOrigin,
    View, stream_decoder,
};

/// What no output may have: where masking covers it, in the bodies, and in other header fields.
const SECRET: &str = "s3cr3tcanary";
const BODY: &str = "b0dycanary";
const HEADER: &str = "h34dercanary";

const FORMATS: usize = 6;

fn http1() -> [Vec<u8>; 2] {
    let form = format!("user=me&password={SECRET}&x=1");
    let requests = format!(
        "POST http://me:{SECRET}@host.example/path/shown?q=1&access_token={SECRET} HTTP/1.1\r\nHost: host.example\r\n\
         Authorization: Bearer {SECRET}\r\nProxy-Authorization: Basic {SECRET}\r\nCookie: a={SECRET}; b={SECRET}\r\n\
         X-Api-Key: {SECRET}\r\nReferer: https://me:{SECRET}@h/?signature={SECRET}\r\nX-Odd: {HEADER}\r\n\
         X-Folded-Token: a\r\n {SECRET}\r\nno colon {SECRET}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}\
         PUT /second?api_key={SECRET} HTTP/1.1\r\nHost: host.example\r\nTransfer-Encoding: chunked\r\n\
         Content-Type: text/plain\r\n\r\n{:x}\r\n{BODY}\r\n0\r\nX-Auth-Token: {SECRET}\r\n\r\n",
        form.len(),
        BODY.len(),
    );
    let responses = format!(
        "HTTP/1.1 200 OK\r\nSet-Cookie: sid={SECRET}; Path=/; HttpOnly\r\n\
         Location: https://host.example/cb#id_token={SECRET}\r\nX-Odd: {HEADER}\r\nContent-Type: text/plain\r\n\
         Content-Length: {}\r\n\r\n{BODY}HTTP/1.1 204 No Content\r\n\r\n",
        BODY.len()
    );
    [requests.into_bytes(), responses.into_bytes()]
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block of literals, without Huffman code; those at odd places are in the dynamic table afterwards.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (number, (name, value)) in fields.iter().enumerate() {
        block.push(if number % 2 == 1 { 0x40 } else { 0 });
        for part in [name, value] {
            block.push(u8::try_from(part.len()).unwrap());
            block.extend_from_slice(part.as_bytes());
        }
    }
    block
}

fn http2() -> [Vec<u8>; 2] {
    let path = format!("/path/shown?token={SECRET}");
    let cookie = format!("a={SECRET}");
    let set_cookie = format!("sid={SECRET}; Secure");
    let bearer = format!("Bearer {SECRET}");
    let form = format!("password={SECRET}&x=1");
    let request = block(&[
        (":method", "POST"),
        (":path", &path),
        (":authority", "host.example"),
        ("authorization", &bearer),
        ("cookie", &cookie),
        ("x-api-key", SECRET),
        ("x-odd", HEADER),
        ("content-type", "application/x-www-form-urlencoded"),
        (":scheme", "https"),
    ]);
    let response = block(&[
        (":status", "200"),
        ("set-cookie", &set_cookie),
        ("x-odd", HEADER),
        ("content-type", "text/plain"),
    ]);
    let sent = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, 0, &[]),
        frame(1, 4, 1, &request),
        frame(0, 1, 1, form.as_bytes()),
    ];
    let received = [
        frame(4, 0, 0, &[]),
        frame(1, 4, 1, &response),
        frame(0, 0, 1, BODY.as_bytes()),
        frame(1, 5, 1, &block(&[("x-session-token", SECRET)])),
    ];
    [sent.concat(), received.concat()]
}

fn formats() -> [Arc<dyn Format>; FORMATS] {
    let clock = WallClock::default();
    [
        Arc::new(Text {
            heading: Heading::Terminal,
            ..Text::default()
        }),
        Arc::new(JsonLines {
            frames: true,
            ..JsonLines::default()
        }),
        Arc::new(ExchangeLines {
            clock,
            dated: false,
            heads: true,
            bodies: true,
            truncate: None,
            ends: Ends::Both,
            audit: None,
        }),
        Arc::new(Protobuf::default()),
        Arc::new(Har::default()),
        Arc::new(Otlp::new(clock, [0; 16], None)),
    ]
}

fn origin() -> Origin {
    Origin {
        process: Process {
            pid: 7,
            tid: 7,
            uid: None,
            comm: Comm::new(*b"curl\0\0\0\0\0\0\0\0\0\0\0\0"),
        },
        container_id: None,
        program: None,
        stream: Some(StreamOrigin {
            connection: 1,
            uuid: "7_7_curl_3_1".into(),
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

struct Connection {
    decoders: [Box<dyn StreamDecoder>; 2],
    messages: Vec<Message>,
}

impl Connection {
    fn new(view: View) -> Self {
        let options = Options {
            view,
            ..Options::default()
        };
        Self {
            decoders: [stream_decoder(options), stream_decoder(options)],
            messages: Vec::new(),
        }
    }

    fn act(&mut self, direction: usize, act: &dyn Fn(&mut dyn StreamDecoder, &mut Output)) {
        let mut output = Output::default();
        act(&mut *self.decoders[direction], &mut output);
        while self.decoders[direction].has_more() {
            self.decoders[direction].go_on(&mut output);
        }
        self.messages.append(&mut output.messages);
        for notice in output.notices {
            self.act(1 - direction, &|decoder, output| decoder.notice(&notice, output));
        }
    }

    /// Feeds both directions in two pieces, with all parts that are ready between them.
    fn play(mut self, bytes: &[Vec<u8>; 2], from: usize, cut: usize) -> Vec<Message> {
        let mut time = 1;
        for (direction, bytes) in bytes.iter().enumerate() {
            let from = from.min(bytes.len());
            if from > 0 {
                let gap = Gap {
                    bytes: None,
                    reason: GapReason::KernelLoss,
                };
                self.act(direction, &|decoder, output| decoder.gap(gap, time, output));
            }
            let cut = cut.clamp(from, bytes.len());
            for piece in [&bytes[from..cut], &bytes[cut..]] {
                let piece = Bytes::copy_from_slice(piece);
                time += 1;
                self.act(direction, &|decoder, output| decoder.feed(&piece, time, output));
                self.act(direction, &|decoder, output| decoder.emit_parts(output));
            }
        }
        for direction in [0, 1] {
            self.act(direction, &|decoder, output| decoder.close(output));
        }
        self.messages
    }
}

fn privacy(level: Level, redacts: bool) -> Arc<Privacy> {
    Arc::new(Privacy {
        level,
        secrets: redacts.then(|| Arc::new(Secrets::default())),
    })
}

/// Plays everything at every place and checks that no format has one of `canaries`. Returns what each format shows of
/// all bytes.
fn check(level: Level, redacts: bool, canaries: &[&str]) -> [String; FORMATS] {
    let mut whole = [const { String::new() }; FORMATS];
    let privacy = privacy(level, redacts);
    for bytes in [http1(), http2()] {
        let longest = bytes[0].len().max(bytes[1].len());
        for at in 0..=longest {
            for (from, cut) in [(0, at), (at, 0)] {
                for view in [
                    View::TextMessages,
                    View::Structured { frames: true },
                    View::Joined,
                    View::Bodies,
                ] {
                    let mut messages = Connection::new(view).play(&bytes, from, cut);
                    for message in &mut messages {
                        privacy.apply(message);
                    }
                    let mut shown = vec![format!("{messages:?}")];
                    for (number, format) in formats().into_iter().enumerate() {
                        if view_of(&format, &privacy) == view {
                            let formatted = format.formatted(&origin(), &messages);
                            let formatted = String::from_utf8_lossy(&formatted).into_owned();
                            if at == 0 && from == cut {
                                whole[number].push_str(&formatted);
                            }
                            shown.push(formatted);
                        }
                    }
                    for (canary, shown) in canaries
                        .iter()
                        .flat_map(|canary| shown.iter().map(move |shown| (canary, shown)))
                    {
                        assert!(!shown.contains(canary), "{from} {cut} {canary}: {shown}");
                    }
                }
            }
        }
    }
    whole
}

/// The view that the decoders have for a format whose messages are masked.
fn view_of(format: &Arc<dyn Format>, privacy: &Arc<Privacy>) -> View {
    let (format, privacy) = (Arc::clone(format), Arc::clone(privacy));
    Private { format, privacy }.view()
}

#[test]
fn no_secret_is_shown_where_they_are_masked() {
    let [text, json, exchanges, entries, har, spans] = check(Level::Full, true, &[SECRET]);
    for shown in [&text, &json, &exchanges, &entries, &har] {
        for part in [BODY, HEADER, "host.example", "/path/shown", "Bearer ***", "a=***"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }
    assert!(
        spans.contains("/path/shown") && spans.contains("host.example"),
        "{spans}"
    );
    assert!(text.contains("password=***&x=1"), "{text}");
    assert!(text.contains("Set-Cookie: sid=***; Path=/; HttpOnly"), "{text}");
    assert!(json.contains(r#""path":"/path/shown?token=***""#), "{json}");
}

#[test]
fn no_body_is_shown_with_headers() {
    let [text, json, ..] = check(Level::Headers, false, &[BODY]);
    assert!(text.contains(&format!("Bearer {SECRET}")), "{text}");
    let mark = format!("[ecapture: {} bytes of content left out for privacy]", BODY.len());
    assert!(text.contains(&mark), "{text}");
    assert!(json.contains(r#""wire_len":"#), "{json}");
    let [text, ..] = check(Level::Headers, true, &[BODY, SECRET]);
    assert!(text.contains(HEADER), "{text}");
}

#[test]
fn metadata_has_neither_bodies_nor_header_values() {
    for redacts in [false, true] {
        let [text, json, exchanges, _, har, spans] = check(Level::Metadata, redacts, &[BODY, SECRET, HEADER]);
        for shown in [&text, &json, &exchanges, &har] {
            for part in ["POST", "host.example", "/path/shown", "200"] {
                assert!(shown.contains(part), "{part}: {shown}");
            }
        }
        assert!(spans.contains("/path/shown"), "{spans}");
        assert!(json.contains(r#""X-Odd","***""#), "{json}");
    }
}

#[test]
fn everything_is_shown_otherwise() {
    assert!(privacy(Level::Full, false).is_off());
    let bytes = http1();
    let messages = Connection::new(View::Text).play(&bytes, 0, 0);
    let shown = formats()[0].formatted(&origin(), &messages);
    let shown = String::from_utf8_lossy(&shown);
    for canary in [SECRET, BODY, HEADER] {
        assert!(shown.contains(canary), "{shown}");
    }
}

#[test]
fn bytes_of_no_known_protocol_are_left_out_with_their_number() {
    let bytes = [format!("\0\x01auth {SECRET}\0\n").into_bytes(), Vec::new()];
    for (level, reason) in [(Level::Full, "redacted"), (Level::Headers, "privacy")] {
        let privacy = privacy(level, level == Level::Full);
        let mut messages = Connection::new(View::Text).play(&bytes, 0, 0);
        assert!(matches!(messages[0].content, Content::Raw(_)), "{messages:?}");
        for message in &mut messages {
            privacy.apply(message);
        }
        let shown = formats()[0].formatted(&origin(), &messages);
        let shown = String::from_utf8_lossy(&shown);
        let mark = format!("[ecapture: {} bytes left out ({reason})]", bytes[0].len());
        assert!(shown.contains(&mark) && !shown.contains(SECRET), "{shown}");
    }
}

#[test]
fn own_patterns_are_found_in_heads_and_bodies() {
    let secrets = Secrets::parse(&format!("text {BODY}\nheader x-odd\nquery q\n")).unwrap();
    let privacy = Privacy {
        level: Level::Full,
        secrets: Some(Arc::new(secrets)),
    };
    for bytes in [http1(), http2()] {
        let mut messages = Connection::new(View::Structured { frames: false }).play(&bytes, 0, 0);
        for message in &mut messages {
            privacy.apply(message);
        }
        let shown = formats()[1].formatted(&origin(), &messages);
        let shown = String::from_utf8_lossy(&shown);
        for canary in [SECRET, BODY, HEADER, "q=1"] {
            assert!(!shown.contains(canary), "{canary}: {shown}");
        }
    }
}
