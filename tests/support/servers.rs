//! TLS servers that nobody here wrote, on addresses of this machine, each ended when dropped.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::program::PATIENCE;

/// A key and a self-signed certificate for 127.0.0.1.
pub(crate) struct Certificate {
    pub(crate) key: PathBuf,
    pub(crate) certificate: PathBuf,
}

impl Certificate {
    pub(crate) fn create(folder: &Path) -> Self {
        let (key, certificate) = (folder.join("key.pem"), folder.join("certificate.pem"));
        let output = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ])
            .args([
                "-days",
                "2",
                "-subj",
                "/CN=127.0.0.1",
                "-addext",
                "subjectAltName=IP:127.0.0.1",
                "-keyout",
            ])
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output()
            .expect("openssl runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Self { key, certificate }
    }
}

/// A server process and the port it listens on.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
}

impl Server {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// nginx's one worker.
    pub(crate) fn worker_pid(&self) -> u32 {
        let pid = self.pid();
        let started = std::time::SystemTime::now();
        // nginx listens before it starts its worker.
        while started.elapsed().unwrap_or_default() < PATIENCE {
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            if let Ok(worker) = children.unwrap_or_default().trim().parse() {
                return worker;
            }
            std::thread::yield_now();
        }
        panic!("nginx has no worker, or several")
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.port)
    }

    /// Python's http.server over TLS (its `ssl` module uses SSL_read_ex and SSL_write_ex); serves `folder`.
    pub(crate) fn python(folder: &Path) -> Self {
        let certificate = Certificate::create(folder);
        let mut command = Command::new("/usr/bin/python3");
        command
            .args(["-u", "-c", PYTHON_SERVER])
            .args([&certificate.certificate, &certificate.key])
            .arg(folder);
        Self::announcing(command)
    }

    /// A program whose first line of output is its port.
    pub(crate) fn announcing(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let mut first_line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe"))
            .read_line(&mut first_line)
            .expect("the server prints its port");
        let port = first_line.trim().parse().expect("a port");
        Self { child, port }
    }

    /// A program that is run with `serve CERTIFICATE KEY`, and prints its port.
    pub(crate) fn serving(mut program: Command, certificate: &Certificate) -> Self {
        let files = [&certificate.certificate, &certificate.key];
        program.arg("serve").args(files);
        Self::announcing(program)
    }

    /// A program started to listen on `port`.
    pub(crate) fn listening(mut command: Command, port: u16) -> Self {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let server = Self { child, port };
        server.wait_until_listening();
        server
    }

    /// nginx with HTTP/2, one worker, serving `folder`.
    pub(crate) fn nginx(folder: &Path) -> Self {
        Self::nginx_with(folder, "")
    }

    /// The same with more directives for its server.
    pub(crate) fn nginx_with(folder: &Path, directives: &str) -> Self {
        Self::nginx_at(folder, &["127.0.0.1"], directives)
    }

    /// The same at these addresses, with one port.
    pub(crate) fn nginx_at(folder: &Path, addresses: &[&str], directives: &str) -> Self {
        let certificate = Certificate::create(folder);
        let port = free_port();
        let configuration = folder.join("nginx.conf");
        std::fs::write(
            &configuration,
            nginx_configuration(folder, &certificate, (addresses, port), directives),
        )
        .expect("a written file");
        let mut command = Command::new("nginx");
        command
            .arg("-c")
            .arg(&configuration)
            .args(["-e", "stderr", "-g", "daemon off;"]);
        Self::listening(command, port)
    }

    /// A NATS server, a Go program.
    pub(crate) fn nats(folder: &Path) -> Self {
        Self::nats_program(Path::new("nats-server"), folder)
    }

    /// Like [`Self::nats`], from another file.
    pub(crate) fn nats_program(program: &Path, folder: &Path) -> Self {
        let Certificate { key, certificate } = Certificate::create(folder);
        let port = free_port();
        let configuration = folder.join("nats.conf");
        let text = format!(
            "listen: 127.0.0.1:{port}\ntls {{ cert_file: \"{}\", key_file: \"{}\" }}\n",
            certificate.display(),
            key.display()
        );
        std::fs::write(&configuration, text).expect("a written file");
        let mut command = Command::new(program);
        command.arg("-c").arg(&configuration);
        Self::listening(command, port)
    }

    /// `tests/peers/exchange.c` with OpenSSL linked into it, with more options for the compiler.
    pub(crate) fn of_static_openssl(folder: &Path, options: &[&str]) -> Self {
        let certificate = Certificate::create(folder);
        let mut serve = Command::new(static_openssl(folder, options));
        serve
            .arg("serve")
            .args([&certificate.certificate, &certificate.key]);
        Self::announcing(serve)
    }

    /// Polls with connections: each attempt is answered or refused at once.
    fn wait_until_listening(&self) {
        let started = std::time::SystemTime::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(
                started.elapsed().unwrap_or_default() < PATIENCE,
                "the server does not listen"
            );
            std::thread::yield_now();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        // SAFETY: kill takes plain numbers; the child is not yet waited for, so the id is its own.
        #[expect(unsafe_code, reason = "no safe wrapper among the test's dependencies")]
        unsafe {
            // A termination request lets nginx end its workers; a kill would leave them behind.
            libc::kill(pid, libc::SIGTERM);
        }
        let _ = self.child.wait();
    }
}

