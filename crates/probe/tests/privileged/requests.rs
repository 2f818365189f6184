//! The bytes of real requests and answers, on both sides.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ecapture_probe::{CaptureConfig, Library, Processes};
use ecapture_protocols::Direction::{Read, Write as Sent};
use ecapture_protocols::{AddressSource, CapturedEvent, Close, DataEvent, Side};

use crate::support::{Peer, capture, config, curl, output, peers, python, wait_until};

fn request(path: &str, port: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n")
}

/// Every event names the socket it went over: `source` connected to `destination`.
fn assert_socket(events: &[&DataEvent], side: Side, port: &str) {
    assert!(!events.is_empty());
    for event in events {
        let socket = event.socket.unwrap();
        assert_eq!(socket.local, Some(side));
        assert_eq!(socket.address_source, AddressSource::Exact);
        assert_eq!(socket.tuple.destination.to_string(), format!("127.0.0.1:{port}"));
        assert_eq!(socket.tuple.source.ip().to_string(), "127.0.0.1");
        assert!(event.fd.is_some_and(|fd| fd > 2));
        assert_eq!(event.tls_version.unwrap().to_string(), "TLS1_3_VERSION");
        assert_eq!(event.process.uid, Some(0));
    }
}

#[test]
fn curl_and_python() {
    let Some(peers) = peers(&["curl", "python3", "openssl"]) else {
        return;
    };
    let mut server = peers.server("https_server.py", &["127.0.0.1"]);
    let (pid, port) = (server.pid(), server.line());
    let url = format!("https://127.0.0.1:{port}/some/path?x=1");
    let ours = Processes::Set {
        follow_children: true,
    };
    let captured = capture(&config(ours), move |handle| {
        handle.add_pid(std::process::id()).unwrap();
        handle.add_pid(pid).unwrap();
        let mut client = Peer::start(curl(&["-A", "test", &url]));
        let result = (client.pid(), client.rest());
        // Two sessions, two sockets and one process end, the last ones some time later.
        wait_until(|| handle.counters().unwrap().close_records >= 5);
        result
    });
    captured.assert_nothing_lost();
    let (client, body) = &captured.result;
    assert_eq!(body, "hello from the server\n");
    let expected = request("/some/path?x=1", &port);
    assert_eq!(captured.text(*client, Sent), expected);
    assert_eq!(captured.text(pid, Read), expected);
    let answer = captured.text(pid, Sent);
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with(body),
        "{answer}"
    );
    assert_eq!(captured.text(*client, Read), answer);

    let (sent, received) = (captured.data(*client, Sent), captured.data(pid, Read));
    assert_socket(&sent, Side::Source, &port);
    assert_socket(&captured.data(*client, Read), Side::Source, &port);
    assert_socket(&received, Side::Destination, &port);
    assert_socket(&captured.data(pid, Sent), Side::Destination, &port);
    assert_eq!(sent[0].process.comm.to_string(), "curl");
    assert_eq!(received[0].process.comm.to_string(), "python3");
    assert_eq!(sent[0].socket.unwrap().tuple, received[0].socket.unwrap().tuple);
    assert_ne!(sent[0].socket.unwrap().sock, received[0].socket.unwrap().sock);

    let closed = |wanted: Close| {
        captured
            .events
            .iter()
            .any(|event| matches!(event, CapturedEvent::Close { close, .. } if *close == wanted))
    };
    assert!(closed(Close::Socket {
        sock: sent[0].socket.unwrap().sock
    }));
    assert!(closed(Close::Session {
        pid: *client,
        session: sent[0].session.unwrap()
    }));
    assert!(closed(Close::Process { pid: *client }));
    assert!(!closed(Close::Process { pid }));
}

#[test]
fn curl_and_nginx() {
    let Some(peers) = peers(&["curl", "nginx", "openssl"]) else {
        return;
    };
    fs::write(peers.directory().join("index.html"), "from nginx\n").unwrap();
    let port = "18443";
    let server = peers.nginx(port, "", "ssl_protocols TLSv1.3;", "");
    let url = format!("https://127.0.0.1:{port}/");
    let captured = capture(&config(Processes::All), move |_| {
        output(&mut curl(&["-A", "test", &url, &url]))
    });
    captured.assert_nothing_lost();
    assert_eq!(captured.result, "from nginx\nfrom nginx\n");
    assert_eq!(captured.text(server.pid(), Read), request("/", port).repeat(2));
    let answer = captured.text(server.pid(), Sent);
    assert_eq!(answer.matches("\r\n\r\nfrom nginx\n").count(), 2, "{answer}");
    assert_socket(&captured.data(server.pid(), Sent), Side::Destination, port);
    let offsets: Vec<_> = captured
        .data(server.pid(), Read)
        .iter()
        .map(|data| data.stream_offset)
        .collect();
    assert_eq!(offsets, [Some(0), Some(request("/", port).len() as u64)]);
}

