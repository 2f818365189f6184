//! Flags as people first try them: whom they select, what a command cannot use, and what is printed where.

use std::process::{Command, Stdio};
use std::time::SystemTime;

use crate::support::can_capture;
use crate::support::capture::{HELLO, Scene, curl, exchange, messages, site, with_port};
use crate::support::program::{Finished, PATIENCE, Running, ecapture, replay_on_a_terminal, run};
use crate::support::servers::Server;

const RECORDING: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/curl-python/events.jsonl"
);
const MESSAGES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/curl-python/expected.jsonl"
);

fn replayed(flags: &[&str]) -> Finished {
    let finished = run(&[&["replay", RECORDING, "--format", "jsonl"], flags].concat());
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    finished
}

#[test]
fn a_replay_shows_the_processes_and_users_that_are_selected() {
    // Connections are numbered among the selected events.
    let shown = |flags: &[&str]| {
        let mut lines = replayed(flags).json();
        assert!(lines.is_empty() || lines[0]["connection"] == 1, "{}", lines[0]);
        for line in &mut lines {
            line["connection"].take();
        }
        lines
    };
    let all = shown(&[]);
    let mut curl = all.clone();
    curl.retain(|line| line["comm"] == "curl");
    assert!(!curl.is_empty() && curl.len() < all.len());
    assert_eq!(shown(&["-p", "curl"]), curl);
    let pid = curl[0]["pid"].to_string();
    let mut one = all.clone();
    one.retain(|line| line["pid"] == curl[0]["pid"]);
    assert_eq!(shown(&["-p", &pid]), one);
    assert_eq!(shown(&["-p", "curl,python3"]), all);
    assert_eq!(shown(&["-u", "root"]), all);
    let nothing = replayed(&["-p", "nginx"]);
    assert!(nothing.stdout.is_empty());
    assert!(
        nothing.stderr.contains("nothing was replayed"),
        "{}",
        nothing.stderr
    );
    assert!(!nothing.stderr.contains("nothing was lost"), "{}", nothing.stderr);
}

