//! The filters let through what they should, and nothing else.

use std::process::Command;

use ecapture_probe::{Capture, CaptureConfig, Error, Filters, Processes};
use ecapture_protocols::CapturedEvent;
use ecapture_protocols::Direction::{Read, Write};

use crate::support::{Peer, capture, config, curl, output, peers};

#[test]
fn one_process_with_its_threads() {
    let Some(peers) = peers(&["curl", "python3", "openssl"]) else {
        return;
    };
    let mut server = peers.server("https_server.py", &["127.0.0.1"]);
    let (pid, port) = (server.pid(), server.line());
    let url = format!("https://127.0.0.1:{port}/");
    let captured = capture(&config(Processes::One(pid)), move |_| output(&mut curl(&[&url])));
    assert!(captured.text(pid, Read).starts_with("GET / HTTP/1.1\r\n"));
    let threads = captured.data(pid, Read);
    assert!(
        threads.iter().all(|data| data.process.tid != pid),
        "the server answers in threads"
    );
    let others = captured.events.iter().any(
        |event| matches!(event, ecapture_protocols::CapturedEvent::Data(data) if data.process.pid != pid),
    );
    assert!(!others);
}

#[test]
fn an_empty_set_lets_nothing_through() {
    let Some(peers) = peers(&["curl", "python3", "openssl"]) else {
        return;
    };
    let mut server = peers.server("https_server.py", &["127.0.0.1"]);
    let url = format!("https://127.0.0.1:{}/", server.line());
    let set = Processes::Set {
        follow_children: true,
    };
    let captured = capture(&config(set), move |_| output(&mut curl(&[&url])));
    assert_eq!(captured.events, []);
    assert!(captured.counters.filtered_calls >= 4);
    assert_eq!(captured.counters.data_records, 0);
}

#[test]
fn another_user_is_not_captured() {
    let Some(peers) = peers(&["curl", "python3", "openssl"]) else {
        return;
    };
    let mut server = peers.server("https_server.py", &["127.0.0.1"]);
    let url = format!("https://127.0.0.1:{}/", server.line());
    let config = CaptureConfig {
        uid: Some(54321),
        ..config(Processes::All)
    };
    let captured = capture(&config, move |_| output(&mut curl(&[&url])));
    assert_eq!(captured.counters.data_records, 0);
    assert!(captured.counters.filtered_calls >= 4);
}

#[test]
fn children_are_followed_when_asked() {
    let Some(peers) = peers(&["curl", "python3", "openssl"]) else {
        return;
    };
    for follow_children in [true, false] {
        let mut server = peers.server("https_server.py", &["127.0.0.1"]);
        let url = format!("https://127.0.0.1:{}/followed", server.line());
        let set = Processes::Set { follow_children };
        let captured = capture(&config(set), move |handle| {
            // The shell waits until it is in the set; the child of its child does the request.
            let mut shell = Command::new("sh");
            let script = format!("read go; sh -c 'curl -sSk {url}; echo'; exit 0");
            shell.args(["-c", &script]);
            let mut shell = Peer::start(shell);
            handle.add_pid(shell.pid()).unwrap();
            let stdin = shell.child().stdin.take();
            drop(stdin);
            shell.rest()
        });
        assert_eq!(captured.result, "hello from the server\n\n");
        let requests = captured.events.iter().filter(|event| {
            matches!(event, ecapture_protocols::CapturedEvent::Data(data)
                if data.direction == Write && data.payload.starts_with(b"GET /followed"))
        });
        assert_eq!(requests.count(), usize::from(follow_children));
    }
}

#[test]
fn a_process_can_leave_the_set() {
    let Some(peers) = peers(&["curl", "python3", "openssl"]) else {
        return;
    };
    let mut server = peers.server("https_server.py", &["127.0.0.1"]);
    let (pid, port) = (server.pid(), server.line());
    let set = Processes::Set {
        follow_children: false,
    };
    let captured = capture(&config(set), move |handle| {
        let get = |path: &str| output(&mut curl(&[&format!("https://127.0.0.1:{port}/{path}")]));
        handle.add_pid(pid).unwrap();
        get("inside");
        handle.remove_pid(pid).unwrap();
        handle.remove_pid(pid).unwrap();
        get("outside");
    });
    let text = captured.text(pid, Read);
    assert!(
        text.contains("GET /inside") && !text.contains("GET /outside"),
        "{text}"
    );
}

/// A connection that filters exclude for a while continues where they let it through again, after a gap.
#[test]
fn filters_change_while_the_capture_runs() {
    let Some(peers) = peers(&["curl", "python3", "openssl"]) else {
        return;
    };
    let mut server = peers.server("https_server.py", &["127.0.0.1"]);
    let (pid, port) = (server.pid(), server.line());
    let config = CaptureConfig {
        live: true,
        ..config(Processes::One(pid))
    };
    let captured = capture(&config, move |handle| {
        let get = |path: &str| output(&mut curl(&[&format!("https://127.0.0.1:{port}/{path}")]));
        let change = |filters: Filters| handle.change_filters(&filters);
        let only = |pid| Filters {
            processes: Some(vec![pid]),
            ..Filters::default()
        };
        get("first");
        change(only(std::process::id())).unwrap();
        get("second");
        change(Filters {
            uid: Some(54321),
            ..only(pid)
        })
        .unwrap();
        get("third");
        change(Filters::default()).unwrap();
        get("fourth");
        change(only(pid)).unwrap();
        // What cannot be changed leaves the filters as they were.
        let nobody = change(only(u32::MAX - 1));
        assert!(matches!(nobody, Err(Error::NoProcess { .. })), "{nobody:?}");
        let no_cgroup = change(Filters {
            cgroup: Some("/nowhere".into()),
            ..only(std::process::id())
        });
        assert!(matches!(no_cgroup, Err(Error::Cgroup(_))), "{no_cgroup:?}");
        assert_eq!(handle.filters(), Some(only(pid)));
        get("fifth");
    });
    let text = captured.text(pid, Read);
    let paths = ["first", "second", "third", "fourth", "fifth"];
    let seen = paths.map(|path| text.contains(&format!("GET /{path} ")));
    assert_eq!(seen, [true, false, false, true, true], "{text}");
    let of_others = |event: &CapturedEvent| match event {
        CapturedEvent::Data(data) if data.process.pid != pid => Some(data.payload.clone()),
        _ => None,
    };
    let others = captured.events.iter().filter_map(of_others).collect::<Vec<_>>();
    let requests = others.iter().filter(|payload| payload.starts_with(b"GET /"));
    assert_eq!(requests.count(), 1, "curl is captured once: {others:?}");
}

#[test]
fn no_library_is_an_error() {
    let Some(_peers) = peers(&["openssl"]) else { return };
    let error = Capture::load(&CaptureConfig::default()).err().unwrap();
    assert!(matches!(error, Error::NoLibraries), "{error}");
}
