//! The targets of outputs and logs. Adding one is adding its line here.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use tungstenite::http::Uri;

use super::OpenTarget;
use super::collector::CollectorOutput;
use super::file::{ChainedFile, DocumentFile, FileOptions, FileOutput};
use super::log::{Bytes, LogTarget, Plain};
use super::otlp::{Endpoint, OtlpOutput};
use super::payload::Payload;
use super::run_figures::RunFigures;
use super::standard_output::StandardOutput;
use super::table::{Table, TableLook};
use super::web_socket::WebSocketOutput;
use crate::ecaptureq::{Feed, RunLog};
use crate::usage::UsageError;

/// The forms of a target that the user may write.
pub(crate) const TARGETS: &str =
    "a file, tcp://HOST:PORT, unix:///PATH, ws://HOST[:PORT][/PATH] or wss://HOST[:PORT][/PATH]";

/// How a target is opened for an output.
#[derive(Debug)]
pub(crate) struct Opening {
    /// The flag that names it.
    pub(crate) flag: &'static str,
    /// The form in which a WebSocket server gets each record.
    pub(crate) payload: Payload,
    pub(crate) file: FileOptions,
    /// What is sent is compressed.
    pub(crate) gzip: bool,
    /// Where the figures of the run are read.
    pub(crate) figures: RunFigures,
}

