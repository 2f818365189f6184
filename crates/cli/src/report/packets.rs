//! Reports what was captured of packets, and how much of it can be decrypted.

use ecapture_actors::{LossRow, Stage};
use ecapture_probe::{CaptureHandle, PacketFigures};

/// Reports the figures of packets, if packets were captured.
pub(crate) fn summary(capture: &CaptureHandle) {
    if let Some(figures) = capture.tally().packets() {
        tracing::info!("{}", line(&figures));
    }
}

fn line(figures: &PacketFigures) -> String {
    let PacketFigures {
        received,
        captured,
        bytes,
        dropped,
        unreadable,
        handshakes,
        ..
    } = figures;
    let share = match handshakes.seen {
        0 => String::new(),
        seen => format!(" ({} %)", handshakes.with_keys * 100 / seen),
    };
    format!(
        "packets: {received} passed the interfaces, {captured} captured with {bytes} bytes, {} dropped; \
         TLS handshakes among them: {}, with keys that decrypt them: {}{share}",
        dropped + unreadable,
        handshakes.seen,
        handshakes.with_keys
    )
}

/// What is not captured of packets, as rows of the ledger.
pub(super) fn rows(capture: &CaptureHandle) -> Vec<LossRow> {
    let Some(figures) = capture.tally().packets() else {
        return Vec::new();
    };
    let row = |reason, events, intended| LossRow {
        stage: Stage::Kernel,
        reason,
        events,
        bytes: 0,
        intended,
    };
    vec![
        row("packets_dropped", figures.dropped, false),
        row("packets_unreadable", figures.unreadable, false),
        row("packets_not_matching", figures.not_matching, true),
        row("packets_of_others", figures.of_others, true),
        row("packets_of_unknown", figures.of_unknown, true),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_that_can_be_decrypted_is_named() {
        let mut figures = PacketFigures {
            received: 10,
            captured: 8,
            bytes: 800,
            dropped: 2,
            ..PacketFigures::default()
        };
        figures.handshakes.seen = 3;
        figures.handshakes.with_keys = 2;
        assert_eq!(
            line(&figures),
            "packets: 10 passed the interfaces, 8 captured with 800 bytes, 2 dropped; TLS handshakes among them: 3, \
             with keys that decrypt them: 2 (66 %)"
        );
    }
}
