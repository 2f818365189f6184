//! Which TLS processes use, each a line of its own.

use std::fmt;

use crate::event::{Origin, ProcessTls};
use crate::format::text::page::Page;

pub(super) fn write(origin: &Origin, tls: &ProcessTls, page: &mut Page<'_>) {
    page.mark(format_args!("{}", ProcessLine { origin, tls }));
}

/// `process 4711 (curl, /usr/bin/curl) uses OpenSSL in /usr/lib/libssl.so.3: captured`
struct ProcessLine<'a> {
    origin: &'a Origin,
    tls: &'a ProcessTls,
}

impl fmt::Display for ProcessLine<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, tls } = self;
        write!(
            formatter,
            "process {} ({}",
            origin.process.pid, origin.process.comm
        )?;
        if let Some(executable) = tls.executable.as_deref().or(origin.program.as_deref()) {
            write!(formatter, ", {executable}")?;
        }
        if let Some(container) = &origin.container_id {
            write!(formatter, ", container {container}")?;
        }
        write!(
            formatter,
            ") uses {}",
            tls.implementation.as_deref().unwrap_or("TLS")
        )?;
        if let Some(version) = &tls.version {
            write!(formatter, " {version}")?;
        }
        if let Some(file) = tls
            .file
            .as_ref()
            .filter(|file| Some(*file) != tls.executable.as_ref())
        {
            write!(formatter, " in {file}")?;
        }
        match &tls.obstacle {
            None => formatter.write_str(": captured"),
            Some(obstacle) => write!(formatter, ": not captured: {obstacle}"),
        }
    }
}
