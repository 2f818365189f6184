//! Where a collector is, and how it is spoken to.

use std::fmt;

use anyhow::{Context as _, Result, bail};
use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};

/// The variable of the SDKs with headers such as those that authenticate: `name=value,name=value`, the values
/// percent-encoded. It is not a flag, because command lines are seen by every user of the host.
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";

/// A collector's address, and what every request to it says.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(super) is_grpc: bool,
    pub(super) is_secure: bool,
    pub(super) host: String,
    pub(super) port: u16,
    /// Before the path of a signal; without a slash at its end.
    pub(super) path: String,
    pub(super) gzip: bool,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Endpoint {
    /// Reads `HOST[:PORT][/PATH]` after one of the schemes; gRPC has no path. `None` if it is wrong.
    pub(crate) fn read(scheme: &str, address: &str) -> Option<Self> {
        let (is_grpc, is_secure) = match scheme {
            "http://" => (false, false),
            "https://" => (false, true),
            "grpc://" => (true, false),
            "grpcs://" => (true, true),
            _ => return None,
        };
        let uri: Uri = format!("http://{address}").parse().ok()?;
        let authority = uri.authority()?;
        let has_port = authority.port_u16().is_some_and(|port| port > 0);
        let is_without = authority.as_str() == authority.host();
        let path = uri.path().trim_end_matches('/');
        let is_plain =
            !authority.host().is_empty() && !authority.as_str().contains('@') && uri.query().is_none();
        if !is_plain || !(has_port || is_without) || is_grpc && !path.is_empty() {
            return None;
        }
        Some(Self {
            is_grpc,
            is_secure,
            host: authority.host().to_owned(),
            port: authority.port_u16().unwrap_or(if is_grpc { 4317 } else { 4318 }),
            path: path.to_owned(),
            gzip: false,
            headers: Vec::new(),
        })
    }

    /// The same with compressed requests, or not, and the headers of the environment.
    pub(crate) fn completed(self, gzip: bool) -> Result<Self> {
        let headers = match std::env::var(HEADERS) {
            Ok(headers) => read_headers(&headers)?,
            Err(std::env::VarError::NotPresent) => Vec::new(),
            Err(std::env::VarError::NotUnicode(_)) => bail!("{HEADERS} is not UTF-8"),
        };
        Ok(Self {
            gzip,
            headers,
            ..self
        })
    }

    pub(super) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (self.is_grpc, self.is_secure) {
            (false, false) => "http",
            (false, true) => "https",
            (true, false) => "grpc",
            (true, true) => "grpcs",
        };
        write!(formatter, "{scheme}://{}:{}{}", self.host, self.port, self.path)
    }
}

/// Reads the variable. Errors never show a value.
fn read_headers(text: &str) -> Result<Vec<(HeaderName, HeaderValue)>> {
    let members = text.split(',').map(str::trim).filter(|member| !member.is_empty());
    let headers = members.map(|member| {
        let (name, value) = member
            .split_once('=')
            .with_context(|| format!("{HEADERS}: expected NAME=VALUE,NAME=VALUE"))?;
        let name = name.trim();
        let wrong =
            || format!("{HEADERS}: the header {name:?} has a name or a value that HTTP does not allow");
        let value = percent_decoded(value.trim()).with_context(wrong)?;
        let header: HeaderName = name.parse().with_context(wrong)?;
        let mut value = HeaderValue::from_bytes(&value).with_context(wrong)?;
        value.set_sensitive(true);
        Ok((header, value))
    });
    headers.collect()
}

/// Undoes percent-encoding (RFC 3986 §2.1).
pub(super) fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let byte = digit()? * 16 + digit()?;
        decoded.push(u8::try_from(byte).ok()?);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown() {
        for (scheme, address, shown) in [
            ("http://", "h", Some("http://h:4318")),
            ("http://", "h:1/", Some("http://h:1")),
            ("https://", "h:1/otlp/", Some("https://h:1/otlp")),
            ("grpc://", "[::1]", Some("grpc://[::1]:4317")),
            ("grpcs://", "h:443", Some("grpcs://h:443")),
            ("grpc://", "h/path", None),
            ("http://", "u:p@h", None),
            ("http://", "h:0", None),
            ("http://", "h:x", None),
            ("http://", "", None),
            ("http://", "h?q", None),
        ] {
            let read = Endpoint::read(scheme, address).map(|endpoint| endpoint.to_string());
            assert_eq!(read.as_deref(), shown, "{scheme}{address}");
        }
    }

    #[test]
    fn headers_are_decoded_and_never_shown() {
        let headers = read_headers("Authorization=Bearer%20secret, x-tenant = a ,").unwrap();
        assert_eq!(headers[0].0, "authorization");
        assert_eq!(headers[0].1, "Bearer secret");
        assert_eq!(headers[1].1, "a");
        assert!(!format!("{headers:?}").contains("secret"));
        for wrong in ["secret", "a=%zsecret", "a b=secret", "a=secret%0A"] {
            let error = read_headers(wrong).unwrap_err();
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
    }
}
