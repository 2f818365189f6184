//! One exchange with each kind of program that TLS is captured of: exact on both sides, nothing twice.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::apache::Processing;
use crate::support::can_capture;
use crate::support::capture::{messages, site, with_port};
use crate::support::program::{PATIENCE, Running};
use crate::support::servers::{
    Certificate, Cgroup, Server, compile_exchange, free_port, peer, static_openssl,
};

const HELLO: &str = "{\"hello\":\"world\"}\n";

/// A client that asks a server, and the messages expected of both.
pub(crate) struct Exchange {
    pub(crate) server: Server,
    pub(crate) server_comm: &'static str,
    pub(crate) client: Command,
    pub(crate) client_comm: &'static str,
    /// The standard input of the client.
    input: String,
    /// Path of each request and body of its response.
    pub(crate) expected: Vec<(&'static str, String)>,
    pub(crate) addresses: &'static str,
}

impl Exchange {
    /// Both sides of one program, which is run with `serve CERTIFICATE KEY` and with `get PORT PATH`.
    pub(crate) fn of_one(
        comm: &'static str,
        program: impl Fn() -> Command,
        certificate: &Certificate,
    ) -> Self {
        let server = Server::serving(program(), certificate);
        let mut client = program();
        client.args(["get", &server.port.to_string(), "/hello.json"]);
        Self::new((server, comm), (client, comm))
    }

    pub(crate) fn new(server: (Server, &'static str), client: (Command, &'static str)) -> Self {
        Self {
            server: server.0,
            server_comm: server.1,
            client: client.0,
            client_comm: client.1,
            input: String::new(),
            expected: vec![("/hello.json", HELLO.to_owned())],
            addresses: "exact",
        }
    }

    /// `exchange.c` asks twice.
    pub(crate) fn twice(mut self) -> Self {
        self.expected.push(self.expected[0].clone());
        self
    }

    /// The client, which sends its input as it is, asks for `/hello.json`.
    pub(crate) fn asking_by_input(self) -> Self {
        Self {
            input: "GET /hello.json HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".to_owned(),
            ..self
        }
    }

    fn run(&mut self) {
        let mut child = self
            .client
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the client starts");
        // Its input stays open: some clients end with it.
        let mut input = child.stdin.take().expect("a pipe");
        input
            .write_all(self.input.as_bytes())
            .expect("it reads its input");
        let output = child.wait_with_output().expect("the client ends");
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{}: {printed}{}",
            self.client_comm,
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Each side has sent and received each message once, over the same two addresses.
    pub(crate) fn check(&self, captured: &Captured) {
        let lines = captured.lines_of(self);
        let sides = [
            (self.client_comm, "write", "read"),
            (self.server_comm, "read", "write"),
        ];
        for (comm, request_direction, response_direction) in sides {
            let context = format!("{comm} {request_direction}: {lines:#?}\n{}", captured.log);
            let mut requests = messages(&lines, "http1.request", comm, request_direction);
            let mut responses = messages(&lines, "http1.response", comm, response_direction);
            // Those of one connection are in order; which connection's come first depends on the batches.
            requests.sort_by_key(|request| request["src"].as_str());
            responses.sort_by_key(|response| response["dst"].as_str());
            let mut seen: Vec<_> = requests
                .iter()
                .zip(&responses)
                .map(|(request, response)| exchanged(request, response))
                .collect();
            let mut expected = self.expected.clone();
            seen.sort();
            expected.sort();
            assert_eq!(seen, expected, "{context}");
            assert_eq!(requests.len(), responses.len(), "{context}");
            for (request, response) in requests.into_iter().zip(responses) {
                self.check_addresses(request, response);
            }
        }
        let kinds: Vec<_> = lines
            .iter()
            .map(|line| (&line["kind"], &line["direction"], &line["pairing"]))
            .collect();
        assert_eq!(
            lines.len(),
            4 * self.expected.len(),
            "nothing twice: {kinds:?} {lines:#?}"
        );
        captured.check_heads(self, &lines);
    }

    fn check_addresses(&self, request: &Value, response: &Value) {
        let server = format!("127.0.0.1:{}", self.server.port);
        assert_eq!(request["dst"], server.as_str(), "{request}");
        assert_eq!(response["src"], server.as_str(), "{response}");
        assert_eq!(request["src"], response["dst"], "one client socket");
        for message in [request, response] {
            assert_eq!(message["addr_source"], self.addresses, "{message}");
            assert_eq!(message["joined_late"], Value::Null, "{message}");
        }
    }
}

/// Path and body of a request that was answered with success.
fn exchanged<'a>(request: &'a Value, response: &Value) -> (&'a str, String) {
    assert_eq!(
        (&request["method"], &response["status"]),
        (&"GET".into(), &200.into())
    );
    assert_eq!(response["body"]["complete"], true, "{response}");
    let body = response["body"]["text"].as_str().unwrap_or_default();
    (request["path"].as_str().unwrap_or_default(), body.to_owned())
}

/// The output of a capture of the whole host.
pub(crate) struct Captured {
    messages: Vec<u8>,
    /// The same of a capture at `--privacy metadata` beside it, for which the kernel leaves bodies out.
    heads: Vec<u8>,
    log: String,
}

/// What of a message is shown without its body: the query of its path is not.
fn head(message: &Value) -> Vec<String> {
    let path = message["path"].as_str().unwrap_or_default();
    let body = &message["body"];
    [
        "kind",
        "comm",
        "direction",
        "src",
        "dst",
        "method",
        "status",
        "pairing",
    ]
    .iter()
    .map(|field| &message[*field])
    .chain([&body["wire_len"], &body["complete"]])
    .map(Value::to_string)
    .chain(path.split('?').next().map(str::to_owned))
    .collect()
}

impl Captured {
    /// Messages over connections with the exchange's server.
    pub(crate) fn lines_of(&self, exchange: &Exchange) -> Vec<Value> {
        lines_of(exchange, &self.messages)
    }

