//! What the captured functions belong to.

use std::fmt;

/// An implementation whose functions are captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// OpenSSL, BoringSSL and their relatives.
    OpenSsl,
    /// GnuTLS.
    GnuTls,
    /// Go's crypto/tls.
    Go,
    /// rustls, in a program or with its C functions.
    Rustls,
    /// NSPR, through which programs use NSS.
    Nspr,
    /// NSS itself, which says which of NSPR's descriptors are TLS.
    Nss,
}

impl Kind {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenSsl => "OpenSSL",
            Self::GnuTls => "GnuTLS",
            Self::Go => "Go crypto/tls",
            Self::Rustls => "rustls",
            Self::Nspr => "NSPR",
            Self::Nss => "NSS",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
