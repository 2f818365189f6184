//! Rewrites a head that strict recipients reject so that the parser can read it, in place and
//! without moving the values of fields.

use memchr::memchr;

use crate::http1::head::Side;
use crate::http1::recognize;
use crate::message::Anomaly;

/// Returns a copy of `head` with folded lines joined (RFC 9112 §5.2), spaces before colons moved
/// after them (§5.1), and control characters in field lines and invalid bytes in the target
/// replaced, together with the anomalies found.
pub(super) fn normalise(head: &[u8], side: Side) -> (Vec<u8>, Vec<Anomaly>) {
    let mut plain = head.to_vec();
    let mut anomalies = Vec::new();
    let fields_start = memchr(b'\n', &plain).map_or(plain.len(), |end| end + 1);
    let (start_line, fields) = plain.split_at_mut(fields_start);
    if side == Side::Requests && replace_in_target(start_line) {
        anomalies.push(Anomaly::BadTarget);
    }
    if unfold(fields) {
        anomalies.push(Anomaly::ObsFold);
    }
    let mut bad_line = false;
    let mut spaced = false;
    for line in fields.split_mut(|&byte| byte == b'\n') {
        let content = line.strip_suffix(b"\r").map_or(line.len(), <[u8]>::len);
        let line = &mut line[..content];
        bad_line |= replace_controls(line);
        match memchr(b':', line) {
            None => bad_line |= !line.is_empty(),
            Some(colon) => {
                spaced |= move_colon(&mut line[..=colon]);
                bad_line |= !is_token(line);
            }
        }
    }
    if spaced {
        anomalies.push(Anomaly::SpaceBeforeColon);
    }
    if bad_line {
        anomalies.push(Anomaly::BadFieldLine);
    }
    (plain, anomalies)
}

/// Replaces invalid bytes in the target: everything between the method and the version (RFC 9112
/// §3).
fn replace_in_target(start_line: &mut [u8]) -> bool {
    let Some(first) = memchr(b' ', start_line) else {
        return false;
    };
    let Some(last) = memchr::memrchr(b' ', start_line).filter(|&last| last > first) else {
        return false;
    };
    let odd = start_line[first + 1..last]
        .iter_mut()
        .filter(|byte| !byte.is_ascii_graphic());
    odd.map(|byte| *byte = b'?').count() > 0
}

/// Turns the line end before a line that begins with white space into spaces.
fn unfold(fields: &mut [u8]) -> bool {
    let mut folded = false;
    for index in 0..fields.len().saturating_sub(1) {
        if fields[index] == b'\n' && matches!(fields[index + 1], b' ' | b'\t') {
            folded = true;
            fields[index] = b' ';
            if index > 0 && fields[index - 1] == b'\r' {
                fields[index - 1] = b' ';
            }
        }
    }
    folded
}

/// `name  :` becomes `name:  `.
fn move_colon(name: &mut [u8]) -> bool {
    let colon = name.len() - 1;
    let end = name[..colon]
        .iter()
        .rposition(|byte| !matches!(byte, b' ' | b'\t'))
        .map_or(0, |last| last + 1);
    name.swap(end, colon);
    end < colon
}

fn is_token(line: &[u8]) -> bool {
    let name = memchr(b':', line).map_or(line, |colon| &line[..colon]);
    !name.is_empty() && name.iter().all(|&byte| recognize::is_token_byte(byte))
}

fn replace_controls(line: &mut [u8]) -> bool {
    let mut replaced = false;
    for byte in line
        .iter_mut()
        .filter(|byte| (**byte < b' ' && **byte != b'\t') || **byte == 0x7F)
    {
        *byte = b'?';
        replaced = true;
    }
    replaced
}
