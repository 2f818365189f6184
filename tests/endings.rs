//! How captures end, and what they refuse.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, Stdio};

use crate::support::can_capture;
use crate::support::capture::{Scene, curl, with_port};
use crate::support::detached::{is_detaching, wait_until_detached};
use crate::support::exchanges::assert_balanced;
use crate::support::program::{Running, ecapture, run};
use crate::support::servers::peer;

#[test]
fn the_exit_code_is_the_commands_own() {
    let Some(_alone) = can_capture(&[]) else {
        return;
    };
    // More than once: the end of the command and that of the pipeline come close together.
    let scripts = [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137)];
    for (script, code) in scripts.into_iter().cycle().take(4 * scripts.len()) {
        let finished = run(&["tls", "--", "sh", "-c", script]);
        assert_eq!(finished.code(), Some(code), "{script}: {}", finished.stderr);
    }
    let finished = run(&["tls", "--", "/nonexistent/program"]);
    assert_eq!(finished.code(), Some(127), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("/nonexistent/program"),
        "{}",
        finished.stderr
    );
}

#[test]
fn ctrl_c_in_the_middle_of_a_transfer_prints_what_came() {
    let Some(scene) = Scene::python(&[]) else { return };
    fs::write(
        scene.folder.path().join("large.bin"),
        vec![b'x'; 32 * 1024 * 1024],
    )
    .unwrap();
    let mut running = Running::start(&["tls"]);
    running.wait_until_capturing();
    let mut client = Command::new("curl")
        .args(["-sk", "--limit-rate", "1M", &scene.server.url("/large.bin")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Some of the body has been received: the transfer is under way.
    let mut first = [0; 4096];
    client.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    let finished = running.interrupt();
    client.kill().unwrap();
    client.wait().unwrap();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let text = finished.text();
    assert!(
        text.contains("GET /large.bin HTTP/1.1\r\n"),
        "the request was printed"
    );
    assert!(
        text.contains("[ecapture: body incomplete"),
        "the response is marked as incomplete"
    );
    assert_balanced(&finished);
}

#[test]
fn a_closed_pipe_ends_a_capture_with_success() {
    let Some(scene) = Scene::python(&[]) else { return };
    let mut command = ecapture();
    command
        .args(["tls", "--pid", &scene.server.pid().to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(log.any(|line| line.unwrap().contains("capturing")));
    curl(&[&scene.server.url("/hello.json")]);
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut first)
        .unwrap();
    assert!(first.starts_with("PID:"), "{first}");
    // The reader is gone now, as with `| head -1`; the next message finds that out.
    curl(&[&scene.server.url("/hello.json")]);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// As with `| less`: output that nobody reads yet is given up on request, and this is reported.
#[test]
fn a_second_signal_gives_up_what_nobody_takes() {
    let Some(scene) = Scene::python(&[]) else { return };
    fs::write(scene.folder.path().join("large.bin"), vec![b'x'; 1 << 20]).unwrap();
    let mut command = ecapture();
    command
        .args(["tls", "--", "curl", "-sk", "-o", "/dev/null"])
        .arg(scene.server.url("/large.bin"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let _nobody_reads = child.stdout.take();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut log = String::new();
    while !log.contains("press Ctrl-C to discard the rest") {
        assert_ne!(stderr.read_line(&mut log).unwrap(), 0, "{log}");
    }
    let told = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(told.unwrap().success());
    stderr.read_to_string(&mut log).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{log}");
    assert!(log.contains("the output was not written within 3s"), "{log}");
    assert!(log.contains("lost: sink sink_deadline"), "{log}");
}

/// A capture that is ended at once does not detach its probes itself, which would take seconds.
#[test]
fn detaching_is_left_to_another_process_also_at_once() {
    let Some(_alone) = can_capture(&[]) else {
        return;
    };
    wait_until_detached();
    let mut child = ecapture().arg("tls").stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(log.any(|line| line.unwrap().contains("capturing")));
    let told = Command::new("kill")
        .args(["-QUIT", &child.id().to_string()])
        .status();
    assert!(told.unwrap().success());
    let mut status = None;
    while !is_detaching() {
        assert_eq!(status, None, "it has ended, and nobody detaches");
        status = child.try_wait().unwrap();
    }
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGQUIT));
}

#[test]
fn a_full_disk_ends_a_capture_with_the_reason() {
    let Some(scene) = Scene::python(&[]) else { return };
    let mut running = Running::start(&["tls", "--eventaddr", "/dev/full"]);
    running.wait_until_capturing();
    curl(&[&scene.server.url("/hello.json")]);
    let finished = running.finish();
    assert_eq!(finished.code(), Some(1), "{}", finished.stderr);
    assert!(finished.stderr.contains("/dev/full"), "{}", finished.stderr);
    assert!(finished.stderr.contains("sink_error"), "{}", finished.stderr);
}

#[test]
fn what_cannot_be_captured_is_a_one_line_error_with_the_fix() {
    let Some(_alone) = can_capture(&[]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("notes.txt");
    fs::write(&text, "not a library\n").unwrap();
    for (arguments, part) in [
        (&["tls", "--pid", "4194300"][..], "no such process"),
        (
            &["tls", "--libssl", "/nonexistent/libssl.so"],
            "/nonexistent/libssl.so",
        ),
        (&["tls", "--libssl", text.to_str().unwrap()], "notes.txt"),
        (&["tls", "--libssl", "/bin/true"], "/bin/true"),
        (
            &["tls", "--eventaddr", "/nonexistent/folder/file"],
            "/nonexistent/folder/file",
        ),
        (&["tls", "--eventaddr", "tcp://127.0.0.1:1"], "127.0.0.1:1"),
        (
            &["record", "/nonexistent/folder/file"],
            "/nonexistent/folder/file",
        ),
    ] {
        let finished = run(arguments);
        assert_eq!(finished.code(), Some(1), "{arguments:?}: {}", finished.stderr);
        assert_eq!(
            finished.stderr.lines().count(),
            1,
            "{arguments:?}: {}",
            finished.stderr
        );
        assert!(
            finished.stderr.contains(part),
            "{arguments:?}: {}",
            finished.stderr
        );
    }
}

#[test]
fn a_library_of_another_kind_is_refused() {
    let Some(_alone) = can_capture(&["nats-server"]) else {
        return;
    };
    let finished = run(&["gnutls", "--gnutls", "/usr/sbin/nats-server"]);
    assert_eq!(finished.code(), Some(1), "{}", finished.stderr);
    assert!(
        finished
            .stderr
            .contains("has functions of Go crypto/tls, not of GnuTLS"),
        "{}",
        finished.stderr
    );
}

#[test]
fn without_privileges_the_way_out_is_named_and_the_demo_replays() {
    let Some(_alone) = can_capture(&[]) else {
        return;
    };
    // The build folder may be closed to others, so the program is copied to where anyone can run it.
    let folder = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .unwrap();
    let program = folder.path().join("ecapture");
    fs::copy(env!("CARGO_BIN_EXE_ecapture"), &program).unwrap();
    let as_nobody = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).uid(65534).gid(65534);
        Running::spawn(command).finish()
    };
    let finished = as_nobody(&["tls"]);
    assert_eq!(finished.code(), Some(1));
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
    assert!(finished.stderr.contains("run as root"), "{}", finished.stderr);
    let finished = as_nobody(&["demo"]);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("replaying an embedded recording"),
        "{}",
        finished.stderr
    );
    assert!(
        finished.text().contains("GET /hello.json HTTP/1.1"),
        "{}",
        finished.text()
    );
}

/// Numbers of processes are given again.
#[test]
fn a_later_process_with_the_number_of_one_that_ended_is_not_captured() {
    let Some(scene) = Scene::python(&["curl", "cat"]) else {
        return;
    };
    let url = scene.server.url("/hello.json");
    let piped = |command: &mut Command| {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.spawn().expect("it starts")
    };
    // It has its TLS library, waits for a line, asks, and ends.
    let script = "import ssl, sys, urllib.request\n\
                  context = ssl._create_unverified_context()\n\
                  print(flush=True)\n\
                  sys.stdin.readline()\n\
                  urllib.request.urlopen(sys.argv[1], context=context).read()";
    let mut first = piped(Command::new("/usr/bin/python3").args(["-c", script, &url]));
    let mut ready = BufReader::new(first.stdout.take().expect("a pipe"));
    ready.read_line(&mut String::new()).expect("a line");
    // The capture continues for this one.
    let mut other = piped(&mut Command::new("cat"));
    let pids = format!("{},{}", first.id(), other.id());
    let mut running = Running::start(&["tls", "--format", "jsonl", "-p", &pids]);
    running.wait_until_capturing();
    first
        .stdin
        .take()
        .expect("a pipe")
        .write_all(b"\n")
        .expect("it reads");
    assert!(first.wait().expect("it ends").success());
    let later = Command::new("/usr/bin/python3")
        .arg(peer("with_number.py"))
        .arg(first.id().to_string())
        .args(["curl", "-sk", &scene.server.url("/page.txt")])
        .output()
        .expect("python runs");
    assert!(
        later.status.success(),
        "{}",
        String::from_utf8_lossy(&later.stderr)
    );
    drop(other.stdin.take());
    assert!(other.wait().expect("it ends").success());
    // It ends with the last of them.
    let finished = running.finish();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let lines = with_port(&finished, scene.server.port);
    let paths: Vec<_> = lines.iter().filter_map(|line| line["path"].as_str()).collect();
    assert_eq!(paths, ["/hello.json"], "{}", finished.stderr);
}
