//! Which response answers which request, at the edges: responses that are early, requests without an
//! answer, sessions that are used again.

use crate::support::capture::{Scene, curl};
use crate::support::ends::{Events, client, get, ok, server};
use crate::support::exchanges::assert_balanced;
use crate::support::program::{Finished, replay_on_a_terminal, run};

fn replay(file: &str, arguments: &[&str]) -> Finished {
    let finished = run(&[&["replay", file, "-q"], arguments].concat());
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    finished
}

/// An upload that is refused before it has ended, and another exchange.
fn early_refusal() -> Events {
    let mut events = Events::default();
    let end = client(5000);
    let upload = "POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n12345";
    let refusal = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno";
    events
        .write(end, 1, upload)
        .read(end, 2, refusal)
        .write(end, 3, "67890")
        .write(end, 4, &get("/next"))
        .read(end, 5, &ok("yes"))
        .close(end, 6);
    events
}

#[test]
fn a_request_that_ends_after_its_response_is_decided_by_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = early_refusal().save(folder.path());
    let filter = ["--format", "jsonl", "--filter", "http.response.code == 413"];
    let lines = replay(&file, &filter).json();
    let shown: Vec<_> = lines
        .iter()
        .map(|line| (line["kind"].as_str(), line["pairing"].as_str()))
        .collect();
    assert_eq!(
        shown,
        [
            (Some("http1.request"), None),
            (Some("http1.response"), Some("certain"))
        ]
    );
    assert_eq!(lines[0]["body"]["text"], "1234567890");
    assert_eq!(lines[1]["request"]["wire_len"], 10);
    let other = ["--format", "jsonl", "--filter", "http.response.code == 200"];
    let lines = replay(&file, &other).json();
    assert_eq!(lines.len(), 2, "the upload is not among them: {lines:?}");
}

#[test]
fn the_line_of_an_early_response_has_the_sizes_of_both() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = early_refusal().save(folder.path());
    let lines = replay(&file, &["--format", "exchange"]).text();
    assert!(
        lines.contains("POST https://h/upload 413 10 -> 2 B 1.000 ms\n"),
        "{lines}"
    );
    assert_eq!(lines.lines().count(), 2, "{lines}");
}

/// The first event of a connection's other direction comes long after the request: nobody was there to hold it.
#[test]
fn a_large_request_is_there_when_its_response_begins_much_later() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut events = Events::default();
    let end = client(5000);
    let body = "x".repeat(300_000);
    let upload = format!(
        "POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    events
        .write(end, 1, &upload)
        .read(end, 60_000, &ok("yes"))
        .close(end, 60_001);
    let file = events.save(folder.path());
    let lines = replay(&file, &["--format", "exchange", "--fail-on-loss"]).text();
    assert!(
        lines.contains("POST https://h/upload 200 300000 -> 3 B 59999.000 ms\n"),
        "{lines}"
    );
    let filter = [
        "--format",
        "jsonl",
        "--fail-on-loss",
        "--filter",
        "http.response.code == 200",
    ];
    let lines = replay(&file, &filter).json();
    assert_eq!(lines[0]["body"]["text"], body.as_str());
    let document = folder.path().join("run.har");
    let target = format!("har:{}", document.display());
    replay(&file, &["-o", &target, "--fail-on-loss"]);
    let document = std::fs::read(&document).expect("the document");
    let document: serde_json::Value = serde_json::from_slice(&document).expect("JSON");
    let entries = document["log"]["entries"].as_array().expect("entries");
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert_eq!(entries[0]["request"]["postData"]["text"], body.as_str());
}

/// Nothing is left out silently where there is no room.
#[test]
fn a_request_that_cannot_be_kept_is_counted_and_its_target_is_not_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut events = Events::default();
    let end = client(5000);
    let head = "POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 1400000\r\n\r\n";
    let half = "x".repeat(700_000);
    events
        .write(end, 1, head)
        .write(end, 1, &half)
        .write(end, 1, &half)
        .read(end, 60_000, &ok("yes"))
        .close(end, 60_001);
    let file = events.save(folder.path());
    let finished = run(&["replay", &file, "--format", "exchange", "--max-memory", "32"]);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let lines = finished.text();
    assert!(
        lines.contains("POST https://h/upload 200 1400000 -> 3 B"),
        "{lines}"
    );
    assert!(
        finished.stderr.contains(&format!(
            "buffer_limit: 0 events, {} bytes",
            head.len() + 1_400_000
        )),
        "{}",
        finished.stderr
    );
}