#[test]
fn what_cannot_be_done_is_refused_in_one_line_with_the_way_out() {
    for (arguments, code, words) in [
        (
            &["replay", MESSAGES][..],
            1,
            &["--format jsonl", "ecapture record"][..],
        ),
        (
            &["replay", RECORDING, "--cgroup_path", "/x"],
            2,
            &["--cgroup_path", "ecapture record"],
        ),
        (
            &["replay", RECORDING, "--mapsize", "8"],
            2,
            &["--mapsize", "ecapture record"],
        ),
        (
            &["record", "/tmp/f", "--format", "jsonl"],
            2,
            &["--format", "ecapture replay"],
        ),
        (&["tls", "--json"], 2, &["--format jsonl"]),
        (&["tls", "--"], 2, &["-- COMMAND"]),
        (&["tls", "--stats", "0"], 2, &["--stats"]),
        (&["tls", "-p", "no-such-program"], 2, &["no-such-program"]),
        (&["tls", "-u", "no-such-user"], 2, &["no-such-user"]),
        (&["basj"], 2, &["did you mean `bash`"]),
        (&["frobnicate"], 2, &["ecapture --help"]),
        (&["replay", "/nonexistent"], 1, &["/nonexistent"]),
    ] {
        let finished = run(arguments);
        let stderr = &finished.stderr;
        assert_eq!(finished.code(), Some(code), "{arguments:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
        assert!(stderr.starts_with("error: "), "{arguments:?}: {stderr}");
        assert!(words.iter().all(|word| stderr.contains(word)), "{stderr}");
        assert!(!stderr.contains("-- --"), "{stderr}");
    }
    let twice = run(&["replay", "/nonexistent"]).stderr;
    assert_eq!(twice.matches("No such file").count(), 1, "{twice}");
}

#[test]
fn the_log_is_as_loud_as_it_is_asked_to_be() {
    assert!(replayed(&["-q"]).stderr.is_empty());
    let with_variable = |value: &str| {
        let mut command = ecapture();
        command.args(["replay", RECORDING]).env("RUST_LOG", value);
        Running::spawn(command).finish()
    };
    assert!(with_variable("error").stderr.is_empty());
    let debug = with_variable("ecapture_cli=debug").stderr;
    assert!(debug.contains("DEBUG replaying"), "{debug}");
    let wrong = with_variable("a=b=c");
    assert_eq!(wrong.code(), Some(2));
    assert!(wrong.stderr.starts_with("error: RUST_LOG"), "{}", wrong.stderr);
}

#[test]
fn messages_and_what_the_command_prints_are_kept_apart() {
    let Some(scene) = Scene::python(&[]) else { return };
    for format in ["text", "jsonl"] {
        let finished = scene.capture_curl(&["tls", "--format", format], &[], "/hello.json");
        assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
        let body = HELLO.trim_end();
        assert!(finished.stderr.contains(body), "{}", finished.stderr);
        if format == "text" {
            assert_eq!(finished.text().matches(body).count(), 1, "{}", finished.text());
        } else {
            exchange(&finished.json(), "http1", "curl", true);
        }
    }
    let file = scene.folder.path().join("messages");
    let file = file.to_str().expect("a plain path");
    let finished = scene.capture_curl(&["tls", "--eventaddr", file], &[], "/hello.json");
    assert_eq!(finished.text(), HELLO);
}

#[test]
fn the_start_is_one_line_and_quiet_says_nothing() {
    let Some(scene) = Scene::python(&[]) else { return };
    let quiet = ["-o", "/dev/null"];
    let usual = scene.capture_curl(&["tls"], &quiet, "/hello.json");
    let begun = usual.stderr.split("capturing").next().expect("a first part");
    let attached = begun.lines().filter(|line| line.contains("attached to "));
    assert_eq!(attached.count(), 1, "{begun}");
    assert!(!begun.contains("SSL_read"), "{begun}");
    let debug = scene.capture_curl(&["tls", "-d"], &quiet, "/hello.json").stderr;
    assert!(debug.contains("SSL_read"), "{debug}");
    let silent = scene.capture_curl(&["tls", "-q"], &quiet, "/hello.json");
    assert_eq!(silent.stderr, "");
}

#[test]
fn a_capture_that_saw_nothing_does_not_say_that_nothing_was_lost() {
    let Some(_alone) = can_capture(&[]) else { return };
    let finished = run(&["tls", "--", "true"]);
    assert!(
        finished.stderr.contains("nothing was captured"),
        "{}",
        finished.stderr
    );
    assert!(
        !finished.stderr.contains("nothing was lost"),
        "{}",
        finished.stderr
    );
}

#[test]
fn processes_are_selected_by_lists_and_names() {
    let Some(scene) = Scene::nginx(&[]) else { return };
    let worker = scene.server.worker_pid();
    for selected in [
        format!("{},{worker}", std::process::id()),
        "no-such-process".to_owned(),
        "nginx".to_owned(),
    ] {
        if selected == "no-such-process" {
            assert_eq!(run(&["tls", "-p", &selected]).code(), Some(2));
            continue;
        }
        let finished = scene.capture(&["tls", "--format", "jsonl", "--whole", "-p", &selected], || {
            curl(&["--http1.1", &scene.server.url("/hello.json")]);
        });
        let lines = with_port(&finished, scene.server.port);
        let [request, _] = exchange(&lines, "http1", "nginx", false);
        assert_eq!(request["pid"], worker, "{selected}");
        assert_eq!(messages(&lines, "http1.request", "curl", "write").len(), 0);
    }
}

#[test]
fn the_children_of_nginx_are_named_and_followed_when_asked_for() {
    let Some(scene) = Scene::nginx(&[]) else { return };
    let (master, worker) = (scene.server.pid().to_string(), scene.server.worker_pid());
    let load = || curl(&["--http1.1", &scene.server.url("/hello.json")]);
    let alone = scene.capture(&["tls", "-p", &master], load);
    let named = format!("nginx ({worker})");
    let told = alone.stderr.lines().find(|line| line.contains(&named));
    assert!(
        told.is_some_and(|line| line.contains("--follow-children")),
        "{}",
        alone.stderr
    );
    assert!(alone.stdout.is_empty(), "{}", alone.text());

    let arguments = [
        "tls",
        "--format",
        "jsonl",
        "--whole",
        "-p",
        &master,
        "--follow-children",
    ];
    let followed = scene.capture(&arguments, load);
    let lines = with_port(&followed, scene.server.port);
    let [request, _] = exchange(&lines, "http1", "nginx", false);
    assert_eq!(request["pid"], worker);
    assert!(
        !followed.stderr.contains("children of the processes"),
        "{}",
        followed.stderr
    );
}

#[test]
fn a_capture_ends_with_the_last_process_that_was_named() {
    let Some(_alone) = can_capture(&["openssl", "/usr/bin/python3"]) else {
        return;
    };
    let (folder, other_folder) = (site(), site());
    let (first, second) = (Server::python(folder.path()), Server::python(other_folder.path()));
    let pids = format!("{},{}", first.pid(), second.pid());
    let mut running = Running::start(&["tls", "--format", "jsonl", "--whole", "-p", &pids]);
    running.wait_until_capturing();
    drop(first);
    curl(&[&second.url("/hello.json")]);
    let named = format!("python3 ({})", second.pid());
    let port = second.port;
    drop(second);
    let finished = running.finish();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let told = finished.stderr.lines().find(|line| line.contains(&named));
    assert!(
        told.is_some_and(|line| line.contains("have ended")),
        "{}",
        finished.stderr
    );
    exchange(&with_port(&finished, port), "http1", "python3", false);
}

#[test]
fn excluded_processes_stay_out_of_a_capture_of_the_host() {
    let Some(scene) = Scene::python(&[]) else { return };
    let server = scene.server.pid().to_string();
    let finished = scene.capture(&["tls", "--format", "jsonl", "--not-pid", &server], || {
        curl(&[&scene.server.url("/hello.json")]);
    });
    let lines = with_port(&finished, scene.server.port);
    exchange(&lines, "http1", "curl", true);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        finished.stderr.contains("kernel excluded: "),
        "{}",
        finished.stderr
    );
}

