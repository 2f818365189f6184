//! Protocols that are not decoded, spoken by packaged servers and clients: nothing is made up, and every
//! byte is shown, in both directions. Both ends are captured, so what one end wrote is compared with what
//! the other end read, each by its own TLS library.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::can_capture;
use crate::support::flows::{capture, run, sha256, went};
use crate::support::servers::{Certificate, Server, free_port, peer};

#[test]
fn random_bytes() {
    let Some(_alone) = can_capture(&["openssl", "/usr/bin/python3"]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let certificate = Certificate::create(folder.path());
    let port = free_port();
    let mut told = Vec::new();
    let flows = capture(port, || {
        told = run(Command::new("/usr/bin/python3")
            .arg(peer("random_bytes.py"))
            .args([&certificate.certificate, &certificate.key])
            .arg(port.to_string()));
    });
    let told: BTreeMap<String, Value> = serde_json::from_slice(&told).expect("an object");
    assert_eq!(told.len(), 2);
    for (client, told) in told {
        let (client, server) = (format!("127.0.0.1:{client}"), format!("127.0.0.1:{port}"));
        for (ends, what) in [
            ((client.clone(), server.clone()), "write"),
            ((server, client), "read"),
        ] {
            let sent = &flows[&ends].written;
            assert_eq!(told[what][0], sent.len(), "{ends:?}");
            assert_eq!(told[what][1], sha256(sent), "{ends:?}");
        }
    }
}

#[test]
fn mqtt() {
    let Some(_alone) = can_capture(&["mosquitto", "mosquitto_rr", "mosquitto_pub", "openssl"]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let certificate = Certificate::create(folder.path());
    let port = free_port();
    let configuration = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\ncertfile {}\nkeyfile {}\n",
        certificate.certificate.display(),
        certificate.key.display()
    );
    let path = folder.path().join("mosquitto.conf");
    fs::write(&path, configuration).expect("a written file");
    let mut command = Command::new("mosquitto");
    command.arg("-c").arg(&path);
    let _server = Server::listening(command, port);
    let client = |program: &str, version: &str| {
        let mut client = Command::new(program);
        client
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &port.to_string(),
                "-V",
                version,
                "--cafile",
            ])
            .arg(&certificate.certificate);
        client
    };
    let flows = capture(port, || {
        for version in ["mqttv311", "mqttv5"] {
            // What it publishes it is sent, being subscribed to it, and so it ends: SUBSCRIBE, PUBLISH of quality 2.
            let mut whole = client("mosquitto_rr", version);
            whole.args([
                "-t",
                "a/b",
                "-e",
                "a/b",
                "-q",
                "2",
                "-m",
                &format!("round {version}"),
                "-W",
                "20",
            ]);
            run(&mut whole);
            let mut publish = client("mosquitto_pub", version);
            publish.args(["-t", "a/b", "-q", "1", "-m", &"x".repeat(20_000)]);
            run(&mut publish);
        }
    });
    for version in ["mqttv311", "mqttv5"] {
        let message = format!("round {version}");
        assert!(went(&flows, true, port, message.as_bytes()), "{version}");
        assert!(went(&flows, false, port, message.as_bytes()), "{version}");
    }
    assert!(went(&flows, true, port, "x".repeat(20_000).as_bytes()));
}