#[test]
fn openssl_client_and_server() {
    let Some(peers) = peers(&["openssl", "python3"]) else {
        return;
    };
    let mut server = peers.server("asyncio_server.py", &[]);
    let port = server.line();
    let captured = capture(&config(Processes::All), move |_| {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-quiet", "-connect", &format!("127.0.0.1:{port}")]);
        command.stderr(Stdio::null());
        let mut client = Peer::start(command);
        client
            .child()
            .stdin
            .as_mut()
            .unwrap()
            .write_all(b"over s_client\n")
            .unwrap();
        (client.pid(), client.line())
    });
    let (client, echo) = &captured.result;
    assert_eq!(echo, "echo over s_client");
    assert_eq!(captured.text(*client, Sent), "over s_client\n");
    assert_eq!(captured.text(*client, Read), "echo over s_client\n");
    assert_eq!(captured.text(server.pid(), Read), "over s_client\n");
    assert_eq!(
        captured.data(*client, Sent)[0].process.comm.to_string(),
        "openssl"
    );
}

/// Data that a resumed session sends before the handshake ends (RFC 8446 §2.3).
#[test]
fn early_data() {
    let Some(peers) = peers(&["openssl", "python3"]) else {
        return;
    };
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut server = openssl(&["s_server", "-quiet", "-early_data"]);
    server
        .args(["-accept", &port.to_string(), "-cert"])
        .arg(peers.certificate());
    server.arg("-key").arg(peers.key());
    let mut server = Peer::start(server);
    server.wait_for(port);
    let session = peers.directory().join("session.pem");
    let early = peers.directory().join("early");
    fs::write(&early, "sent early\n").unwrap();
    let server_pid = server.pid();
    let captured = capture(&config(Processes::All), move |_| {
        let client = |arguments: [&str; 1], file: &Path| {
            let mut command = openssl(&["s_client", "-quiet", "-no_ign_eof", "-tls1_3", "-connect"]);
            command.arg(format!("127.0.0.1:{port}")).args(arguments).arg(file);
            command
        };
        let mut first = Peer::start(client(["-sess_out"], &session));
        // The ticket comes before it.
        server
            .child()
            .stdin
            .as_mut()
            .unwrap()
            .write_all(b"greeting\n")
            .unwrap();
        assert_eq!(first.line(), "greeting");
        // A session that was not closed in order would not be resumed.
        end(&mut first);
        let mut resumed = client(["-sess_in"], &session);
        resumed.arg("-early_data").arg(&early);
        let mut resumed = Peer::start(resumed);
        assert_eq!(server.line(), "sent early");
        end(&mut resumed);
        resumed.pid()
    });
    assert_eq!(captured.text(captured.result, Sent), "sent early\n");
    assert_eq!(captured.text(server_pid, Read), "sent early\n");
    let received = captured.data(server_pid, Read);
    assert_eq!(received[0].socket.unwrap().tuple.destination.port(), port);
}

/// Lets an `s_client` end by itself.
fn end(client: &mut Peer) {
    drop(client.child().stdin.take());
    client.child().wait().unwrap();
}

fn openssl(arguments: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    command.args(arguments).stderr(Stdio::null());
    command
}

#[test]
fn gnutls_client_and_openssl_server() {
    let Some(peers) = peers(&["wget", "python3", "openssl"]) else {
        return;
    };
    let mut server = peers.server("https_server.py", &["127.0.0.1"]);
    let (pid, port) = (server.pid(), server.line());
    let mut command = Command::new("wget");
    command.args(["-qO-", "--no-check-certificate", "-U", "test", "--no-proxy"]);
    command.arg(format!("https://127.0.0.1:{port}/from/wget"));
    let captured = capture(&config(Processes::All), move |_| {
        let mut client = Peer::start(command);
        (client.pid(), client.rest())
    });
    captured.assert_nothing_lost();
    let (client, body) = &captured.result;
    assert_eq!(body, "hello from the server\n");
    let request = captured.text(*client, Sent);
    assert!(request.starts_with("GET /from/wget HTTP/1.1\r\n"), "{request}");
    assert_eq!(captured.text(pid, Read), request);
    assert_eq!(captured.text(*client, Read), captured.text(pid, Sent));
    let (sent, received) = (captured.data(*client, Sent), captured.data(pid, Read));
    assert_eq!(sent[0].process.comm.to_string(), "wget");
    assert_eq!(sent[0].socket.unwrap().tuple, received[0].socket.unwrap().tuple);
    assert_eq!(sent[0].socket.unwrap().address_source, AddressSource::Exact);
}

