//! Key logs, compared with those that the programs write themselves. `tests/keys/matrix` does that for more programs.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use std::process::{Command, Stdio};

use crate::support::capture::Scene;
use crate::support::program::{Finished, Running, run};
use crate::support::servers::{Certificate, Server, free_port};
use crate::support::{bun, can_capture};

/// The lines of a key log.
fn lines(file: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(file).expect("a key log");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(str::to_ascii_lowercase).collect()
}

fn path(file: &Path) -> &str {
    file.to_str().expect("a path in UTF-8")
}

/// Captures curl, which writes a key log of its own, with these outputs.
fn capture_curl(scene: &Scene, own: &Path, outputs: &[&str], options: &[&str]) -> Finished {
    let own = format!("SSLKEYLOGFILE={}", path(own));
    let url = scene.server.url("/hello.json");
    let finished = run(&[
        &["tls"],
        outputs,
        &["--", "env", &own, "curl", "-sk"],
        options,
        &[&url],
    ]
    .concat());
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    finished
}

#[test]
fn a_key_log_is_that_of_the_program_and_is_appended_to() {
    let Some(scene) = Scene::python(&[]) else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [own, ours] = ["own", "ours"].map(|name| folder.path().join(name));
    let keep = "# kept\n";
    fs::write(&ours, keep).expect("a written file");
    for (options, secrets) in [(&["--tls-max", "1.2"][..], 1), (&["--tlsv1.3"], 6)] {
        let finished = capture_curl(&scene, &own, &["-m", "keylog", "-k", path(&ours)], options);
        assert_eq!(lines(&ours), lines(&own), "{}", finished.stderr);
        assert_eq!(lines(&ours).len(), secrets, "in both runs together");
        assert!(
            finished.stderr.contains("seen 1 handshakes"),
            "{}",
            finished.stderr
        );
        assert!(!finished.stderr.contains("lost:"), "{}", finished.stderr);
    }
    assert!(fs::read_to_string(&ours).expect("a key log").starts_with(keep));
}

#[test]
fn secrets_are_in_key_logs_and_recordings_only() {
    let Some(scene) = Scene::python(&[]) else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str| folder.path().join(name);
    let outputs = [
        format!("text:{}", path(&file("text"))),
        format!("jsonl:{}", path(&file("jsonl"))),
        format!("recording:{}", path(&file("recording"))),
        format!("keylog:{}", path(&file("keys"))),
    ];
    let outputs: Vec<_> = outputs
        .iter()
        .flat_map(|output| ["-o", output.as_str()])
        .collect();
    let finished = capture_curl(&scene, &file("own"), &[&["-d"], &outputs[..]].concat(), &[]);
    let secrets = lines(&file("keys"));
    assert_eq!(secrets, lines(&file("own")), "{}", finished.stderr);
    let mode = fs::metadata(file("keys"))
        .expect("a key log")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let [text, json] = ["text", "jsonl"].map(|name| fs::read_to_string(file(name)).expect("an output"));
    assert!(text.contains("GET /hello.json"), "the plaintext is there, too");
    for secret in &secrets {
        let value = secret.split(' ').next_back().expect("three words");
        for output in [&text, &json, &finished.stderr] {
            assert!(!output.contains(value), "a secret is shown");
        }
    }
    let again = file("again");
    let replayed = run(&[
        "replay",
        path(&file("recording")),
        "-o",
        &format!("keylog:{}", path(&again)),
    ]);
    assert_eq!(replayed.code(), Some(0), "{}", replayed.stderr);
    assert_eq!(lines(&again), secrets, "a recording has them");
}

/// `openssl s_server`, which writes the key log `keys`.
fn s_server(folder: &Path, keys: &Path, options: &[&str]) -> Server {
    let Certificate { key, certificate } = Certificate::create(folder);
    let port = free_port();
    let mut command = Command::new("openssl");
    command.args(["s_server", "-www", "-quiet", "-accept", &port.to_string()]);
    command.args([
        "-keylogfile",
        path(keys),
        "-key",
        path(&key),
        "-cert",
        path(&certificate),
    ]);
    command.args(options);
    Server::listening(command, port)
}

/// It has no symbols: the function that writes key logs is found by the labels that it is called with.
#[cfg(target_arch = "x86_64")]
#[test]
fn stripped_boringssl_has_the_key_log_of_its_peer() {
    let bun = bun();
    let Some(_alone) = can_capture(&[&bun, "openssl"]) else {
        return;
    };
    for (version, secrets) in [("-tls1_2", 1), ("-tls1_3", 5)] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [peer, ours] = ["peer", "ours"].map(|name| folder.path().join(name));
        let server = s_server(folder.path(), &peer, &[version]);
        let script = format!(
            "await (await fetch('{}', {{ tls: {{ rejectUnauthorized: false }} }})).text()",
            server.url("/")
        );
        let capture = ["tls", "-m", "keylog", "-k", path(&ours), "--"];
        let finished = run(&[&capture[..], &[&bun, "-e", &script]].concat());
        assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
        assert_eq!(lines(&ours), lines(&peer), "{}", finished.stderr);
        assert_eq!(lines(&ours).len(), secrets, "{version}");
        assert!(!finished.stderr.contains("secret_without"), "{}", finished.stderr);
    }
}

