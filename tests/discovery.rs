//! Programs and libraries that come after the capture began: real ones, at paths that were not there.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::can_capture;
use crate::support::capture::{messages, site, with_port};
use crate::support::detached::{private_openssl, wait_until_detached};
use crate::support::program::{Finished, Running, run};
use crate::support::servers::{Server, free_port, ping_nats};

const PROGRAMS: &[&str] = &["curl", "openssl", "/usr/bin/python3"];
/// How often each race is run, unless `ECAPTURE_DISCOVERY_TRIES` says otherwise.
const TRIES: usize = 10;

fn tries() -> usize {
    std::env::var("ECAPTURE_DISCOVERY_TRIES").map_or(TRIES, |text| text.parse().expect("a number"))
}

/// Returns true if the rates are being measured, on a machine that does nothing else.
fn by_hand() -> bool {
    std::env::var_os("ECAPTURE_DISCOVERY_TRIES").is_some()
}

fn start(arguments: &[&str]) -> Running {
    wait_until_detached();
    let mut running = Running::start(&[&["tls", "--format", "jsonl", "--whole"], arguments].concat());
    running.wait_until_capturing();
    running
}

fn curl(openssl: &Path, url: &str) {
    let mut curl = Command::new("curl");
    let status = curl
        .env("LD_LIBRARY_PATH", openssl)
        .args(["-sk", "-o", "/dev/null", url])
        .status();
    assert!(status.expect("curl runs").success(), "{url}");
}

/// Which of the paths `/hello.json?1`, `/hello.json?2` … `comm` was seen asking for.
fn seen(finished: &Finished, port: u16, comm: &str) -> Vec<String> {
    let lines = with_port(finished, port);
    let paths = messages(&lines, "http1.request", comm, "write").into_iter();
    paths
        .map(|request| request["path"].as_str().expect("a path").to_owned())
        .collect()
}

fn assert_all_seen(finished: &Finished, port: u16, comm: &str, tries: usize) {
    let seen = seen(finished, port, comm);
    println!("{comm}: first request seen in {} of {tries} tries", seen.len());
    let expected: Vec<String> = (1..=tries)
        .map(|number| format!("/hello.json?{number}"))
        .collect();
    assert!(seen.iter().all(|path| expected.contains(path)), "{seen:?}");
    // It is a race with programs that wait for nobody: on a busy machine some are lost.
    let least = if by_hand() { tries } else { tries.div_ceil(2) };
    assert!(seen.len() >= least, "{}", finished.stderr);
}

#[test]
fn a_library_never_mapped_before_is_seen_from_the_first_request() {
    let Some(_alone) = can_capture(PROGRAMS) else {
        return;
    };
    let folder = site();
    let server = Server::python(folder.path());
    let running = start(&[]);
    for number in 1..=tries() {
        let openssl = private_openssl(folder.path(), &format!("openssl-{number}"));
        curl(&openssl, &server.url(&format!("/hello.json?{number}")));
    }
    assert_all_seen(&running.interrupt(), server.port, "curl", tries());
}

/// A Python that waits for a line before it loads its `ssl` module.
fn late_python(openssl: &Path, port: u16, path: &str) -> Child {
    Command::new("/usr/bin/python3")
        .env("LD_LIBRARY_PATH", openssl)
        .args(["-c", LATE_PYTHON, &port.to_string(), path])
        .stdin(Stdio::piped())
        .spawn()
        .expect("python starts")
}

const LATE_PYTHON: &str = r#"
import sys
sys.stdin.readline()
import http.client, ssl
connection = http.client.HTTPSConnection("127.0.0.1", int(sys.argv[1]), context=ssl._create_unverified_context())
connection.request("GET", sys.argv[2])
assert connection.getresponse().status == 200
"#;

#[test]
fn a_library_loaded_late_is_seen_from_the_first_request() {
    let Some(_alone) = can_capture(PROGRAMS) else {
        return;
    };
    let folder = site();
    let server = Server::python(folder.path());
    let programs: Vec<Child> = (1..=tries())
        .map(|number| {
            let openssl = private_openssl(folder.path(), &format!("openssl-{number}"));
            late_python(&openssl, server.port, &format!("/hello.json?{number}"))
        })
        .collect();
    let running = start(&[]);
    for mut program in programs {
        let mut stdin = program.stdin.take().expect("a pipe");
        stdin.write_all(b"now\n").expect("python reads");
        assert!(program.wait().expect("python ends").success());
    }
    assert_all_seen(&running.interrupt(), server.port, "python3", tries());
}