#[test]
fn an_upload_that_never_ends_shows_its_response_when_the_connection_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut events = Events::default();
    let end = client(5000);
    events
        .write(
            end,
            1,
            "POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n12345",
        )
        .read(end, 2, "HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno")
        .close(end, 3);
    let file = events.save(folder.path());
    let lines = replay(&file, &["--format", "exchange"]).text();
    assert!(
        lines.contains("/upload 413 5 -> 2 B 1.000 ms [ecapture: incomplete request]\n"),
        "{lines}"
    );
}

#[test]
fn a_connection_without_any_response_says_so_at_its_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut events = Events::default();
    let end = client(5000);
    events.write(end, 1, &(get("/one") + &get("/two"))).close(end, 9);
    let file = events.save(folder.path());
    let lines = replay(&file, &["--format", "exchange"]).text();
    for path in ["/one", "/two"] {
        let line = format!("GET https://h{path} - 0 -> ? B [ecapture: no response]\n");
        assert!(lines.contains(&line), "{lines}");
    }
    let lines = replay(&file, &["--format", "jsonl"]).json();
    let orphans: Vec<_> = lines
        .iter()
        .filter(|line| line["pairing"] == "no_response")
        .collect();
    assert_eq!(orphans.len(), 2, "{lines:?}");
    assert_eq!(orphans[1]["request"]["path"], "/two");
    assert_eq!(
        (&orphans[1]["exchange"], &orphans[1]["direction"]),
        (&2.into(), &"read".into())
    );
    let text = replay(&file, &[]).text();
    assert!(!text.contains("no response"), "{text}");
}

/// The address of a session is used again while the connection before is still being ended.
#[test]
fn a_session_that_is_used_again_is_paired() {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/nghttp-h2c/events.jsonl"
    );
    let lines = replay(file, &["--format", "jsonl"]).json();
    let pairings: Vec<_> = lines.iter().filter_map(|line| line["pairing"].as_str()).collect();
    assert_eq!(pairings, ["certain"; 10], "{lines:?}");
    let joined = replay(file, &["--format", "jsonl", "--ends", "once"]).json();
    assert_eq!(joined.iter().filter(|line| line["kind"] == "exchange").count(), 5);
}

/// One exchange, seen by both ends: it takes the client four milliseconds, and the server two of them.
fn both_ends(events: &mut Events, port: u16, at: u64, path: &str) {
    let (client, server) = (client(port), server(port));
    events
        .write(client, at, &get(path))
        .read(server, at + 1, &get(path))
        .write(server, at + 3, &ok("yes"))
        .read(client, at + 4, &ok("yes"));
}

fn exchanges(events: &Events, arguments: &[&str]) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = events.save(folder.path());
    let lines = replay(&file, &[&["--format", "exchange"], arguments].concat()).text();
    lines.lines().map(str::to_owned).collect()
}

#[test]
fn an_exchange_with_both_ends_here_is_one_line() {
    let mut events = Events::default();
    both_ends(&mut events, 5000, 1, "/a");
    both_ends(&mut events, 5000, 11, "/b");
    let lines = exchanges(&events, &[]);
    assert_eq!(lines.len(), 2, "{lines:?}");
    let line =
        "client[10] -> 127.0.0.1:443 GET https://h/a 200 0 -> 3 B 4.000 ms, server[20] 2.000 ms (+2.000 ms)";
    assert!(lines[0].ends_with(line), "{lines:?}");
    let both = exchanges(&events, &["--ends", "both"]);
    assert_eq!(both.len(), 4, "{both:?}");
    assert!(both.iter().all(|line| !line.contains('+')), "{both:?}");
}

#[test]
fn heads_follow_the_joined_line_once() {
    let mut events = Events::default();
    both_ends(&mut events, 5000, 1, "/a");
    let lines = exchanges(&events, &["-vv"]);
    assert_eq!(lines[1], "> GET /a HTTP/1.1", "{lines:?}");
    assert_eq!(lines.iter().filter(|line| line.contains("200 OK")).count(), 1);
}