#[test]
fn redis() {
    let Some(_alone) = can_capture(&["redis-server", "redis-cli", "openssl"]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let certificate = Certificate::create(folder.path());
    let port = free_port();
    let mut command = Command::new("redis-server");
    command
        .args([
            "--port",
            "0",
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--tls-auth-clients",
            "no",
        ])
        .args(["--tls-port", &port.to_string(), "--tls-cert-file"])
        .arg(&certificate.certificate)
        .arg("--tls-key-file")
        .arg(&certificate.key)
        .arg("--dir")
        .arg(folder.path());
    let _server = Server::listening(command, port);
    let client = |arguments: &[&str]| {
        let mut client = Command::new("redis-cli");
        client.args(["--tls", "--insecure", "-h", "127.0.0.1", "-p", &port.to_string()]);
        run(client.args(arguments))
    };
    let flows = capture(port, || {
        client(&["SET", "key", "GET / HTTP/1.1"]);
        assert_eq!(client(&["GET", "key"]), b"GET / HTTP/1.1\n");
        client(&[
            "EVAL",
            "return string.rep(string.char(0, 255, 1, 254), 10000)",
            "0",
        ]);
        client(&["INFO"]);
    });
    assert!(went(&flows, true, port, b"$14\r\nGET / HTTP/1.1\r\n"));
    assert!(went(&flows, false, port, &[0, 255, 1, 254].repeat(10_000)));
}

#[test]
fn ldap() {
    let Some(_alone) = can_capture(&["slapd", "ldapsearch", "ldapadd", "openssl"]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let certificate = Certificate::create(folder.path());
    let data = folder.path().join("data");
    fs::create_dir(&data).expect("a new folder");
    let configuration = format!(
        "include /etc/ldap/schema/core.schema\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\n\
         TLSCertificateFile {}\nTLSCertificateKeyFile {}\n\
         database mdb\nsuffix \"dc=example\"\nrootdn \"cn=root,dc=example\"\nrootpw secret\ndirectory {}\n",
        certificate.certificate.display(),
        certificate.key.display(),
        data.display()
    );
    let path = folder.path().join("slapd.conf");
    fs::write(&path, configuration).expect("a written file");
    let port = free_port();
    let address = format!("ldaps://127.0.0.1:{port}");
    let mut command = Command::new("slapd");
    command.args(["-d", "0", "-h", &address, "-f"]).arg(&path);
    let _server = Server::listening(command, port);
    let entries: String = (0..200).fold(
        "dn: dc=example\nobjectClass: dcObject\nobjectClass: organization\no: example\ndc: example\n"
            .to_owned(),
        |entries, number| {
            entries
                + &format!(
                    "\ndn: ou=unit {number},dc=example\nobjectClass: organizationalUnit\nou: unit {number}\n"
                )
        },
    );
    let ldif = folder.path().join("entries.ldif");
    fs::write(&ldif, entries).expect("a written file");
    let client = |program: &str, arguments: &[&str]| {
        let mut client = Command::new(program);
        client.env("LDAPTLS_REQCERT", "never").args([
            "-x",
            "-H",
            &address,
            "-D",
            "cn=root,dc=example",
            "-w",
            "secret",
        ]);
        run(client.args(arguments))
    };
    let flows = capture(port, || {
        client("ldapadd", &["-f", ldif.to_str().expect("a UTF-8 path")]);
        client("ldapsearch", &["-b", "dc=example", "(objectClass=*)"]);
    });
    assert!(went(&flows, true, port, b"cn=root,dc=example"));
    assert!(went(&flows, false, port, b"ou=unit 199,dc=example"));
}

/// Runs a command as `user`, as root must not.
fn as_user(user: &str, program: &Path) -> Command {
    let mut command = Command::new("runuser");
    command.args(["-u", user, "--"]).arg(program);
    command
}

#[test]
fn postgresql() {
    let programs = postgresql_programs();
    let initdb = programs.join("initdb");
    let Some(_alone) = can_capture(&["psql", "openssl", "runuser", &initdb.to_string_lossy()]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let certificate = Certificate::create(folder.path());
    let port = free_port();
    run(Command::new("chown").args(["-R", "postgres"]).arg(folder.path()));
    let data = folder.path().join("data");
    run(as_user("postgres", &initdb)
        .args(["-N", "-A", "trust", "-E", "UTF8", "--locale=C", "-D"])
        .arg(&data));
    let mut command = as_user("postgres", &programs.join("postgres"));
    command.arg("-D").arg(&data).arg("-k").arg(folder.path());
    command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-c", "ssl=on"]);
    for (name, file) in [
        ("ssl_cert_file", &certificate.certificate),
        ("ssl_key_file", &certificate.key),
    ] {
        command.arg("-c").arg(format!("{name}={}", file.display()));
    }
    let _server = Server::listening(command, port);
    let address = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres sslmode=require");
    let flows = capture(port, || {
        let query = "create table t(a int, b bytea); insert into t select i, sha256(i::text::bytea) from \
                     generate_series(1, 2000) i; select * from t; select 'HTTP/1.1 200 OK'";
        run(Command::new("psql").args(["-At", &address, "-c", query]));
        run(Command::new("psql").args(["-At", &address, "-c", "copy t to stdout (format binary)"]));
    });
    assert!(went(&flows, true, port, b"generate_series(1, 2000)"));
    assert!(went(&flows, false, port, b"PGCOPY\n\xFF\r\n\0"));
}

/// Where Debian keeps them, by version.
fn postgresql_programs() -> PathBuf {
    let base = Path::new("/usr/lib/postgresql");
    let versions = fs::read_dir(base).into_iter().flatten();
    let mut folders = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    let found = folders.find(|folder| folder.join("initdb").exists());
    found.unwrap_or_else(|| base.join("bin"))
}

#[test]
fn mysql() {
    let Some(_alone) = can_capture(&["mariadbd", "mariadb-install-db", "mariadb", "openssl"]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let certificate = Certificate::create(folder.path());
    let data = folder.path().join("data");
    let socket = folder.path().join("socket");
    let port = free_port();
    run(Command::new("mariadb-install-db")
        .args([
            "--no-defaults",
            "--user=root",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ])
        .arg(format!("--datadir={}", data.display())));
    let mut command = Command::new("mariadbd");
    command
        .args(["--no-defaults", "--user=root", "--bind-address=127.0.0.1"])
        .arg(format!("--port={port}"))
        .arg(format!("--datadir={}", data.display()))
        .arg(format!("--socket={}", socket.display()))
        .arg(format!("--ssl-cert={}", certificate.certificate.display()))
        .arg(format!("--ssl-key={}", certificate.key.display()));
    let _server = Server::listening(command, port);
    let port_text = port.to_string();
    let flows = capture(port, || {
        let query = "create database d; use d; create table t(a int primary key auto_increment, b blob); \
                     insert into t(b) select unhex(sha2(seq, 256)) from seq_1_to_2000; select hex(b) from t; \
                     select b from t; select 'GET / HTTP/1.1'";
        run(Command::new("mariadb").args([
            "--no-defaults",
            "-h",
            "127.0.0.1",
            "-P",
            &port_text,
            "-u",
            "root",
            "--ssl",
            "-e",
            query,
        ]));
    });
    assert!(went(&flows, true, port, b"select 'GET / HTTP/1.1'"));
    assert!(went(&flows, false, port, b"\x0eGET / HTTP/1.1"));
}