    /// Without bodies the messages are the same, and complete.
    fn check_heads(&self, exchange: &Exchange, lines: &[Value]) {
        let heads = lines_of(exchange, &self.heads);
        let [mut expected, mut observed] =
            [lines, &heads].map(|lines| lines.iter().map(head).collect::<Vec<_>>());
        expected.sort();
        observed.sort();
        assert_eq!(observed, expected, "{}: {heads:#?}", self.log);
        for message in &heads {
            let text = message["body"]["text"].as_str();
            assert_eq!(text.unwrap_or_default(), "", "{message}");
        }
    }
}

/// The messages over connections with the exchange's server, of JSON Lines that may still be written.
fn lines_of(exchange: &Exchange, messages: &[u8]) -> Vec<Value> {
    let whole = messages.iter().rposition(|&byte| byte == b'\n').unwrap_or(0);
    let lines = messages[..whole].split(|&byte| byte == b'\n');
    let end = format!(":{}", exchange.server.port);
    let of_server = |line: &Value| {
        [&line["src"], &line["dst"]]
            .iter()
            .any(|side| side.as_str().is_some_and(|side| side.ends_with(&end)))
    };
    lines
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("a JSON line"))
        .filter(of_server)
        .collect()
}

/// Captures the whole host while each client runs once.
pub(crate) fn capture(exchanges: &mut [Exchange]) -> Captured {
    let folder = tempfile::tempdir().expect("a folder");
    let paths = ["messages", "heads"].map(|name| folder.path().join(name).display().to_string());
    let runs = paths.each_ref().map(|path| {
        let level = if path.ends_with("heads") {
            "metadata"
        } else {
            "full"
        };
        let flags = ["--format", "jsonl", "--whole", "--privacy", level];
        let mut running = Running::start(&[&["tls", "--eventaddr", path], &flags[..]].concat());
        running.wait_until_capturing();
        running
    });
    let captured = |log| {
        let [messages, heads] = paths
            .each_ref()
            .map(|path| fs::read(path).expect("a readable file"));
        Captured { messages, heads, log }
    };
    for exchange in exchanges {
        exchange.run();
        // A client may end before its server has returned from its last call.
        let started = std::time::SystemTime::now();
        while captured(String::new()).lines_of(exchange).len() < 4 * exchange.expected.len()
            && started.elapsed().unwrap_or_default() < PATIENCE
        {
            std::thread::yield_now();
        }
    }
    let logs = runs.map(|running| running.interrupt().stderr);
    captured(logs.concat())
}