#[test]
fn heads_come_with_v_and_bodies_with_another_one() {
    let (near, mut events) = (client(5000), Events::default());
    let upload = "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nsent";
    events.write(near, 1, upload).read(near, 2, &ok("received"));
    let shown = |arguments: &[&str]| exchanges(&events, arguments)[1..].to_vec();
    assert_eq!(shown(&[]), [] as [&str; 0]);
    let request = ["> POST /a HTTP/1.1", "> Host: h", "> Content-Length: 4"];
    let response = ["< HTTP/1.1 200 OK", "< Content-Length: 8"];
    assert_eq!(shown(&["-v"]), [&request[..], &response[..]].concat());
    let whole = [&request[..], &["  sent"], &response[..], &["  received"]].concat();
    assert_eq!(shown(&["-vv"]), whole);
    let cut = shown(&["-vv", "--tsize", "3"]);
    assert!(
        cut.contains(&"  [ecapture: cut, 8 bytes in all]".to_owned()),
        "{cut:?}"
    );
}

#[test]
fn equal_requests_sent_ahead_are_joined_one_to_one() {
    let (client, server) = (client(5000), server(5000));
    let mut events = Events::default();
    events
        .write(client, 1, &get("/a").repeat(3))
        .read(server, 2, &get("/a").repeat(3))
        .write(server, 3, &ok("1"))
        .write(server, 4, &ok("1"))
        .write(server, 5, &ok("1"))
        .read(client, 6, &ok("1").repeat(3));
    let lines = exchanges(&events, &[]);
    let server_times: Vec<_> = lines
        .iter()
        .map(|line| {
            line.split("server[20] ")
                .nth(1)
                .and_then(|rest| rest.split(' ').next())
        })
        .collect();
    assert_eq!(
        server_times,
        [Some("1.000"), Some("2.000"), Some("3.000")],
        "{lines:?}"
    );
}

#[test]
fn ends_that_are_not_of_one_exchange_are_never_joined() {
    let alone = |events: &Events, what: &str| {
        let lines = exchanges(events, &[]);
        assert_eq!(lines.len(), 2, "{what}: {lines:?}");
        assert!(lines.iter().all(|line| !line.contains('+')), "{what}: {lines:?}");
    };
    let mut proxied = Events::default();
    let (near, far) = (client(5000), server(6000));
    proxied
        .write(near, 1, &get("/a"))
        .read(far, 2, &get("/a"))
        .write(far, 3, &ok("1"))
        .read(near, 4, &ok("1"));
    alone(&proxied, "through a proxy");

    let mut reused = Events::default();
    let (old, new) = (client(5000), server(5000));
    reused
        .write(old, 1, &get("/a"))
        .read(old, 2, &ok("1"))
        .read(new, 3, &get("/a"))
        .write(new, 4, &ok("1"));
    alone(
        &reused,
        "a port that is used again, whose first connection has no end",
    );

    let mut guessed = Events::default();
    let near = crate::support::ends::End {
        address_source: ecapture_protocols::AddressSource::Heuristic,
        ..client(5000)
    };
    let far = server(5000);
    guessed
        .write(near, 1, &get("/a"))
        .read(far, 2, &get("/a"))
        .write(far, 3, &ok("1"))
        .read(near, 4, &ok("1"));
    alone(&guessed, "addresses that are not certain");

    let mut different = Events::default();
    let (near, far) = (client(5000), server(5000));
    different
        .write(near, 1, &get("/a"))
        .read(far, 2, &get("/a"))
        .write(far, 3, &ok("1"))
        .read(near, 4, &ok("12"));
    alone(&different, "another response");
}

#[test]
fn an_end_that_waits_too_long_is_shown_alone() {
    let (near, far) = (client(5000), server(5000));
    let mut events = Events::default();
    events
        .write(near, 1, &get("/a"))
        .read(far, 2, &get("/a"))
        .write(far, 3, &ok("1"));
    both_ends(&mut events, 7000, 2000, "/other");
    events.read(near, 2010, &ok("1"));
    let lines = exchanges(&events, &[]);
    let paths: Vec<_> = lines
        .iter()
        .map(|line| (line.contains("/other"), line.contains('+')))
        .collect();
    let alone = (false, false);
    assert_eq!(paths, [alone, (true, true), alone], "{lines:?}");
    assert!(lines[0].contains("server[20] <-") && lines[2].contains("client[10] ->"));
}

#[test]
fn text_in_files_and_json_show_the_messages_of_each_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut events = Events::default();
    both_ends(&mut events, 5000, 1, "/a");
    let file = events.save(folder.path());
    assert_eq!(replay(&file, &["--format", "jsonl"]).json().len(), 4);
    for arguments in [
        &["--format", "text"][..],
        &["--format", "original"],
        &["--format", "original", "--ends", "once"],
        &["--format", "text", "--ends", "both"],
    ] {
        let text = replay(&file, arguments).text();
        assert_eq!(text.matches("GET /a HTTP/1.1").count(), 2, "{text}");
        assert_eq!(text.matches(" ms,").count(), 0, "{text}");
    }
}