/// A kind of target.
#[derive(Debug)]
struct Kind {
    /// The prefix of its addresses, also when they are shown; a file's is empty.
    scheme: &'static str,
    /// The suffix that they are shown with.
    end: &'static str,
    /// How they are written, for messages.
    form: &'static str,
    /// Reads what follows the scheme; `None` when it is wrong.
    read: fn(&str) -> Option<OsString>,
    /// It gets each record separately.
    keeps_records_apart: bool,
    open: fn(&OsStr, Opening) -> Result<OpenTarget>,
    /// Opens it for logs.
    open_log: fn(&OsStr, &'static str) -> Result<Box<dyn LogTarget>>,
}

/// Those that are recognized by their scheme.
static BY_SCHEME: [&Kind; 4] = [&TCP, &UNIX, &WEB_SOCKET, &SECURE_WEB_SOCKET];

/// The collectors of OTLP, by their schemes.
static COLLECTORS: [&Kind; 4] = [&OTLP_HTTP, &OTLP_HTTPS, &OTLP_GRPC, &OTLP_GRPCS];

static STANDARD_OUTPUT: Kind = Kind {
    scheme: "",
    end: "",
    form: "-",
    read: |_| None,
    keeps_records_apart: false,
    open: |_, _| {
        let output = StandardOutput::open().context("standard output is closed")?;
        Ok(OpenTarget::Bytes(Box::new(output)))
    },
    open_log: |_, _| Ok(Box::new(Plain(io::stdout()))),
};

static FILE: Kind = Kind {
    scheme: "",
    end: "",
    form: TARGETS,
    read: |path| (!path.is_empty() && !path.contains("://")).then(|| path.into()),
    keeps_records_apart: false,
    open: |path, opening| {
        let path = Path::new(path);
        let not_writable = || not_writable(opening.flag, path);
        if opening.file.chain {
            let file = ChainedFile::open(path, opening.file).with_context(not_writable)?;
            return Ok(OpenTarget::Records(Box::new(file)));
        }
        if opening.payload == Payload::Document {
            let file = DocumentFile::open(path, opening.file).with_context(not_writable)?;
            return Ok(OpenTarget::Records(Box::new(file)));
        }
        let file = FileOutput::open(path, opening.file).with_context(not_writable)?;
        Ok(OpenTarget::Bytes(Box::new(file)))
    },
    open_log: |path, flag| {
        let path = Path::new(path);
        let lines = FileOptions {
            has_lines: true,
            ..FileOptions::default()
        };
        let file = FileOutput::open(path, lines).with_context(|| not_writable(flag, path))?;
        Ok(Box::new(Bytes(file)))
    },
};

static TCP: Kind = Kind {
    scheme: "tcp://",
    end: "",
    form: "tcp://HOST:PORT",
    read: host_and_port,
    keeps_records_apart: false,
    open: |address, opening| Ok(OpenTarget::Bytes(Box::new(tcp(address, opening.flag)?))),
    open_log: |address, flag| Ok(Box::new(Bytes(tcp(address, flag)?))),
};

static UNIX: Kind = Kind {
    scheme: "unix://",
    end: "",
    form: "unix:///PATH, with three slashes and the whole path of a stream socket",
    read: |path| path.starts_with('/').then(|| path.into()),
    keeps_records_apart: false,
    open: |path, opening| Ok(OpenTarget::Bytes(Box::new(unix(path, opening.flag)?))),
    open_log: |path, flag| Ok(Box::new(Bytes(unix(path, flag)?))),
};

static WEB_SOCKET: Kind = Kind {
    scheme: "ws://",
    end: "",
    form: "ws://HOST[:PORT][/PATH], without a user or a password",
    read: |address| web_address("ws://", address).map(|_| address.into()),
    keeps_records_apart: true,
    open: |address, opening| {
        let output = web_socket("ws://", address, opening.flag, opening.payload)?;
        Ok(OpenTarget::Records(Box::new(output)))
    },
    open_log: |address, flag| Ok(Box::new(web_socket("ws://", address, flag, Payload::Base64)?)),
};

static SECURE_WEB_SOCKET: Kind = Kind {
    scheme: "wss://",
    end: "",
    form: "wss://HOST[:PORT][/PATH], without a user or a password",
    read: |address| web_address("wss://", address).map(|_| address.into()),
    keeps_records_apart: true,
    open: |address, opening| {
        let output = web_socket("wss://", address, opening.flag, opening.payload)?;
        Ok(OpenTarget::Records(Box::new(output)))
    },
    open_log: |address, flag| Ok(Box::new(web_socket("wss://", address, flag, Payload::Base64)?)),
};

/// Clients of the eCaptureQ server, which listens on its address; for logs, clients of any.
static ECAPTUREQ: Kind = Kind {
    scheme: "ws://",
    end: "/",
    form: "the address to listen on, such as ws://127.0.0.1:28257/",
    read: host_and_port,
    keeps_records_apart: true,
    open: |address, opening| {
        let (address, flag) = (&*address.to_string_lossy(), opening.flag);
        let feed = Feed::start(address).with_context(|| {
            format!("{flag}: cannot listen on {address}; give an address of this host and a free port")
        })?;
        Ok(OpenTarget::Records(Box::new(feed)))
    },
    open_log: |_, _| Ok(Box::new(Plain(RunLog))),
};

static OTLP_HTTP: Kind = Kind {
    scheme: "http://",
    ..COLLECTOR
};

static OTLP_HTTPS: Kind = Kind {
    scheme: "https://",
    read: |address| Endpoint::read("https://", address).map(|_| address.into()),
    open: |address, opening| otlp("https://", address, opening),
    ..COLLECTOR
};

static OTLP_GRPC: Kind = Kind {
    scheme: "grpc://",
    read: |address| Endpoint::read("grpc://", address).map(|_| address.into()),
    open: |address, opening| otlp("grpc://", address, opening),
    ..COLLECTOR
};

static OTLP_GRPCS: Kind = Kind {
    scheme: "grpcs://",
    read: |address| Endpoint::read("grpcs://", address).map(|_| address.into()),
    open: |address, opening| otlp("grpcs://", address, opening),
    ..COLLECTOR
};

/// What all collectors of OTLP have in common.
const COLLECTOR: Kind = Kind {
    scheme: "",
    end: "",
    form: "http://HOST[:PORT][/PATH], https://…, grpc://HOST[:PORT] or grpcs://…, the address of an OTLP collector",
    read: |address| Endpoint::read("http://", address).map(|_| address.into()),
    keeps_records_apart: true,
    open: |address, opening| otlp("http://", address, opening),
    open_log: |_, flag| anyhow::bail!("{flag}: a collector of OTLP takes no log lines"),
};

fn otlp(scheme: &str, address: &OsStr, opening: Opening) -> Result<OpenTarget> {
    let (address, flag) = (address.to_string_lossy(), opening.flag);
    let endpoint = Endpoint::read(scheme, &address).context("the address was read before")?;
    let endpoint = endpoint.completed(opening.gzip)?;
    let output = OtlpOutput::connect(endpoint, opening.figures)
        .with_context(|| format!("{flag}: {scheme}{address}"))?;
    Ok(OpenTarget::Records(Box::new(output)))
}

/// The table of `ecapture stat`, on standard output.
static TABLE: Kind = Kind {
    scheme: "",
    end: "",
    form: "-",
    read: |_| None,
    keeps_records_apart: true,
    open: |address, opening| {
        let table =
            Table::open(address, opening.figures).context("the address of a table is made of its look")?;
        Ok(OpenTarget::Records(Box::new(table)))
    },
    open_log: |_, _| Ok(Box::new(Plain(io::stdout()))),
};

fn tcp(address: &OsStr, flag: &str) -> Result<CollectorOutput> {
    let address = &*address.to_string_lossy();
    CollectorOutput::tcp(address).with_context(|| not_listening(flag, &format!("tcp://{address}")))
}

fn unix(path: &OsStr, flag: &str) -> Result<CollectorOutput> {
    let path = Path::new(path);
    CollectorOutput::unix(path).with_context(|| not_listening(flag, &format!("unix://{}", path.display())))
}

fn web_socket(scheme: &str, address: &OsStr, flag: &str, payload: Payload) -> Result<WebSocketOutput> {
    let address = address.to_string_lossy();
    let uri = web_address(scheme, &address).context("the address was read before")?;
    WebSocketOutput::connect(&uri, payload).with_context(|| format!("{flag}: {scheme}{address}"))
}

fn host_and_port(address: &str) -> Option<OsString> {
    let address = address.trim_end_matches('/');
    let (host, port) = address.rsplit_once(':')?;
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    (!host.is_empty() && is_port).then(|| address.into())
}

/// Returns true if the host of `host[:port][/path]` is this one.
fn is_loopback(address: &str) -> bool {
    let end = address.find(['/', '?', '#']).unwrap_or(address.len());
    let authority = &address[..end];
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => authority.split(':').next().unwrap_or(authority),
    };
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|host| host.is_loopback())
}