/// A site that servers without any rights can read.
pub(crate) fn open_site() -> tempfile::TempDir {
    let folder = site();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("a folder of ours");
    folder
}

#[test]
fn packaged_programs_are_captured_on_both_sides() {
    let programs = [
        "openssl",
        "/usr/bin/python3",
        "wget",
        "node",
        "git",
        "haproxy",
        "gnutls-cli",
        "apache2",
        "curl",
    ];
    let Some(_alone) = can_capture(&programs) else {
        return;
    };
    let folder = open_site();
    let certificate = Certificate::create(folder.path());
    let mut exchanges = [
        git_and_haproxy(folder.path(), &certificate),
        gnutls_and_haproxy(folder.path(), &certificate),
        openssl(folder.path(), &certificate),
        node(&certificate),
        wget_and_python(folder.path()),
        python_and_haproxy(folder.path(), &certificate),
        curl_and_apache(folder.path(), &certificate, Processing::Prefork),
        curl_and_apache(folder.path(), &certificate, Processing::Event),
    ];
    let captured = capture(&mut exchanges);
    for exchange in exchanges {
        exchange.check(&captured);
    }
}

/// git speaks through libcurl and GnuTLS.
fn git_and_haproxy(folder: &Path, certificate: &Certificate) -> Exchange {
    let repository = folder.join("repository.git");
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=test", "-c", "user.email=test@localhost"]);
        command.args(["-c", "http.sslVerify=false", "-c", "http.proxy="]);
        command.arg("--git-dir").arg(&repository).args(arguments);
        command
    };
    let create = "init --quiet --bare --initial-branch=main";
    let tree = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
    let steps = [create, "hash-object -wt tree /dev/null", "update-server-info"];
    for step in steps {
        run(&mut git(&step.split(' ').collect::<Vec<_>>()));
    }
    let commit = run(&mut git(&["commit-tree", "-m", "first", tree]));
    run(&mut git(&["update-ref", "refs/heads/main", commit.trim()]));
    run(&mut git(&["update-server-info"]));
    let server = haproxy(folder, certificate);
    let client = git(&["ls-remote", &server.url("/repository.git")]);
    let mut exchange = Exchange::new((server, "haproxy"), (client, "git-remote-http"));
    exchange.expected = vec![
        (
            "/repository.git/info/refs?service=git-upload-pack",
            format!("{}\trefs/heads/main\n", commit.trim()),
        ),
        ("/repository.git/HEAD", "ref: refs/heads/main\n".to_owned()),
    ];
    exchange
}

fn gnutls_and_haproxy(folder: &Path, certificate: &Certificate) -> Exchange {
    let server = haproxy(folder, certificate);
    let mut client = Command::new("gnutls-cli");
    client.args(["--insecure", "--port", &server.port.to_string(), "127.0.0.1"]);
    Exchange::new((server, "haproxy"), (client, "gnutls-cli")).asking_by_input()
}

fn python_and_haproxy(folder: &Path, certificate: &Certificate) -> Exchange {
    let server = haproxy(folder, certificate);
    let script = format!(
        "import ssl, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({{}}),
    urllib.request.HTTPSHandler(context=ssl._create_unverified_context()))
print(opener.open('{}').read())",
        server.url("/hello.json")
    );
    let mut client = Command::new("/usr/bin/python3");
    client.args(["-c", &script]);
    Exchange::new((server, "haproxy"), (client, "python3"))
}

fn curl_and_apache(folder: &Path, certificate: &Certificate, processing: Processing) -> Exchange {
    let server = Server::apache(folder, certificate, processing);
    let mut client = Command::new("curl");
    client.args(["-sk", "--noproxy", "*", &server.url("/hello.json")]);
    Exchange::new((server, "apache2"), (client, "curl"))
}

fn haproxy(folder: &Path, certificate: &Certificate) -> Server {
    let port = free_port();
    let both = folder.join("both.pem");
    let shown = folder.display();
    let read = |path| fs::read_to_string(path).expect("a readable file");
    fs::write(&both, read(&certificate.certificate) + &read(&certificate.key)).expect("a written file");
    let configuration = format!(
        "defaults
  mode http
  timeout client 30s
frontend test
  bind 127.0.0.1:{port} ssl crt {}
  http-request return status 200 content-type text/plain file {shown}/repository.git/info/refs if {{ path_end /refs }}
  http-request return status 200 content-type text/plain file {shown}/repository.git/HEAD if {{ path_end /HEAD }}
  http-request return status 200 content-type application/json file {shown}/hello.json
",
        both.display(),
    );
    let file = folder.join(format!("haproxy-{port}.cfg"));
    fs::write(&file, configuration).expect("a written file");
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(file);
    Server::listening(command, port)
}

