//! The options after the commas of `-o`: `on-error=POLICY`, and when a file is rotated.

use std::time::Duration;

use ecapture_actors::SinkPolicy;

use crate::args::GlobalArgs;
use crate::outputs::Rotation;
use crate::usage::UsageError;

const EXPECTED: &str = "after the commas on-error=stop, on-error=drop or on-error=retry, rotate-size=100M (K, M, G), \
                        rotate-age=1h (s, m, h, d), keep=5, chain, gzip, and redact or no-redact, each at most once, and then filter=EXPRESSION";

const MEBIBYTE: u64 = 1024 * 1024;

/// The options of one output.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct OutputOptions {
    pub(super) policy: Option<SinkPolicy>,
    pub(super) rotation: Option<Rotation>,
    /// The lines of the file are a chain.
    pub(super) chain: bool,
    /// Secrets are masked, or are not.
    pub(super) redact: Option<bool>,
    /// What is sent is compressed.
    pub(super) gzip: bool,
    /// The expression of `filter=`.
    pub(super) filter: Option<String>,
}

impl OutputOptions {
    /// Takes the options off the end of a value of `-o`; returns the rest too.
    pub(super) fn take(value: &str) -> Result<(&str, Self), UsageError> {
        let wrong = |expected| UsageError::Value {
            flag: "-o",
            expected,
            observed: value.into(),
        };
        let mut options = Self::default();
        let mut rest = value;
        // An expression may have commas, so it comes last.
        if let Some((before, filter)) = value.split_once(",filter=") {
            options.filter = Some(filter.to_owned());
            rest = before;
        }
        while let Some((before, option)) = rest.rsplit_once(',') {
            if option == "chain" && !options.chain {
                options.chain = true;
                rest = before;
                continue;
            }
            if let ("redact" | "no-redact", None) = (option, options.redact) {
                options.redact = Some(option == "redact");
                rest = before;
                continue;
            }
            if option == "gzip" && !options.gzip {
                options.gzip = true;
                rest = before;
                continue;
            }
            // A word and a value: an option, or one that was mistyped, not the end of a file's name.
            let Some((key, argument)) = option.split_once('=').filter(|(key, _)| is_word(key)) else {
                break;
            };
            options.set(key, argument).ok_or_else(|| wrong(EXPECTED))?;
            rest = before;
        }
        if let Some(rotation) = &options.rotation
            && rotation.size.is_none()
            && rotation.age.is_none()
        {
            return Err(wrong("rotate-size= or rotate-age= beside keep="));
        }
        Ok((rest, options))
    }

    /// `None` when there is no such option, or it has another value, or was given before.
    fn set(&mut self, key: &str, argument: &str) -> Option<()> {
        if key == "on-error" {
            let policy = match argument {
                "stop" => SinkPolicy::Stop,
                "drop" => SinkPolicy::Drop,
                "retry" => SinkPolicy::Retry,
                _ => return None,
            };
            return set_once(&mut self.policy, policy);
        }
        let rotation = self.rotation.get_or_insert_default();
        match key {
            "rotate-size" => set_once(&mut rotation.size, bytes(argument)?),
            "rotate-age" => set_once(&mut rotation.age, age(argument)?),
            "keep" => set_once(&mut rotation.keep, argument.parse().ok()?),
            _ => None,
        }
    }
}

/// Sets an option that has not been set before; `None` if it has.
fn set_once<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    slot.replace(value).is_none().then_some(())
}

/// The rotation that `--eventroratesize` (MiB) and `--eventroratetime` (seconds) ask for; 0 is none, as the
/// original's default.
pub(super) fn original_rotation(global: &GlobalArgs) -> Option<Rotation> {
    let size = global.eventroratesize.filter(|&size| size > 0);
    let age = global.eventroratetime.filter(|&age| age > 0);
    (size.is_some() || age.is_some()).then(|| Rotation {
        size: size.map(|size| u64::from(size) * MEBIBYTE),
        age: age.map(|age| Duration::from_secs(age.into())),
        keep: None,
    })
}

fn is_word(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

/// `100M` and the like: bytes, at least 1.
fn bytes(text: &str) -> Option<u64> {
    let units = [('K', 1024), ('M', MEBIBYTE), ('G', 1024 * MEBIBYTE)];
    with_unit(text, &units)
}

/// `1h` and the like: at least a second.
fn age(text: &str) -> Option<Duration> {
    let units = [('s', 1), ('m', 60), ('h', 3600), ('d', 24 * 3600)];
    if !text.ends_with(|unit| units.iter().any(|(known, _)| *known == unit)) {
        return None;
    }
    with_unit(text, &units).map(Duration::from_secs)
}

fn with_unit(text: &str, units: &[(char, u64)]) -> Option<u64> {
    let unit = units.iter().find(|(unit, _)| text.ends_with(*unit));
    let (digits, factor) = match unit {
        Some((unit, factor)) => (text.strip_suffix(*unit)?, *factor),
        None => (text, 1),
    };
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|&number| number > 0 && is_number)?;
    number.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotation(value: &str) -> Rotation {
        let (_, options) = OutputOptions::take(value).unwrap();
        options.rotation.unwrap()
    }

    #[test]
    fn sizes_and_ages_have_units() {
        for (text, size) in [("1", 1), ("5K", 5 << 10), ("100M", 100 << 20), ("2G", 2 << 30)] {
            let rotation = rotation(&format!("text:f,rotate-size={text}"));
            assert_eq!(rotation.size, Some(size), "{text}");
        }
        for (text, seconds) in [("1s", 1), ("2m", 120), ("1h", 3600), ("7d", 7 * 86400)] {
            let rotation = rotation(&format!("text:f,rotate-age={text}"));
            assert_eq!(rotation.age, Some(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn options_are_in_any_order_behind_a_name_that_may_have_commas() {
        let value = "jsonl:a,b,keep=3,rotate-age=1m,on-error=drop,rotate-size=1K";
        let (rest, options) = OutputOptions::take(value).unwrap();
        assert_eq!(rest, "jsonl:a,b");
        assert_eq!(options.policy, Some(SinkPolicy::Drop));
        let expected = Rotation {
            size: Some(1024),
            age: Some(Duration::from_mins(1)),
            keep: Some(3),
        };
        assert_eq!(options.rotation, Some(expected));
    }

    #[test]
    fn a_wrong_option_is_named() {
        for option in [
            "rotate-size=",
            "rotate-size=0",
            "rotate-size=1T",
            "rotate-size=1k",
            "rotate-size=+1",
            "rotate-size=99999999999G",
            "rotate-age=5",
            "rotate-age=1w",
            "rotate-age=0s",
            "keep=-1",
            "keep=2",
            "rotatesize=1M",
            "on-error=wait",
            "rotate-size=1K,rotate-size=2K",
            "on-error=drop,on-error=stop",
        ] {
            let value = format!("text:f,{option}");
            let error = OutputOptions::take(&value).unwrap_err().to_string();
            assert!(error.contains("rotate-size="), "{option}: {error}");
            assert!(error.contains(option), "{option}: {error}");
        }
    }
}