/// `rustls-blocking` of `tests/rustls-programs`, as it was built and without symbols.
#[cfg(target_arch = "x86_64")]
#[test]
fn rustls_has_the_key_log_of_its_peer() {
    let original = concat!(env!("CARGO_TARGET_TMPDIR"), "/rustls/release/rustls-blocking");
    let Some(_alone) = can_capture(&[original, "openssl", "strip"]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let stripped = folder.path().join("stripped");
    let status = Command::new("strip")
        .args(["-o", path(&stripped), original])
        .status();
    assert!(status.expect("strip starts").success());
    for program in [original, path(&stripped)] {
        for (version, secrets) in [("-tls1_2", 1), ("-tls1_3", 5)] {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let [peer, ours] = ["peer", "ours"].map(|name| folder.path().join(name));
            let server = s_server(folder.path(), &peer, &[version]);
            let port = server.port.to_string();
            let finished = run(&[
                "tls",
                "-m",
                "keylog",
                "-k",
                path(&ours),
                "--",
                program,
                "get",
                &port,
                "/",
            ]);
            assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
            assert_eq!(
                lines(&ours),
                lines(&peer),
                "{program} {version}: {}",
                finished.stderr
            );
            assert_eq!(lines(&ours).len(), secrets, "{program} {version}");
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_process_with_nss_is_named_with_the_reason() {
    const NSS: &str = "/usr/lib/x86_64-linux-gnu/libssl3.so";
    let Some(_alone) = can_capture(&["/usr/bin/python3", NSS]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = format!("import ctypes; ctypes.CDLL('{NSS}')");
    let keys = folder.path().join("keys.log");
    let command = ["/usr/bin/python3", "-c", &program];
    let finished = run(&[&["tls", "-m", "keylog", "-k", path(&keys), "--"], &command[..]].concat());
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let named = finished
        .stderr
        .lines()
        .any(|line| line.contains("a key log has no secrets of python3") && line.contains("libssl3.so: NSS"));
    assert!(named, "{}", finished.stderr);
}

/// Its structures are known by its version: it has no function that shows them.
#[cfg(target_arch = "x86_64")]
#[test]
fn openssl_1_0_2_has_the_key_log_of_its_peer() {
    let libraries = concat!(env!("CARGO_TARGET_TMPDIR"), "/openssl/1.0.2n");
    let library = format!("{libraries}/libssl.so");
    let Some(_alone) = can_capture(&[&library, "openssl", "gcc"]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [peer, ours, client] = ["peer", "ours", "client"].map(|name| folder.path().join(name));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/client.c");
    let crypto = format!("{libraries}/libcrypto.so");
    let search = format!("-Wl,--allow-shlib-undefined,--disable-new-dtags,-rpath,{libraries}");
    let mut compiler = Command::new("gcc");
    compiler.args(["-DOLD", "-o", path(&client), source, &library, &crypto, &search]);
    assert!(compiler.status().expect("gcc starts").success());
    let server = s_server(folder.path(), &peer, &["-tls1_2"]);
    let port = server.port.to_string();
    let finished = run(&[
        "tls",
        "-m",
        "keylog",
        "-k",
        path(&ours),
        "--",
        path(&client),
        &port,
    ]);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_eq!(lines(&ours), lines(&peer), "{}", finished.stderr);
    assert_eq!(lines(&ours).len(), 2, "two handshakes, the second one resumed");
}

/// The same for servers, with the key logs of `openssl s_client`.
#[cfg(target_arch = "x86_64")]
#[test]
fn servers_with_rustls_have_the_key_log_of_their_clients() {
    let programs = ["rustls-blocking", "rustls-tokio"]
        .map(|name| format!(concat!(env!("CARGO_TARGET_TMPDIR"), "/rustls/release/{}"), name));
    let Some(_alone) = can_capture(&[&programs[0], &programs[1], "openssl", "strip"]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let stripped = folder.path().join("stripped");
    run_to_end(Command::new("strip").args(["-o", path(&stripped), &programs[1]]));
    let certificate = Certificate::create(folder.path());
    for program in [&programs[0], &programs[1], path(&stripped)] {
        let server = Server::serving(Command::new(program), &certificate);
        let [peer, ours] = ["peer", "ours"].map(|name| folder.path().join(name));
        for file in [&peer, &ours] {
            fs::write(file, "").expect("a written file");
        }
        let pid = server.pid().to_string();
        let mut running = Running::start(&["tls", "-m", "keylog", "-k", path(&ours), "--pid", &pid]);
        running.wait_until_capturing();
        for version in ["-tls1_2", "-tls1_3"] {
            let mut client = Command::new("openssl");
            client.args([
                "s_client",
                "-connect",
                &format!("127.0.0.1:{}", server.port),
                version,
            ]);
            client.args(["-keylogfile", path(&peer)]).stdin(Stdio::null());
            run_to_end(&mut client);
        }
        let finished = running.interrupt();
        assert_eq!(lines(&ours), lines(&peer), "{program}: {}", finished.stderr);
        assert_eq!(lines(&ours).len(), 1 + 5, "{program}");
    }
}

fn run_to_end(command: &mut Command) {
    let output = command.output().expect("it starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
