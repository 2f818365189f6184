//! What is printed: `--filter`, `filter=` of an output, and the words before `--`.

use std::net::IpAddr;
use std::sync::Arc;

use ecapture_protocols::Filter;

use crate::usage::UsageError;

/// Compiles an expression that `flag` has.
pub(super) fn parse(flag: &'static str, text: &str) -> Result<Arc<Filter>, UsageError> {
    let parsed = Filter::parse(text);
    parsed
        .map(Arc::new)
        .map_err(|error| UsageError::FilterText { flag, error })
}

/// Compiles the `filter=` of an output. A format that has everything takes none.
pub(super) fn of_output(
    text: Option<&str>,
    format: &str,
    has_everything: bool,
) -> Result<Option<Arc<Filter>>, UsageError> {
    if has_everything && text.is_some() {
        return Err(UsageError::Outputs {
            flag: "-o",
            problem: format!("{format} has everything that is captured"),
            instead: "use --filter with `ecapture replay`".to_owned(),
        });
    }
    text.map(|text| parse("-o", text)).transpose()
}

/// Returns a filter that selects what both select.
pub(super) fn both(
    one: Option<&Arc<Filter>>,
    other: Option<&Arc<Filter>>,
) -> Result<Option<Arc<Filter>>, UsageError> {
    match (one, other) {
        (Some(one), Some(other)) => {
            let text = format!("({}) and ({})", one.as_str(), other.as_str());
            parse("--filter", &text).map(Some)
        }
        (one, other) => Ok(one.or(other).cloned()),
    }
}

/// Translates the original's packet filter, as far as it is about the addresses of connections:
/// `tcp port 8443 and host 10.0.0.1`. Without words there is none.
pub(crate) fn of_words(words: &[String]) -> Result<Option<Arc<Filter>>, UsageError> {
    let text = words.join(" ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut rest = words.as_slice();
    let mut expression = Vec::new();
    while let [first, after @ ..] = rest {
        rest = after;
        let part = match *first {
            "and" | "&&" => "and".to_owned(),
            "or" | "||" => "or".to_owned(),
            "not" | "!" => "not".to_owned(),
            "(" | ")" => (*first).to_owned(),
            _ => {
                let (primitive, after) =
                    primitive(first, after).ok_or_else(|| UsageError::Filter((*first).to_owned()))?;
                rest = after;
                primitive
            }
        };
        expression.push(part);
    }
    if expression.is_empty() {
        return Ok(None);
    }
    let filter = Filter::parse(&expression.join(" "));
    // The positions are those of another text.
    let filter = filter.map_err(|_| UsageError::Filter(words.join(" ")))?;
    Ok(Some(Arc::new(filter)))
}

/// Translates one primitive of pcap-filter(7). Returns it with the words after it.
fn primitive<'a>(first: &str, after: &'a [&'a str]) -> Option<(String, &'a [&'a str])> {
    let (protocol, mut word, mut rest) = match first {
        // Connections with TLS are TCP.
        "tcp" | "ip" | "ip6" => (true, after.first().copied(), after.get(1..).unwrap_or_default()),
        _ => (false, Some(first), after),
    };
    let is_alone = matches!(word, None | Some("and" | "&&" | "or" | "||" | ")"));
    if protocol && is_alone {
        let field = match first {
            "tcp" => "tcp",
            "ip" => "ip",
            _ => "ipv6",
        };
        return Some((field.to_owned(), after));
    }
    let side = word.filter(|word| matches!(*word, "src" | "dst"));
    if side.is_some() {
        (word, rest) = (rest.first().copied(), rest.get(1..)?);
    }
    let (kind, value, rest) = match word? {
        kind @ ("host" | "net" | "port" | "portrange") => (kind, *rest.first()?, rest.get(1..)?),
        address if side.is_some() => ("host", address, rest),
        _ => return None,
    };
    let field = |all: &str, source: &str, destination: &str| match side {
        None => all.to_owned(),
        Some("src") => source.to_owned(),
        Some(_) => destination.to_owned(),
    };
    let port = || field("tcp.port", "tcp.srcport", "tcp.dstport");
    let text = match kind {
        "port" => format!("{} == {}", port(), value.parse::<u16>().ok()?),
        "portrange" => {
            let (from, to) = value.split_once('-')?;
            let (from, to): (u16, u16) = (from.parse().ok()?, to.parse().ok()?);
            format!("{} in {{{from}..{to}}}", port())
        }
        _ => {
            let field = match value.split('/').next()?.parse().ok()? {
                IpAddr::V4(_) => field("ip.addr", "ip.src", "ip.dst"),
                IpAddr::V6(_) => field("ipv6.addr", "ipv6.src", "ipv6.dst"),
            };
            format!("{field} == {value}")
        }
    };
    Some((text, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(words: &str) -> Option<String> {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let filter = of_words(&words).ok()??;
        Some(filter.as_str().to_owned())
    }

    #[test]
    fn packet_filters_of_addresses_are_translated() {
        for (words, expression) in [
            ("tcp port 8443", "tcp.port == 8443"),
            (
                "tcp port 8443 and host 10.0.0.1",
                "tcp.port == 8443 and ip.addr == 10.0.0.1",
            ),
            (
                "src host ::1 or dst port 443",
                "ipv6.src == ::1 or tcp.dstport == 443",
            ),
            ("not (net 10.0.0.0/8)", "not ( ip.addr == 10.0.0.0/8 )"),
            ("dst 1.2.3.4", "ip.dst == 1.2.3.4"),
            ("tcp and portrange 80-90", "tcp and tcp.port in {80..90}"),
            (
                "ip6 and not (ip or host ::1)",
                "ipv6 and not ( ip or ipv6.addr == ::1 )",
            ),
        ] {
            assert_eq!(translated(words).as_deref(), Some(expression), "{words}");
        }
    }

    #[test]
    fn other_words_are_refused() {
        for words in [
            "udp port 53",
            "curl https://a",
            "host a.example",
            "port x",
            "tcp port",
            "and",
            "port 1 port 2",
        ] {
            assert_eq!(translated(words), None, "{words}");
        }
    }
}