/// Each message that it reads makes the reader of the output send another one.
#[test]
fn the_reader_of_the_output_is_not_captured() {
    let Some(scene) = Scene::python(&["sh"]) else {
        return;
    };
    let (seen, url) = (scene.folder.path().join("seen"), scene.server.url("/hello.json"));
    let script =
        "while read -r line; do curl -sk -o /dev/null \"$1\"; printf '%s\\n' \"$line\" >>\"$0\"; done";
    let mut reader = Command::new("sh")
        .args(["-c", script])
        .arg(&seen)
        .arg(&url)
        .stdin(Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut command = ecapture();
    let server = scene.server.pid().to_string();
    command.args(["tls", "--format", "jsonl", "--not-pid", &server]);
    let mut running = Running::spawn_into(command, reader.stdin.take().expect("a pipe"));
    running.wait_for(&format!("read this output: sh ({})", reader.id()));
    running.wait_until_capturing();
    curl(&[&url]);
    let port = format!(":{}\"", scene.server.port);
    let read = || {
        let lines = std::fs::read_to_string(&seen).unwrap_or_default();
        lines.lines().filter(|line| line.contains(&port)).count()
    };
    let started = SystemTime::now();
    while read() < 2 && started.elapsed().unwrap_or_default() < PATIENCE {
        std::thread::yield_now();
    }
    let finished = running.interrupt();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert!(reader.wait().expect("it ends with its input").success());
    assert_eq!(read(), 2, "its own requests did not come back to it");
}

/// Prints the first two lines of a replay on a terminal.
fn on_a_terminal(flags: &str) -> Vec<String> {
    let mut lines = replay_on_a_terminal(RECORDING, flags);
    lines.truncate(2);
    lines
}

#[test]
fn a_terminal_shows_time_process_direction_and_peer_and_all_else_gets_the_originals_line() {
    let original = "PID:32462, Comm:curl, Src:127.0.0.1:37210, Dest:127.0.0.1:39071,";
    let message = "GET /hello.json HTTP/1.1";
    let terminal = "04:20:28.772768 curl[32462] -> 127.0.0.1:39071";
    assert_eq!(on_a_terminal("--ends both"), [terminal, message]);
    let once = format!("{terminal}, python3[32421] (+0.714 ms)");
    assert_eq!(on_a_terminal(""), [&once, message], "both ends are captured");
    let dated = "2026-11-23T04:20:28.772768+01:00 curl[32462] -> 127.0.0.1:39071";
    assert_eq!(on_a_terminal("--time --ends both"), [dated, message]);
    assert_eq!(on_a_terminal("--format original"), [original, message]);

    let piped = |flags: &[&str]| {
        let mut command = ecapture();
        command.env("TZ", "America/St_Johns");
        command.args(["replay", RECORDING, "--quiet"]).args(flags);
        let finished = Running::spawn(command).finish();
        assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
        let text = finished.text();
        text.lines().take(2).map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(piped(&[]), [original, message]);
    assert_eq!(piped(&["-o", "original"]), [original, message]);
    let timed = format!("2026-11-22T23:50:28.772768-03:30 -> {original}");
    assert_eq!(piped(&["--time"]), [&timed, message]);
}
