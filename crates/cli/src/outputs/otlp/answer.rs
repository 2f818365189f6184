//! What a collector's response means (the OTLP specification, "OTLP/HTTP Response" and "OTLP/gRPC Response").

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ecapture_protocols::format::otlp;
use ecapture_protocols::printable;
use hyper::header::RETRY_AFTER;
use hyper::{HeaderMap, StatusCode};

use super::endpoint::percent_decoded;

/// Bytes of a collector's words that are shown.
const SHOWN: usize = 300;

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It was taken, but for so many of its spans or points, which are not to be sent again.
    Taken { rejected: u64, message: String },
    /// It is not to be sent again.
    Refused(String),
    /// It is to be sent again, after this time if there is one.
    Again { reason: String, after: Option<Duration> },
}

impl Answer {
    pub(super) fn again(reason: impl Into<String>) -> Self {
        Self::Again {
            reason: reason.into(),
            after: None,
        }
    }

    /// Reads the body of a response that says that the request was taken.
    fn taken(body: &[u8]) -> Self {
        let partial = otlp::partial_success(body).unwrap_or_default();
        Self::Taken {
            rejected: u64::try_from(partial.rejected).unwrap_or(0),
            message: shown(&partial.error_message),
        }
    }

    /// Of a response over HTTP.
    pub(super) fn of_http(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        if status.is_success() {
            return Self::taken(body);
        }
        let reason = format!("HTTP status {status}");
        if is_temporary(status) {
            let after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            return Self::Again {
                reason,
                after: after.and_then(|value| retry_after(value, SystemTime::now())),
            };
        }
        Self::Refused(reason)
    }

    /// Of a response over gRPC: `headers` of the response, or its trailers, with the status.
    pub(super) fn of_grpc(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        if !status.is_success() {
            let reason = format!("HTTP status {status}");
            return if is_temporary(status) {
                Self::again(reason)
            } else {
                Self::Refused(reason)
            };
        }
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let Some(code) = text("grpc-status").and_then(|code| code.parse::<u32>().ok()) else {
            return Self::again("the response has no gRPC status");
        };
        let details = text("grpc-status-details-bin").and_then(|details| {
            let details = details.trim_end_matches('=');
            STANDARD_NO_PAD
                .decode(details)
                .or_else(|_| STANDARD.decode(details))
                .ok()
        });
        let after = details.as_deref().and_then(otlp::retry_delay);
        let message = text("grpc-message").unwrap_or_default();
        let message = percent_decoded(message).unwrap_or_default();
        let message = shown(&String::from_utf8_lossy(&message));
        match code {
            // The message has a flag and a length before it.
            0 => Self::taken(body.get(5..).unwrap_or_default()),
            // CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS; RESOURCE_EXHAUSTED only
            // if the collector says when it will have room.
            1 | 4 | 10 | 11 | 14 | 15 => Self::Again {
                reason: format!("gRPC status {code}: {message}"),
                after,
            },
            8 if after.is_some() => Self::Again {
                reason: format!("gRPC status {code}: {message}"),
                after,
            },
            code => Self::Refused(format!("gRPC status {code}: {message}")),
        }
    }
}

/// The statuses after which a request is sent again.
fn is_temporary(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

/// Seconds, or a date (RFC 9110 §10.2.3).
fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// A collector's words, for the log.
fn shown(text: &str) -> String {
    let cut = &text[..text.floor_char_boundary(SHOWN)];
    printable(cut).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let fields = fields.iter().map(|(name, value)| {
            let name = hyper::header::HeaderName::from_static(name);
            (name, value.parse().unwrap())
        });
        fields.collect()
    }

    fn kind(answer: &Answer) -> (&'static str, Option<u64>) {
        match answer {
            Answer::Taken { rejected, .. } => ("taken", Some(*rejected)),
            Answer::Refused(_) => ("refused", None),
            Answer::Again { after, .. } => ("again", after.map(|after| after.as_secs())),
        }
    }

    #[test]
    fn statuses_of_http_mean_what_the_specification_says() {
        for (status, after, expected) in [
            (200, None, ("taken", Some(0))),
            (202, None, ("taken", Some(0))),
            (301, None, ("refused", None)),
            (400, None, ("refused", None)),
            (401, None, ("refused", None)),
            (404, None, ("refused", None)),
            (413, None, ("refused", None)),
            (429, Some("7"), ("again", Some(7))),
            (429, None, ("again", None)),
            (500, None, ("refused", None)),
            (502, None, ("again", None)),
            (503, Some("soon"), ("again", None)),
            (503, Some("Sun, 06 Nov 1994 08:49:37 GMT"), ("again", Some(0))),
            (504, None, ("again", None)),
        ] {
            let after: Vec<_> = after.map(|after| ("retry-after", after)).into_iter().collect();
            let status = StatusCode::from_u16(status).unwrap();
            let answer = Answer::of_http(status, &headers(&after), b"");
            assert_eq!(kind(&answer), expected, "{status}");
        }
    }

    #[test]
    fn a_date_is_waited_for() {
        let date = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let now = date - Duration::from_secs(30);
        assert_eq!(
            retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now),
            Some(Duration::from_secs(30))
        );
    }

    #[test]
    fn statuses_of_grpc_mean_what_the_specification_says() {
        // RetryInfo with a delay of 3 s.
        let details = "CA4aMgoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIGCg\
                       QIAxAA";
        for (code, details, expected) in [
            ("0", None, ("taken", Some(0))),
            ("1", None, ("again", None)),
            ("3", None, ("refused", None)),
            ("7", None, ("refused", None)),
            ("8", None, ("refused", None)),
            ("12", None, ("refused", None)),
            ("14", None, ("again", None)),
            ("14", Some(details), ("again", Some(3))),
            ("8", Some(details), ("again", Some(3))),
            ("16", None, ("refused", None)),
        ] {
            let mut fields = vec![("grpc-status", code)];
            fields.extend(details.map(|details| ("grpc-status-details-bin", details)));
            let answer = Answer::of_grpc(StatusCode::OK, &headers(&fields), b"");
            assert_eq!(kind(&answer), expected, "{code}");
        }
        let answer = Answer::of_grpc(StatusCode::OK, &HeaderMap::new(), b"");
        assert_eq!(kind(&answer), ("again", None));
        let answer = Answer::of_grpc(StatusCode::NOT_FOUND, &HeaderMap::new(), b"");
        assert_eq!(kind(&answer), ("refused", None));
    }

    #[test]
    fn a_partial_success_is_counted() {
        // partial_success { rejected_spans: 2, error_message: "no\n" }
        let body = b"\x0a\x07\x08\x02\x12\x03no\n";
        let expected = Answer::Taken {
            rejected: 2,
            message: "no\\n".to_owned(),
        };
        assert_eq!(Answer::of_http(StatusCode::OK, &HeaderMap::new(), body), expected);
        let framed = [&[0, 0, 0, 0, 9][..], body].concat();
        let status = headers(&[("grpc-status", "0")]);
        assert_eq!(Answer::of_grpc(StatusCode::OK, &status, &framed), expected);
    }
}
