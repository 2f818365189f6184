//! The host in `Host` and `Origin`, which distinguish pages of other sites from programs.

/// The host of `scheme://host:port/`.
pub(crate) fn host(origin: &str) -> Option<&str> {
    let (_, rest) = origin.split_once("://")?;
    rest.split('/').next().map(without_port)
}

/// The host of `host:port`; an IPv6 address keeps its brackets.
pub(crate) fn without_port(authority: &str) -> &str {
    let end = authority
        .rfind(':')
        .filter(|&colon| !authority[colon..].contains(']'));
    &authority[..end.unwrap_or(authority.len())]
}