#[test]
fn nss_client() {
    let Some(peers) = peers(&["tstclnt", "python3", "openssl"]) else {
        return;
    };
    let mut server = peers.server("asyncio_server.py", &[]);
    let (pid, port) = (server.pid(), server.line());
    let input = peers.directory().join("input");
    fs::write(&input, "over nss\n").unwrap();
    let mut command = Command::new("tstclnt");
    // -o accepts any certificate, -D needs no database of them, -A sends a file.
    command
        .args(["-h", "127.0.0.1", "-p", &port, "-o", "-D", "-A"])
        .arg(&input);
    let captured = capture(&config(Processes::All), move |_| {
        let mut client = Peer::start(command);
        (client.pid(), client.line())
    });
    captured.assert_nothing_lost();
    let (client, line) = &captured.result;
    assert_eq!(line, "echo over nss");
    assert_eq!(captured.text(*client, Sent), "over nss\n");
    assert_eq!(captured.text(*client, Read), "echo over nss\n");
    assert_eq!(captured.text(pid, Read), "over nss\n");
    let (sent, received) = (captured.data(*client, Sent), captured.data(pid, Read));
    assert_eq!(sent[0].socket.unwrap().tuple, received[0].socket.unwrap().tuple);
}

#[test]
fn tls_inside_tls() {
    let Some(peers) = peers(&["curl", "python3", "openssl"]) else {
        return;
    };
    let mut server = peers.server("https_server.py", &["127.0.0.1"]);
    let mut proxy = peers.server("https_proxy.py", &[]);
    let (port, proxy_port) = (server.line(), proxy.line());
    let mut command = Command::new("curl");
    command.args(["-sSk", "--proxy-insecure", "-A", "test"]);
    command.args(["--proxy", &format!("https://127.0.0.1:{proxy_port}")]);
    command.arg(format!("https://127.0.0.1:{port}/inner"));
    let captured = capture(&config(Processes::All), move |_| {
        let mut client = Peer::start(command);
        (client.pid(), client.rest())
    });
    captured.assert_nothing_lost();
    let (client, body) = &captured.result;
    assert_eq!(body, "hello from the server\n");
    let sent = captured.data(*client, Sent);
    let inner = sent
        .iter()
        .find(|data| data.payload.starts_with(b"GET /inner"))
        .unwrap();
    let outer = sent
        .iter()
        .find(|data| data.payload.starts_with(b"CONNECT "))
        .unwrap();
    assert_ne!(inner.session, outer.session);
    assert_eq!(inner.socket.unwrap().sock, outer.socket.unwrap().sock);
    // The inner request is sent once in the clear and once more as the outer session's payload.
    let of_inner = sent.iter().filter(|data| data.session == inner.session).count();
    assert_eq!(of_inner, 1);
    assert_eq!(captured.text(server.pid(), Read), request("/inner", &port));
}

#[test]
fn a_process_that_executes_another_program_has_ended_its_sessions() {
    let Some(peers) = peers(&["python3", "openssl"]) else {
        return;
    };
    let mut server = peers.server("asyncio_server.py", &[]);
    let port = server.line();
    let captured = capture(&config(Processes::All), move |_| {
        // The session is neither shut down nor freed.
        let script = format!(
            "import os, socket, ssl
context = ssl._create_unverified_context()
connection = context.wrap_socket(socket.create_connection(('127.0.0.1', {port})))
connection.sendall(b'before\\n')
connection.recv(100)
os.execvp('sh', ['sh', '-c', 'echo now a shell; read rest'])"
        );
        let mut command = Command::new("python3");
        command.args(["-c", &script]);
        let mut client = Peer::start(command);
        assert_eq!(client.line(), "now a shell");
        client.pid()
    });
    let client = captured.result;
    assert_eq!(captured.text(client, Sent), "before\n");
    let ends = captured.events.iter().filter(
        |event| matches!(event, CapturedEvent::Close { close: Close::Process { pid }, .. } if *pid == client),
    );
    assert_eq!(ends.count(), 1);
}

#[test]
fn a_write_that_never_returned_is_counted() {
    let Some(peers) = peers(&["python3", "openssl"]) else {
        return;
    };
    let mut writer = peers.server("killed_writer.py", &[]);
    assert_eq!(writer.line(), "ready");
    let captured = capture(&config(Processes::All), move |_| {
        writer.tell("go");
        writer.line().parse().unwrap()
    });
    assert_eq!(captured.text(captured.result, Sent), "");
    assert_eq!(captured.counters.unfinished_writes, 1);
}

