//! A compiled expression and its value for a message.

use std::net::IpAddr;

use memchr::memmem::Finder;
use regex::bytes::Regex;

use super::field::Field;
use super::operand::Operand;
use super::subject::Subject;
use super::value::Value;

/// A part of an expression.
#[derive(Debug, Clone)]
pub(super) enum Test {
    All(Vec<Test>),
    Any(Vec<Test>),
    /// One of both, and not the other.
    One(Box<[Test; 2]>),
    Not(Box<Test>),
    /// The field has a value.
    Has(Field),
    /// One of the values fulfils the condition.
    Some(Operand, Condition),
    /// All of the values do.
    Every(Operand, Condition),
    /// The text is somewhere in the message.
    Anywhere(Finder<'static>),
}

/// A condition on one value.
#[derive(Debug, Clone)]
pub(super) enum Condition {
    /// A number compared with one of the three orders that fulfil it: less, equal, greater.
    Number {
        than: i64,
        orders: [bool; 3],
    },
    Seconds {
        than: f64,
        orders: [bool; 3],
    },
    Text {
        than: Vec<u8>,
        orders: [bool; 3],
    },
    Contains(Box<Finder<'static>>),
    Matches(Regex),
    /// In one of these ranges, ends included.
    NumberIn(Vec<(i64, i64)>),
    SecondsIn(Vec<(f64, f64)>),
    TextIn(Vec<(Vec<u8>, Vec<u8>)>),
    AddressIn(Vec<(IpAddr, IpAddr)>),
    Not(Box<Condition>),
}

impl Test {
    pub(super) fn verdict(&self, subject: &Subject<'_>) -> Option<bool> {
        self.combine(&|test: &Self| match test {
            Self::Has(field) => subject.has(field),
            Self::Some(operand, condition) => some(condition, |take| operand.each(subject, take)),
            Self::Every(operand, condition) => every(condition, |take| operand.each(subject, take)),
            Self::Anywhere(text) => Some(subject.contains(text)),
            Self::All(_) | Self::Any(_) | Self::One(_) | Self::Not(_) => None,
        })
    }

    /// Evaluates it with a function that evaluates the tests without tests in them. By Kleene's logic a result that
    /// is known without some of them is the same whatever those are.
    pub(super) fn combine(&self, single: &impl Fn(&Self) -> Option<bool>) -> Option<bool> {
        match self {
            Self::All(tests) => decide(tests, single, false),
            Self::Any(tests) => decide(tests, single, true),
            Self::One(tests) => {
                let [one, other] = &**tests;
                Some(one.combine(single)? != other.combine(single)?)
            }
            Self::Not(test) => test.combine(single).map(|verdict| !verdict),
            test => single(test),
        }
    }

    pub(super) fn needs_response(&self) -> bool {
        self.any_field(Field::is_of_response, false)
    }

    pub(super) fn needs_exchange(&self) -> bool {
        self.any_field(|field| !field.is_of_connection(), true)
    }

    pub(super) fn reads_content(&self) -> bool {
        self.any_field(Field::is_of_content, true)
    }

    /// Returns true if `is_it` is true of a field, or there is a text that is searched for and `anywhere` is true.
    pub(super) fn any_field(&self, is_it: fn(&Field) -> bool, anywhere: bool) -> bool {
        match self {
            Self::All(tests) | Self::Any(tests) => tests.iter().any(|test| test.any_field(is_it, anywhere)),
            Self::One(tests) => tests.iter().any(|test| test.any_field(is_it, anywhere)),
            Self::Not(test) => test.any_field(is_it, anywhere),
            Self::Has(field) => is_it(field),
            Self::Some(operand, _) | Self::Every(operand, _) => is_it(&operand.field),
            Self::Anywhere(_) => anywhere,
        }
    }
}

/// One test with the value `decisive` decides; otherwise an unknown one prevents a decision.
fn decide(tests: &[Test], single: &impl Fn(&Test) -> Option<bool>, decisive: bool) -> Option<bool> {
    let mut result = Some(!decisive);
    for test in tests {
        match test.combine(single) {
            Some(verdict) if verdict == decisive => return Some(decisive),
            Some(_) => {}
            None => result = None,
        }
    }
    result
}

/// Returns true if one of the values fulfils the condition, and nothing if there is no value.
pub(super) fn some(condition: &Condition, each: impl FnOnce(&mut dyn FnMut(&Value<'_>))) -> Option<bool> {
    let (mut found, mut any) = (false, false);
    each(&mut |value| {
        any = true;
        found = found || condition.holds(value);
    });
    any.then_some(found)
}

/// The same if all of them do.
pub(super) fn every(condition: &Condition, each: impl FnOnce(&mut dyn FnMut(&Value<'_>))) -> Option<bool> {
    let (mut all, mut any) = (true, false);
    each(&mut |value| {
        any = true;
        all = all && condition.holds(value);
    });
    any.then_some(all)
}

impl Condition {
    fn holds(&self, value: &Value<'_>) -> bool {
        match (self, *value) {
            (Self::Not(condition), _) => !condition.holds(value),
            (Self::Number { than, orders }, Value::Number(number)) => orders[order(number.cmp(than))],
            (Self::Seconds { than, orders }, Value::Seconds(seconds)) => seconds
                .partial_cmp(than)
                .is_some_and(|ordering| orders[order(ordering)]),
            (Self::Text { than, orders }, Value::Text(text)) => orders[order(text.cmp(than))],
            (Self::Contains(part), Value::Text(text)) => part.find(text).is_some(),
            (Self::Matches(regex), Value::Text(text)) => regex.is_match(text),
            (Self::NumberIn(ranges), Value::Number(number)) => is_in(ranges, &number),
            (Self::SecondsIn(ranges), Value::Seconds(seconds)) => is_in(ranges, &seconds),
            (Self::TextIn(ranges), Value::Text(text)) => ranges
                .iter()
                .any(|(from, to)| from.as_slice() <= text && text <= to.as_slice()),
            (Self::AddressIn(ranges), Value::Address(address)) => is_in(ranges, &address),
            _ => false,
        }
    }
}

fn is_in<T: PartialOrd>(ranges: &[(T, T)], value: &T) -> bool {
    ranges.iter().any(|(from, to)| from <= value && value <= to)
}

const fn order(ordering: std::cmp::Ordering) -> usize {
    match ordering {
        std::cmp::Ordering::Less => 0,
        std::cmp::Ordering::Equal => 1,
        std::cmp::Ordering::Greater => 2,
    }
}
