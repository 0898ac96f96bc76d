//! `audit-copies.redb`: the audit chains of nodes that drained, as they handed them over.
//!
//! Table `records`: (node, chain, seq) → the record's bytes, as its node wrote them. Table `heads`:
//! (node, chain) → where the copy stands. Lifetime: the node's; nothing is changed or removed, and
//! only what follows from what is there is taken: a copy is the beginning of its chain, whole up to
//! its head. The file is made with the first record.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use redb::{ReadTransaction, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use super::database::{Database, Layout};
use super::error::StoreError;
use crate::audit::heads::CHAINS;
use crate::audit::{ChainReader, Head, Unreadable};
use crate::env::Disk;
use crate::model::cbor;

const RECORDS: TableDefinition<'_, (&str, u8, u64), &[u8]> = TableDefinition::new("records");
const HEADS: TableDefinition<'_, (&str, u8), &[u8]> = TableDefinition::new("heads");

static LAYOUT: Layout = Layout { file: "audit-copies.redb", tables: 2, make_tables };

fn make_tables(tx: &redb::WriteTransaction) -> Result<(), redb::Error> {
    tx.open_table(RECORDS)?;
    tx.open_table(HEADS)?;
    Ok(())
}

/// The copies that a node keeps. Cheap to clone. Every call blocks.
#[derive(Clone)]
pub(crate) struct Copies(Arc<Inner>);

struct Inner {
    disk: Arc<dyn Disk>,
    /// Open from the first use on, where there is a file.
    database: Mutex<Option<Arc<Database>>>,
}

impl Copies {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self(Arc::new(Inner { disk, database: Mutex::new(None) }))
    }

    /// The file; where there is none, it is made if it is `needed`.
    fn database(&self, needed: bool) -> Result<Option<Arc<Database>>, StoreError> {
        let mut open = self.0.database.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = open.as_ref() {
            if !database.is_open() {
                database.reopen()?;
            }
            return Ok(Some(database.clone()));
        }
        let io = |error| StoreError::from(redb::Error::Io(error));
        if !needed && self.0.disk.identity(LAYOUT.file).map_err(io)?.is_none() {
            return Ok(None);
        }
        let (database, _) = Database::open_as(self.0.disk.clone(), &LAYOUT)?;
        Ok(Some(open.insert(Arc::new(database)).clone()))
    }

    fn read<T: Default>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match self.database(false)? {
            Some(database) => read(&database.get()?.begin_read()?),
            None => Ok(T::default()),
        }
    }

    /// Where all copies stand, by node.
    pub(crate) fn heads(&self) -> Result<BTreeMap<String, [Head; CHAINS]>, StoreError> {
        self.read(|tx| {
            let mut heads = BTreeMap::<String, [Head; CHAINS]>::new();
            for row in tx.open_table(HEADS)?.iter()? {
                let (key, head) = row?;
                let (node, chain) = key.value();
                let all = heads.entry(node.to_owned()).or_default();
                if let Some(place) = all.get_mut(usize::from(chain)) {
                    *place = cbor::decode(head.value()).map_err(StoreError::damaged)?;
                }
            }
            Ok(heads)
        })
    }

    /// Adds a chain's next records; on disk on return. Those that do not follow are refused, and
    /// the ones behind them.
    pub(crate) fn append(
        &self,
        node: &str,
        chain: usize,
        records: &[impl AsRef<[u8]>],
    ) -> Result<[Head; CHAINS], StoreError> {
        let (true, Ok(number)) = (chain < CHAINS && !records.is_empty(), u8::try_from(chain))
        else {
            return Ok(self.heads()?.remove(node).unwrap_or_default());
        };
        let Some(database) = self.database(true)? else { return Ok(Default::default()) };
        let committed = || -> Result<(), StoreError> {
            let tx = database.get()?.begin_write()?;
            {
                // Read here: another message of the node's may just have been taken.
                let mut heads = tx.open_table(HEADS)?;
                let known = heads.get((node, number))?;
                let known = known.map(|head| cbor::decode::<Head>(head.value()));
                let mut head = known.transpose().map_err(StoreError::damaged)?.unwrap_or_default();
                let mut table = tx.open_table(RECORDS)?;
                for bytes in records.iter().map(AsRef::as_ref) {
                    let Ok(record) = head.follow(bytes) else { break };
                    table.insert((node, number, record.seq), bytes)?;
                }
                heads.insert((node, number), cbor::encode(&head).as_slice())?;
            }
            Ok(tx.commit()?)
        };
        // After a failure redb takes no more until it is opened again.
        committed().inspect_err(|_| database.close())?;
        Ok(self.heads()?.remove(node).unwrap_or_default())
    }

    /// One of the copies, for reading.
    pub(crate) fn chain(&self, node: &str, chain: usize) -> CopiedChain {
        CopiedChain { copies: self.clone(), node: node.to_owned(), chain }
    }
}

/// The copy of one chain.
pub(crate) struct CopiedChain {
    copies: Copies,
    node: String,
    chain: usize,
}

impl ChainReader for CopiedChain {
    fn head(&self) -> Result<Head, Unreadable> {
        let heads = self.copies.heads().map_err(|e| Unreadable(e.to_string()))?;
        Ok(heads.get(&self.node).and_then(|it| it.get(self.chain)).copied().unwrap_or_default())
    }