/// Replays as text, each message once.
fn text_once(file: &str, arguments: &[&str]) -> String {
    let arguments = [&["--format", "text", "--ends", "once"], arguments].concat();
    replay(file, &arguments).text()
}

#[test]
fn text_shows_a_message_of_both_ends_once_if_asked_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut events = Events::default();
    both_ends(&mut events, 5000, 1, "/a");
    let file = events.save(folder.path());
    let expected = "\
        PID:10, Comm:client, Src:127.0.0.1:5000, Dest:127.0.0.1:443, PID:20, Comm:server, +1.000 ms,\n\
        GET /a HTTP/1.1\nHost: h\n\n\
        PID:10, Comm:client, Src:127.0.0.1:5000, Dest:127.0.0.1:443, PID:20, Comm:server, -1.000 ms,\n\
        HTTP/1.1 200 OK\nContent-Length: 3\n\nyes\n";
    assert_eq!(text_once(&file, &[]).replace("\r\n", "\n"), expected);
}

#[test]
fn on_a_terminal_text_shows_a_message_of_both_ends_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut events = Events::default();
    both_ends(&mut events, 5000, 1, "/a");
    let file = events.save(folder.path());
    let shown = |flags: &str| {
        let lines = replay_on_a_terminal(&file, flags);
        lines
            .into_iter()
            .filter(|line| line.contains("127.0.0.1:"))
            .collect::<Vec<_>>()
    };
    let once = shown("");
    assert_eq!(once.len(), 2, "{once:?}");
    assert!(
        once[0].ends_with(" client[10] -> 127.0.0.1:443, server[20] (+1.000 ms)"),
        "{once:?}"
    );
    assert!(
        once[1].ends_with(" client[10] <- 127.0.0.1:443, server[20] (-1.000 ms)"),
        "{once:?}"
    );
    for flags in ["--ends both", "--format original"] {
        let both = shown(flags);
        assert_eq!(both.len(), 4, "{flags}: {both:?}");
        assert!(both.iter().all(|line| !line.contains(" ms")), "{both:?}");
    }
}

/// Where one end has less than the other, both are shown, each in its order.
#[test]
fn text_shows_both_ends_where_they_differ() {
    let (near, far) = (client(5000), server(5000));
    let mut events = Events::default();
    events
        .write(near, 1, &get("/a"))
        .read(far, 2, &get("/a"))
        .write(far, 3, &ok("yes"))
        .read(near, 4, &ok("yes")[..40])
        .close(near, 5)
        .close(far, 6);
    let folder = tempfile::tempdir().expect("a folder");
    let file = events.save(folder.path());
    let text = text_once(&file, &[]);
    assert_eq!(text.matches("GET /a").count(), 1, "{text}");
    assert_eq!(text.matches("200 OK").count(), 2, "{text}");
    assert_eq!(text.matches("PID:20").count(), 2, "{text}");
    assert!(
        text.contains("[ecapture: body incomplete, 2 of 3 bytes]"),
        "{text}"
    );
}

/// The records of a text: each with its heading, and its own lines.
fn records(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut records: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in text.lines() {
        match records.last_mut() {
            Some((_, lines)) if !line.starts_with("PID:") => lines.push(line),
            _ => records.push((line, Vec::new())),
        }
    }
    records
}

/// Recorded at both ends: nothing is shown twice, and everything that the ends show is there.
#[test]
fn recorded_ends_are_shown_once_in_text() {
    for fixture in FIXTURES_OF_BOTH_ENDS {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
        let file = format!("{folder}/{fixture}/events.jsonl");
        for frames in ["messages", "all"] {
            let both = replay(&file, &["--format", "text", "--frames", frames]).text();
            let once = text_once(&file, &["--frames", frames]);
            let records_once = records(&once);
            let (joined, alone): (Vec<_>, Vec<_>) =
                records_once.iter().partition(|record| record.0.ends_with(" ms,"));
            for (number, one) in alone.iter().enumerate() {
                let is_again = |other: &&&(&str, Vec<&str>)| other.1 == one.1 && other.0 != one.0;
                let again = alone[number + 1..].iter().find(is_again);
                assert!(again.is_none(), "{fixture} {frames}: {one:?} {again:?}");
            }
            assert!(
                joined.len() > 10 * alone.len(),
                "{fixture} {frames}: {} and {alone:?}",
                joined.len()
            );
            let mut shown: Vec<_> = joined
                .iter()
                .flat_map(|record| [&record.1; 2])
                .chain(alone.iter().map(|record| &record.1))
                .flatten()
                .collect();
            let records_both = records(&both);
            let mut expected: Vec<_> = records_both.iter().flat_map(|record| &record.1).collect();
            shown.sort_unstable();
            expected.sort_unstable();
            assert_eq!(shown, expected, "{fixture} {frames}");
        }
    }
}

