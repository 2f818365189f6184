//! Where events and logs can go.

use std::path::PathBuf;

use crate::args::GlobalArgs;
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
    /// Clients of the eCaptureQ server, which listens on `host:port`; for the log, clients of any.
    Ecaptureq(String),
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
        if is_host_and_port(address) {
            return Ok(Self::Tcp(address.to_owned()));
        }
        Err(UsageError::Value {
            flag,
            expected: "tcp://HOST:PORT",
            observed: value.into(),
        })
    }

    /// Where the log goes beside standard error: to the target of `--logaddr`, and to eCaptureQ clients.
    pub(crate) fn of_logs(global: &GlobalArgs) -> Result<Vec<Self>, UsageError> {
        let mut targets = Vec::new();
        if let Some(value) = &global.logaddr {
            targets.push(Self::parse("--logaddr", value)?);
        }
        let is_served = |output: &String| output.starts_with("ecaptureq:");
        if global.ecaptureq.is_some() || global.output.iter().any(is_served) {
            targets.push(Self::Ecaptureq(String::new()));
        }
        Ok(targets)
    }

    /// Reads the value of `--ecaptureq`, or what follows the colon of `-o ecaptureq:`.
    pub(crate) fn parse_ecaptureq(flag: &'static str, value: &str) -> Result<Self, UsageError> {
        let address = value.strip_prefix("ws://").unwrap_or(value).trim_end_matches('/');
        if is_host_and_port(address) {
            return Ok(Self::Ecaptureq(address.to_owned()));
        }
        Err(UsageError::Value {
            flag,
            expected: "the address to listen on, such as ws://127.0.0.1:28257/",
            observed: value.into(),
        })
    }
}

fn is_host_and_port(address: &str) -> bool {
    address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
}
