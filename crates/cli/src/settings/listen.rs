//! `--listen`: where the run can be watched and changed over HTTP, and by whom.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;

use crate::args::ListenArgs;
use crate::usage::UsageError;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ListenAddress {
    /// A loopback address. Port 0 takes a free one.
    Tcp(SocketAddr),
    /// The path of a socket.
    Unix(PathBuf),
}

/// The settings of `--listen` and its companions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListenSettings {
    /// `--listen`.
    pub(crate) address: ListenAddress,
    /// `--listen-token`; a random one is made without it.
    pub(crate) token: Option<String>,
    /// `--allow-host`: names beside those of the loopback addresses.
    pub(crate) allowed_hosts: Vec<String>,
}

const EXPECTED: &str = "HOST:PORT with a loopback address, such as localhost:28256, or unix:///PATH (for access from other \
                        hosts, listen on localhost behind a TLS proxy or an SSH tunnel, and name its host with --allow-host)";

/// Sets the token without showing it in the list of processes.
const TOKEN_VARIABLE: &str = "ECAPTURE_LISTEN_TOKEN";

/// Short tokens could be guessed.
const TOKEN_BYTES: std::ops::RangeInclusive<usize> = 16..=256;

impl ListenSettings {
    /// Resolves the flags; `None` without `--listen`.
    pub(super) fn resolve(arguments: &ListenArgs) -> Result<Option<Self>, UsageError> {
        let Some(value) = arguments.listen.as_deref().filter(|value| !value.is_empty()) else {
            let needless = [
                ("--listen-token", arguments.listen_token.is_some()),
                ("--allow-host", !arguments.allow_host.is_empty()),
            ];
            return match needless.into_iter().find(|(_, given)| *given) {
                Some((flag, _)) => Err(UsageError::Value {
                    flag,
                    expected: "--listen ADDRESS beside it",
                    observed: "no --listen".to_owned(),
                }),
                None => Ok(None),
            };
        };
        Ok(Some(Self {
            address: address(value)?,
            token: arguments
                .listen_token
                .clone()
                .or_else(|| std::env::var(TOKEN_VARIABLE).ok())
                .map(|value| token(&value))
                .transpose()?,
            allowed_hosts: arguments
                .allow_host
                .iter()
                .map(|host| host.to_ascii_lowercase())
                .collect(),
        }))
    }
}

fn address(value: &str) -> Result<ListenAddress, UsageError> {
    let wrong = || UsageError::Value {
        flag: "--listen",
        expected: EXPECTED,
        observed: value.to_owned(),
    };
    if let Some(path) = value.strip_prefix("unix://") {
        return if path.starts_with('/') && !path.ends_with('/') {
            Ok(ListenAddress::Unix(PathBuf::from(path)))
        } else {
            Err(wrong())
        };
    }
    let address = value.strip_prefix("http://").unwrap_or(value);
    let address = address.trim_end_matches('/');
    let found: Vec<SocketAddr> = address.to_socket_addrs().map_err(|_| wrong())?.collect();
    // `localhost` has two addresses; the original listens on the first kind.
    let preferred = found.iter().find(|address| address.is_ipv4()).or(found.first());
    match preferred {
        Some(address) if is_loopback(address.ip()) => Ok(ListenAddress::Tcp(*address)),
        _ => Err(wrong()),
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Reads a token, which must be usable in a header and in a URL as it is.
fn token(value: &str) -> Result<String, UsageError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if TOKEN_BYTES.contains(&value.len()) && value.bytes().all(is_plain) {
        return Ok(value.to_owned());
    }
    Err(UsageError::Value {
        flag: "--listen-token",
        expected: "16 to 256 letters, digits and characters of `-._~`",
        // The log is not a place for it.
        observed: format!("{} characters", value.chars().count()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_addresses_and_sockets_are_accepted() {
        let tcp = |text: &str| ListenAddress::Tcp(text.parse().expect("an address"));
        for (value, expected) in [
            ("localhost:28256", tcp("127.0.0.1:28256")),
            ("127.0.0.1:0", tcp("127.0.0.1:0")),
            ("http://127.0.0.9:80/", tcp("127.0.0.9:80")),
            ("[::1]:28256", tcp("[::1]:28256")),
            ("unix:///run/e.sock", ListenAddress::Unix("/run/e.sock".into())),
        ] {
            assert_eq!(address(value).expect(value), expected, "{value}");
        }
        for value in [
            "0.0.0.0:28256",
            "[::]:1",
            "192.0.2.1:80",
            "localhost",
            ":1",
            "unix://e.sock",
            "unix:///",
        ] {
            let error = address(value).expect_err(value).to_string();
            assert!(error.contains("localhost:28256"), "{value}: {error}");
        }
    }

    #[test]
    fn a_token_is_long_plain_and_never_in_the_message() {
        assert!(token("0123456789abcdef").is_ok());
        for wrong in ["", "short", "0123456789abcde/", "0123456789 abcdef"] {
            let error = token(wrong).expect_err(wrong).to_string();
            assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
        }
    }
}
