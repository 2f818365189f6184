//! The losses of each connection, where the connection is known.
//!
//! Nothing comes here before something is lost, so a run without losses does not pay for it. What
//! is lost at the output, or in the kernel before it was known whose it was, is only in the ledger.

use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::HashMap;

use crate::PipelineLimits;
use crate::loss::{Loss, LossRow, Stage};
use crate::tally::Tally;

/// The losses of one direction of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionLosses {
    /// As the messages of the stream show it.
    pub uuid: String,
    /// By stage and reason. At [`Stage::Kernel`] the bytes that are missing in the stream.
    pub losses: Vec<LossRow>,
}

impl ConnectionLosses {
    /// The sum of all its losses.
    pub fn total(&self) -> Tally {
        self.losses.iter().fold(Tally::default(), |sum, row| Tally {
            events: sum.events + row.events,
            bytes: sum.bytes + row.bytes,
        })
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct ByConnection(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    connections: HashMap<String, Vec<LossRow>>,
    others: Tally,
}

impl ByConnection {
    /// Losses that the user asked for are not attributed to connections.
    pub(crate) fn add(&self, uuid: &str, loss: Loss, events: u64, bytes: u64) {
        if !loss.intended() {
            self.add_row(uuid, (loss.stage(), loss.as_str()), events, bytes);
        }
    }

    /// Bytes that never came from the kernel.
    pub(crate) fn add_missing(&self, uuid: &str, bytes: u64) {
        self.add_row(uuid, (Stage::Kernel, "missing"), 0, bytes);
    }

    fn add_row(&self, uuid: &str, (stage, reason): (Stage, &'static str), events: u64, bytes: u64) {
        if events == 0 && bytes == 0 {
            return;
        }
        let mut table = self.table();
        let table = &mut *table;
        if !table.connections.contains_key(uuid) {
            if table.connections.len() >= PipelineLimits::CONNECTIONS_WITH_LOSSES {
                table.others.events += events;
                table.others.bytes += bytes;
                return;
            }
            table.connections.insert(uuid.to_owned(), Vec::new());
        }
        let Some(rows) = table.connections.get_mut(uuid) else {
            return;
        };
        match rows
            .iter_mut()
            .find(|row| (row.stage, row.reason) == (stage, reason))
        {
            Some(row) => {
                row.events += events;
                row.bytes += bytes;
            }
            None => rows.push(LossRow {
                stage,
                reason,
                events,
                bytes,
                intended: false,
            }),
        }
    }

    /// The connections, those with the most bytes lost first, and the sum of all that found no
    /// place in the table.
    pub(crate) fn snapshot(&self) -> (Vec<ConnectionLosses>, Tally) {
        let table = self.table();
        let connections = table.connections.iter();
        let mut connections: Vec<ConnectionLosses> = connections
            .map(|(uuid, losses)| ConnectionLosses {
                uuid: uuid.clone(),
                losses: losses.clone(),
            })
            .collect();
        let others = table.others;
        drop(table);
        connections.sort_by(|one, other| {
            let key = |losses: &ConnectionLosses| {
                let total = losses.total();
                (total.bytes, total.events)
            };
            key(other).cmp(&key(one)).then_with(|| one.uuid.cmp(&other.uuid))
        });
        (connections, others)
    }

    /// Nothing that runs under the lock panics.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_come_first_and_each_reason_is_told() {
        let losses = ByConnection::default();
        losses.add("small", Loss::WorkerFailed, 1, 5);
        losses.add("large", Loss::WorkerFailed, 1, 5);
        losses.add("large", Loss::WorkerFailed, 2, 10);
        losses.add_missing("large", 7);
        losses.add("large", Loss::BodyLimit, 0, 1_000_000);
        let (connections, others) = losses.snapshot();
        assert_eq!(others, Tally::default());
        let [large, small] = connections.as_slice() else {
            panic!("{connections:?}")
        };
        assert_eq!((large.uuid.as_str(), small.uuid.as_str()), ("large", "small"));
        assert_eq!(large.total(), Tally { events: 3, bytes: 22 });
        let reasons: Vec<_> = large
            .losses
            .iter()
            .map(|row| (row.stage, row.reason, row.events, row.bytes))
            .collect();
        assert_eq!(
            reasons,
            [
                (Stage::Worker, "worker_failed", 3, 15),
                (Stage::Kernel, "missing", 0, 7)
            ]
        );
    }

    #[test]
    fn what_finds_no_place_is_summed() {
        let losses = ByConnection::default();
        let limit = PipelineLimits::CONNECTIONS_WITH_LOSSES;
        for number in 0..limit + 10 {
            losses.add(&number.to_string(), Loss::Resync, 0, 3);
        }
        losses.add("0", Loss::Resync, 0, 1);
        let (connections, others) = losses.snapshot();
        assert_eq!(connections.len(), limit);
        assert_eq!(others, Tally { events: 0, bytes: 30 });
        assert_eq!(connections[0].total().bytes, 4, "a known one still counts");
    }
}
