//! The obstacles to a capture of TLS, and what to do about each.

use std::io;
use std::sync::Arc;

use crate::Error;
use crate::plan::Refusal;

/// Why something with TLS in it is not captured.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Obstacle {
    /// It is linked into a program or library, whose symbols were removed.
    #[error("linked into a file that has no symbols for it")]
    NoSymbols,
    /// Java compiles its TLS while it runs.
    #[error("if it uses Java's own TLS (JSSE), that is compiled at run time: no file contains its functions")]
    Java,
    /// Erlang's TLS is compiled while it runs.
    #[error(
        "Erlang's own TLS (its ssl application) runs in its virtual machine: no file contains its functions"
    )]
    Erlang,
    /// An implementation whose functions are not known to this program.
    #[error("functions of {0} are not captured")]
    NotSupported(&'static str),
    /// rustls, whose functions cannot be relied on here, for this reason.
    #[error("rustls is compiled into the executable, and {0}")]
    Rustls(Refusal),
    /// The line table of Go is of a version that is not read, or absent.
    #[error("its function table cannot be read (it needs Go 1.17 or later)")]
    GoTable,
    /// A Go program that does not link crypto/tls.
    #[error("a Go program without crypto/tls: it has no TLS to capture")]
    GoWithoutTls,
    /// The kernel encrypts on this many connections of the process.
    #[error(
        "the kernel encrypts {0} of its connections: files sent there by SSL_sendfile, and data written without a TLS \
         library, are not captured"
    )]
    KernelTls(usize),
    /// The file cannot be opened.
    #[error("the file cannot be reached: {0}")]
    Unreachable(#[source] Arc<io::Error>),
    /// The file is not for this machine, or damaged.
    #[error(transparent)]
    Unusable(Arc<Error>),
    /// The file lacks the functions.
    #[error("it exports none of the functions that can be captured")]
    NoFunctions,
}

impl Obstacle {
    /// Advice to the user.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Erlang | Self::NotSupported(_) => {
                "capture the other end of the connection, or put a TLS proxy such as nginx before it"
            }
            Self::NoSymbols => {
                "run a build that is not stripped, or one that links the TLS library dynamically"
            }
            Self::Java => {
                "put a TLS proxy such as nginx before it, or use a provider that links the system's OpenSSL \
                 (netty-tcnative, but not its boringssl-static)"
            }
            Self::Rustls(_) => {
                "build it with rustls 0.23 and its symbols (strip = false in the profile), capture the other end \
                 of the connection, or put a TLS proxy such as nginx before it"
            }
            Self::GoTable => "build it with Go 1.17 or later",
            Self::KernelTls(_) => {
                "to capture them, turn kernel TLS off in this program (nginx: ssl_conf_command Options -KTLS)"
            }
            Self::GoWithoutTls => "nothing to do",
            Self::Unreachable(_) | Self::Unusable(_) if is_root() => {
                "check the file, which `file` and `readelf -h` describe"
            }
            Self::Unreachable(_) | Self::Unusable(_) => "run as root, outside of its container",
            Self::NoFunctions => "name the file that has them: `ecapture tls --libssl FILE`",
        }
    }

    /// Returns true if plaintext is missed because of it.
    pub fn hides_plaintext(&self) -> bool {
        !matches!(self, Self::GoWithoutTls)
    }
}

/// Errors of the system cannot be compared. Two obstacles are equal if they read the same.
impl PartialEq for Obstacle {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for Obstacle {}

fn is_root() -> bool {
    // SAFETY: it has no preconditions and cannot fail.
    #[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
    unsafe {
        libc::geteuid() == 0
    }
}
