//! Numbers and addresses as both formats write them, without the cost of formatting.

use std::io::Write;
use std::net::SocketAddr;

/// Appends decimal digits.
pub(super) fn push_number(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = decimal_digit(value % 10);
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// The last decimal digit of `value`.
pub(super) fn decimal_digit(value: u64) -> u8 {
    b"0123456789"[(value % 10) as usize]
}

/// Appends `a.b.c.d:port` or `[a:b::c]:port`.
pub(super) fn push_address(address: SocketAddr, out: &mut Vec<u8>) {
    match address {
        SocketAddr::V4(address) => {
            for (index, octet) in address.ip().octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                push_number(octet.into(), out);
            }
            out.push(b':');
            push_number(address.port().into(), out);
        }
        SocketAddr::V6(address) => {
            // Writing to a vector cannot fail.
            let _ = write!(out, "{address}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for value in [0, 9, 10, 12_345, u64::MAX] {
            let mut out = Vec::new();
            push_number(value, &mut out);
            assert_eq!(out, value.to_string().into_bytes());
        }
    }

    #[test]
    fn addresses() {
        for address in ["0.0.0.0:0", "10.20.255.1:65535", "[::1]:443", "[fe80::1%3]:1"] {
            let mut out = Vec::new();
            push_address(address.parse().unwrap(), &mut out);
            assert_eq!(out, address.as_bytes());
        }
    }
}
