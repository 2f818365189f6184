//! Paths without what differs between calls of one kind.

/// Longest template; what is beyond is cut.
const LONGEST: usize = 120;

/// Appends the path of a request target without its query, with `{id}` for each segment that looks like an
/// identifier: a number, a UUID, or a long word of hexadecimal digits or with digits in it.
pub(super) fn push(target: &str, out: &mut String) {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let start = out.len();
    for (index, segment) in path.split('/').enumerate() {
        if index > 0 {
            out.push('/');
        }
        out.push_str(if is_identifier(segment) { "{id}" } else { segment });
        if out.len() - start > LONGEST {
            let mut end = start + LONGEST;
            while !out.is_char_boundary(end) {
                end -= 1;
            }
            out.truncate(end);
            return out.push('…');
        }
    }
}

fn is_identifier(segment: &str) -> bool {
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    let is_hexadecimal = segment
        .bytes()
        .all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    let is_plain = !segment.contains('.');
    digits > 0
        && (digits == segment.len()
            || is_hexadecimal && segment.len() >= 8
            || is_plain && digits >= 3 && segment.len() >= 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_in_paths_are_one() {
        for (path, template) in [
            ("/users/1234/orders/99?x=1", "/users/{id}/orders/{id}"),
            ("/v1/items", "/v1/items"),
            ("/o/550e8400-e29b-41d4-a716-446655440000", "/o/{id}"),
            ("/blob/deadbeef01", "/blob/{id}"),
            ("/facade/decade", "/facade/decade"),
            ("/t/cus_4fj39fkd02jdk3", "/t/{id}"),
            ("/jquery-3.7.1.min.js", "/jquery-3.7.1.min.js"),
            ("*", "*"),
            ("", ""),
        ] {
            let mut out = String::new();
            push(path, &mut out);
            assert_eq!(out, template, "{path}");
        }
    }

    #[test]
    fn a_long_path_is_cut_between_characters() {
        let mut out = String::new();
        push(&format!("/{}", "ü".repeat(500)), &mut out);
        assert!(out.ends_with('…') && out.len() < LONGEST + 4);
    }
}
