//! What became of the packets and connections of a capture.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::tls::Obstacle;

/// Connections that are named for each reason.
const NAMED: usize = 5;

/// Why a connection is not shown, or not further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Reason {
    /// It is TLS and cannot be decrypted.
    #[error("{0}")]
    Tls(Obstacle),
    /// It is neither TLS nor HTTP.
    #[error("neither TLS nor HTTP")]
    Other,
}

/// The figures of a capture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Packets read.
    pub packets: u64,
    /// Of these, TCP segments.
    pub segments: u64,
    /// Of these, packets without a readable header.
    pub damaged: u64,
    /// Of these, packets of a link type that is not read.
    pub unknown_link: u64,
    /// Packets that are not complete because fragments are missing.
    pub fragments_lost: u64,
    /// Connections with TLS that were decrypted, at least in part.
    pub decrypted: u64,
    /// Connections with plain HTTP.
    pub plain: u64,
    /// Connections without any data.
    pub empty: u64,
    /// Connections that are not shown, or not further, by reason.
    pub not_shown: BTreeMap<Reason, NotShown>,
    /// Places in shown connections where bytes are missing.
    pub gaps: u64,
}

/// Connections that are not shown for one reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NotShown {
    /// How many.
    pub connections: u64,
    /// The first ones, client and server.
    pub first: Vec<(SocketAddr, SocketAddr)>,
}

impl Tally {
    pub(super) fn not_shown(&mut self, reason: Reason, client: SocketAddr, server: SocketAddr) {
        let row = self.not_shown.entry(reason).or_default();
        row.connections += 1;
        if row.first.len() < NAMED {
            row.first.push((client, server));
        }
    }

    /// Returns true if something is missing that could have been shown.
    pub fn has_losses(&self) -> bool {
        let tls = |reason: &Reason| matches!(reason, Reason::Tls(_));
        self.damaged + self.unknown_link + self.fragments_lost + self.gaps > 0
            || self.not_shown.keys().any(tls)
    }
}
