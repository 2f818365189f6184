//! A queue from which users are served in turn: one who fills it delays nobody else by more than one file.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::limits;

/// Waiting items by user id.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    waiting: BTreeMap<u32, VecDeque<T>>,
    length: usize,
    /// The user who was served last.
    last: u32,
    closed: bool,
}

/// The outcome of waiting.
pub(super) enum Popped<T> {
    Item(T),
    /// Nothing waits now.
    Empty,
    /// Nothing will come any more.
    Closed,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                waiting: BTreeMap::new(),
                length: 0,
                last: 0,
                closed: false,
            }),
            changed: Condvar::new(),
        }
    }
}

impl<T> Queue<T> {
    /// Puts `item` behind the others of that user. Returns it when there is no room for it.
    pub(super) fn push(&self, user: u32, item: T) -> Result<(), T> {
        let mut state = self.state();
        let full = state.length >= limits::QUEUE;
        let of_user = state.waiting.entry(user).or_default();
        if full || of_user.len() >= limits::QUEUE_OF_ONE_USER {
            return Err(item);
        }
        of_user.push_back(item);
        state.length += 1;
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// The first item of the user whose turn it is.
    pub(super) fn try_pop(&self) -> Popped<T> {
        self.state().pop()
    }

    /// The same, waiting for one. `None` when nothing will come any more.
    pub(super) fn pop(&self) -> Option<T> {
        let mut state = self.state();
        loop {
            match state.pop() {
                Popped::Item(item) => return Some(item),
                Popped::Closed => return None,
                Popped::Empty => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Ends the queue: items that still wait are not handed out either. Returns their number.
    pub(super) fn close(&self) -> usize {
        let mut state = self.state();
        state.closed = true;
        self.changed.notify_all();
        state.length
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn pop(&mut self) -> Popped<T> {
        if self.closed {
            return Popped::Closed;
        }
        let mut after = self.waiting.range((Excluded(self.last), Unbounded));
        let next = after.next().or_else(|| self.waiting.iter().next());
        let Some((&user, _)) = next else {
            return Popped::Empty;
        };
        let item = self.waiting.get_mut(&user).and_then(VecDeque::pop_front);
        if self.waiting.get(&user).is_none_or(VecDeque::is_empty) {
            self.waiting.remove(&user);
        }
        self.last = user;
        match item {
            Some(item) => {
                self.length -= 1;
                Popped::Item(item)
            }
            None => Popped::Empty,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_served_in_turn() {
        let queue = Queue::default();
        for item in 0..3 {
            queue.push(1000, ("flood", item)).unwrap();
        }
        queue.push(0, ("root", 0)).unwrap();
        queue.push(33, ("www", 0)).unwrap();
        let order: Vec<_> = (0..5)
            .map(|_| match queue.try_pop() {
                Popped::Item((who, _)) => who,
                Popped::Empty | Popped::Closed => "nobody",
            })
            .collect();
        assert_eq!(order, ["www", "flood", "root", "flood", "flood"]);
        assert!(matches!(queue.try_pop(), Popped::Empty));
    }

    #[test]
    fn one_user_fills_only_a_part() {
        let queue = Queue::default();
        let pushed = (0..limits::QUEUE).filter(|&item| queue.push(7, item).is_ok());
        assert_eq!(pushed.count(), limits::QUEUE_OF_ONE_USER);
        queue.push(8, 0).unwrap();
        let room = limits::QUEUE - limits::QUEUE_OF_ONE_USER - 1;
        let users = 100..u32::try_from(limits::QUEUE).unwrap() + 100;
        let pushed = users.filter(|&user| queue.push(user, 0).is_ok());
        assert_eq!(pushed.count(), room);
    }

    #[test]
    fn a_closed_queue_lets_everybody_go() {
        let queue = Queue::<u8>::default();
        queue.push(1, 1).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| while queue.pop().is_some() {});
            queue.close();
            waiting.join().unwrap();
        });
        assert!(matches!(queue.try_pop(), Popped::Closed));
    }
}
