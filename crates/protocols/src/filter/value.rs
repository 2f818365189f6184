//! The values of fields.

use std::net::IpAddr;

/// A value of a field.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Number(i64),
    Seconds(f64),
    Text(&'a [u8]),
    /// Never an IPv4 address in IPv6 form.
    Address(IpAddr),
}

impl Value<'_> {
    /// A number; what is too large is the largest.
    pub(super) fn of_u64(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}
