//! The losses of the kernel side, as rows of the ledger.

use ecapture_actors::{KernelCounterSource, LossRow, Stage};
use ecapture_probe::{CaptureHandle, KernelCounters};

use super::packets;

/// The kernel's counters as rows of the ledger.
pub(crate) struct KernelLosses(pub(crate) CaptureHandle);

impl KernelCounterSource for KernelLosses {
    fn rows(&self) -> Vec<LossRow> {
        match self.0.counters() {
            Ok(counters) => {
                let mut rows = kernel_rows(
                    &counters,
                    self.0.tally().undecodable_records(),
                    self.0.tally().excluded(),
                );
                if self.0.is_stopped() {
                    rows.extend(final_rows(&self.0, &counters));
                }
                rows.extend(late_rows(&self.0));
                rows.extend(packets::rows(&self.0));
                rows
            }
            Err(error) => {
                tracing::error!("the kernel's counters cannot be read: {error}");
                Vec::new()
            }
        }
    }
}

fn kernel_rows(counters: &KernelCounters, undecodable: u64, excluded: (u64, u64)) -> Vec<LossRow> {
    let row = |reason, events, bytes| LossRow {
        stage: Stage::Kernel,
        reason,
        events,
        bytes,
        intended: false,
    };
    vec![
        row("ring_full", counters.ring_full_records, counters.ring_full_bytes),
        row(
            "ring_share",
            counters.ring_share_records,
            counters.ring_share_bytes,
        ),
        row("memory_fault", counters.fault_records, counters.fault_bytes),
        row("call_too_long", 0, counters.cut_bytes),
        row("sent_from_file", 0, counters.file_bytes),
        row("calls_map_full", counters.calls_full, 0),
        row("calls_forgotten", counters.forgotten_calls, 0),
        row("sessions_map_full", counters.sessions_full, 0),
        row("call_not_understood", counters.unintelligible_calls, 0),
        row("thread_ended_in_write", counters.unfinished_writes, 0),
        row("close_lost", counters.close_lost, 0),
        row("secret_lost", counters.secrets_lost, 0),
        // Packets of these sockets are shown without a process, or counted as those of unknown ones.
        LossRow {
            intended: true,
            ..row("owner_lost", counters.owners_lost, 0)
        },
        row("secret_without_handshake", counters.secrets_without_random, 0),
        row("undecodable_record", undecodable, 0),
        LossRow {
            intended: true,
            ..row("excluded", excluded.0, excluded.1)
        },
        // Nothing of these calls was promised: they were under way when the capture began.
        LossRow {
            intended: true,
            ..row("call_began_before_capture", counters.unmatched_returns, 0)
        },
        // All their bytes are there: only the knowledge about them is missing.
        LossRow {
            intended: true,
            ..row("sessions_forgotten", counters.forgotten_sessions, 0)
        },
        LossRow {
            intended: true,
            ..row("connections_forgotten", counters.forgotten_sockets, 0)
        },
        LossRow {
            intended: true,
            ..row("filtered", counters.filtered_calls, 0)
        },
        // Their number is known, and is in the lengths that messages have.
        LossRow {
            intended: true,
            ..row("content", 0, counters.left_out_bytes)
        },
    ]
}

/// Figures that mean something only when the run is over: records that nobody read any more, and
/// calls whose data was not promised, because mostly they continue after the capture.
fn final_rows(capture: &CaptureHandle, counters: &KernelCounters) -> [LossRow; 2] {
    let (events, bytes) = capture.tally().left_in_ring(counters);
    let row = |reason, events, bytes, intended| LossRow {
        stage: Stage::Kernel,
        reason,
        events,
        bytes,
        intended,
    };
    [
        row("left_in_ring", events, bytes, false),
        row("write_not_returned", counters.writes_in_progress, 0, true),
    ]
}

/// Connections, programs and files, not events: the number of bytes that they sent is not known.
fn late_rows(capture: &CaptureHandle) -> [LossRow; 9] {
    let row = |reason, events, intended| LossRow {
        stage: Stage::Kernel,
        reason,
        events,
        bytes: 0,
        intended,
    };
    let tally = capture.tally();
    let late = tally.late_connections();
    [
        row("connection_joined_late", late.before_probes, false),
        row("program_too_short", tally.too_short(), false),
        row("program_not_captured", tally.not_captured(), false),
        row("program_not_inspected", tally.not_inspected(), false),
        row("file_without_room", tally.files_without_room(), false),
        row("fact_without_room", tally.facts_without_room(), false),
        row("file_given_up", tally.files_given_up(), true),
        row("connection_open_before_capture", late.open_before_capture, true),
        // Each is marked in its event.
        LossRow {
            bytes: tally.beyond_limits().1,
            ..row("text_limit", tally.beyond_limits().0, true)
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::meaning;

    #[test]
    fn content_that_was_left_out_is_shown_and_is_not_a_loss() {
        let counters = KernelCounters {
            left_out_bytes: 5,
            ..KernelCounters::default()
        };
        let rows = kernel_rows(&counters, 0, (0, 0));
        let shown: Vec<_> = rows.into_iter().filter(|row| row.bytes > 0).collect();
        assert_eq!(
            shown,
            [LossRow {
                stage: Stage::Kernel,
                reason: "content",
                events: 0,
                bytes: 5,
                intended: true,
            }]
        );
        let meaning = meaning::of(Stage::Kernel, "content");
        assert_eq!(meaning, "content left out in the kernel (--privacy metadata)");
    }
}
