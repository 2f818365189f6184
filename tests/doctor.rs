//! `ecapture doctor` about real programs; needs root and says so where it cannot run.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::program::{Finished, PROGRAM, Running, run};
use crate::support::servers::{Certificate, Server, free_port, static_openssl};
use crate::support::{bun, can_capture};

/// An identity without any rights.
const NOBODY: u32 = 65534;

/// The lines about a process.
fn about(finished: &Finished, pid: u32) -> Vec<Value> {
    let mut lines = finished.json();
    lines.retain(|line| line["kind"] == "process" && line["pid"] == pid);
    lines
}

fn functions(line: &Value) -> Vec<&str> {
    let functions = line["functions"].as_array().expect("a list");
    functions.iter().filter_map(Value::as_str).collect()
}

#[test]
fn nginx_is_listed_with_its_library_and_functions() {
    let Some(_alone) = can_capture(&["nginx", "openssl"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::nginx(folder.path());
    let finished = run(&["doctor", "--format", "jsonl"]);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let lines = about(&finished, server.pid());
    assert_eq!(lines.len(), 1, "{lines:?}");
    let line = &lines[0];
    assert_eq!(
        (&line["comm"], &line["tls"]),
        (&"nginx".into(), &"OpenSSL".into())
    );
    assert!(line["file"].as_str().unwrap().contains("libssl.so"), "{line}");
    assert!(line["version"].as_str().unwrap().contains('.'), "{line}");
    for function in ["SSL_read", "SSL_write"] {
        assert!(functions(line).contains(&function), "{line}");
        let mut points = line["points"].as_array().expect("a list").iter();
        let point = points.find(|point| point["function"] == function).unwrap();
        assert!(point["offset"].as_u64() > Some(0), "{point}");
        assert!(["internal", "entry"].contains(&point["at"].as_str().unwrap()));
        assert_ne!(point["reason"], "", "{point}");
    }
    assert_eq!(line["obstacle"], Value::Null);
    let last = finished.json().pop().unwrap();
    assert_eq!(
        (&last["kind"], &last["can_capture"]),
        (&"summary".into(), &true.into())
    );
    let table = run(&["doctor"]).text();
    let pid = server.pid().to_string();
    let row = table
        .lines()
        .find(|line| line.split(' ').next() == Some(&pid))
        .unwrap();
    assert!(row.contains("libssl.so") && row.ends_with(" yes"), "{row}");
    assert!(
        !table.contains("CAPTURED AT") && !table.contains("SSL_read"),
        "{table}"
    );
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    let detailed = run(&["doctor", "-d"]).text();
    let point = detailed.lines().find(|line| line.contains("SSL_write_ex  "));
    assert!(point.is_some_and(|row| row.contains(" 0x")), "{detailed}");
}

#[test]
fn a_go_program_is_listed_with_its_version() {
    let Some(_alone) = can_capture(&["nats-server", "openssl"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::nats(folder.path());
    let lines = about(&run(&["doctor", "--format", "jsonl"]), server.pid());
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["tls"], "Go crypto/tls");
    assert_eq!(lines[0]["place"], "executable");
    assert!(
        lines[0]["version"].as_str().unwrap().starts_with("1."),
        "{lines:?}"
    );
    assert!(
        functions(&lines[0]).contains(&"crypto/tls.(*Conn).Read"),
        "{lines:?}"
    );
}

#[test]
fn a_static_program_is_captured_if_it_has_its_symbols() {
    let Some(_alone) = can_capture(&["gcc", "openssl"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let [with, without] = [&[][..], &["-s"]].map(|options| {
        let server = Server::of_static_openssl(folder.path(), options);
        let lines = about(&run(&["doctor", "--format", "jsonl"]), server.pid());
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(
            (&lines[0]["tls"], &lines[0]["place"]),
            (&"OpenSSL".into(), &"executable".into())
        );
        lines[0].clone()
    });
    assert!(functions(&with).contains(&"SSL_read"), "{with}");
    assert_eq!(with["obstacle"], Value::Null);
    assert!(functions(&without).is_empty(), "{without}");
    let told = |name: &str, part| without[name].as_str().unwrap().contains(part);
    assert!(told("obstacle", "no symbols"), "{without}");
    assert!(told("advice", "not stripped"), "{without}");
}

/// A report without its line breaks.
fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A copy of the program that a user without any rights can run: the build folder may be closed to others.
struct PlainUser {
    folder: TempDir,
    program: PathBuf,
}

impl PlainUser {
    fn create() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("a folder of ours");
        let program = folder.path().join("ecapture");
        fs::copy(PROGRAM, &program).expect("a copied file");
        Self { folder, program }
    }

    fn own(mut command: Command) -> Command {
        command.uid(NOBODY).gid(NOBODY).current_dir("/");
        command
    }

    fn doctor(&self, arguments: &[&str]) -> Finished {
        let mut command = Self::own(Command::new(&self.program));
        command.arg("doctor").args(arguments);
        Running::spawn(command).finish()
    }
}

#[test]
fn a_plain_user_is_told_what_is_missing_and_can_do_it() {
    let Some(_alone) = can_capture(&[]) else {
        return;
    };
    let user = PlainUser::create();
    let finished = user.doctor(&[]);
    assert_eq!(finished.code(), Some(1), "{}", finished.stderr);
    let text = in_one_line(&finished.text());
    for part in ["PROBLEM", "CAP_SYS_ADMIN", "could not be inspected"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let advice = text
        .split("(sudo ")
        .nth(1)
        .and_then(|rest| rest.split(" …)").next());
    let mut advised = Command::new(advice.unwrap_or_default());
    advised.arg("doctor");
    let finished = Running::spawn(advised).finish();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert!(
        !finished.text().contains("CAP_SYS_ADMIN  missing"),
        "{}",
        finished.text()
    );
}

#[test]
fn a_plain_user_sees_the_own_processes() {
    let Some(_alone) = can_capture(&["gcc", "openssl", "nginx"]) else {
        return;
    };
    let user = PlainUser::create();
    let site = tempfile::tempdir().unwrap();
    let others = Server::nginx(site.path());
    let certificate = Certificate::create(user.folder.path());
    fs::set_permissions(&certificate.key, fs::Permissions::from_mode(0o644)).unwrap();
    let mut serve = PlainUser::own(Command::new(static_openssl(user.folder.path(), &["-s"])));
    serve
        .arg("serve")
        .args([&certificate.certificate, &certificate.key]);
    let own = Server::announcing(serve);
    let finished = user.doctor(&["--format", "jsonl"]);
    assert_eq!(about(&finished, others.pid()).len(), 0, "it is root's");
    let lines = about(&finished, own.pid());
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0]["obstacle"].as_str().unwrap().contains("no symbols"),
        "{lines:?}"
    );
    let last = finished.json().pop().unwrap();
    assert_eq!(
        (&last["can_capture"], &last["missed"]),
        (&false.into(), &1.into()),
        "{last}"
    );
    assert!(last["hidden"].as_u64() > Some(0), "{last}");
}

#[test]
fn where_nothing_runs_it_says_so() {
    let Some(_alone) = can_capture(&["unshare"]) else {
        return;
    };
    let user = PlainUser::create();
    // Its own PID namespace with its own /proc: what a container without anything else is.
    let alone = |command: &mut dyn FnMut(&mut Command)| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--mount-proc"]);
        command(&mut unshare);
        Running::spawn(unshare).finish()
    };
    let as_root = alone(&mut |unshare| {
        unshare.arg(&user.program).arg("doctor");
    });
    let as_user = alone(&mut |unshare| {
        unshare.args(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
        unshare.arg(&user.program).arg("doctor");
    });
    assert_eq!(
        (as_root.code(), as_user.code()),
        (Some(0), Some(1)),
        "{}",
        as_root.stderr
    );
    for finished in [&as_root, &as_user] {
        let text = in_one_line(&finished.text());
        assert!(text.contains("No known TLS implementation was found"), "{text}");
        assert!(text.contains("covers 0 processes."), "{text}");
        assert!(text.contains("docker run --pid=host"), "{text}");
    }
    // What the kernel programs would not recognize is refused.
    let refused = alone(&mut |unshare| {
        unshare.arg(&user.program).args(["tls", "--", "true"]);
    });
    assert_eq!(refused.code(), Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("--pid=host"), "{}", refused.stderr);
}

#[test]
fn java_is_told_to_be_out_of_reach() {
    let Some(_alone) = can_capture(&["rmiregistry"]) else {
        return;
    };
    let user = PlainUser::create();
    let port = free_port();
    let mut registry = PlainUser::own(Command::new("rmiregistry"));
    registry.arg(port.to_string());
    let server = Server::listening(registry, port);
    let as_root = run(&["doctor", "--format", "jsonl"]);
    for finished in [as_root, user.doctor(&["--format", "jsonl"])] {
        let lines = about(&finished, server.pid());
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(lines[0]["tls"], "Java");
        assert!(functions(&lines[0]).is_empty(), "{lines:?}");
        let told = |name: &str, part| lines[0][name].as_str().unwrap().contains(part);
        assert!(told("obstacle", "JSSE") && told("advice", "proxy"), "{lines:?}");
    }
}

/// A client that has a TLS connection and says nothing on it.
struct Connected(Child);

impl Connected {
    fn start(port: u16) -> Self {
        let script = format!(
            "import socket, ssl, sys
context = ssl._create_unverified_context()
connection = context.wrap_socket(socket.create_connection(('127.0.0.1', {port})))
print('connected', flush=True)
sys.stdin.read()"
        );
        Self::python(&script)
    }

    fn python(script: &str) -> Self {
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", script]);
        Self::announced(command)
    }

    /// A program that prints `connected` and ends with its input.
    fn announced(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe"))
            .read_line(&mut line)
            .expect("a line");
        assert_eq!(line, "connected\n");
        Self(child)
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// A library of the system, or a path that does not exist.
fn system_library(name: &str) -> PathBuf {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut files = folders.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten().flatten());
    let found = files.find(|file| {
        file.file_name()
            .to_string_lossy()
            .starts_with(&format!("{name}.so."))
    });
    found.map_or(PathBuf::from("/usr/lib").join(name), |file| file.path())
}

#[test]
fn implementations_that_are_not_captured_are_named() {
    let libraries = [("libmbedtls", "Mbed TLS"), ("libwolfssl", "wolfSSL")];
    let paths = libraries.map(|(name, _)| system_library(name).to_str().expect("a plain path").to_owned());
    let Some(_alone) = can_capture(&["erl", "/usr/bin/python3", &paths[0], &paths[1]]) else {
        return;
    };
    for ((_, implementation), path) in libraries.iter().zip(&paths) {
        let script = format!(
            "import ctypes, sys; ctypes.CDLL('{path}'); print('connected', flush=True); sys.stdin.read()"
        );
        let process = Connected::python(&script);
        let lines = about(&run(&["doctor", "--format", "jsonl"]), process.0.id());
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(lines[0]["tls"], *implementation, "{lines:?}");
        assert!(lines[0]["obstacle"].is_string(), "{lines:?}");
    }
    let mut command = Command::new("erl");
    command.args([
        "-noshell",
        "-eval",
        "io:format(\"connected~n\"), io:get_line(\"\"), halt().",
    ]);
    let erlang = Connected::announced(command);
    let report = run(&["doctor", "--format", "jsonl", "-p", &erlang.0.id().to_string()]);
    let lines = about(&report, erlang.0.id());
    assert_eq!(lines[0]["tls"], "Erlang", "{lines:?}");
    // Advice that has been followed already is none.
    assert!(!report.text().contains("run as root"), "{}", report.text());
}

#[test]
fn tls_names_at_its_end_who_was_connected_and_silent() {
    let Some(_alone) = can_capture(&["gcc", "openssl", "/usr/bin/python3"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::of_static_openssl(folder.path(), &["-s"]);
    let mut running = Running::start(&["tls", "--pid", &server.pid().to_string()]);
    running.wait_for("1 process with TLS cannot be captured");
    let client = Connected::start(server.port);
    let finished = running.interrupt();
    drop(client);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let named = format!("no events from static ({})", server.pid());
    let line = finished.stderr.lines().find(|line| line.contains(&named));
    let line = line.unwrap_or_else(|| panic!("{named}: {}", finished.stderr));
    assert!(
        line.contains("no symbols") && line.contains("not stripped"),
        "{line}"
    );
}

#[test]
fn tls_tells_what_it_covers_and_where_to_look() {
    let Some(_alone) = can_capture(&["openssl", "/usr/bin/python3"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::python(folder.path());
    let mut running = Running::start(&["tls", "--pid", &server.pid().to_string()]);
    running.wait_for("covers 1 process");
    let finished = running.interrupt();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let end = finished.stderr.split("nothing was captured").nth(1);
    assert!(
        end.unwrap_or_default().contains("ecapture doctor"),
        "{}",
        finished.stderr
    );
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_keys_of_stripped_boringssl_can_be_had_without_its_plaintext() {
    let bun = bun();
    let Some(_alone) = can_capture(&[&bun]) else {
        return;
    };
    let mut command = Command::new(&bun);
    command.args(["-e", "console.log(1); setInterval(() => {}, 1000)"]);
    let process = Server::announcing(command);
    let finished = run(&["doctor", "-p", &process.pid().to_string(), "--format", "jsonl"]);
    let [line] = &about(&finished, process.pid())[..] else {
        panic!("{:?}", finished.json());
    };
    assert_eq!(
        (&line["tls"], &line["keys"]),
        (&"BoringSSL".into(), &"all".into())
    );
    assert!(
        line["obstacle"]
            .as_str()
            .is_some_and(|why| why.contains("symbols")),
        "{line}"
    );
    let text = run(&["doctor", "-p", &process.pid().to_string()]).text();
    assert!(text.contains("keys only"), "{text}");
}