/// A file of `tests/peers`.
pub(crate) fn peer(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/peers")
        .join(name)
}

/// Compiles `exchange.c` to a program named `static` that needs no library.
pub(crate) fn static_openssl(folder: &Path, options: &[&str]) -> PathBuf {
    let program = folder.join("static");
    let linked = [&["-static"], options, &["-lssl", "-lcrypto"]].concat();
    compile_exchange(&program, &linked);
    program
}

/// Compiles `exchange.c` to `program`, with more options for the compiler.
pub(crate) fn compile_exchange(program: &Path, options: &[&str]) {
    compile("exchange.c", program, options);
}

/// Compiles a file of `tests/peers`, with more options for the compiler.
pub(crate) fn compile(source: &str, program: &Path, options: &[&str]) {
    let output = Command::new("gcc")
        .arg("-O2")
        .arg("-o")
        .args([program, &peer(source)])
        .args(options)
        .output()
        .expect("gcc runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A cgroup that is removed when dropped; whoever was in it must have ended.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// Below the root of the unified hierarchy, wherever that is mounted.
    pub(crate) fn create(name: &str) -> Self {
        let mounts = std::fs::read_to_string("/proc/mounts").expect("mounts");
        let root = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .find(|fields| fields[2] == "cgroup2")
            .expect("cgroup2 is mounted");
        let path = Path::new(root[1]).join(name);
        std::fs::create_dir(&path).expect("a new cgroup");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Runs `program` in it.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("sh");
        let script = "echo $$ >\"$0\" && exec \"$@\"";
        command
            .args(["-c", script])
            .arg(self.0.join("cgroup.procs"))
            .arg(program);
        command
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port()
}

const PYTHON_SERVER: &str = r#"
import http.server, os, ssl, sys
class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
os.chdir(sys.argv[3])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

/// Connects to the NATS server on this port, continues over TLS and pings it.
pub(crate) fn ping_nats(port: u16) {
    let output = Command::new("/usr/bin/python3")
        .args(["-c", NATS_CLIENT, &port.to_string()])
        .output()
        .expect("python runs");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "PONG",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

const NATS_CLIENT: &str = r#"
import socket, ssl, sys
raw = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
while raw.recv(1) != b"\n":
    pass
connection = ssl._create_unverified_context().wrap_socket(raw)
connection.sendall(b'CONNECT {"verbose":false,"tls_required":true}\r\nPING\r\n')
answer = b""
while not answer.endswith(b"\n"):
    answer += connection.recv(100)
print(answer.decode().strip())
"#;

fn nginx_configuration(
    folder: &Path,
    certificate: &Certificate,
    (addresses, port): (&[&str], u16),
    directives: &str,
) -> String {
    let folder = folder.display();
    let listens: Vec<String> = addresses
        .iter()
        .map(|address| format!("listen {address}:{port} ssl http2;"))
        .collect();
    let listens = listens.join(" ");
    let (key, certificate) = (certificate.key.display(), certificate.certificate.display());
    format!(
        "worker_processes 1;
pid {folder}/nginx.pid;
user root;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  types {{ text/plain txt; application/json json; }}
  keepalive_requests 1000000;
  server {{
    {listens}
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    root {folder};
    {directives}
    location /echo/ {{ return 200 $request_uri; }}
    location /whoami/ {{ return 200 '$request_uri $remote_port'; }}
    gzip on; gzip_min_length 1; gzip_types text/plain application/json;
  }}
}}
"
    )
}