/// Fixtures whose client and server are both captured, as a whole.
const FIXTURES_OF_BOTH_ENDS: [&str; 8] = [
    "content-codings",
    "curl-nginx-http1",
    "curl-nginx-http2",
    "curl-python",
    "h2load-nghttpd",
    "nghttp-padding",
    "nghttp-push",
    "nghttp-trailers",
];

#[test]
fn a_live_run_shows_exchanges_of_both_ends_once() {
    let Some(scene) = Scene::nginx(&[]) else { return };
    for version in ["--http1.1", "--http2"] {
        let file = scene.folder.path().join(format!("exchanges{version}"));
        let lines = format!("exchange:{}", file.display());
        let finished = scene.capture(
            &[
                "tls", "-o", "text", "-o", &lines, "--ends", "once", "--frames", "messages",
            ],
            || {
                for path in ["/hello.json", "/page.txt", "/hello.json"] {
                    curl(&[version, &scene.server.url(path)]);
                }
            },
        );
        assert_balanced(&finished);
        let text = finished.text();
        let headings: Vec<_> = text.lines().filter(|line| line.starts_with("PID:")).collect();
        let is_of = |comm: &str| {
            let own = format!("Comm:{comm}, Src");
            headings
                .iter()
                .filter(move |line| line.contains(&own))
                .collect::<Vec<_>>()
        };
        let of_curl = is_of("curl");
        assert_eq!((of_curl.len(), is_of("nginx").len()), (6, 0), "{text}");
        let is_joined = |line: &&&str| line.contains(", Comm:nginx, ") && line.ends_with(" ms,");
        assert!(of_curl.iter().all(is_joined), "{text}");
        assert_eq!(text.matches("{\"hello\":\"world\"}").count(), 2, "{text}");
        let lines = std::fs::read_to_string(&file).expect("the other output");
        let lines: Vec<_> = lines
            .lines()
            .filter(|line| line.contains(" GET https://"))
            .collect();
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(
            lines
                .iter()
                .all(|line| line.contains(" curl[") && line.contains(", nginx[")),
            "{lines:?}"
        );
    }
}

#[test]
fn json_has_a_line_for_an_exchange_with_both_ends_after_their_messages() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut events = Events::default();
    both_ends(&mut events, 5000, 1, "/a");
    both_ends(&mut events, 5000, 11, "/b");
    // One without its other end has its messages only.
    events
        .write(client(6000), 20, &get("/c"))
        .read(client(6000), 21, &ok("yes"));
    let file = events.save(folder.path());
    let lines = replay(&file, &["--format", "jsonl", "--ends", "once"]).json();
    let (joined, messages): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line["kind"] == "exchange");
    assert_eq!((joined.len(), messages.len()), (2, 10), "{lines:?}");
    let line = joined[1];
    assert_eq!(line["request"]["path"], "/b");
    assert_eq!(
        (&line["status"], &line["response"]["wire_len"]),
        (&200.into(), &3.into())
    );
    assert_eq!(
        (&line["src"], &line["dst"]),
        (&"127.0.0.1:5000".into(), &"127.0.0.1:443".into())
    );
    assert_eq!(line["between_ns"], 2_000_000);
    let ends = line["ends"].as_array().expect("two ends");
    let shown: Vec<_> = ends
        .iter()
        .map(|end| {
            (
                end["side"].as_str(),
                end["comm"].as_str(),
                end["total_ns"].as_u64(),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            (Some("client"), Some("client"), Some(4_000_000)),
            (Some("server"), Some("server"), Some(2_000_000))
        ]
    );
    for end in ends {
        let is_its = |line: &&&serde_json::Value| {
            line["connection"] == end["connection"] && line["exchange"] == end["exchange"]
        };
        assert_eq!(messages.iter().filter(is_its).count(), 2, "{line}");
    }
}
