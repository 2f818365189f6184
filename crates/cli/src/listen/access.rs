//! Decides which requests are answered.
//!
//! A page of another site in a browser on this host can send requests to loopback addresses. It cannot forge the
//! `Origin`, which must be this host's. By a name of its own that resolves to a loopback address (DNS rebinding) it
//! could also read the replies, so the `Host` must be one of ours. Against programs of other users, which can
//! send anything, there is the token.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::socket::Socket;
use crate::settings::ListenSettings;
use crate::web_origin;

/// The conditions that a request must meet.
#[derive(Debug, Clone)]
pub(super) enum Access {
    /// A connection that the kernel has vouched for.
    Everything,
    Tcp {
        bound: SocketAddr,
        allowed_hosts: Vec<String>,
        token: String,
    },
}

/// Bytes of a token that nobody chose.
const TOKEN_BYTES: usize = 16;

/// The path that needs no token: it says only that the program runs.
const WITHOUT_TOKEN: &str = "/healthz";

impl Access {
    /// Makes a token if one is needed and none was given, and prints it.
    pub(super) fn new(socket: &Socket, settings: &ListenSettings) -> io::Result<Self> {
        let Socket::Tcp(_, bound) = socket else {
            return Ok(Self::Everything);
        };
        let token = match &settings.token {
            Some(token) => token.clone(),
            None => random_token()?,
        };
        if settings.token.is_none() {
            print_token(&socket.name(), &token);
        }
        Ok(Self::Tcp {
            bound: *bound,
            allowed_hosts: settings.allowed_hosts.clone(),
            token,
        })
    }

    fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let Self::Tcp { token, .. } = self else {
            return Ok(());
        };
        let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
        if !host.is_some_and(|host| self.is_own_host(web_origin::without_port(host))) {
            return Err(Refusal::ForeignHost);
        }
        if let Some(origin) = headers.get(header::ORIGIN) {
            let origin = origin.to_str().ok().and_then(web_origin::host);
            if !origin.is_some_and(|host| self.is_own_host(host)) {
                return Err(Refusal::ForeignOrigin);
            }
        }
        if uri.path() == WITHOUT_TOKEN || given_token(uri, headers).is_some_and(|given| is_same(given, token))
        {
            return Ok(());
        }
        Err(Refusal::NoToken)
    }

    fn is_own_host(&self, host: &str) -> bool {
        let Self::Tcp {
            bound, allowed_hosts, ..
        } = self
        else {
            return true;
        };
        let host = host.to_ascii_lowercase();
        let number = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>();
        host == "localhost"
            || number.is_ok_and(|address| address.is_loopback() || address == bound.ip())
            || allowed_hosts.contains(&host)
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    ForeignHost,
    ForeignOrigin,
    NoToken,
}

impl Refusal {
    fn response(self) -> Response {
        let (status, message) = match self {
            Self::ForeignHost => (
                StatusCode::FORBIDDEN,
                "this host name is not known here; use localhost, or start ecapture with --allow-host NAME\n",
            ),
            Self::ForeignOrigin => (
                StatusCode::FORBIDDEN,
                "requests of pages of other sites are refused\n",
            ),
            Self::NoToken => (
                StatusCode::UNAUTHORIZED,
                "a token is needed: `Authorization: Bearer TOKEN` or `?token=TOKEN`; ecapture prints it when it starts, \
                 or takes it from --listen-token\n",
            ),
        };
        let response = (status, message).into_response();
        if self == Self::NoToken {
            return ([(header::WWW_AUTHENTICATE, "Bearer")], response).into_response();
        }
        response
    }
}

/// Lets a request through, or answers it.
pub(super) async fn guard(State(access): State<Access>, request: Request, next: Next) -> Response {
    match access.check(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            // Any user of this host can cause one.
            tracing::debug!(
                "--listen: a request to {} was refused: {refusal:?}",
                request.uri().path()
            );
            refusal.response()
        }
    }
}

