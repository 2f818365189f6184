//! Decides where in a library the probes stand.

use std::fmt;

use crate::elf::Image;

/// What kind of place a probe stands at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PointKind {
    /// The first instruction of the exported function.
    Entry,
}

impl fmt::Display for PointKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Entry => "entry",
        })
    }
}

/// A function worth probing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hook {
    /// Exported name.
    pub(crate) symbol: &'static str,
    /// Program for its entry.
    pub(crate) entry: &'static str,
    /// Program for its return; a hook without one carries no data.
    pub(crate) returns: Option<&'static str>,
}

/// OpenSSL, BoringSSL and their relatives.
pub(crate) const OPENSSL: [Hook; 6] = [
    Hook {
        symbol: "SSL_read",
        entry: "ssl_read",
        returns: Some("ssl_return"),
    },
    Hook {
        symbol: "SSL_read_ex",
        entry: "ssl_read_ex",
        returns: Some("ssl_return"),
    },
    Hook {
        symbol: "SSL_write",
        entry: "ssl_write",
        returns: Some("ssl_return"),
    },
    Hook {
        symbol: "SSL_write_ex",
        entry: "ssl_write_ex",
        returns: Some("ssl_return"),
    },
    Hook {
        symbol: "SSL_write_ex2",
        entry: "ssl_write_ex2",
        returns: Some("ssl_return"),
    },
    Hook {
        symbol: "SSL_free",
        entry: "ssl_free",
        returns: None,
    },
];

/// Where one hook's probes stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) hook: Hook,
    /// Offset in the file.
    pub(crate) offset: u64,
    pub(crate) kind: PointKind,
    pub(crate) reason: String,
}

/// The point for one hook, or why there is none.
pub(crate) fn point(image: &Image, hook: Hook) -> Result<Point, String> {
    let function = image
        .function(hook.symbol)
        .ok_or_else(|| "the library does not export it".to_owned())?;
    let offset = image
        .file_offset(function.address)
        .ok_or_else(|| format!("address {:#x} is not in the file", function.address))?;
    Ok(Point {
        hook,
        offset,
        kind: PointKind::Entry,
        reason: "exported function".to_owned(),
    })
}
