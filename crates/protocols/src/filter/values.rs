//! Reads the right side of a comparison.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use memchr::memmem::Finder;
use regex::bytes::RegexBuilder;

use super::cursor::Parser;
use super::error::FilterError;
use super::evaluate::Condition;
use super::field::Kind;
use super::lexer::TokenKind;
use super::{MAX_DEPTH, MAX_ITEMS, MAX_REGEX_BYTES, MAX_REGEXES};

/// An operator between a field and a value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    /// Which of less, equal and greater fulfil it.
    Order([bool; 3]),
    /// Not equal.
    Different,
    Contains,
    Matches,
}

impl Parser<'_> {
    /// Reads the value after `operator`.
    pub(super) fn condition(&mut self, kind: Kind, operator: Operator) -> Result<Condition, FilterError> {
        let orders = match operator {
            Operator::Order(orders) => orders,
            Operator::Different => {
                let equal = self.condition(kind, Operator::Order([false, true, false]))?;
                return Ok(Condition::Not(Box::new(equal)));
            }
            Operator::Contains | Operator::Matches => return self.text_condition(kind, operator),
        };
        Ok(match kind {
            Kind::Presence | Kind::Text => Condition::Text {
                than: self.text_value()?,
                orders,
            },
            Kind::Flag => Condition::Number {
                than: self.flag()?,
                orders,
            },
            Kind::Number => Condition::Number {
                than: self.number()?,
                orders,
            },
            Kind::Seconds => Condition::Seconds {
                than: self.seconds()?,
                orders,
            },
            Kind::Ipv4 | Kind::Ipv6 => {
                if orders != [false, true, false] {
                    let problem = "addresses are compared with == and != only, or `in {10.0.0.1..10.0.0.9}`";
                    return Err(self.error_before(problem));
                }
                Condition::AddressIn(vec![self.network(kind)?])
            }
        })
    }

    fn text_condition(&mut self, kind: Kind, operator: Operator) -> Result<Condition, FilterError> {
        if kind != Kind::Text {
            return Err(self.error_before("only text can be searched with `contains` and `matches`"));
        }
        let text = self.text_value()?;
        if operator == Operator::Contains {
            return Ok(Condition::Contains(Box::new(Finder::new(&text).into_owned())));
        }
        self.regexes += 1;
        if self.regexes > MAX_REGEXES {
            return Err(self.error_before(format!("more than {MAX_REGEXES} regular expressions")));
        }
        let pattern = String::from_utf8_lossy(&text);
        let regex = RegexBuilder::new(&pattern)
            .case_insensitive(true)
            .size_limit(MAX_REGEX_BYTES)
            .dfa_size_limit(MAX_REGEX_BYTES)
            .nest_limit(u32::try_from(MAX_DEPTH).unwrap_or(u32::MAX))
            .build();
        regex.map(Condition::Matches).map_err(|error| {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim();
            self.error_before(format!("not a regular expression: {reason}"))
        })
    }

    /// Reads the set after `in`.
    pub(super) fn set(&mut self, kind: Kind) -> Result<Condition, FilterError> {
        if !self.take("{", "") {
            return Err(self.error("`{` is expected, as in `tcp.port in {80, 8000..8999}`"));
        }
        Ok(match kind {
            Kind::Presence => return Err(self.error_before("this field has no value")),
            Kind::Flag => Condition::NumberIn(self.items(Self::flag)?),
            Kind::Number => Condition::NumberIn(self.items(Self::number)?),
            Kind::Seconds => Condition::SecondsIn(self.items(Self::seconds)?),
            Kind::Text => Condition::TextIn(self.items(Self::text_value)?),
            Kind::Ipv4 | Kind::Ipv6 => {
                let ranges = self.items(|parser| parser.network(kind))?;
                let whole = ranges.into_iter().map(|((first, _), (_, last))| (first, last));
                Condition::AddressIn(whole.collect())
            }
        })
    }

    /// Reads values and ranges, with or without commas between them, up to the closing bracket.
    fn items<T: Clone>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, FilterError>,
    ) -> Result<Vec<(T, T)>, FilterError> {
        let mut items = Vec::new();
        loop {
            if items.len() == MAX_ITEMS {
                return Err(self.error(format!("more than {MAX_ITEMS} items")));
            }
            let from = read(self)?;
            let to = if self.take("..", "") {
                read(self)?
            } else {
                from.clone()
            };
            items.push((from, to));
            if self.take("}", "") {
                return Ok(items);
            }
            self.take(",", "");
            if self.peek() == &TokenKind::End {
                return Err(self.error("`}` is expected"));
            }
        }
    }

    pub(super) fn text_value(&mut self) -> Result<Vec<u8>, FilterError> {
        match self.advance() {
            TokenKind::Text(text) => Ok(text),
            TokenKind::Word(word) => bytes(word)
                .ok_or_else(|| self.error_before(format!("text is expected in double quotes: \"{word}\""))),
            TokenKind::Sign(_) | TokenKind::End => {
                Err(self.error_before("text is expected in double quotes"))
            }
        }
    }

    fn word(&mut self, expected: &str) -> Result<&str, FilterError> {
        match self.advance() {
            TokenKind::Word(word) => Ok(word),
            _ => Err(self.error_before(expected)),
        }
    }

    /// As in Wireshark, a number that begins with 0 is an octal one.
    fn number(&mut self) -> Result<i64, FilterError> {
        const EXPECTED: &str = "a number is expected";
        let word = self.word(EXPECTED)?;
        let (digits, radix) = match (word.strip_prefix("0x"), word.strip_prefix('0')) {
            (Some(digits), _) => (digits, 16),
            (None, Some(digits)) if !digits.is_empty() => (digits, 8),
            _ => (word, 10),
        };
        i64::from_str_radix(digits, radix).map_err(|_| self.error_before(EXPECTED))
    }

    fn flag(&mut self) -> Result<i64, FilterError> {
        match self.word("1 or 0 is expected")? {
            "1" | "true" | "True" | "TRUE" => Ok(1),
            "0" | "false" | "False" | "FALSE" => Ok(0),
            _ => Err(self.error_before("1 or 0 is expected")),
        }
    }

    fn seconds(&mut self) -> Result<f64, FilterError> {
        const EXPECTED: &str = "a number of seconds is expected, such as 0.25";
        let word = self.word(EXPECTED)?;
        let seconds = word.parse().ok().filter(|seconds: &f64| seconds.is_finite());
        seconds.ok_or_else(|| self.error_before(EXPECTED))
    }

    /// Reads an address or a network: its first and its last address.
    fn network(&mut self, kind: Kind) -> Result<(IpAddr, IpAddr), FilterError> {
        let (expected, other) = if kind == Kind::Ipv4 {
            (
                "an IPv4 address is expected, such as 10.0.0.1 or 10.0.0.0/8",
                "ipv6",
            )
        } else {
            ("an IPv6 address is expected, such as ::1 or 2001:db8::/32", "ip")
        };
        let word = self.word(expected)?;
        let (address, bits) = match word.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (word, None),
        };
        let range = match (kind, address.parse()) {
            (Kind::Ipv4, Ok(IpAddr::V4(address))) => prefix(bits, 32).map(|bits| {
                let rest = u32::MAX.checked_shr(bits).unwrap_or(0);
                let [first, last] = [address.to_bits() & !rest, address.to_bits() | rest];
                (
                    Ipv4Addr::from_bits(first).into(),
                    Ipv4Addr::from_bits(last).into(),
                )
            }),
            (Kind::Ipv6, Ok(IpAddr::V6(address))) => prefix(bits, 128).map(|bits| {
                let rest = u128::MAX.checked_shr(bits).unwrap_or(0);
                let [first, last] = [address.to_bits() & !rest, address.to_bits() | rest];
                (
                    Ipv6Addr::from_bits(first).into(),
                    Ipv6Addr::from_bits(last).into(),
                )
            }),
            (_, Ok(_)) => {
                return Err(self.error_before(format!("{expected}; for this one write {other}.addr")));
            }
            _ => None,
        };
        range.ok_or_else(|| self.error_before(expected))
    }
}

fn prefix(bits: Option<&str>, longest: u32) -> Option<u32> {
    bits.map_or(Some(longest), |bits| {
        bits.parse().ok().filter(|&bits| bits <= longest)
    })
}

/// Reads bytes as Wireshark writes them: `68:65:6c`.
fn bytes(word: &str) -> Option<Vec<u8>> {
    let byte = |digits: &str| {
        let is_byte = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        u8::from_str_radix(digits, 16).ok().filter(|_| is_byte)
    };
    word.contains(':').then(|| word.split(':').map(byte).collect())?
}