#[test]
fn a_program_that_carries_tls_itself_is_found_when_it_starts() {
    let Some(_alone) = can_capture(&["openssl", "/usr/bin/python3", "nats-server"]) else {
        return;
    };
    let folder = site();
    let program = folder.path().join("nats-copy");
    let path = std::env::var_os("PATH").expect("a path");
    let original = std::env::split_paths(&path)
        .map(|folder| folder.join("nats-server"))
        .find(|file| file.is_file());
    fs::copy(original.expect("it is installed"), &program).expect("a copied program");
    let mut running = start(&[]);
    let server = Server::nats_program(&program, folder.path());
    running.wait_for("nats-copy");
    ping_nats(server.port);
    let finished = running.interrupt();
    let lines = with_port(&finished, server.port);
    assert!(
        lines.iter().any(|line| line["comm"] == "nats-copy"),
        "{}",
        finished.stderr
    );
}

#[test]
fn a_replaced_library_is_followed() {
    let Some(_alone) = can_capture(PROGRAMS) else {
        return;
    };
    let folder = site();
    let server = Server::python(folder.path());
    let openssl = private_openssl(folder.path(), "openssl");
    let library = openssl.join("libssl.so.3");
    let running = start(&["--libssl", library.to_str().expect("a path")]);
    curl(&openssl, &server.url("/hello.json?1"));
    // As a package manager does it: a new file takes the name.
    let new = openssl.join("new");
    fs::copy(&library, &new).expect("a copied library");
    fs::rename(&new, &library).expect("a renamed file");
    curl(&openssl, &server.url("/hello.json?2"));
    let finished = running.interrupt();
    assert_all_seen(&finished, server.port, "curl", 2);
    assert!(
        with_port(&finished, server.port)
            .iter()
            .all(|line| line["comm"] == "curl"),
        "python's library was not named"
    );
}

#[test]
fn a_process_that_is_too_short_is_named() {
    let Some(_alone) = can_capture(PROGRAMS) else {
        return;
    };
    let folder = site();
    let running = start(&[]);
    for number in 1..=tries() {
        let openssl = private_openssl(folder.path(), &format!("short-{number}"));
        let library = openssl.join("libssl.so.3");
        let mut program = Command::new("/bin/true");
        program
            .env("LD_LIBRARY_PATH", &openssl)
            .env("LD_PRELOAD", &library);
        assert!(program.status().expect("true runs").success());
    }
    let finished = running.interrupt();
    let told = finished.stderr.lines().filter(|line| {
        line.contains("true (") && line.contains("ended before")
            || line.contains("attached to") && line.contains("/short-")
    });
    assert!(told.count() >= tries(), "{}", finished.stderr);
}

/// Where cgroup2 is mounted.
fn cgroup2() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    let mut lines = mounts.lines().map(|line| line.split(' '));
    lines.find_map(|mut fields| {
        let folder = fields.nth(1)?;
        (fields.next()? == "cgroup2").then(|| PathBuf::from(folder))
    })
}

#[test]
fn a_cgroup_and_those_below_it_are_captured_alone() {
    let Some(_alone) = can_capture(PROGRAMS) else {
        return;
    };
    let root = cgroup2().expect("cgroup2 is mounted: mount -t cgroup2 none /sys/fs/cgroup");
    let group = root.join(format!("ecapture-test-{}", free_port()));
    let below = group.join("below");
    fs::create_dir_all(&below).expect("a new cgroup");
    let folder = site();
    let server = Server::python(folder.path());
    let running = start(&["--cgroup_path", group.to_str().expect("a path")]);
    for (number, place) in [(1, Some(&group)), (2, Some(&below)), (3, None)] {
        let url = server.url(&format!("/hello.json?{number}"));
        let enter = place.map_or(String::new(), |place| {
            format!("echo $$ >{}/cgroup.procs; ", place.display())
        });
        let script = format!("{enter}exec curl -sk -o /dev/null '{url}'");
        let status = Command::new("sh").args(["-c", &script]).status();
        assert!(status.expect("sh runs").success());
    }
    let finished = running.interrupt();
    assert_all_seen(&finished, server.port, "curl", 2);
    assert!(
        with_port(&finished, server.port)
            .iter()
            .all(|line| line["comm"] == "curl"),
        "the server is not in the cgroup"
    );
    fs::remove_dir(&below)
        .and_then(|()| fs::remove_dir(&group))
        .expect("nobody is in it");
}

#[test]
fn what_is_no_cgroup_is_refused_with_a_way_out() {
    let Some(_alone) = can_capture(&[]) else {
        return;
    };
    for (path, word) in [
        ("/nowhere", "No such file"),
        ("/tmp", "not a directory of the cgroup2"),
    ] {
        let finished = run(&["tls", "--cgroup_path", path]);
        assert_ne!(finished.code(), Some(0), "{path}");
        assert!(
            finished.stderr.contains(path) && finished.stderr.contains(word),
            "{}",
            finished.stderr
        );
    }
}
