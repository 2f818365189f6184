//! The targets of outputs and logs. Adding one is adding its line here.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::OpenTarget;
use super::file::FileOutput;
use super::standard_output::StandardOutput;
use super::tcp::TcpOutput;
use crate::ecaptureq::{Feed, RunLog};
use crate::private_file;
use crate::usage::UsageError;

/// A kind of target.
#[derive(Debug)]
struct Kind {
    /// What its addresses begin with and are shown with; a file's begin with nothing.
    scheme: &'static str,
    /// What they are shown with at their end.
    end: &'static str,
    /// Opens it for an output that the flag names. The last word: what it holds is replaced.
    open: fn(&OsStr, &'static str, bool) -> Result<OpenTarget>,
    /// Opens it for logs.
    open_log: fn(&OsStr) -> Result<Box<dyn Write + Send>>,
}

static STANDARD_OUTPUT: Kind = Kind {
    scheme: "",
    end: "",
    open: |_, _, _| {
        let output = StandardOutput::open().context("standard output is closed")?;
        Ok(OpenTarget::Bytes(Box::new(output)))
    },
    open_log: |_| Ok(Box::new(io::stdout())),
};

static FILE: Kind = Kind {
    scheme: "",
    end: "",
    open: |path, flag, replaces| {
        let path = Path::new(path);
        let file = FileOutput::open(path, replaces).with_context(|| not_writable(flag, path))?;
        Ok(OpenTarget::Bytes(Box::new(file)))
    },
    open_log: |path| {
        let path = Path::new(path);
        let file = private_file::append(path).with_context(|| not_writable("--logaddr", path))?;
        Ok(Box::new(file))
    },
};

static TCP: Kind = Kind {
    scheme: "tcp://",
    end: "",
    open: |address, flag, _| {
        let address = address.to_string_lossy().into_owned();
        let nobody = not_listening(flag, &address);
        let collector = TcpOutput::open(address).context(nobody)?;
        Ok(OpenTarget::Bytes(Box::new(collector)))
    },
    open_log: |address| {
        let address = &*address.to_string_lossy();
        let stream = TcpStream::connect(address).with_context(|| not_listening("--logaddr", address))?;
        Ok(Box::new(stream))
    },
};

/// Clients of the eCaptureQ server, which listens on its address; for logs, clients of any.
static ECAPTUREQ: Kind = Kind {
    scheme: "ws://",
    end: "/",
    open: |address, flag, _| {
        let address = &*address.to_string_lossy();
        let feed = Feed::start(address).with_context(|| {
            format!("{flag}: cannot listen on {address}; give an address of this host and a free port")
        })?;
        Ok(OpenTarget::Records(Box::new(feed)))
    },
    open_log: |_| Ok(Box::new(RunLog)),
};

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
        if value.starts_with("ws://") || value.starts_with("wss://") {
            return Err(UsageError::Unbuilt {
                what: format!("{flag} with a WebSocket address"),
                instead: "use a file or tcp://HOST:PORT",
            });
        }
        let wrong = |expected| UsageError::Value {
            flag,
            expected,
            observed: value.into(),
        };
        match value.strip_prefix(TCP.scheme) {
            Some(address) => Self::listening(&TCP, address).ok_or_else(|| wrong("tcp://HOST:PORT")),
            None if value.is_empty() => Err(wrong("a file or tcp://HOST:PORT")),
            None => Ok(Self::file(Path::new(value))),
        }
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
        let address = value.strip_prefix(ECAPTUREQ.scheme).unwrap_or(value);
        Self::listening(&ECAPTUREQ, address).ok_or_else(|| UsageError::Value {
            flag,
            expected: "the address to listen on, such as ws://127.0.0.1:28257/",
            observed: value.into(),
        })
    }

    fn listening(kind: &'static Kind, address: &str) -> Option<Self> {
        let address = address.trim_end_matches('/');
        let (host, port) = address.rsplit_once(':')?;
        let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
        (!host.is_empty() && is_port).then(|| Self {
            kind,
            address: address.into(),
        })
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

    /// Opens it for an output that `flag` names. `replaces`: what it holds is replaced.
    pub(crate) fn open(&self, flag: &'static str, replaces: bool) -> Result<OpenTarget> {
        (self.kind.open)(&self.address, flag, replaces)
    }

    /// Opens it for logs.
    pub(crate) fn open_log(&self) -> Result<Box<dyn Write + Send>> {
        (self.kind.open_log)(&self.address)
    }
}
