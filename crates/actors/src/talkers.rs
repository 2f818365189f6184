//! Which processes sent most of what was read: who filled the ring when it was full.

use std::sync::{Mutex, PoisonError};

use ecapture_protocols::{CapturedEvent, Process};

/// Processes that are told apart. One that is not among them takes the place of the least of them and its
/// share with it, so that a share may be too large by what the least had, and no large one is missed.
const PLACES: usize = 16;

/// What a record takes in the ring besides its payload, about.
const RECORD_BYTES: u64 = 256;

/// A process and its share of what was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Talker {
    /// Its thread that was seen last.
    pub process: Process,
    /// Bytes of the ring that its records took, about.
    pub bytes: u64,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Talkers(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    rows: Vec<Talker>,
    total: u64,
}

impl Talkers {
    /// Counts what was read at once.
    pub(crate) fn add(&self, events: &[CapturedEvent]) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            if let CapturedEvent::Data(data) = event {
                table.add(data.process, data.payload.len() as u64 + RECORD_BYTES);
            }
        }
    }

    /// The processes, those with the largest share first, and the sum of all.
    pub(crate) fn snapshot(&self) -> (Vec<Talker>, u64) {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows = table.rows.clone();
        rows.sort_by_key(|row| std::cmp::Reverse(row.bytes));
        (rows, table.total)
    }
}

impl Table {
    fn add(&mut self, process: Process, bytes: u64) {
        self.total += bytes;
        let pid = process.pid;
        if let Some(place) = self.rows.iter().position(|row| row.process.pid == pid) {
            self.rows[place].bytes += bytes;
            // The next event is probably of the same.
            self.rows.swap(0, place);
        } else if self.rows.len() < PLACES {
            self.rows.push(Talker { process, bytes });
        } else if let Some(least) = self.rows.iter_mut().min_by_key(|row| row.bytes) {
            least.process = process;
            least.bytes += bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_share_is_never_missed() {
        let mut table = Table::default();
        for round in 0..10_000 {
            let process = |pid| Process {
                pid,
                ..Process::default()
            };
            table.add(process(1000 + round % 500), 100);
            table.add(process(7), 100);
        }
        let talkers = Talkers(Mutex::new(table));
        let (rows, total) = talkers.snapshot();
        assert_eq!((rows.len(), total), (PLACES, 2_000_000));
        assert_eq!((rows[0].process.pid, rows[0].bytes), (7, 1_000_000));
    }
}
