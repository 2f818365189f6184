//! The clients, each with the entries that wait for it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

/// Clients at a time: each may hold as much as its queue may.
const CLIENTS: usize = 32;

/// Bytes that may wait for a client; one entry may always wait, whatever its size.
const QUEUE_BYTES: usize = 4 * 1024 * 1024;

/// Everything that the clients share.
#[derive(Default)]
pub(super) struct Hub {
    state: Mutex<State>,
    /// A client has left.
    left: Condvar,
}

#[derive(Default)]
struct State {
    clients: Vec<Arc<Client>>,
    /// No entry follows.
    closed: bool,
}

/// One client, as the hub sees it.
#[derive(Default)]
pub(super) struct Client {
    queue: Mutex<Queue>,
    changed: Notify,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
    /// Bytes taken off the queue and not yet sent.
    sending: usize,
    closed: bool,
}

/// One item of a client's queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// An encoded entry.
    Entry(Bytes),
    /// Number of entries that found no room in the queue.
    Missed(u64),
}

/// The recipients of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Published {
    ToAll,
    NotToAll,
    ToNobody,
}

/// There are as many clients as there may be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Hub {
    /// Adds a client, which gets the entries of `beginning` before all that are published from now on.
    pub(super) fn join(&self, beginning: impl IntoIterator<Item = Bytes>) -> Result<Arc<Client>, Full> {
        let mut state = self.state();
        if state.clients.len() >= CLIENTS {
            return Err(Full);
        }
        let client = Arc::new(Client::default());
        {
            let mut queue = client.queue();
            queue.items = beginning.into_iter().map(Item::Entry).collect();
            queue.bytes = queue.items.iter().map(Item::bytes).sum();
            queue.closed = state.closed;
        }
        state.clients.push(Arc::clone(&client));
        Ok(client)
    }

    /// Removes a client.
    pub(super) fn leave(&self, client: &Arc<Client>) {
        self.state().clients.retain(|other| !Arc::ptr_eq(other, client));
        self.left.notify_all();
    }

    /// Queues an entry for every client.
    pub(super) fn publish(&self, entry: &[u8]) -> Published {
        let state = self.state();
        if state.clients.is_empty() {
            return Published::ToNobody;
        }
        let entry = Bytes::copy_from_slice(entry);
        let missed = state.clients.iter().filter(|client| !client.push(&entry));
        if missed.count() == 0 {
            Published::ToAll
        } else {
            Published::NotToAll
        }
    }

    /// No entry follows. Waits until all clients have got what is queued for them and have left, at most for
    /// `limit`. Returns the bytes that one of them did not get.
    pub(super) fn close(&self, limit: Duration) -> u64 {
        let mut state = self.state();
        state.closed = true;
        for client in &state.clients {
            client.queue().closed = true;
            client.changed.notify_one();
        }
        let is_reading = |state: &mut State| !state.clients.is_empty();
        let waited = self.left.wait_timeout_while(state, limit, is_reading);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let unread = state.clients.iter().map(|client| client.unread()).max();
        unread.unwrap_or(0) as u64
    }

    /// Each change is complete before the lock is released, so a panic elsewhere leaves nothing half done.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// Takes the next item off the queue; `None` when no entry follows.
    pub(super) async fn next(&self) -> Option<Item> {
        loop {
            {
                let mut queue = self.queue();
                if let Some(item) = queue.items.pop_front() {
                    queue.sending = item.bytes();
                    queue.bytes -= item.bytes();
                    return Some(item);
                }
                if queue.closed {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }

    /// The items taken off the queue have been sent.
    pub(super) fn sent(&self) {
        self.queue().sending = 0;
    }

    /// Returns false when there is no room for it.
    fn push(&self, entry: &Bytes) -> bool {
        let mut queue = self.queue();
        let fits = queue.items.is_empty() || queue.bytes + entry.len() <= QUEUE_BYTES;
        if fits {
            queue.bytes += entry.len();
            queue.items.push_back(Item::Entry(entry.clone()));
        } else if let Some(Item::Missed(entries)) = queue.items.back_mut() {
            *entries += 1;
        } else {
            queue.items.push_back(Item::Missed(1));
        }
        drop(queue);
        self.changed.notify_one();
        fits
    }

    fn unread(&self) -> usize {
        let queue = self.queue();
        queue.bytes + queue.sending
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Item {
    fn bytes(&self) -> usize {
        match self {
            Self::Entry(entry) => entry.len(),
            Self::Missed(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(client: &Client) -> Option<Item> {
        let next = std::pin::pin!(client.next());
        match next.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            std::task::Poll::Ready(item) => item,
            std::task::Poll::Pending => None,
        }
    }

    fn joined(hub: &Hub) -> Arc<Client> {
        hub.join([]).expect("room")
    }

    #[test]
    fn every_client_gets_every_entry_in_order_behind_its_beginning() {
        let hub = Hub::default();
        assert_eq!(hub.publish(b"before"), Published::ToNobody);
        let first = hub.join([Bytes::from_static(b"log")]).expect("room");
        assert_eq!(hub.publish(b"one"), Published::ToAll);
        let second = joined(&hub);
        assert_eq!(hub.publish(b"two"), Published::ToAll);
        let got = |client| std::iter::from_fn(|| next(client)).collect::<Vec<_>>();
        let entry = |bytes: &'static [u8]| Item::Entry(Bytes::from_static(bytes));
        assert_eq!(got(&first), [entry(b"log"), entry(b"one"), entry(b"two")]);
        assert_eq!(got(&second), [entry(b"two")]);
    }

    #[test]
    fn a_client_that_stops_learns_in_place_what_it_missed_and_others_miss_nothing() {
        let hub = Hub::default();
        let (stopped, other) = (joined(&hub), joined(&hub));
        let entry = vec![0; QUEUE_BYTES / 2];
        for expected in [
            Published::ToAll,
            Published::ToAll,
            Published::NotToAll,
            Published::NotToAll,
        ] {
            assert_eq!(hub.publish(&entry), expected);
            assert!(matches!(next(&other), Some(Item::Entry(_))));
            other.sent();
        }
        assert!(matches!(next(&stopped), Some(Item::Entry(_))));
        stopped.sent();
        assert_eq!(hub.publish(b"later"), Published::ToAll);
        assert!(matches!(next(&stopped), Some(Item::Entry(_))));
        assert_eq!(next(&stopped), Some(Item::Missed(2)));
        assert_eq!(next(&stopped), Some(Item::Entry(Bytes::from_static(b"later"))));
        stopped.sent();
        assert_eq!(next(&stopped), None);
    }

    #[test]
    fn one_entry_fits_whatever_its_size() {
        let hub = Hub::default();
        let client = joined(&hub);
        assert_eq!(hub.publish(&vec![0; QUEUE_BYTES * 3]), Published::ToAll);
        assert_eq!(hub.publish(b"x"), Published::NotToAll);
        assert_eq!(client.unread(), QUEUE_BYTES * 3);
    }

    #[test]
    fn clients_beyond_the_limit_are_refused_until_one_leaves() {
        let hub = Hub::default();
        let clients: Vec<_> = (0..CLIENTS).map(|_| joined(&hub)).collect();
        assert_eq!(hub.join([]).err(), Some(Full));
        hub.leave(&clients[0]);
        assert!(hub.join([]).is_ok());
    }

    #[test]
    fn the_end_counts_what_nobody_read_in_time() {
        let hub = Hub::default();
        let (slow, quick) = (joined(&hub), joined(&hub));
        hub.publish(b"three");
        hub.publish(b"four");
        while next(&quick).is_some() {}
        quick.sent();
        assert!(next(&slow).is_some());
        assert_eq!(hub.close(Duration::ZERO), 9, "what is being sent is not read");
        hub.leave(&slow);
        hub.leave(&quick);
        assert_eq!(hub.close(Duration::from_hours(1)), 0);
    }
}
