//! The named losses.

use ecapture_protocols::decoder::SkipReason;

use crate::tally::Tally;

/// Where something was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Before the event reached user space.
    Kernel,
    /// Between the source and the Processor.
    Reader,
    /// Between the Processor and a decoder.
    Processor,
    /// In a Worker that failed.
    Worker,
    /// In a decoder, by one of its limits.
    Decoder,
    /// Between formatting and the output's target.
    Sink,
}

impl Stage {
    /// The stage's name in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Reader => "reader",
            Self::Processor => "processor",
            Self::Worker => "worker",
            Self::Decoder => "decoder",
            Self::Sink => "sink",
        }
    }
}

/// The named losses of user space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Loss {
    /// An event that could not be decoded from its record.
    DecodeError,
    /// An event that a filter of the caller did not want.
    Filtered,
    /// An event dropped on purpose by fault injection.
    Injected,
    /// Events for a Worker that kept refusing them.
    WorkerFull,
    /// Events in flight when the run ended before they were decoded.
    Unfinished,
    /// Events in flight when the drain's deadline passed, or read when too little of it was left.
    ShutdownDeadline,
    /// The event during which a decoder or formatter failed.
    WorkerFailed,
    /// Events and bytes that a failed Worker had queued or held.
    WorkerRestart,
    /// Body bytes beyond the limit.
    BodyLimit,
    /// Bytes that a decoder still held beyond the limit per connection.
    BufferLimit,
    /// Header bytes beyond the limit.
    HeaderLimit,
    /// Bytes skipped in the search for the next message.
    Resync,
    /// Bytes of connections whose messages no output's filter can select.
    Unwanted,
    /// Output for a target that had gone away.
    SinkClosed,
    /// Output that could not be written.
    SinkError,
    /// Output beyond what the Sink may keep while its target fails.
    SinkFull,
    /// Output not yet written when the drain's deadline passed.
    SinkDeadline,
    /// Output that at least one of the target's readers was too slow for.
    ReaderSlow,
    /// Output while the target had no reader.
    NoReader,
    /// Output that the target refuses for good.
    Rejected,
    /// Messages that the format has no records for.
    NoRecord,
}

impl Loss {
    /// All of them, in the order of declaration.
    pub const ALL: [Self; 21] = [
        Self::DecodeError,
        Self::Filtered,
        Self::Injected,
        Self::WorkerFull,
        Self::Unfinished,
        Self::ShutdownDeadline,
        Self::WorkerFailed,
        Self::WorkerRestart,
        Self::BodyLimit,
        Self::BufferLimit,
        Self::HeaderLimit,
        Self::Resync,
        Self::Unwanted,
        Self::SinkClosed,
        Self::SinkError,
        Self::SinkFull,
        Self::SinkDeadline,
        Self::ReaderSlow,
        Self::NoReader,
        Self::Rejected,
        Self::NoRecord,
    ];

    /// The rows of the losses that are not zero.
    pub(crate) fn rows(count: impl Fn(Self) -> Tally) -> Vec<LossRow> {
        let rows = Self::ALL.iter().map(|&loss| {
            let Tally { events, bytes } = count(loss);
            LossRow {
                stage: loss.stage(),
                reason: loss.as_str(),
                events,
                bytes,
                intended: loss.intended(),
            }
        });
        rows.filter(|row| row.events > 0 || row.bytes > 0).collect()
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    /// Where it happens.
    pub const fn stage(self) -> Stage {
        match self {
            Self::DecodeError | Self::Filtered | Self::Injected => Stage::Reader,
            Self::WorkerFull | Self::Unfinished | Self::ShutdownDeadline => Stage::Processor,
            Self::WorkerFailed | Self::WorkerRestart => Stage::Worker,
            Self::BodyLimit | Self::BufferLimit | Self::HeaderLimit | Self::Resync | Self::Unwanted => {
                Stage::Decoder
            }
            Self::SinkClosed
            | Self::SinkError
            | Self::SinkFull
            | Self::SinkDeadline
            | Self::ReaderSlow
            | Self::NoReader
            | Self::Rejected
            | Self::NoRecord => Stage::Sink,
        }
    }

    /// Its name in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DecodeError => "decode_error",
            Self::Filtered => "filtered",
            Self::Injected => "injected",
            Self::WorkerFull => "worker_full",
            Self::Unfinished => "unfinished",
            Self::ShutdownDeadline => "shutdown_deadline",
            Self::WorkerFailed => "worker_failed",
            Self::WorkerRestart => "worker_restart",
            Self::BodyLimit => SkipReason::BodyLimit.as_str(),
            Self::BufferLimit => "buffer_limit",
            Self::HeaderLimit => SkipReason::HeaderLimit.as_str(),
            Self::Resync => SkipReason::Resync.as_str(),
            Self::Unwanted => SkipReason::Unwanted.as_str(),
            Self::SinkClosed => "sink_closed",
            Self::SinkError => "sink_error",
            Self::SinkFull => "sink_full",
            Self::SinkDeadline => "sink_deadline",
            Self::ReaderSlow => "reader_slow",
            Self::NoReader => "no_reader",
            Self::Rejected => "rejected",
            Self::NoRecord => "no_record",
        }
    }

    /// True when the user asked for it (a filter, a display limit, a closed pipe), so that it is no
    /// failure of the capture.
    pub const fn intended(self) -> bool {
        matches!(
            self,
            Self::Filtered
                | Self::BodyLimit
                | Self::Unwanted
                | Self::SinkClosed
                | Self::NoReader
                | Self::NoRecord
        )
    }
}

impl From<SkipReason> for Loss {
    fn from(reason: SkipReason) -> Self {
        match reason {
            SkipReason::BodyLimit => Self::BodyLimit,
            SkipReason::HeaderLimit => Self::HeaderLimit,
            SkipReason::Resync => Self::Resync,
            SkipReason::Unwanted => Self::Unwanted,
        }
    }
}

/// One line of the table of losses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LossRow {
    /// Where.
    pub stage: Stage,
    /// Why.
    pub reason: &'static str,
    /// Captured events, or formatted messages at [`Stage::Sink`].
    pub events: u64,
    /// Captured bytes, or formatted bytes at [`Stage::Sink`].
    pub bytes: u64,
    /// The user asked for it.
    pub intended: bool,
}

impl LossRow {
    pub(crate) const fn tally(&self) -> Tally {
        Tally {
            events: self.events,
            bytes: self.bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_indices_match_the_table() {
        for (index, loss) in Loss::ALL.into_iter().enumerate() {
            assert_eq!(loss.index(), index);
        }
    }
}
