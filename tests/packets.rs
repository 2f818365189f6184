//! `-m pcap`: packets of interfaces, as tcpdump and tshark see them.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::can_capture;
use crate::support::capture::{Scene, curl, site};
use crate::support::program::{Finished, PROGRAM, Running, run};
use crate::support::servers::{Certificate, Cgroup, Server};

const PROGRAMS: [&str; 3] = ["tshark", "capinfos", "tcpdump"];

/// What one of Wireshark's programs prints about a file, which it must read without a warning.
fn read_with(program: &str, file: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    if program == "tshark" {
        command.arg("-r");
    }
    let output = command
        .arg(file)
        .args(arguments)
        .output()
        .expect("it is installed");
    let errors = String::from_utf8_lossy(&output.stderr);
    let mut warnings = errors
        .lines()
        .filter(|line| !line.is_empty() && !line.contains("Running as user"));
    assert!(
        output.status.success() && warnings.next().is_none(),
        "{program}: {errors}"
    );
    String::from_utf8(output.stdout).expect("text")
}

/// One line for each packet with what makes it recognizable.
fn packets(file: &Path) -> Vec<String> {
    let mut fields = vec!["-T", "fields"];
    for field in [
        "frame.len",
        "frame.cap_len",
        "tcp.srcport",
        "tcp.seq_raw",
        "tcp.ack_raw",
        "tcp.flags",
    ] {
        fields.extend(["-e", field]);
    }
    read_with("tshark", file, &fields)
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Packets and their times, in an order that says nothing of the times: both ends may send at once, on two
/// processors, and each capture has an order of its own.
fn packets_and_times(file: &Path) -> Vec<(String, f64)> {
    let lines = read_with("tshark", file, &["-T", "fields", "-e", "frame.time_epoch"]);
    let times = lines.lines().map(|time| time.parse().expect("a time"));
    let mut found: Vec<(String, f64)> = packets(file).into_iter().zip(times).collect();
    found.sort_by(|one, other| one.0.cmp(&other.0).then(one.1.total_cmp(&other.1)));
    found
}

fn comments(file: &Path) -> Vec<String> {
    let lines = read_with("tshark", file, &["-T", "fields", "-e", "frame.comment"]);
    lines.lines().map(str::to_owned).collect()
}

/// Captures the loopback interface in `file` while `load` runs.
fn capture(file: &Path, arguments: &[&str], load: impl FnOnce(&Running)) -> Finished {
    let running = start(file, arguments);
    load(&running);
    running.interrupt()
}

fn start(file: &Path, arguments: &[&str]) -> Running {
    let file = file.to_str().expect("a plain path");
    let mut running = Running::start(&[&["tls", "-m", "pcap", "-i", "lo", "-w", file], arguments].concat());
    running.wait_until_capturing();
    running
}

/// What the server sent, to tshark.
fn answers(port: u16) -> String {
    format!("tcp.srcport == {port} && tcp.len > 0")
}

fn filter(port: u16) -> String {
    format!("tcp port {port}")
}

/// Returns when it captures. It reads each packet at once, so that none is left when it is asked to end.
fn start_tcpdump(interface: &str, file: &Path, filter: &str) -> Child {
    let mut tcpdump = Command::new("tcpdump")
        .args([
            "-i",
            interface,
            "--nano",
            "--immediate-mode",
            "-U",
            "-Z",
            "root",
            "-w",
        ])
        .arg(file)
        .arg(filter)
        .stderr(Stdio::piped())
        .spawn()
        .expect("tcpdump starts");
    let mut errors = BufReader::new(tcpdump.stderr.take().expect("a pipe"));
    let mut line = String::new();
    while !line.contains("listening on") {
        line.clear();
        let read = errors.read_line(&mut line).expect("text");
        assert_ne!(read, 0, "tcpdump ended");
    }
    tcpdump
}

fn end_tcpdump(mut tcpdump: Child) {
    end(&mut tcpdump);
}

fn end(child: &mut Child) {
    let asked = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(asked.expect("kill runs").success());
    child.wait().expect("it ends");
}

/// A network namespace, connected by `ecap-v` with the interface `ecap-w` in it; gone when it is dropped.
struct Namespace;

impl Namespace {
    fn create() -> Self {
        let namespace = Self;
        for line in [
            "netns add ecap-ns",
            "link add ecap-v type veth peer name ecap-w netns ecap-ns",
            "addr add 198.18.9.1/30 dev ecap-v",
            "-n ecap-ns addr add 198.18.9.2/30 dev ecap-w",
            "link set ecap-v up",
            "-n ecap-ns link set ecap-w up",
        ] {
            let status = Command::new("ip").args(line.split(' ')).status();
            assert!(status.expect("ip runs").success(), "{line}");
        }
        namespace
    }

    /// A command in it.
    fn command(program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", "ecap-ns", program]);
        command
    }
}

#[test]
fn without_an_interface_that_of_the_default_route_is_taken_and_named() {
    let Some(_alone) = can_capture(&["ip", "nsenter"]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let _namespace = Namespace::create();
    let start = || {
        let mut command = Command::new("nsenter");
        // Unlike `ip netns exec` it leaves the file systems as they are.
        command.args(["--net=/run/netns/ecap-ns", PROGRAM, "tls", "-m", "pcap", "-w"]);
        command.arg(folder.path().join("save.pcapng"));
        Running::spawn(command)
    };
    let refused = start().finish();
    assert_ne!(refused.code(), Some(0));
    assert!(
        refused
            .stderr
            .contains("no default route to choose an interface by"),
        "{}",
        refused.stderr
    );
    let route = Command::new("ip")
        .args(["-n", "ecap-ns", "route", "add", "default", "via", "198.18.9.1"])
        .status();
    assert!(route.expect("ip runs").success());
    let mut running = start();
    running.wait_until_capturing();
    let finished = running.interrupt();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert!(
        finished
            .stderr
            .contains("packets of ecap-w, which the default route uses"),
        "{}",
        finished.stderr
    );
}

/// Sends frames with VLAN tags 5 and 6, as a switch would: the kernel keeps the tag beside the packet.
const TAGGED: &str = "\
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(('ecap-w', 0))
for tag in (5, 6):
    ip = bytes.fromhex('4500001c000100004011000ac6120902c6120901') + bytes([0, 9, 0, 9, 0, 8, 0, 0])
    s.send(b'\\xff' * 6 + bytes([2, 0, 0, 0, 0, 9, 0x81, 0, 0, tag, 8, 0]) + ip + bytes(20))
";

impl Drop for Namespace {
    fn drop(&mut self) {
        let _gone = Command::new("ip").args(["link", "del", "ecap-v"]).status();
        let _gone = Command::new("ip").args(["netns", "del", "ecap-ns"]).status();
    }
}

#[test]
fn packets_of_a_namespace_and_tagged_ones_are_those_that_tcpdump_sees() {
    let Some(_alone) = can_capture(&[&PROGRAMS[..], &["ip", "openssl", "curl", "/usr/bin/python3"]].concat())
    else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let certificate = Certificate::create(folder.path());
    let _namespace = Namespace::create();
    let mut server = Namespace::command("openssl")
        .args(["s_server", "-www", "-quiet", "-accept", "8443", "-key"])
        .arg(&certificate.key)
        .arg("-cert")
        .arg(&certificate.certificate)
        .stdout(Stdio::null())
        .spawn()
        .expect("openssl starts");
    let [ours, theirs] = ["ours.pcapng", "theirs.pcap"].map(|name| folder.path().join(name));
    let filter = "tcp port 8443 or (vlan 5 and udp)";
    let tcpdump = start_tcpdump("ecap-v", &theirs, filter);
    let target = ours.to_str().expect("a plain path");
    let mut running = Running::start(&["tls", "-m", "pcap", "-i", "ecap-v", "-w", target, filter]);
    running.wait_until_capturing();
    let url = "https://198.18.9.2:8443/";
    curl(&["--retry", "20", "--retry-delay", "1", "--retry-connrefused", url]);
    let sent = Namespace::command("/usr/bin/python3")
        .args(["-c", TAGGED])
        .status();
    assert!(sent.expect("python runs").success());
    let finished = running.interrupt();
    end_tcpdump(tcpdump);
    server.kill().expect("it runs");
    server.wait().expect("it ends");
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let expected = packets(&theirs);
    assert!(expected.len() > 10, "{expected:?}");
    assert_eq!(packets(&ours), expected);
    let tags = read_with("tshark", &ours, &["-Y", "vlan", "-T", "fields", "-e", "vlan.id"]);
    assert_eq!(tags.trim(), "5");
    let comments = read_with(
        "tshark",
        &ours,
        &["-Y", "tcp", "-T", "fields", "-e", "frame.comment"],
    );
    assert!(
        comments.lines().all(|comment| comment.contains("(curl)")),
        "{comments}"
    );
}

/// The comments of the packets, which name curl, and nginx beside it where it answers.
fn both_ends(scene: &Scene, ours: &Path) -> Vec<String> {
    let comments = comments(ours);
    let nginx = format!("pid {} (nginx)", scene.server.worker_pid());
    assert!(
        comments.iter().all(|comment| comment.contains("(curl)")),
        "{comments:?}"
    );
    let answers = read_with(
        "tshark",
        ours,
        &[
            "-Y",
            &answers(scene.server.port),
            "-T",
            "fields",
            "-e",
            "frame.comment",
        ],
    );
    assert!(answers.lines().count() >= 10, "{answers}");
    assert!(
        answers.lines().all(|comment| comment.contains(&nginx)),
        "{answers}"
    );
    comments
}

#[test]
fn packets_are_those_that_tcpdump_sees_with_the_same_times() {
    let Some(scene) = Scene::nginx(&PROGRAMS) else {
        return;
    };
    let [ours, theirs] = ["ours.pcapng", "theirs.pcap"].map(|name| scene.folder.path().join(name));
    let filter = filter(scene.server.port);
    let tcpdump = start_tcpdump("lo", &theirs, &filter);
    let finished = capture(&ours, &[&filter], |_| {
        for _ in 0..5 {
            curl(&[&scene.server.url("/page.txt")]);
        }
    });
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    end_tcpdump(tcpdump);
    let [ours_timed, theirs_timed] = [&ours, &theirs].map(|file| packets_and_times(file));
    assert!(theirs_timed.len() > 50, "{}", theirs_timed.len());
    let content =
        |timed: &[(String, f64)]| -> Vec<String> { timed.iter().map(|(packet, _)| packet.clone()).collect() };
    assert_eq!(content(&ours_timed), content(&theirs_timed));
    for ((packet, ours), (_, theirs)) in ours_timed.iter().zip(&theirs_timed) {
        assert!((ours - theirs).abs() < 0.05, "{packet}: {ours} {theirs}");
    }
    let description = read_with("capinfos", &ours, &[]);
    for part in [
        "Name = lo",
        "nanoseconds (9)",
        &format!("Filter string = {filter}"),
        "Number of stat entries = 1",
    ] {
        assert!(description.contains(part), "{part}: {description}");
    }
    let comments = both_ends(&scene, &ours);
    let line = finished
        .stderr
        .lines()
        .find(|line| line.contains("packets: "))
        .expect("figures");
    let expected = format!("{} captured with", comments.len());
    // The packets of other programs take no room in the ring.
    assert!(
        line.contains(&expected) && line.contains(", 0 dropped; TLS handshakes among them: 5"),
        "{line}"
    );
}

#[test]
fn a_command_has_its_own_packets_only() {
    let Some(scene) = Scene::nginx(&PROGRAMS) else {
        return;
    };
    let file = scene.folder.path().join("curl.pcapng");
    let url = scene.server.url("/hello.json");
    let mut others = Command::new("sh")
        .args(["-c", &format!("while :; do curl -sk -o /dev/null {url}; done")])
        .spawn()
        .expect("a shell");
    let finished = run(&[
        "tls",
        "-m",
        "pcap",
        "-i",
        "lo",
        "-w",
        file.to_str().expect("a plain path"),
        "--",
        "curl",
        "-sk",
        "-o",
        "/dev/null",
        &url,
    ]);
    others.kill().expect("it runs");
    others.wait().expect("it ends");
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let streams = read_with("tshark", &file, &["-T", "fields", "-e", "tcp.stream"]);
    assert!(streams.lines().count() > 10, "{streams}");
    assert!(
        streams.lines().all(|stream| stream == "0"),
        "one connection: {streams}"
    );
    let opened = read_with(
        "tshark",
        &file,
        &["-Y", "tcp.flags.syn == 1 && tcp.flags.ack == 0"],
    );
    assert_eq!(opened.lines().count(), 1, "from its first packet on");
}

/// The server's port and the number of packets of each connection in a file, whose first packet must be in it.
fn connections(file: &Path) -> Vec<(String, usize)> {
    let fields = ["tcp.stream", "tcp.port", "tcp.flags.syn"].map(|field| ["-e", field]);
    let rows = read_with(
        "tshark",
        file,
        &[&["-T", "fields"][..], fields.as_flattened()].concat(),
    );
    let mut found: Vec<(String, usize)> = Vec::new();
    for row in rows.lines() {
        let [stream, ports, syn] = row.split('\t').collect::<Vec<_>>()[..] else {
            panic!("three fields: {row}");
        };
        let stream: usize = stream.parse().expect("a number");
        if stream == found.len() {
            assert_eq!(syn, "1", "it begins with its first packet: {row}");
            let server = ports.split(',').nth(1).expect("two ports");
            found.push((server.to_owned(), 0));
        }
        found[stream].1 += 1;
    }
    found
}

/// Two servers, and the connections in a file that was captured while both were asked: by `selected`, and by curl as it
/// is.
fn chosen(
    flags: &dyn Fn(&Server) -> Vec<String>,
    selected: &dyn Fn() -> Command,
) -> Option<Vec<(String, usize)>> {
    let _alone = can_capture(&[&PROGRAMS[..], &["nginx", "curl", "openssl"]].concat())?;
    let folders = [site(), site()];
    let [wanted, other] = folders.each_ref().map(|folder| Server::nginx(folder.path()));
    let file = folders[0].path().join("chosen.pcapng");
    let flags = flags(&wanted);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let either = format!("tcp port {} or tcp port {}", wanted.port, other.port);
    let finished = capture(&file, &[&flags[..], &[&either]].concat(), |_| {
        for _ in 0..3 {
            curl(&[&other.url("/page.txt")]);
            let mut client = selected();
            client.args(["-sk", "-o", "/dev/null", &wanted.url("/page.txt")]);
            assert!(client.status().expect("it runs").success());
        }
    });
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let found = connections(&file);
    assert!(
        found.iter().all(|(port, _)| *port == wanted.port.to_string()),
        "only those of port {}: {found:?}",
        wanted.port
    );
    Some(found)
}

fn assert_three_whole(found: &[(String, usize)]) {
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found.iter().all(|(_, packets)| *packets > 12), "{found:?}");
}

#[test]
fn packets_of_a_process_are_those_of_its_connections() {
    let flags = |wanted: &Server| vec!["-p".to_owned(), wanted.worker_pid().to_string()];
    if let Some(found) = chosen(&flags, &|| Command::new("curl")) {
        assert_three_whole(&found);
    }
}

#[test]
fn packets_of_a_user_are_those_of_the_users_connections() {
    use std::os::unix::process::CommandExt as _;
    let flags = |_: &Server| ["--uid", "65533"].map(str::to_owned).to_vec();
    let nobody = || {
        let mut command = Command::new("curl");
        command.uid(65533).gid(65533);
        command
    };
    if let Some(found) = chosen(&flags, &nobody) {
        assert_three_whole(&found);
    }
}

#[test]
fn packets_of_a_cgroup_are_those_of_its_processes_connections() {
    let group = std::cell::OnceCell::new();
    let group = || group.get_or_init(|| Cgroup::create("ecapture-packets"));
    let flags = |_: &Server| vec!["--cgroup_path".to_owned(), group().path().display().to_string()];
    if let Some(found) = chosen(&flags, &|| group().command("curl")) {
        assert_three_whole(&found);
    }
}

#[test]
fn a_killed_capture_leaves_whole_blocks_and_a_clean_interface() {
    let Some(scene) = Scene::nginx(&PROGRAMS) else {
        return;
    };
    let filters = || {
        let both = ["ingress", "egress"].map(|side| {
            let listed = Command::new("tc")
                .args(["filter", "show", "dev", "lo", side])
                .output();
            String::from_utf8_lossy(&listed.expect("tc runs").stdout).into_owned()
        });
        both.concat()
    };
    for clsact in [false, true] {
        let file = scene.folder.path().join(format!("killed-{clsact}.pcapng"));
        let mut arguments = vec!["--inject", "system-calls"];
        if clsact {
            arguments.extend(["--inject", "clsact"]);
        }
        let filter = filter(scene.server.port);
        arguments.push(&filter);
        let running = start(&file, &arguments);
        curl(&[&scene.server.url("/page.txt")]);
        wait_for_packets(&file, 10);
        // A live reader sees whole blocks, too.
        let live = packets(&file).len();
        running.signal(libc::SIGKILL);
        let _killed = running.finish();
        assert!(packets(&file).len() >= live);
        assert_eq!(
            filters().contains("ecapture:"),
            clsact,
            "what only the next start removes"
        );
        let finished = capture(&scene.folder.path().join("next.pcapng"), &[], |_| {});
        assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
        assert!(!filters().contains("ecapture"), "{}", filters());
        assert_eq!(
            finished.stderr.contains("removed what a killed capture had left"),
            clsact
        );
    }
}

fn wait_for_packets(file: &Path, least: usize) {
    let started = std::time::SystemTime::now();
    while packets_in_progress(file) < least {
        let elapsed = started.elapsed().unwrap_or_default();
        assert!(
            elapsed < crate::support::program::PATIENCE,
            "no packets in {}",
            file.display()
        );
        std::thread::yield_now();
    }
}

/// The file may not be there yet.
fn packets_in_progress(file: &Path) -> usize {
    let output = Command::new("tshark")
        .arg("-r")
        .arg(file)
        .output()
        .expect("tshark runs");
    String::from_utf8_lossy(&output.stdout).lines().count()
}

#[test]
fn standard_output_is_read_live() {
    let Some(scene) = Scene::nginx(&PROGRAMS) else {
        return;
    };
    let filter = filter(scene.server.port);
    let mut reader = Command::new("tshark")
        .args(["-l", "-i", "-", "-Y", "tcp.flags.fin == 1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("tshark starts");
    let mut command = crate::support::program::ecapture();
    command.args(["tls", "-m", "pcap", "-i", "lo", "-w", "-", &filter]);
    let mut running = Running::spawn_into(command, reader.stdin.take().expect("a pipe"));
    running.wait_until_capturing();
    curl(&[&scene.server.url("/hello.json")]);
    let mut line = String::new();
    let mut lines = BufReader::new(reader.stdout.take().expect("a pipe"));
    lines.read_line(&mut line).expect("text");
    assert!(line.contains("FIN"), "{line}");
    let finished = running.interrupt();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    reader.wait().expect("tshark ends");
}

#[test]
fn a_key_log_is_followed_live() {
    let Some(_alone) = can_capture(&[&PROGRAMS[..], &["nginx", "curl", "openssl"]].concat()) else {
        return;
    };
    let folder = site();
    let server = Server::nginx_with(folder.path(), "ssl_protocols TLSv1.2 TLSv1.3;");
    let keys = folder.path().join("keys.log");
    fs::write(&keys, "").expect("a written file");
    let path = keys.to_str().expect("a plain path");
    let option = format!("tls.keylog_file:{path}");
    let mut reader = Command::new("tshark")
        .args(["-l", "-i", "lo", "-f", &filter(server.port), "-o", &option])
        .args([
            "-Y",
            "http2.headers.path",
            "-T",
            "fields",
            "-e",
            "http2.headers.path",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tshark starts");
    let mut errors = BufReader::new(reader.stderr.take().expect("a pipe"));
    let mut line = String::new();
    while !line.contains("Capturing on") {
        line.clear();
        assert_ne!(errors.read_line(&mut line).expect("text"), 0, "tshark ended");
    }
    let mut running = Running::start(&["tls", "-m", "keylog", "-k", path]);
    running.wait_until_capturing();
    let mut lines = BufReader::new(reader.stdout.take().expect("a pipe"));
    for version in [&["--tls-max", "1.2"][..], &["--tlsv1.3"]] {
        for number in 0..3 {
            let expected = format!("/hello.json?{number}");
            curl(&[version, &["--http2", &server.url(&expected)]].concat());
            line.clear();
            lines.read_line(&mut line).expect("text");
            assert_eq!(line.trim(), expected, "{version:?}, while the capture runs");
        }
    }
    end(&mut reader);
    let finished = running.interrupt();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
}

/// The paths that clients requested, by HTTP/1 or HTTP/2, decrypted with the keys in the file.
fn requested(file: &Path) -> Vec<String> {
    let shown = ["-Y", "http.request || http2.headers.path", "-T", "fields"];
    let fields = ["-e", "http.request.uri", "-e", "http2.headers.path"];
    let lines = read_with("tshark", file, &[&shown[..], &fields].concat());
    lines.lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn keys_are_before_the_packets_that_they_decrypt() {
    let Some(_alone) = can_capture(&[&PROGRAMS[..], &["nginx", "curl", "openssl"]].concat()) else {
        return;
    };
    let folder = site();
    let server = Server::nginx_with(folder.path(), "ssl_protocols TLSv1.2 TLSv1.3;");
    let file = folder.path().join("keys.pcapng");
    let mut expected = Vec::new();
    let finished = capture(&file, &[&filter(server.port)], |_| {
        let versions = [
            &["--tls-max", "1.2", "--ciphers", "ECDHE-ECDSA-AES128-GCM-SHA256"][..],
            &["--tls-max", "1.2", "--ciphers", "ECDHE-ECDSA-CHACHA20-POLY1305"],
            &["--tlsv1.3", "--tls13-ciphers", "TLS_AES_128_GCM_SHA256"],
            &["--tlsv1.3", "--tls13-ciphers", "TLS_AES_256_GCM_SHA384"],
            &["--tlsv1.3", "--tls13-ciphers", "TLS_CHACHA20_POLY1305_SHA256"],
        ];
        for (number, version) in versions.into_iter().enumerate() {
            for http in ["--http1.1", "--http2"] {
                let path = format!("/hello.json?{number}{http}");
                curl(&[version, &[http, &server.url(&path)]].concat());
                expected.push(path);
            }
        }
    });
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_eq!(requested(&file), expected);
    assert!(
        finished
            .stderr
            .contains("TLS handshakes among them: 10, with keys that decrypt them: 10 (100 %)")
    );
    let replayed = run(&[
        "replay",
        "--format",
        "jsonl",
        file.to_str().expect("a plain path"),
    ]);
    let mut paths: Vec<_> = replayed
        .json()
        .iter()
        .filter(|line| {
            line["kind"]
                .as_str()
                .is_some_and(|kind| kind.ends_with(".request"))
        })
        .map(|line| {
            line["path"]
                .as_str()
                .or(line["target"].as_str())
                .unwrap_or_default()
                .to_owned()
        })
        .collect();
    paths.sort_unstable();
    expected.sort_unstable();
    assert_eq!(paths, expected, "{}", replayed.stderr);
}

#[test]
fn rotated_files_have_the_keys_of_older_connections() {
    let Some(scene) = Scene::nginx(&PROGRAMS) else {
        return;
    };
    let file = scene.folder.path().join("rotated.pcapng");
    let target = PathBuf::from(format!("{},rotate-size=20K", file.display()));
    let url = scene.server.url("/page.txt");
    let finished = capture(&target, &[&filter(scene.server.port)], |_| {
        // One connection.
        let several = ["-o", "/dev/null", &url].repeat(10);
        curl(&several);
    });
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let description = read_with("capinfos", &file, &[]);
    assert!(
        description.contains("Number of decryption secrets in file: "),
        "{description}"
    );
    let opened = read_with("tshark", &file, &["-Y", "tls.handshake.type == 1"]);
    assert!(opened.is_empty(), "its handshake is in another file: {opened}");
}

#[test]
fn each_rotated_file_is_complete_in_itself() {
    let Some(scene) = Scene::nginx(&PROGRAMS) else {
        return;
    };
    let file = scene.folder.path().join("rotated.pcapng");
    let target = PathBuf::from(format!("{},rotate-size=20K", file.display()));
    let filter = filter(scene.server.port);
    let finished = capture(&target, &[&filter], |_| {
        for _ in 0..10 {
            curl(&[&scene.server.url("/page.txt")]);
        }
    });
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let entries = fs::read_dir(scene.folder.path()).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").path());
    let files: Vec<_> = names
        .filter(|path| path.to_string_lossy().contains("rotated"))
        .collect();
    assert!(files.len() > 3, "{files:?}");
    let mut total = 0;
    for file in &files {
        assert!(read_with("capinfos", file, &[]).contains("Name = lo"));
        assert!(fs::metadata(file).expect("a file").len() <= 20 * 1024);
        total += packets(file).len();
    }
    assert!(
        finished.stderr.contains(&format!(" {total} captured with")),
        "{}",
        finished.stderr
    );
}

#[test]
fn a_full_disk_ends_the_run_and_the_file_stays_readable() {
    let Some(scene) = Scene::nginx(&PROGRAMS) else {
        return;
    };
    let disk = scene.folder.path().join("disk");
    fs::create_dir(&disk).expect("a folder");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64K", "tmpfs"])
        .arg(&disk)
        .status();
    assert!(mounted.expect("mount runs").success());
    let file = disk.join("full.pcapng");
    let mut running = start(&file, &[&filter(scene.server.port)]);
    for _ in 0..20 {
        curl(&[&scene.server.url("/page.txt")]);
    }
    running.wait_for("No space left on device");
    let finished = running.finish();
    let read = packets(&file).len();
    let _gone = Command::new("umount").arg("--lazy").arg(&disk).status();
    assert_eq!(finished.code(), Some(1), "{}", finished.stderr);
    assert!(read > 10, "{read}");
}

#[test]
fn wrong_flags_are_refused_with_a_way_out() {
    for (arguments, part) in [
        (
            &["-m", "pcap", "-i", "nowhere0", "-w", "/tmp/never.pcapng"][..],
            "there is no interface nowhere0",
        ),
        (&["-m", "pcap", "-w", "tcp://127.0.0.1:1"], "a file for packets"),
        (&["-m", "pcap", "--snaplen", "10"], "64 to 262144"),
        (&["-m", "pcap", "tcp", "prt", "443"], "pcap-filter(7)"),
        (&["-w", "file"], "it belongs to -m pcap"),
        (&["-i", "lo"], "it belongs to -m pcap"),
        (&["tcp", "prt", "443"], "-m pcap takes all of pcap-filter(7)"),
    ] {
        if arguments.contains(&"nowhere0") && can_capture(&[]).is_none() {
            continue;
        }
        let output = Command::new(PROGRAM)
            .arg("tls")
            .args(arguments)
            .output()
            .expect("it runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && errors.contains(part),
            "{arguments:?}: {errors}"
        );
        assert!(!Path::new("/tmp/never.pcapng").exists());
    }
}
