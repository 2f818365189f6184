//! Which libraries and programs are captured.

use std::path::PathBuf;

use ecapture_probe::Kind;

use crate::args::{GnutlsArgs, GotlsArgs, NsprArgs, TlsArgs};

/// Which libraries and programs are captured.
#[derive(Debug, Clone)]
pub(crate) struct Libraries {
    /// Those named; empty means all that can be found.
    pub(crate) files: Vec<PathBuf>,
    /// Only these kinds; empty means all.
    pub(crate) kinds: &'static [Kind],
    /// The flag that names a file.
    pub(crate) flag: &'static str,
    /// What file it names.
    pub(crate) example: &'static str,
}

impl Libraries {
    pub(super) fn new(
        (flag, example): (&'static str, &'static str),
        files: &[PathBuf],
        kinds: &'static [Kind],
    ) -> Self {
        Self {
            files: files.to_vec(),
            kinds,
            flag,
            example,
        }
    }

    /// Returns true if all that can be found is wanted.
    pub(crate) fn is_all(&self) -> bool {
        self.files.is_empty() && self.kinds.is_empty()
    }

    /// Returns true if a file with functions of these kinds is wanted.
    pub(crate) fn want(&self, kinds: &[Kind]) -> bool {
        self.kinds.is_empty() || kinds.iter().any(|kind| self.kinds.contains(kind))
    }
}

pub(super) const LIBSSL: (&str, &str) = (
    "--libssl",
    "a TLS library such as libssl.so.3, or of a program with TLS linked into it",
);

impl From<&TlsArgs> for Libraries {
    fn from(arguments: &TlsArgs) -> Self {
        Self::new(LIBSSL, &arguments.libssl, &[])
    }
}

impl From<&GotlsArgs> for Libraries {
    fn from(arguments: &GotlsArgs) -> Self {
        let flag = ("--elfpath", "a Go program");
        Self::new(flag, std::slice::from_ref(&arguments.elfpath), &[Kind::Go])
    }
}

impl From<&GnutlsArgs> for Libraries {
    fn from(arguments: &GnutlsArgs) -> Self {
        let flag = ("--gnutls", "a GnuTLS library, such as libgnutls.so.30");
        Self::new(flag, &arguments.gnutls, &[Kind::GnuTls])
    }
}

impl From<&NsprArgs> for Libraries {
    fn from(arguments: &NsprArgs) -> Self {
        let flag = ("--nspr", "the library libnspr4.so");
        Self::new(flag, &arguments.nspr, &[Kind::Nspr, Kind::Nss])
    }
}
