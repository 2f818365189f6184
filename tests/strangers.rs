//! Unprivileged users who want to get into root's capture, or to take it down.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use tempfile::TempDir;

use crate::support::can_capture;
use crate::support::capture::{messages, site, with_port};
use crate::support::detached::{private_openssl, wait_until_detached};
use crate::support::program::{Finished, Running, ecapture};
use crate::support::servers::Server;

const PROGRAMS: &[&str] = &["curl", "openssl", "/usr/bin/python3", "setpriv", "gcc"];
const SWITCH: &str = "/sys/kernel/rcu_expedited";
/// More than a capture of this host's few programs needs, in KiB.
const MEMORY_KIB: u64 = 400 * 1024;

/// A process of user `nobody` that does something hostile.
struct Stranger {
    child: Child,
    lines: BufReader<ChildStdout>,
    folder: TempDir,
}

impl Stranger {
    /// Starts `action` of `hostile.py` in a folder of its own, and waits until it was done.
    fn start(action: &str, arguments: &[&str]) -> Self {
        let folder = open_folder();
        Self::start_in(folder, action, arguments, &[])
    }

    fn start_in(folder: TempDir, action: &str, arguments: &[&str], environment: &[(&str, &Path)]) -> Self {
        let mut child = Command::new("setpriv")
            .args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"])
            .args(["/usr/bin/python3", "-c", include_str!("peers/hostile.py"), action])
            .arg(folder.path())
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("setpriv starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut stranger = Self { child, lines, folder };
        assert_eq!(stranger.line(), "ready");
        stranger
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    fn go_on(&mut self) {
        let input = self.child.stdin.as_mut().expect("a pipe");
        input.write_all(b"\n").expect("it reads");
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A folder in which everybody may write.
fn open_folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("its permissions");
    folder
}

fn capture(arguments: &[&str]) -> Running {
    wait_until_detached();
    let mut running = Running::start(&[&["tls", "--format", "jsonl", "--whole"], arguments].concat());
    running.wait_until_capturing();
    running
}

/// Curl with an OpenSSL that nobody had mapped before.
fn innocent(folder: &Path, name: &str, server: &Server) {
    let openssl = private_openssl(folder, name);
    let status = Command::new("curl")
        .env("LD_LIBRARY_PATH", openssl)
        .args([
            "-sk",
            "-o",
            "/dev/null",
            &server.url(&format!("/hello.json?{name}")),
        ])
        .status();
    assert!(status.expect("curl runs").success());
}

/// Number of the innocent requests that were seen. Each is in a race, so a test tries several.
fn seen(finished: &Finished, server: &Server) -> usize {
    let lines = with_port(finished, server.port);
    messages(&lines, "http1.request", "curl", "write").len()
}

/// The policies of the kernel's threads for expedited grace periods; 0 is the usual one (proc(5), `stat`).
fn policies_of_workers() -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("proc").flatten();
    let stats = processes.filter_map(|process| fs::read_to_string(process.path().join("stat")).ok());
    // The 41st value; the first two are a number and the name in parentheses.
    let policy = |stat: String| {
        stat.rsplit_once(')')?
            .1
            .split_whitespace()
            .nth(38)
            .map(str::to_owned)
    };
    stats
        .filter(|stat| stat.contains("(rcu_exp_"))
        .filter_map(policy)
        .collect()
}

fn switch() -> String {
    fs::read_to_string(SWITCH)
        .expect("the kernel has it")
        .trim()
        .to_owned()
}

/// A program of root's whose function `answer` returns a number that a breakpoint would change.
struct Victim {
    folder: TempDir,
    child: Child,
}

const VICTIM: &str = r#"
#include <stdio.h>
__attribute__((noinline)) unsigned answer(void) { return 0x11223344; }
int main(void) {
    for (int byte; (byte = getchar()) != EOF;) { printf("%x\n", answer()); fflush(stdout); }
}
"#;

impl Victim {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("its permissions");
        let source = folder.path().join("victim.c");
        fs::write(&source, VICTIM).expect("a written file");
        let mut compiler = Command::new("gcc");
        let status = compiler
            .arg("-o")
            .arg(folder.path().join("victim"))
            .arg(source)
            .status();
        assert!(status.expect("gcc runs").success());
        let child = Command::new(folder.path().join("victim"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        Self { folder, child }
    }

    /// Where the number is in the file.
    fn offset(&self) -> usize {
        let file = fs::read(self.folder.path().join("victim")).expect("a program");
        let number = file
            .windows(4)
            .position(|bytes| bytes == [0x44, 0x33, 0x22, 0x11]);
        number.expect("a number")
    }

    fn answer(&mut self) -> String {
        let input = self.child.stdin.as_mut().expect("a pipe");
        input.write_all(b"?").expect("it reads");
        let mut answer = [0; 9];
        let output = self.child.stdout.as_mut().expect("a pipe");
        output.read_exact(&mut answer).expect("an answer");
        String::from_utf8_lossy(&answer).trim().to_owned()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The file that was read is the one that gets the probes, whatever is at its path by then.
#[test]
fn a_file_that_takes_the_place_of_a_library_gets_no_breakpoint() {
    let Some(_alone) = can_capture(PROGRAMS) else {
        return;
    };
    let mut victim = Victim::start();
    let path = victim.folder.path().join("victim");
    let offset = victim.offset().to_string();
    for named in [false, true] {
        let stranger = Stranger::start("swap", &[path.to_str().expect("a path"), &offset]);
        let library = stranger.folder.path().join("libssl.so.1");
        let library = library.to_str().expect("a path");
        let mut command = ecapture();
        command.arg("tls");
        if named {
            command.args(["--libssl", library]);
        }
        // It may be refused at once: the file has no code where it says.
        let mut running = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut log = BufReader::new(running.stderr.take().expect("a pipe")).lines();
        let _capturing = log.find(|line| line.as_ref().is_ok_and(|line| line.contains("capturing;")));
        assert_eq!(victim.answer(), "11223344");
        let _ended = running.kill();
        running.wait().expect("it ends");
        wait_until_detached();
        assert_eq!(victim.answer(), "11223344");
    }
}

/// Neither the search for libraries nor the end of the capture waits for a file that takes long.
#[test]
fn a_file_that_takes_minutes_to_read_delays_nobody() {
    let Some(_alone) = can_capture(PROGRAMS) else {
        return;
    };
    let folder = site();
    let server = Server::python(folder.path());
    let mut running = capture(&[]);
    let _stranger = Stranger::start("slow", &[]);
    for number in 0..10 {
        innocent(folder.path(), &number.to_string(), &server);
    }
    running.wait_for("given up");
    running.signal(libc::SIGTERM);
    let finished = running.finish();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert!(seen(&finished, &server) >= 5, "{}", finished.stderr);
    assert!(finished.stderr.contains("libssl.so.evil"), "{}", finished.stderr);

    // The same when it is there from the beginning.
    let running = capture(&[]);
    let finished = running.interrupt();
    assert!(finished.stderr.contains("given up"), "{}", finished.stderr);
}

#[test]
fn a_file_that_claims_a_tebibyte_takes_no_memory() {
    let Some(_alone) = can_capture(PROGRAMS) else {
        return;
    };
    let mut running = capture(&[]);
    let _stranger = Stranger::start("sparse", &[]);
    running.wait_for("given up");
    let memory = running.peak_memory_kib();
    assert!(memory < MEMORY_KIB, "{memory} KiB");
    let finished = running.interrupt();
    assert_eq!(finished.code(), Some(0));
    assert!(finished.stderr.contains("file_given_up"), "{}", finished.stderr);
    let running = capture(&[]);
    let memory = running.peak_memory_kib();
    assert!(memory < MEMORY_KIB, "{memory} KiB");
    let finished = running.interrupt();
    assert!(finished.stderr.contains("given up"), "{}", finished.stderr);
}

#[test]
fn a_lock_that_anybody_can_take_holds_up_nothing() {
    let Some(_alone) = can_capture(PROGRAMS) else {
        return;
    };
    let _stranger = Stranger::start("lock", &[]);
    let finished = capture(&[]).interrupt();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_eq!(switch(), "0");
}

#[test]
fn a_named_pipe_under_the_name_of_a_library_holds_up_nothing() {
    let Some(_alone) = can_capture(PROGRAMS) else {
        return;
    };
    let stranger = Stranger::start("pipe", &[]);
    let finished = Running::start(&["doctor"]).finish();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let pid = stranger.child.id();
    assert!(finished.text().contains(&pid.to_string()), "{}", finished.text());
    let finished = capture(&[]).interrupt();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
}

/// With privileges from the file, its user does not choose what is loaded into the kernel.
#[test]
fn a_program_that_gained_privileges_takes_no_other_kernel_object() {
    let Some(_alone) = can_capture(PROGRAMS) else {
        return;
    };
    let folder = open_folder();
    let privileged = folder.path().join("ecapture");
    fs::copy(env!("CARGO_BIN_EXE_ecapture"), &privileged).expect("a copy");
    fs::set_permissions(&privileged, fs::Permissions::from_mode(0o4755)).expect("a set-user-ID program");
    let run = |command: &mut Command| {
        command.args(["doctor", "--format", "jsonl"]);
        command.env("ECAPTURE_BPF_OBJECT", "/nonexistent");
        let output = command.output().expect("it starts");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let mut command = Command::new("setpriv");
    let said = run(command
        .args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"])
        .arg(&privileged));
    assert!(said.contains("ECAPTURE_BPF_OBJECT is ignored"), "{said}");
    assert!(!said.contains("cannot read the kernel object"), "{said}");
    // Root itself may choose.
    let said = run(&mut Command::new(&privileged));
    assert!(said.contains("cannot read the kernel object"), "{said}");
}

/// The resources that a stranger's libraries take are still available to root's, and this is
/// reported.
#[test]
fn many_libraries_of_a_stranger_leave_room_for_others() {
    let Some(_alone) = can_capture(PROGRAMS) else {
        return;
    };
    let folder = site();
    let server = Server::python(folder.path());
    wait_until_detached();
    let mut command = Command::new("setpriv");
    // Without the capability to raise its limit of descriptors.
    command
        .args(["--bounding-set", "-sys_resource", "--inh-caps", "-sys_resource"])
        .args([
            "sh",
            "-c",
            "ulimit -n 1024 && exec \"$@\"",
            "sh",
            env!("CARGO_BIN_EXE_ecapture"),
        ])
        .args(["tls", "--format", "jsonl", "--whole"])
        .process_group(0);
    let mut running = Running::spawn(command);
    running.wait_until_capturing();
    let openssl = private_openssl(folder.path(), "original");
    let original = openssl.join("libssl.so.3");
    let _stranger = Stranger::start("copies", &[original.to_str().expect("a path"), "100"]);
    running.wait_for("descriptors");
    for number in 0..10 {
        innocent(folder.path(), &number.to_string(), &server);
    }
    running.signal(libc::SIGTERM);
    let finished = running.finish();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert!(seen(&finished, &server) >= 5, "{}", finished.stderr);
    assert!(
        finished
            .stderr
            .contains("files of running programs were given up"),
        "{}",
        finished.stderr
    );
    assert_eq!(switch(), "0");
    assert!(policies_of_workers().iter().all(|policy| policy == "0"));
}

/// The switch is for the milliseconds of an attachment, however the capture ends.
#[test]
fn the_switch_is_off_after_a_capture_that_is_ended_while_it_attaches() {
    let Some(_alone) = can_capture(PROGRAMS) else {
        return;
    };
    let openssl = tempfile::tempdir().expect("a temporary folder");
    let copy = private_openssl(openssl.path(), "original").join("libssl.so.3");
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGINT] {
        let running = capture(&[]);
        let _stranger = Stranger::start("copies", &[copy.to_str().expect("a path"), "40"]);
        running.signal(signal);
        let finished = running.finish();
        assert!(
            finished.status.success() != (signal == libc::SIGQUIT),
            "{}",
            finished.stderr
        );
        assert_eq!(switch(), "0", "after signal {signal}");
        assert!(!Path::new("/run/ecapture.rcu_expedited").exists());
        assert!(policies_of_workers().iter().all(|policy| policy == "0"));
    }
}

#[test]
fn a_mapped_file_whose_name_is_no_text_hides_nobody() {
    let Some(_alone) = can_capture(PROGRAMS) else {
        return;
    };
    let folder = site();
    let server = Server::python(folder.path());
    let running = capture(&[]);
    let tries = 5;
    for number in 0..tries {
        let stranger_folder = open_folder();
        let openssl = private_openssl(stranger_folder.path(), &format!("openssl-{number}"));
        let environment = [("LD_LIBRARY_PATH", openssl.as_path())];
        let port = server.port.to_string();
        let mut stranger = Stranger::start_in(stranger_folder, "latin", &[&port], &environment);
        stranger.go_on();
        assert_eq!(stranger.line(), "done");
    }
    let finished = running.interrupt();
    let lines = with_port(&finished, server.port);
    let requests = messages(&lines, "http1.request", "python3", "write").len();
    assert!(
        requests * 2 >= tries,
        "{requests} of {tries}: {}",
        finished.stderr
    );
}
