//! Where events and logs can go.

use std::path::PathBuf;

use crate::usage::UsageError;

/// Where events go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// Standard output.
    StandardOutput,
    /// A file, appended to.
    File(PathBuf),
    /// A TCP collector, `host:port`.
    Tcp(String),
}

impl Target {
    /// Reads the value of `--eventaddr` or `--logaddr`, or what follows the colon of `-o`.
    pub(crate) fn parse(flag: &'static str, value: &str) -> Result<Self, UsageError> {
        if value.starts_with("ws://") || value.starts_with("wss://") {
            return Err(UsageError::Unbuilt {
                what: format!("{flag} with a WebSocket address"),
                instead: "use a file or tcp://HOST:PORT",
            });
        }
        let Some(address) = value.strip_prefix("tcp://") else {
            return if value.is_empty() {
                Err(UsageError::Value {
                    flag,
                    expected: "a file or tcp://HOST:PORT",
                    observed: value.into(),
                })
            } else {
                Ok(Self::File(PathBuf::from(value)))
            };
        };
        let address = address.trim_end_matches('/');
        match address.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => {
                Ok(Self::Tcp(address.to_owned()))
            }
            _ => Err(UsageError::Value {
                flag,
                expected: "tcp://HOST:PORT",
                observed: value.into(),
            }),
        }
    }
}
