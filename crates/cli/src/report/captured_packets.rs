//! Reports what became of the packets and connections of a capture.

use ecapture_protocols::dissect::{NotShown, Reason, Tally};
use ecapture_protocols::tls::Obstacle;

/// Reports all figures that are not 0.
pub(crate) fn figures(tally: &Tally) {
    tracing::info!(
        "read {} packets, {} of them TCP segments",
        tally.packets,
        tally.segments
    );
    tracing::info!(
        "connections: {} decrypted, {} with plain HTTP, {} without data",
        tally.decrypted,
        tally.plain,
        tally.empty
    );
    for (reason, not_shown) in &tally.not_shown {
        let NotShown { connections, first } = not_shown;
        let mut names: Vec<String> = first
            .iter()
            .map(|(client, server)| format!("{client} -> {server}"))
            .collect();
        if *connections > names.len() as u64 {
            names.push("…".into());
        }
        let names = names.join(", ");
        match reason {
            Reason::Other => tracing::info!("{connections} connections are not shown: {reason} ({names})"),
            Reason::Tls(obstacle) => tracing::warn!(
                "{connections} connections are not decrypted, or not further: {reason}{} ({names})",
                remedy(*obstacle)
            ),
        }
    }
    for (count, meaning) in [
        (
            tally.gaps,
            "places in shown connections where bytes are not in the capture",
        ),
        (tally.damaged, "packets or blocks without a readable header"),
        (tally.unknown_link, "packets of a link type that is not read"),
        (tally.fragments_lost, "IP packets with missing fragments"),
    ] {
        if count > 0 {
            tracing::warn!("{count} {meaning}");
        }
    }
}

/// What helps, if something does.
const fn remedy(obstacle: Obstacle) -> &'static str {
    match obstacle {
        Obstacle::NoKey => "; give the key log of its program with --keylog",
        Obstacle::NoHandshake => "; begin the capture before the connection",
        _ => "",
    }
}