    fn walk(
        &self,
        from: u64,
        visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), Unreadable> {
        let number = u8::try_from(self.chain).unwrap_or(u8::MAX);
        let place = |seq| (self.node.as_str(), number, seq);
        let walked = self.copies.read(|tx| {
            for row in tx.open_table(RECORDS)?.range(place(from)..=place(u64::MAX))? {
                if visit(row?.1.value()).is_break() {
                    break;
                }
            }
            Ok(())
        });
        walked.map_err(|e| Unreadable(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Decision, Event, Source};
    use crate::env::{CrashMode, MemoryDisk};
    use crate::model::Stamp;

    fn event(count: u64) -> Event {
        let source = Source { node: "b".into(), address: None, request: "-".into() };
        Event {
            at: Stamp(5),
            principal: "ada".into(),
            action: "config.write".into(),
            target: "web/dev/a".into(),
            decision: Decision::Allowed("config:*".into()),
            outcome: "done".into(),
            source,
            count,
            index: None,
        }
    }

    fn records(head: &mut Head, counts: std::ops::Range<u64>) -> Vec<Vec<u8>> {
        counts.map(|count| head.append(event(count))).collect()
    }

    fn walked(chain: &CopiedChain, from: u64) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        let visit = &mut |bytes: &[u8]| {
            all.push(bytes.to_vec());
            ControlFlow::Continue(())
        };
        chain.walk(from, visit).unwrap();
        all
    }

    #[test]
    fn a_copy_grows_by_what_follows_and_by_nothing_else() {
        let disk = Arc::new(MemoryDisk::new());
        let copies = Copies::new(disk.clone());
        assert!(copies.heads().unwrap().is_empty());
        assert_eq!(copies.append("b", 0, &[] as &[Vec<u8>]).unwrap(), [Head::default(); CHAINS]);
        assert!(disk.identity(LAYOUT.file).unwrap().is_none(), "nothing makes no file");
        let mut head = Head::default();
        let first = records(&mut head, 1..4);
        assert_eq!(copies.append("b", 0, &first).unwrap()[0], head);
        // Again, with a gap, another chain's, and one that is no chain's.
        let (mut other, behind) = (Head::default(), head);
        let gap = records(&mut head, 4..7);
        for wrong in [&first[..], &gap[1..], &records(&mut other, 7..12)[..]] {
            assert_eq!(copies.append("b", 0, wrong).unwrap()[0], behind);
        }
        assert_eq!(copies.append("b", 9, &gap).unwrap()[0], behind);
        // Up to the first that does not follow.
        let mixed = [&gap[..2], &first[..]].concat();
        assert_eq!(copies.append("b", 0, &mixed).unwrap()[0].seq, 5);
        assert_eq!(copies.append("b", 1, &first).unwrap().map(|it| it.seq), [5, 3]);
        let all = [&first[..], &gap[..2]].concat();
        assert_eq!(walked(&copies.chain("b", 0), 1), all);
        assert_eq!(walked(&copies.chain("b", 0), 4), all[3..]);
        assert_eq!(walked(&copies.chain("a", 0), 1), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn what_is_taken_at_the_same_time_takes_nothing_back() {
        let copies = Copies::new(Arc::new(MemoryDisk::new()));
        let mut head = Head::default();
        let all = records(&mut head, 1..60);
        copies.append("b", 0, &all[..1]).unwrap();
        let mut stands = 1;
        for round in 0..20 {
            // Nobody gets to write before both have begun.
            let database = copies.database(true).unwrap().unwrap();
            let held = database.get().unwrap().begin_write().unwrap();
            let begun = std::sync::Barrier::new(3);
            let told = std::thread::scope(|scope| {
                let begun = &begun;
                let append = |end: usize| {
                    let (copies, part) = (&copies, &all[stands..stands + end]);
                    scope.spawn(move || {
                        begun.wait();
                        copies.append("b", 0, part).unwrap()[0].seq
                    })
                };
                // One message and a part of it, in either order.
                let both = if round % 2 == 0 { [2, 1] } else { [1, 2] }.map(append);
                begun.wait();
                (0..1_000).for_each(|_| std::thread::yield_now());
                held.abort().unwrap();
                both.map(|it| it.join().unwrap())
            });
            let kept = copies.heads().unwrap()["b"][0].seq;
            assert!(told.iter().all(|told| *told <= kept), "{told:?} was told, {kept} is kept");
            stands = usize::try_from(kept).unwrap();
        }
    }

    #[test]
    fn what_was_taken_survives_a_crash() {
        let disk = MemoryDisk::new();
        let mut head = Head::default();
        let all = records(&mut head, 1..4);
        Copies::new(Arc::new(disk.clone())).append("b", 1, &all).unwrap();
        let copies = Copies::new(Arc::new(disk.crash(CrashMode::LoseUnsynced)));
        assert_eq!(copies.heads().unwrap()["b"], [Head::default(), head]);
        assert_eq!(walked(&copies.chain("b", 1), 1), all);
        assert_eq!(copies.chain("b", 1).head().unwrap(), head);
    }
}
