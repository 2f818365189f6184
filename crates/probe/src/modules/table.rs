//! The kinds of capture. Adding one is adding its line here.

use super::{Module, tls};

/// In the order in which their probes are attached to a file.
pub(super) static MODULES: &[&Module] = &[&tls::TLS];