/// The address of a WebSocket server, if it is one.
fn web_address(scheme: &str, address: &str) -> Option<Uri> {
    let uri: Uri = format!("{scheme}{address}").parse().ok()?;
    let authority = uri.authority()?;
    let is_plain = !authority.host().is_empty() && !authority.as_str().contains('@');
    // `port_u16` is also `None` for anything but a number below 65536.
    let has_port = authority.port_u16().is_some_and(|port| port > 0);
    let is_without = authority.as_str() == authority.host();
    (is_plain && (has_port || is_without)).then_some(uri)
}

fn not_writable(flag: &str, path: &Path) -> String {
    format!(
        "{flag}: cannot write {}; give a path in an existing directory that you may write to",
        path.display()
    )
}

fn not_listening(flag: &str, address: &str) -> String {
    format!("{flag}: nothing listens on {address}; start the collector first")
}

/// Where events or logs go.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    kind: &'static Kind,
    /// A path, or `host:port`.
    address: OsString,
}

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.kind, other.kind) && self.address == other.address
    }
}

impl Target {
    pub(crate) fn standard_output() -> Self {
        Self {
            kind: &STANDARD_OUTPUT,
            address: OsString::new(),
        }
    }

    /// A table on standard output.
    pub(crate) fn table(look: TableLook) -> Self {
        Self {
            kind: &TABLE,
            address: look.address().into(),
        }
    }

    /// A file, appended to.
    pub(crate) fn file(path: &Path) -> Self {
        Self {
            kind: &FILE,
            address: path.into(),
        }
    }

    /// Clients of any eCaptureQ server of this run.
    pub(crate) fn served_logs() -> Self {
        Self {
            kind: &ECAPTUREQ,
            address: OsString::new(),
        }
    }

    /// Reads the value of `--eventaddr` or `--logaddr`, or what follows the colon of `-o`.
    pub(crate) fn parse(flag: &'static str, value: &str) -> Result<Self, UsageError> {
        let kind = BY_SCHEME
            .into_iter()
            .find(|kind| value.starts_with(kind.scheme))
            .unwrap_or(&FILE);
        Self::read(kind, flag, value)
    }

    fn read(kind: &'static Kind, flag: &'static str, value: &str) -> Result<Self, UsageError> {
        let address = (kind.read)(value.strip_prefix(kind.scheme).unwrap_or(value));
        address
            .map(|address| Self { kind, address })
            .ok_or_else(|| UsageError::Value {
                flag,
                expected: kind.form,
                observed: value.into(),
            })
    }

    /// Reads the target of a format that is printed: standard output unless another one is named.
    pub(super) fn printed(flag: &'static str, value: Option<&str>) -> Result<Self, UsageError> {
        match value {
            None | Some("-") => Ok(Self::standard_output()),
            Some(value) => Self::parse(flag, value),
        }
    }

    /// Reads the address of an eCaptureQ server.
    pub(crate) fn served(flag: &'static str, value: &str) -> Result<Self, UsageError> {
        Self::read(&ECAPTUREQ, flag, value)
    }

    /// Reads the address of a collector of OTLP.
    pub(super) fn collected(flag: &'static str, value: &str) -> Result<Self, UsageError> {
        let known = COLLECTORS.into_iter().find(|kind| value.starts_with(kind.scheme));
        match known {
            Some(kind) => Self::read(kind, flag, value),
            None => Err(UsageError::Value {
                flag,
                expected: COLLECTOR.form,
                observed: value.into(),
            }),
        }
    }

    /// Returns true for a collector of OTLP.
    pub(crate) fn is_collector(&self) -> bool {
        COLLECTORS.into_iter().any(|kind| std::ptr::eq(kind, self.kind))
    }