#[test]
fn a_write_that_returns_after_the_stop_is_captured() {
    let Some(peers) = peers(&["python3", "openssl"]) else {
        return;
    };
    let mut writer = peers.server("patient_writer.py", &[]);
    assert_eq!(writer.line(), "ready");
    let config = CaptureConfig {
        drain: Duration::from_mins(1),
        ..config(Processes::Set {
            follow_children: true,
        })
    };
    let captured = capture(&config, move |handle| {
        handle.add_pid(writer.pid()).unwrap();
        writer.tell("go");
        let child = writer.line().parse().unwrap();
        let before = handle.counters().unwrap();
        handle.stop().unwrap();
        writer.tell("read");
        assert_eq!(writer.line(), "ended");
        (child, before)
    });
    let (child, before) = captured.result;
    assert_eq!(before.writes_in_progress, 1);
    let written = captured.text(child, Sent);
    assert_eq!(
        (written.len(), written.replace('x', "")),
        (4 << 20, String::new())
    );
    assert_eq!(captured.counters.writes_in_progress, 0);
}

#[test]
fn a_write_that_goes_on_after_the_capture_is_counted() {
    let Some(peers) = peers(&["python3", "openssl"]) else {
        return;
    };
    let mut writer = peers.server("patient_writer.py", &[]);
    assert_eq!(writer.line(), "ready");
    let config = config(Processes::Set {
        follow_children: true,
    });
    let captured = capture(&config, move |handle| {
        handle.add_pid(writer.pid()).unwrap();
        writer.tell("go");
        let child = writer.line().parse().unwrap();
        (child, writer)
    });
    let (child, _goes_on) = &captured.result;
    assert_eq!(captured.text(*child, Sent), "");
    assert_eq!(captured.counters.writes_in_progress, 1);
}

#[test]
fn a_library_with_two_names_is_captured_once() {
    let Some(peers) = peers(&["curl", "python3", "openssl"]) else {
        return;
    };
    let mut config = config(Processes::All);
    for (number, library) in config.libraries.clone().iter().enumerate() {
        let link = peers.directory().join(format!("link {number}"));
        std::os::unix::fs::symlink(library.path(), &link).unwrap();
        config.libraries.push(Library::open(&link).unwrap());
    }
    let mut server = peers.server("https_server.py", &["127.0.0.1"]);
    let (pid, port) = (server.pid(), server.line());
    let url = format!("https://127.0.0.1:{port}/once");
    let captured = capture(&config, move |_| output(&mut curl(&["-A", "test", &url])));
    assert_eq!(captured.text(pid, Read), request("/once", &port));
}

#[test]
fn forms_made_of_one_another_are_captured_once() {
    let Some(peers) = peers(&["cc", "openssl"]) else {
        return;
    };
    let program = peers.directory().join("forms");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/forms.c");
    output(
        Command::new("cc")
            .args(["-O2", "-rdynamic", "-o"])
            .arg(&program)
            .arg(source),
    );
    let mut forms = Peer::start(Command::new(&program));
    let pid = forms.pid();
    let config = CaptureConfig {
        libraries: vec![Library::open(&program).unwrap()],
        ..CaptureConfig::default()
    };
    let captured = capture(&config, move |_| {
        forms.child().stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
        forms.line()
    });
    assert_eq!(captured.result, "done");
    assert_eq!(captured.text(pid, Sent), "first second third first second third ");
    assert_eq!(captured.data(pid, Sent).len(), 6);
    let lost: u64 = captured.counters.losses().iter().map(|(_, count)| count).sum();
    assert_eq!(lost, 0, "{:?}", captured.counters);
}

#[test]
fn a_stop_keeps_what_was_captured() {
    let Some(peers) = peers(&["curl", "python3", "openssl"]) else {
        return;
    };
    let mut server = peers.server("bulk_server.py", &["1"]);
    let port = server.line();
    let captured = capture(&config(Processes::All), move |handle| {
        let mut client = Peer::start({
            let mut command = python("bulk_client.py");
            command.args([&port, "1", "50000000", "10000"]);
            command
        });
        wait_until(|| handle.counters().unwrap().data_bytes >= 1_000_000);
        handle.stop().unwrap();
        let at_stop = handle.counters().unwrap();
        let _done = client.rest();
        at_stop
    });
    let after = captured.counters;
    // Calls that were past the check when the stop came may still deliver one record each.
    assert!(
        after.data_records - captured.result.data_records <= 16,
        "{after:?}"
    );
    let bytes: u64 = captured.events.iter().map(CapturedEvent::payload_bytes).sum();
    assert_eq!(bytes, after.data_bytes);
}
