//! The implementations that captured functions belong to.

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
    /// OpenSSL's libcrypto, in which it derives secrets.
    LibCrypto,
    /// Nettle, in which GnuTLS derives secrets.
    Nettle,
    /// NSS itself, which says which of NSPR's descriptors are TLS.
    Nss,
    /// bash.
    Bash,
    /// GNU Readline, in a library or in the program that uses it.
    Readline,
    /// zsh.
    Zsh,
    /// MariaDB's server, or MySQL's.
    MariaDb,
    /// PostgreSQL's server.
    Postgres,
}

impl Kind {
    /// Returns true for a library in which others derive their secrets.
    pub fn derives_secrets(self) -> bool {
        matches!(self, Self::LibCrypto | Self::Nettle)
    }

    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenSsl => "OpenSSL",
            Self::GnuTls => "GnuTLS",
            Self::Go => "Go crypto/tls",
            Self::Rustls => "rustls",
            Self::LibCrypto => "OpenSSL's libcrypto",
            Self::Nettle => "Nettle",
            Self::Nspr => "NSPR",
            Self::Nss => "NSS",
            Self::Bash => "bash",
            Self::Readline => "readline",
            Self::Zsh => "zsh",
            Self::MariaDb => "MariaDB",
            Self::Postgres => "PostgreSQL",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
