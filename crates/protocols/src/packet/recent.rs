//! A table of bounded size.

use std::collections::HashMap;
use std::hash::Hash;

/// A table of at most `MOST` entries that forgets what was not used for long: entries are in a young half and an old
/// one, and the old one is forgotten when the young one is full. No key is in both.
#[derive(Debug)]
pub struct Recent<K, V, const MOST: usize> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K, V, const MOST: usize> Default for Recent<K, V, MOST> {
    fn default() -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }
}

impl<K: Eq + Hash + Copy, V, const MOST: usize> Recent<K, V, MOST> {
    /// Returns the value of `key`, which has been used now.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        if let Some(value) = self.old.remove(key) {
            self.make_room();
            self.young.insert(*key, value);
        }
        self.young.get_mut(key)
    }

    /// Returns the value of `key`, which is made if there is none.
    pub fn entry_or(&mut self, key: K, value: impl FnOnce() -> V) -> &mut V {
        if self.get_mut(&key).is_none() {
            self.make_room();
        }
        self.young.entry(key).or_insert_with(value)
    }

    /// Sets the value of `key`.
    pub fn insert(&mut self, key: K, value: V) {
        self.remove(&key);
        self.make_room();
        self.young.insert(key, value);
    }

    /// Returns the number of entries.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Forgets `key`.
    pub fn remove(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }

    fn make_room(&mut self) {
        if self.young.len() >= MOST / 2 {
            self.old = std::mem::take(&mut self.young);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_long_is_forgotten() {
        let mut recent = Recent::<u32, u32, 8>::default();
        for key in 0..100 {
            recent.insert(key, key);
            assert_eq!(recent.get_mut(&0), Some(&mut 0), "used all the time");
            assert!(recent.len() <= 8);
        }
        assert_eq!(recent.get_mut(&50), None);
        assert_eq!(recent.get_mut(&99), Some(&mut 99));
    }

    #[test]
    fn a_full_half_leaves_every_value_as_it_is() {
        let mut recent = Recent::<u32, u32, 8>::default();
        for key in 0..4 {
            recent.insert(key, key);
        }
        // The young half is full, and has the key.
        assert_eq!(*recent.entry_or(2, || 77), 2);
        recent.insert(3, 33);
        assert_eq!(recent.get_mut(&3), Some(&mut 33));
        recent.remove(&3);
        assert_eq!(recent.get_mut(&3), None);
    }
}
