//! How many each one has open at once: watches a client, connections an address. Whoever has none
//! open is not in the table, which so is as large as what is open.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The table.
pub(in crate::http) struct Places<K: Ord> {
    each_max: usize,
    open: Mutex<BTreeMap<K, usize>>,
}

/// One place, until it is dropped.
pub(in crate::http) struct Place<K: Ord> {
    places: Arc<Places<K>>,
    who: K,
}

impl<K: Clone + Ord> Places<K> {
    pub(in crate::http) fn new(each_max: usize) -> Arc<Self> {
        Arc::new(Self { each_max, open: Mutex::default() })
    }

    /// A place for `who`; `None` where it has as many as it may.
    pub(in crate::http) fn take(self: &Arc<Self>, who: &K) -> Option<Place<K>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.get(who).copied().unwrap_or(0);
        if count >= self.each_max {
            return None;
        }
        open.insert(who.clone(), count + 1);
        drop(open);
        Some(Place { places: self.clone(), who: who.clone() })
    }
}

impl<K: Ord> Drop for Place<K> {
    fn drop(&mut self) {
        let mut open = self.places.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = open.get_mut(&self.who) else { return };
        *count -= 1;
        if *count == 0 {
            open.remove(&self.who);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_own_places_and_gets_them_back() {
        let places = Places::new(2);
        let (first, second) = (places.take(&1), places.take(&1));
        assert!(first.is_some() && second.is_some() && places.take(&1).is_none());
        assert!(places.take(&2).is_some(), "another one is not held up");
        drop(first);
        assert!(places.take(&1).is_some());
        drop(second);
        assert!(places.open.lock().unwrap().is_empty());
    }
}