fn openssl(folder: &Path, certificate: &Certificate) -> Exchange {
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let mut server = Command::new("openssl");
    server.args(["s_server", "-WWW", "-quiet", "-accept", &address]);
    server.arg("-cert").arg(&certificate.certificate);
    server.arg("-key").arg(&certificate.key).current_dir(folder);
    let mut client = Command::new("openssl");
    client.args(["s_client", "-quiet", "-connect", &address]);
    let server = Server::listening(server, port);
    Exchange::new((server, "openssl"), (client, "openssl")).asking_by_input()
}

/// node's TLS never sees the socket (memory BIO).
fn node(certificate: &Certificate) -> Exchange {
    let program = || {
        let mut command = Command::new("node");
        command.arg(peer("https.js"));
        command
    };
    Exchange {
        addresses: "heuristic",
        ..Exchange::of_one("node", program, certificate)
    }
}

fn wget_and_python(folder: &Path) -> Exchange {
    let server = Server::python(folder);
    let mut client = Command::new("wget");
    client.args([
        "-qO-",
        "--no-check-certificate",
        "--no-proxy",
        &server.url("/hello.json"),
    ]);
    Exchange::new((server, "python3"), (client, "wget"))
}

/// The output of the command; it must succeed.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn programs_that_carry_their_own_tls_are_captured_on_both_sides() {
    let Some(_alone) = can_capture(&["openssl", "gcc", "go"]) else {
        return;
    };
    let folder = open_site();
    let certificate = Certificate::create(folder.path());
    let program = static_openssl(folder.path(), &[]);
    let mut exchanges = vec![Exchange::of_one("static", || Command::new(&program), &certificate).twice()];
    // As distributions build them: the system's linker puts the function table among other data.
    let linked = "-ldflags=-s -w -linkmode=external";
    let builds: [(_, &[&str]); 5] = [
        ("go-plain", &[]),
        ("go-stripped", &["-ldflags=-s -w"]),
        ("go-pie", &["-buildmode=pie"]),
        ("go-pie-stripped", &["-buildmode=pie", "-ldflags=-s -w"]),
        ("go-pie-linked", &["-buildmode=pie", linked]),
    ];
    for (name, options) in builds {
        let program = folder.path().join(name);
        build_go("exchange.go", &program, options);
        exchanges.push(Exchange::of_one(name, || Command::new(&program), &certificate));
    }
    let captured = capture(&mut exchanges);
    for exchange in exchanges {
        exchange.check(&captured);
    }
}

fn build_go(source: &str, program: &Path, options: &[&str]) {
    let is_linked_by_gcc = options.iter().any(|option| option.contains("external"));
    run(Command::new("go")
        .env("CGO_ENABLED", if is_linked_by_gcc { "1" } else { "0" })
        .env("GOTOOLCHAIN", "local")
        .arg("build")
        .args(options)
        .arg("-o")
        .args([program, &peer(source)]));
}

/// Go programs that put a type of their own around the connection, as those do that set a `DialContext`: both the
/// server and the client.
#[test]
fn wrapped_connections_of_go_have_their_addresses() {
    let Some(_alone) = can_capture(&["openssl", "go"]) else {
        return;
    };
    let folder = open_site();
    let certificate = Certificate::create(folder.path());
    let client = folder.path().join("wrapped");
    build_go("wrapped.go", &client, &["-ldflags=-s -w"]);
    let server = folder.path().join("serving");
    // One file, which has its probes because the server runs.
    fs::hard_link(&client, &server).expect("a link");
    let older = &["--inject", "system-calls"][..];
    for (kind, source, older) in [
        ("embedded", "exact", &[][..]),
        ("pointer", "exact", &[]),
        ("hidden", "heuristic", &[]),
        ("hidden", "heuristic", older),
    ] {
        let mut serve = Command::new(&server);
        serve
            .args([kind, "serve"])
            .args([&certificate.certificate, &certificate.key]);
        let server = Server::announcing(serve);
        let port = server.port;
        let mut running = Running::start(&[&["tls", "--format", "jsonl"], older].concat());
        running.wait_until_capturing();
        run(Command::new(&client).args([kind, &port.to_string()]));
        let finished = running.interrupt();
        assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
        let lines = with_port(&finished, port);
        let clients = addresses_of(&lines, "wrapped", "write", port);
        assert_eq!(addresses_of(&lines, "serving", "read", port), clients, "{kind}");
        for line in &lines {
            assert_eq!(line["addr_source"], source, "{kind}: {line}");
        }
        let first = finished
            .json()
            .into_iter()
            .filter(|line| line["path"] == "/first");
        assert_eq!(first.count(), 2, "{kind}");
    }
}

