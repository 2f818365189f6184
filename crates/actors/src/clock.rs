//! The source of time for idleness, overdue notices and failure windows.

/// Where the pipeline takes the time from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Clock {
    /// The runtime's monotonic clock: a capture. Each Worker has its own run interval.
    #[default]
    Live,
    /// The events' timestamps: a replay. Time does not advance between events, so the output is a
    /// function of the events alone; records are written in the order of the events that completed
    /// them.
    Stream,
}