    pub(crate) fn is_standard_output(&self) -> bool {
        std::ptr::eq(self.kind, &raw const STANDARD_OUTPUT) || std::ptr::eq(self.kind, &raw const TABLE)
    }

    /// The path of a file.
    pub(crate) fn path(&self) -> Option<&Path> {
        std::ptr::eq(self.kind, &raw const FILE).then(|| Path::new(&self.address))
    }

    /// Its address as it is shown; nothing for standard output.
    pub(crate) fn name(&self) -> Option<String> {
        let Kind { scheme, end, .. } = self.kind;
        let address = self.address.display();
        (!self.is_standard_output()).then(|| format!("{scheme}{address}{end}"))
    }

    /// Returns true if it is this very file.
    pub(crate) fn is_same_file(&self, file: &fs::Metadata) -> bool {
        let found = self.path().and_then(|path| fs::metadata(path).ok());
        found.is_some_and(|own| own.is_file() && (own.dev(), own.ino()) == (file.dev(), file.ino()))
    }

    /// Returns true if it is a file, or will be one. Pipes and devices are not.
    pub(crate) fn is_file(&self) -> bool {
        self.path().is_some_and(|path| path.is_file() || !path.exists())
    }

    /// Returns true if it is a file that SIGHUP opens again. Pipes and devices are not.
    pub(crate) fn is_regular_file(&self) -> bool {
        self.path().is_some_and(Path::is_file)
    }

    /// Returns true if what is written to it may reach another host. What listens on a loopback address, on a
    /// socket of this host or reads a file is this host's.
    pub(crate) fn leaves_host(&self) -> bool {
        let is_network = !matches!(self.kind.scheme, "" | "unix://");
        is_network && !is_loopback(&self.address.to_string_lossy())
    }

    /// Returns true if each record is sent separately.
    pub(crate) fn keeps_records_apart(&self) -> bool {
        self.kind.keeps_records_apart
    }

    /// Opens it for an output.
    pub(crate) fn open(&self, opening: Opening) -> Result<OpenTarget> {
        (self.kind.open)(&self.address, opening)
    }

    /// Opens it for logs.
    pub(crate) fn open_log(&self) -> Result<Box<dyn LogTarget>> {
        (self.kind.open_log)(&self.address, "--logaddr")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_written() {
        for (value, written) in [
            ("events.jsonl", "events.jsonl"),
            ("/x/a:b", "/x/a:b"),
            ("tcp://h:1/", "tcp://h:1"),
            ("tcp://[::1]:5", "tcp://[::1]:5"),
            ("unix:///run/c.sock", "unix:///run/c.sock"),
            ("ws://h", "ws://h"),
            ("ws://h:1/p?q=1", "ws://h:1/p?q=1"),
            ("wss://[::1]:8/", "wss://[::1]:8/"),
        ] {
            let target = Target::parse("-o", value).unwrap_or_else(|error| panic!("{value}: {error}"));
            assert_eq!(target.name().as_deref(), Some(written), "{value}");
        }
    }

    #[test]
    fn a_target_leaves_the_host_unless_it_is_here() {
        for (value, leaves) in [
            ("events.jsonl", false),
            ("unix:///run/c.sock", false),
            ("tcp://localhost:1", false),
            ("tcp://127.8.0.1:1", false),
            ("tcp://[::1]:5", false),
            ("ws://127.0.0.1/x", false),
            ("tcp://0.0.0.0:1", true),
            ("tcp://collector:1", true),
            ("tcp://127.0.0.1.example:1", true),
            ("ws://10.0.0.1:1/127.0.0.1", true),
            ("wss://[2001:db8::1]/", true),
        ] {
            let target = Target::parse("-o", value).unwrap();
            assert_eq!(target.leaves_host(), leaves, "{value}");
        }
        assert!(Target::served("-o", "ws://0.0.0.0:1/").unwrap().leaves_host());
    }

    #[test]
    fn a_wrong_form_names_the_right_one() {
        for (value, part) in [
            ("", "tcp://HOST:PORT"),
            ("tcp://h", "tcp://HOST:PORT"),
            ("tcp://h:0", "tcp://HOST:PORT"),
            ("unix://run/c", "three slashes"),
            ("ws://", "ws://HOST"),
            ("ws://h:x", "ws://HOST"),
            ("ws://h:99999", "ws://HOST"),
            ("ws://u:p@h/", "without a user"),
            ("wss:///x", "wss://HOST"),
            ("http://h:1", "tcp://HOST:PORT"),
        ] {
            let error = Target::parse("-o", value).expect_err(value).to_string();
            assert!(error.contains(part), "{value}: {error}");
        }
    }
}
