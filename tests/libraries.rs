//! One exchange with each version of OpenSSL and each of its relatives that can be had.

use std::process::Command;

use serde_json::Value;

use crate::coverage::{Exchange, capture, open_site};
use crate::support::can_capture;
use crate::support::capture::messages;
use crate::support::servers::{Certificate, Server, compile_exchange, free_port};

/// Where `tests/openssl-versions` keeps most of them.
const LIBRARIES: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/openssl");

struct Library {
    /// Names its folder and its program.
    name: &'static str,
    implementation: &'static str,
    /// The version in its libcrypto.
    version: Option<&'static str>,
    /// For the compiler.
    option: &'static str,
}

const fn library(
    name: &'static str,
    implementation: &'static str,
    version: Option<&'static str>,
    option: &'static str,
) -> Library {
    Library {
        name,
        implementation,
        version,
        option,
    }
}

const NEW: &str = "-DNEW";
const PLAIN: &str = "-DPLAIN";
const OLD: &str = "-DOLD";

const OPENSSL: [Library; 7] = [
    library("1.0.2n", "OpenSSL", Some("1.0.2n"), OLD),
    library("1.1.1w", "OpenSSL", Some("1.1.1w"), NEW),
    library("3.0.13", "OpenSSL", Some("3.0.13"), NEW),
    library("3.2.1", "OpenSSL", Some("3.3.1"), NEW),
    library("3.3.1", "OpenSSL", Some("3.3.1"), NEW),
    library("3.5.4", "OpenSSL", Some("3.5.4"), NEW),
    library("4.0.3", "OpenSSL", Some("4.0.3"), NEW),
];

/// BoringSSL as Android has it, from a package.
const RELATIVES: [Library; 3] = [
    library("libressl-2.0", "LibreSSL", Some("2.0"), OLD),
    library("aws-lc-5.12.0", "AWS-LC", Some("5.12.0"), NEW),
    library("/usr/lib/x86_64-linux-gnu/android", "BoringSSL", None, PLAIN),
];

impl Library {
    fn folder(&self) -> String {
        match self.name {
            path if path.starts_with('/') => path.to_owned(),
            name => format!("{LIBRARIES}/{name}"),
        }
    }

    /// The library's file, whatever its number.
    fn file(&self, stem: &str) -> String {
        let plain = format!("{}/{stem}.so", self.folder());
        if std::path::Path::new(&plain).exists() {
            plain
        } else {
            format!("{plain}.0")
        }
    }

    fn exchange(&self, certificate: &Certificate) -> Exchange {
        let comm = self.name.rsplit('/').next().unwrap_or_default();
        let program = certificate.key.with_file_name(comm);
        let found = format!(
            "-Wl,--allow-shlib-undefined,--disable-new-dtags,-rpath,{}",
            self.folder()
        );
        let files = [self.file("libssl"), self.file("libcrypto")];
        compile_exchange(&program, &[self.option, &files[0], &files[1], &found]);
        Exchange::of_one(comm, || Command::new(&program), certificate).twice()
    }
}

#[test]
fn every_openssl_since_1_0_2_is_captured_on_both_sides() {
    captured_on_both_sides(&OPENSSL);
}

#[test]
fn relatives_of_openssl_are_captured_on_both_sides() {
    captured_on_both_sides(&RELATIVES);
}

fn captured_on_both_sides(libraries: &[Library]) {
    let files: Vec<_> = libraries.iter().map(|library| library.file("libssl")).collect();
    let mut programs = vec!["openssl", "gcc"];
    programs.extend(files.iter().map(String::as_str));
    let Some(_alone) = can_capture(&programs) else {
        return;
    };
    let folder = open_site();
    let certificate = Certificate::create(folder.path());
    let mut exchanges: Vec<_> = libraries
        .iter()
        .map(|library| library.exchange(&certificate))
        .collect();
    let survey = crate::support::program::run(&["doctor", "--format", "jsonl"]).json();
    for (exchange, library) in exchanges.iter().zip(libraries) {
        let line = survey
            .iter()
            .find(|line| line["pid"] == exchange.server.pid())
            .expect("a line of this process");
        assert_eq!(
            (&line["tls"], &line["version"], &line["obstacle"]),
            (
                &library.implementation.into(),
                &library.version.into(),
                &Value::Null
            )
        );
    }
    let captured = capture(&mut exchanges);
    for exchange in exchanges {
        exchange.check(&captured);
    }
}

/// The text that BoringSSL's server prints about the connection.
const TOLD: &str = "  Version: TLSv1.3
  Resumed session: no
  Cipher: TLS_AES_128_GCM_SHA256
  ECDHE curve: X25519
  Secure renegotiation: yes
  Extended master secret: yes
  Next protocol negotiated: \n  ALPN protocol: \n  Early data: no
  Encrypted ClientHello: no
";

#[test]
fn boringssl_s_own_tool_is_captured_on_both_sides() {
    let Some(_alone) = can_capture(&["openssl", "bssl-tool"]) else {
        return;
    };
    let folder = open_site();
    let certificate = Certificate::create(folder.path());
    let port = free_port();
    let mut server = Command::new("bssl-tool");
    server.args(["server", "-www", "-loop", "-accept", &port.to_string()]);
    server.arg("-cert").arg(&certificate.certificate);
    server.arg("-key").arg(&certificate.key);
    let mut client = Command::new("bssl-tool");
    client.args(["client", "-connect", &format!("127.0.0.1:{port}")]);
    let server = Server::listening(server, port);
    let mut exchange = Exchange::new((server, "bssl-tool"), (client, "bssl-tool")).asking_by_input();
    exchange.expected = vec![("/hello.json", TOLD.to_owned())];
    let mut exchanges = [exchange];
    let lines = capture(&mut exchanges).lines_of(&exchanges[0]);
    let told = |kind, direction| match &messages(&lines, kind, "bssl-tool", direction)[..] {
        [message] => {
            assert_eq!(message["addr_source"], "exact", "{message}");
            let content = if kind == "raw" { "data" } else { "body" };
            (message["path"].clone(), message[content]["text"].clone())
        }
        _ => panic!("not one {kind}, {direction}: {lines:#?}"),
    };
    assert_eq!(told("http1.request", "write").0, "/hello.json");
    assert_eq!(told("http1.response", "write").1, TOLD);
    assert_eq!(told("http1.response", "read").1, TOLD);
    // It answers as soon as it has read this much.
    assert_eq!(told("raw", "read").1, "GET ");
    assert_eq!(lines.len(), 4, "nothing twice: {lines:#?}");
}
