//! TLS whose secrets no key log has, though its plaintext may be captured.

use std::fmt;
use std::os::unix::ffi::OsStrExt as _;

use super::fingerprints::Fingerprints;
use crate::file::elf::Image;
use crate::kind::Kind;
use crate::modules::Modules;
use crate::plan::Refusal;

/// A file with TLS, and why a key log has none of its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyless {
    /// Its name, such as `OpenSSL`.
    pub implementation: &'static str,
    /// Where it can be had.
    pub version: Option<String>,
    reason: Reason,
}

/// Why there are no secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reason {
    /// The code that has them was not found exactly.
    Refused(Refusal),
    /// It has none of the functions by which they are found.
    NoFunctions,
    /// They are handles of NSS, whose values no function hands out.
    Handles,
}

impl Keyless {
    /// Inspects a file that has no function that derives or logs secrets.
    pub(crate) fn of(image: &Image) -> Option<Self> {
        let name = image.path().file_name().unwrap_or_default();
        if name.as_bytes().starts_with(b"libssl3.so") {
            return Some(Self {
                implementation: "NSS",
                version: None,
                reason: Reason::Handles,
            });
        }
        let is_crypto = name.as_bytes().starts_with(b"libcrypto");
        let reason = Modules::SECRETS.refusal_in(image, Kind::Rustls);
        if !is_crypto && reason.is_none() {
            return None;
        }
        let fingerprints = Fingerprints::read(image.library());
        if fingerprints.own {
            return None;
        }
        let (implementation, version) = match &reason {
            Some(_) if fingerprints.rustls => ("rustls", fingerprints.rustls_version.as_ref()),
            Some(_) => return None,
            None => fingerprints.openssl_release(),
        };
        // The secrets of this one are in its libssl.
        let is_known = version.is_some_and(|version| version.starts_with("1.0.2"));
        (!is_known).then(|| Self {
            implementation,
            version: version.cloned(),
            reason: reason.map_or(Reason::NoFunctions, Reason::Refused),
        })
    }
}

impl fmt::Display for Keyless {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.version.as_deref().unwrap_or("of unknown version");
        write!(formatter, "{} {version}: ", self.implementation)?;
        match &self.reason {
            Reason::Refused(reason) => reason.fmt(formatter)?,
            Reason::NoFunctions => formatter.write_str(
                "looked for OpenSSL 1.0.2 or later, AWS-LC and BoringSSL, by the functions that they derive secrets with",
            )?,
            Reason::Handles => formatter.write_str(
                "its secrets stay inside its token, which no function with a stable interface hands out",
            )?,
        }
        formatter.write_str(
            "; capture its plaintext (`ecapture tls`), or start it with SSLKEYLOGFILE if it writes key logs itself",
        )
    }
}