fn given_token<'request>(uri: &'request Uri, headers: &'request HeaderMap) -> Option<&'request str> {
    let header = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let bearer = header.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    bearer.or_else(|| {
        let parameters = uri.query()?.split('&');
        parameters
            .into_iter()
            .find_map(|parameter| parameter.strip_prefix("token="))
    })
}

/// Takes the same time wherever the first difference is.
fn is_same(given: &str, token: &str) -> bool {
    let differences = given
        .bytes()
        .zip(token.bytes())
        .fold(0, |sum, (one, other)| sum | (one ^ other));
    given.len() == token.len() && std::hint::black_box(differences) == 0
}

fn random_token() -> io::Result<String> {
    let mut bytes = [0; TOKEN_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

/// Prints the token on standard error alone: log targets and eCaptureQ clients must not get it.
fn print_token(name: &str, token: &str) {
    let mut standard_error = io::stderr();
    // Without a reader there is nobody to use it.
    let _ = writeln!(standard_error, "--listen: {name}/status?token={token}");
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn check(uri: &str, fields: &[(header::HeaderName, &'static str)]) -> Result<(), Refusal> {
        let access = Access::Tcp {
            bound: "127.0.0.1:28256".parse().expect("an address"),
            allowed_hosts: vec!["proxy.example".to_owned()],
            token: TOKEN.to_owned(),
        };
        let fields = fields
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
        access.check(&uri.parse().expect("a URI"), &fields.collect())
    }

    #[test]
    fn only_names_of_this_host_are_answered() {
        for host in [
            "localhost",
            "LOCALHOST:28256",
            "127.0.0.1:28256",
            "[::1]:1",
            "127.0.0.2",
            "proxy.example:443",
        ] {
            assert_eq!(check("/healthz", &[(header::HOST, host)]), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "192.0.2.1",
            "",
            "127.0.0.1.evil.example",
            "[::2]:1",
        ] {
            assert_eq!(
                check("/healthz", &[(header::HOST, host)]),
                Err(Refusal::ForeignHost),
                "{host}"
            );
        }
        assert_eq!(check("/healthz", &[]), Err(Refusal::ForeignHost));
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let with = |origin| {
            check(
                "/healthz",
                &[(header::HOST, "localhost"), (header::ORIGIN, origin)],
            )
        };
        assert_eq!(with("http://localhost:28256"), Ok(()));
        assert_eq!(with("https://proxy.example"), Ok(()));
        for origin in ["http://evil.example", "null", "", "http://127.0.0.1@evil.example"] {
            assert_eq!(with(origin), Err(Refusal::ForeignOrigin), "{origin}");
        }
    }

    #[test]
    fn the_token_is_in_the_header_or_in_the_query() {
        const HOST: (header::HeaderName, &str) = (header::HOST, "localhost");
        let bearer = |value| check("/status", &[HOST, (header::AUTHORIZATION, value)]);
        assert_eq!(bearer("Bearer 0123456789abcdef"), Ok(()));
        assert_eq!(bearer("bearer  0123456789abcdef"), Ok(()));
        assert_eq!(check("/status?a=b&token=0123456789abcdef", &[HOST]), Ok(()));
        for wrong in [
            "Bearer",
            "Bearer x",
            "Basic 0123456789abcdef",
            "Bearer 0123456789abcdef0",
        ] {
            assert_eq!(bearer(wrong), Err(Refusal::NoToken), "{wrong}");
        }
        for wrong in [
            "/status",
            "/status?token=",
            "/status?xtoken=0123456789abcdef",
            "/healthz/",
        ] {
            assert_eq!(check(wrong, &[HOST]), Err(Refusal::NoToken), "{wrong}");
        }
    }

    #[test]
    fn tokens_are_random() {
        let one = random_token().expect("a token");
        assert_eq!(one.len(), 2 * TOKEN_BYTES);
        assert_ne!(one, random_token().expect("a token"));
    }
}
