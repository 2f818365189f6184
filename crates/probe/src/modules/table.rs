//! The kinds of capture. Adding one is adding its line here.

use super::{Module, secrets, shell, sql, tls};

/// In the order in which their probes are attached to a file. TLS stays the first:
/// [`Modules::TLS`](super::Modules::TLS).
pub(super) const MODULES: &[&Module] = &[
    &tls::TLS,
    &shell::BASH,
    &shell::ZSH,
    &secrets::SECRETS,
    &sql::MYSQLD,
    &sql::POSTGRES,
];