/// The clients' addresses of the two requests to `port` that `comm` sent or received.
fn addresses_of(lines: &[Value], comm: &str, direction: &str, port: u16) -> Vec<String> {
    let requests = messages(lines, "http1.request", comm, direction);
    let paths: Vec<_> = requests.iter().map(|request| request["path"].as_str()).collect();
    assert_eq!(paths, [Some("/first"), Some("/second")], "{comm}: {lines:#?}");
    for request in &requests {
        assert_eq!(request["dst"], format!("127.0.0.1:{port}"), "{request}");
    }
    assert_ne!(requests[0]["uuid"], requests[1]["uuid"], "{comm}");
    assert_ne!(requests[0]["src"], requests[1]["src"], "{comm}");
    let clients = requests.iter().filter_map(|request| request["src"].as_str());
    clients.map(str::to_owned).collect()
}

#[test]
fn a_process_in_namespaces_of_its_own_is_captured_with_its_addresses() {
    let Some(_alone) = can_capture(&["openssl", "gcc", "unshare", "nsenter", "ip"]) else {
        return;
    };
    let folder = open_site();
    let certificate = Certificate::create(folder.path());
    let program = folder.path().join("exchange");
    compile_exchange(&program, &["-lssl", "-lcrypto"]);
    let own = folder.path().join("own");
    fs::create_dir(&own).expect("a new folder");
    // What is mounted there nobody else sees.
    let script = "ip link set lo up && mount -t tmpfs none \"$1\" &&
        cp -L $(ldd \"$2\" | grep -o '/.*/lib\\(ssl\\|crypto\\)[^ ]*') \"$1\" &&
        LD_LIBRARY_PATH=$1 exec \"$2\" serve \"$3\" \"$4\"";
    let mut serve = Command::new("unshare");
    serve.args(["--mount", "--net", "sh", "-c", script, "sh"]);
    serve.args([&own, &program, &certificate.certificate, &certificate.key]);
    let server = Server::announcing(serve);
    let mut client = Command::new("nsenter");
    client
        .args(["--mount", "--net", "--target", &server.pid().to_string(), "env"])
        .arg(format!("LD_LIBRARY_PATH={}", own.display()))
        .arg(&program)
        .args(["get", &server.port.to_string(), "/hello.json"]);
    let mut exchanges = [Exchange::new((server, "exchange"), (client, "exchange")).twice()];
    let captured = capture(&mut exchanges);
    assert_eq!(fs::read_dir(&own).expect("a folder").count(), 0, "it is private");
    exchanges[0].check(&captured);
}

#[test]
fn a_process_in_a_container_is_shown_with_its_id() {
    let Some(_alone) = can_capture(&["openssl", "curl", "/usr/bin/python3"]) else {
        return;
    };
    let folder = open_site();
    let id = format!("{:064x}", std::process::id());
    let cgroup = Cgroup::create(&format!("docker-{id}.scope"));
    let server = Server::python(folder.path());
    let mut client = cgroup.command("curl");
    client.args(["-sk", &server.url("/hello.json")]);
    let mut exchanges = [Exchange::new((server, "python3"), (client, "curl"))];
    let captured = capture(&mut exchanges);
    exchanges[0].check(&captured);
    for line in captured.lines_of(&exchanges[0]) {
        let expected = if line["comm"] == "curl" {
            id.as_str().into()
        } else {
            Value::Null
        };
        assert_eq!(line["container_id"], expected, "{line}");
    }
}
