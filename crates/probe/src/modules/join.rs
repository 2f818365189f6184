//! Modules whose records are parts of events.

use ecapture_ebpf::record::DecodeError;
use ecapture_protocols::CapturedEvent;

/// Joins the records of one module. What it holds is bounded.
pub(crate) trait Join: Send {
    /// Takes one record as it lies in the ring.
    fn join(&mut self, record: &[u8]) -> Result<Joined, DecodeError>;

    /// The capture has ended: returns the events that are not complete, marked as such.
    fn finish(&mut self) -> Vec<CapturedEvent>;
}

/// What came of a record.
#[derive(Debug, Default)]
pub(crate) struct Joined {
    /// The event that it completes, if it does.
    pub(crate) event: Option<CapturedEvent>,
    /// Bytes of payload in the record, as the kernel has counted them (`DATA_BYTES`).
    pub(crate) bytes: u64,
    /// Those of them that are beyond the limits. The event that they belong to is marked.
    pub(crate) beyond: u64,
}
