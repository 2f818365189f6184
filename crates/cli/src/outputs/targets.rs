//! The targets of outputs and logs. Adding one is adding its line here.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use tungstenite::http::Uri;

use super::OpenTarget;
use super::collector::CollectorOutput;
use super::file::{FileOptions, FileOutput};
use super::log::{Bytes, LogTarget, Plain};
use super::payload::Payload;
use super::standard_output::StandardOutput;
use super::web_socket::WebSocketOutput;
use crate::ecaptureq::{Feed, RunLog};
use crate::usage::UsageError;

/// What the user may write for a target.
pub(crate) const TARGETS: &str =
    "a file, tcp://HOST:PORT, unix:///PATH, ws://HOST[:PORT][/PATH] or wss://HOST[:PORT][/PATH]";

/// How a target is opened for an output.
#[derive(Debug)]
pub(crate) struct Opening {
    /// The flag that names it.
    pub(crate) flag: &'static str,
    /// What a WebSocket server gets.
    pub(crate) payload: Payload,
    pub(crate) file: FileOptions,
}

/// A kind of target.
#[derive(Debug)]
struct Kind {
    /// What its addresses begin with and are shown with; a file's begin with nothing.
    scheme: &'static str,
    /// What they are shown with at their end.
    end: &'static str,
    /// How they are written, for messages.
    form: &'static str,
    /// Reads what follows the scheme; `None` when it is wrong.
    read: fn(&str) -> Option<OsString>,
    /// It gets each record by itself.
    keeps_records_apart: bool,
    open: fn(&OsStr, Opening) -> Result<OpenTarget>,
    /// Opens it for logs.
    open_log: fn(&OsStr, &'static str) -> Result<Box<dyn LogTarget>>,
}

/// Those that are recognized by their scheme.
static BY_SCHEME: [&Kind; 4] = [&TCP, &UNIX, &WEB_SOCKET, &SECURE_WEB_SOCKET];

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
        let file = FileOutput::open(path, opening.file).with_context(|| not_writable(opening.flag, path))?;
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

/// The address of a WebSocket server, if it is one.
fn web_address(scheme: &str, address: &str) -> Option<Uri> {
    let uri: Uri = format!("{scheme}{address}").parse().ok()?;
    let authority = uri.authority()?;
    let is_plain = !authority.host().is_empty() && !authority.as_str().contains('@');
    // `port_u16` is `None` for what is no number below 65536, too.
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

    pub(crate) fn is_standard_output(&self) -> bool {
        std::ptr::eq(self.kind, &raw const STANDARD_OUTPUT)
    }

    /// The path of a file.
    pub(crate) fn path(&self) -> Option<&Path> {
        std::ptr::eq(self.kind, &raw const FILE).then(|| Path::new(&self.address))
    }

    /// Its address for people; nothing for standard output.
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

    /// Returns true if it is a file that SIGHUP opens again. Pipes and devices are not.
    pub(crate) fn is_regular_file(&self) -> bool {
        self.path().is_some_and(Path::is_file)
    }

    /// Returns true if each record comes by itself.
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
