//! Each client's rates, in a table of bounded size. A client that rests is forgotten for a new one:
//! its buckets are full, so that nothing is lost. Where none rests, new ones share one client's rate,
//! so that neither memory nor what all of them get grows with how many names somebody has.

use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use lru::LruCache;

use super::gcra::{Bucket, Empty, Left, Rate};

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
}

/// The table. `K` is what a client is known by.
pub(super) struct Clients<K> {
    reads: Option<Rate>,
    writes: Option<Rate>,
    clients_max: usize,
    table: Mutex<Table<K>>,
}

struct Table<K> {
    known: LruCache<K, Buckets>,
    /// Of all who found no place.
    rest: Buckets,
}

#[derive(Default)]
struct Buckets {
    reads: Bucket,
    writes: Bucket,
}

impl Buckets {
    fn of(&mut self, kind: Kind) -> &mut Bucket {
        match kind {
            Kind::Read => &mut self.reads,
            Kind::Write => &mut self.writes,
        }
    }
}

impl<K: Clone + Eq + Hash> Clients<K> {
    pub(super) fn new(reads: Option<Rate>, writes: Option<Rate>, clients_max: usize) -> Self {
        let table = Table { known: LruCache::unbounded(), rest: Buckets::default() };
        Self { reads, writes, clients_max, table: Mutex::new(table) }
    }

    /// The rate for this kind; `None` where there is no limit.
    pub(super) fn rate(&self, kind: Kind) -> Option<&Rate> {
        match kind {
            Kind::Read => self.reads.as_ref(),
            Kind::Write => self.writes.as_ref(),
        }
    }

    /// Takes one of the client's tokens; `None` where there is no limit.
    pub(super) fn take(&self, client: &K, kind: Kind, now_ns: u64) -> Option<Result<Left, Empty>> {
        let rate = self.rate(kind)?;
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(buckets) = table.known.get_mut(client) {
            return Some(rate.take(buckets.of(kind), now_ns));
        }
        if table.known.len() >= self.clients_max {
            let oldest = table.known.peek_lru();
            let rests = |it: &Buckets| it.reads.is_full(now_ns) && it.writes.is_full(now_ns);
            if !oldest.is_some_and(|(_, buckets)| rests(buckets)) {
                return Some(rate.take(table.rest.of(kind), now_ns));
            }
            table.known.pop_lru();
        }
        let mut buckets = Buckets::default();
        let taken = rate.take(buckets.of(kind), now_ns);
        table.known.put(client.clone(), buckets);
        Some(taken)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.table.lock().unwrap().known.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn clients(clients_max: usize) -> Clients<u32> {
        Clients::new(Rate::new(10, 5), Rate::new(1, 1), clients_max)
    }

    fn served(clients: &Clients<u32>, client: u32, kind: Kind, now: u64) -> bool {
        clients.take(&client, kind, now).unwrap().is_ok()
    }

    #[test]
    fn clients_do_not_use_up_each_others_rates_nor_reads_those_of_writes() {
        let clients = clients(10);
        for client in 0..3 {
            assert!((0..5).all(|_| served(&clients, client, Kind::Read, 0)));
            assert!(!served(&clients, client, Kind::Read, 0));
            assert!(served(&clients, client, Kind::Write, 0));
            assert!(!served(&clients, client, Kind::Write, 0));
        }
        assert!(served(&clients, 0, Kind::Read, SECOND / 10));
    }

    #[test]
    fn many_names_neither_fill_the_memory_nor_get_more_than_the_table_and_one() {
        let clients = clients(10);
        let served = (0..10_000).filter(|name| served(&clients, *name, Kind::Read, 0)).count();
        assert_eq!(served, 10 + 5, "each remembered one once, the others one client's burst");
        assert_eq!(clients.len(), 10);
    }

    #[test]
    fn who_rests_gives_way_and_who_does_not_is_remembered() {
        let clients = clients(2);
        assert!((0..5).all(|_| served(&clients, 1, Kind::Read, 0)));
        assert!(served(&clients, 2, Kind::Read, 0));
        // Both are remembered and neither rests: the third takes from the rest.
        assert!(served(&clients, 3, Kind::Read, 0));
        assert!(!served(&clients, 1, Kind::Read, 0), "it was not forgotten");
        // Now the one that was asked for longest ago rests.
        assert!(served(&clients, 4, Kind::Read, SECOND / 10));
        assert!((0..4).all(|_| served(&clients, 4, Kind::Read, SECOND / 10)));
        assert!(!served(&clients, 4, Kind::Read, SECOND / 10), "it has a bucket of its own");
        assert_eq!(clients.len(), 2);
    }

    #[test]
    fn no_rate_is_no_limit() {
        let clients = Clients::<u32>::new(None, Rate::new(1, 1), 1);
        assert!(clients.take(&1, Kind::Read, 0).is_none());
        assert!(clients.take(&1, Kind::Write, 0).unwrap().is_ok());
    }
}
