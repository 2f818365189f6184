//! RabbitMQ: a server whose TLS, Erlang's own, cannot be captured. Its clients are, byte for byte, and it is named.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::can_capture;
use crate::support::flows::{flows, run, sha256};
use crate::support::program::{self, Running};
use crate::support::servers::{Certificate, Server, free_port, peer};

/// The program that the `rabbitmq-server` on the path runs as another user.
const RABBITMQ: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// The client's library.
const PIKA: &str = "/usr/lib/python3/dist-packages/pika";

/// RabbitMQ, and the directory of Erlang's nodes, which it would start and leave behind.
struct Broker {
    server: Server,
    _nodes: Server,
}

impl Broker {
    fn start(folder: &Path) -> Self {
        let nodes_port = free_port();
        let mut command = Command::new("epmd");
        command.args(["-address", "127.0.0.1", "-port", &nodes_port.to_string()]);
        let nodes = Server::listening(command, nodes_port);
        let Certificate { key, certificate } = Certificate::create(folder);
        let port = free_port();
        let file = folder.join("rabbitmq.conf");
        let text = format!(
            "listeners.tcp = none\nlisteners.ssl.1 = 127.0.0.1:{port}\nssl_options.cacertfile = {0}\n\
             ssl_options.certfile = {0}\nssl_options.keyfile = {1}\nssl_options.verify = verify_none\n",
            certificate.display(),
            key.display()
        );
        fs::write(&file, text).expect("a written file");
        let mut command = Command::new(RABBITMQ);
        command
            .env("HOME", folder)
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", nodes_port.to_string())
            .env("RABBITMQ_NODENAME", "test@localhost")
            .env("RABBITMQ_DIST_PORT", free_port().to_string())
            .env("RABBITMQ_CONFIG_FILE", file);
        for (name, file) in [
            ("CONF_ENV_FILE", "none"),
            ("MNESIA_BASE", "data"),
            ("LOG_BASE", "log"),
            ("ENABLED_PLUGINS_FILE", "plugins"),
            ("PID_FILE", "pid"),
        ] {
            command.env(format!("RABBITMQ_{name}"), folder.join(file));
        }
        let server = Server::listening(command, port);
        Self {
            server,
            _nodes: nodes,
        }
    }
}

/// Returns true if the text of some line has all these parts.
fn has_line(text: &str, parts: &[&str]) -> bool {
    let mut lines = text.lines();
    lines.any(|line| parts.iter().all(|part| line.contains(part)))
}

#[test]
fn a_client_of_rabbitmq_is_captured_and_the_server_is_named() {
    let Some(_alone) = can_capture(&[RABBITMQ, PIKA, "epmd", "/usr/bin/python3", "openssl"]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let broker = Broker::start(folder.path());
    let port = broker.server.port;
    let mut running = Running::start(&["tls", "--format", "jsonl"]);
    // The last is about what runs already.
    running.wait_for_all(&["capturing", "`ecapture doctor` lists them"]);
    let told = run(Command::new("/usr/bin/python3")
        .arg(peer("amqp.py"))
        .arg(port.to_string()));
    let finished = running.interrupt();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert!(
        has_line(&finished.stderr, &["beam.smp", "Erlang"]),
        "{}",
        finished.stderr
    );

    let told: Value = serde_json::from_slice(&told).expect("an object");
    let flows = flows(&finished.json(), port);
    assert_eq!(flows.len(), 2, "one connection");
    for ((sender, _), flow) in &flows {
        let (way, bytes, other) = if sender.ends_with(&format!(":{port}")) {
            ("read", &flow.read, &flow.written)
        } else {
            ("write", &flow.written, &flow.read)
        };
        assert!(other.is_empty(), "only the client is captured");
        assert_eq!(told[way][0], bytes.len(), "{way}");
        assert_eq!(told[way][1], sha256(bytes), "{way}");
    }

    let doctor = program::run(&["doctor"]);
    assert!(has_line(&doctor.text(), &["beam.smp"]), "{}", doctor.text());
}
