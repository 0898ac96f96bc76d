//! `audit-copies.redb`: copies of peers' audit chains, as their nodes handed them over.
//!
//! Table `records`: (node, chain, seq) → the record's bytes, as its node wrote them. Table `heads`:
//! (node, chain) → where the copy stands. Table `bases`: (node, chain) → where the chain stood before
//! the copy's first record, where that is not the chain's. Table `sizes`: (node, chain) → the bytes
//! of its records. Lifetime: the node's. Nothing is changed, and only what follows from what is there
//! is taken: a copy is a stretch of its chain, whole from its base to its head. All copies together
//! have a limit; past it the largest lets go of its oldest records, so that a node that records much
//! pushes out its own and nobody else's. The file is made with the first record, and never shrinks.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use redb::{
    ReadTransaction, ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction,
};
use sha2::{Digest as _, Sha256};

use super::database::{Database, Layout};
use super::error::StoreError;
use crate::audit::heads::CHAINS;
use crate::audit::{ChainReader, Head, Unreadable};
use crate::env::Disk;
use crate::model::cbor;

const RECORDS: TableDefinition<'_, (&str, u8, u64), &[u8]> = TableDefinition::new("records");
const HEADS: TableDefinition<'_, (&str, u8), &[u8]> = TableDefinition::new("heads");
const BASES: TableDefinition<'_, (&str, u8), &[u8]> = TableDefinition::new("bases");
const SIZES: TableDefinition<'_, (&str, u8), u64> = TableDefinition::new("sizes");

static LAYOUT: Layout = Layout { file: "audit-copies.redb", tables: 4, make_tables };

/// What a record counts for beside its own bytes.
const RECORD_BYTES: u64 = 64;

/// Which part of the limit is made free at once, where it is reached.
const FREED_PART: u64 = 16;

fn make_tables(tx: &redb::WriteTransaction) -> Result<(), redb::Error> {
    tx.open_table(RECORDS)?;
    tx.open_table(HEADS)?;
    tx.open_table(BASES)?;
    tx.open_table(SIZES)?;
    Ok(())
}

fn size(record: &[u8]) -> u64 {
    record.len() as u64 + RECORD_BYTES
}

/// The copies that a node keeps. Cheap to clone. Every call blocks.
#[derive(Clone)]
pub(crate) struct Copies(Arc<Inner>);

struct Inner {
    source: Source,
    bytes_max: u64,
}

enum Source {
    /// Open from the first use on, where there is a file.
    Running(Arc<dyn Disk>, Mutex<Option<Arc<Database>>>),
    /// Of a node that does not run, where it has any.
    Stopped(Option<redb::ReadOnlyDatabase>),
}

/// What became of the copies as one grew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grown {
    /// Where the node's copies stand.
    pub(crate) heads: [Head; CHAINS],
    /// Bytes of all copies.
    pub(crate) bytes: u64,
    /// How many records were let go of, of whichever copy.
    pub(crate) let_go: u64,
}

/// Whose chain, and which.
type Place = (String, u8);

impl Copies {
    /// Those on `disk`, which may take so many bytes.
    pub(crate) fn new(disk: Arc<dyn Disk>, bytes_max: u64) -> Self {
        let source = Source::Running(disk, Mutex::new(None));
        Self(Arc::new(Inner { source, bytes_max }))
    }

    /// Those in this directory, whose node does not run. Nothing is written.
    pub(crate) fn open(dir: &Path) -> Result<Self, Unreadable> {
        let path = dir.join(LAYOUT.file);
        let failed = |e: &dyn std::fmt::Display| Unreadable(format!("{}: {e}", path.display()));
        let database = match path.try_exists().map_err(|e| failed(&e))? {
            true => Some(redb::ReadOnlyDatabase::open(&path).map_err(|e| failed(&e))?),
            false => None,
        };
        Ok(Self(Arc::new(Inner { source: Source::Stopped(database), bytes_max: 0 })))
    }

    /// The file of a running node; where there is none, it is made if it is `needed`.
    fn database(
        disk: &Arc<dyn Disk>,
        open: &Mutex<Option<Arc<Database>>>,
        needed: bool,
    ) -> Result<Option<Arc<Database>>, StoreError> {
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = open.as_ref() {
            if !database.is_open() {
                database.reopen()?;
            }
            return Ok(Some(database.clone()));
        }
        let io = |error| StoreError::from(redb::Error::Io(error));
        if !needed && disk.identity(LAYOUT.file).map_err(io)?.is_none() {
            return Ok(None);
        }
        let (database, _) = Database::open_as(disk.clone(), &LAYOUT)?;
        Ok(Some(open.insert(Arc::new(database)).clone()))
    }

    fn read<T: Default>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match &self.0.source {
            Source::Running(disk, open) => match Self::database(disk, open, false)? {
                Some(database) => read(&database.get()?.begin_read()?),
                None => Ok(T::default()),
            },
            Source::Stopped(Some(database)) => read(&database.begin_read()?),
            Source::Stopped(None) => Ok(T::default()),
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
    /// the ones behind them. Where copies take more than they may, the largest gets shorter.
    pub(crate) fn append(
        &self,
        node: &str,
        chain: usize,
        records: &[impl AsRef<[u8]>],
    ) -> Result<Grown, StoreError> {
        let heads = self.heads()?.remove(node).unwrap_or_default();
        let mut grown = Grown { heads, ..Grown::default() };
        let (Some(head), Ok(number)) = (grown.heads.get_mut(chain), u8::try_from(chain)) else {
            return Ok(grown);
        };
        let Source::Running(disk, open) = &self.0.source else { return Ok(grown) };
        let Some(database) = Self::database(disk, open, !records.is_empty())? else {
            return Ok(grown);
        };
        if records.is_empty() {
            grown.bytes = total(&sizes_of_reader(&database.get()?.begin_read()?)?);
            return Ok(grown);
        }
        let mut committed = || -> Result<(u64, u64), StoreError> {
            let tx = database.get()?.begin_write()?;
            let mut sizes = sizes(&tx)?;
            let mut added = 0;
            {
                // Read here: another message of the node's may just have been taken.
                let mut heads = tx.open_table(HEADS)?;
                let known = heads.get((node, number))?;
                let known = known.map(|head| cbor::decode::<Head>(head.value()));
                *head = known.transpose().map_err(StoreError::damaged)?.unwrap_or_default();
                let mut table = tx.open_table(RECORDS)?;
                for bytes in records.iter().map(AsRef::as_ref) {
                    let Ok(record) = head.follow(bytes) else { break };
                    table.insert((node, number, record.seq), bytes)?;
                    added += size(bytes);
                }
                heads.insert((node, number), cbor::encode(&*head).as_slice())?;
            }
            *sizes.entry((node.to_owned(), number)).or_default() += added;
            let let_go = make_room(&tx, &mut sizes, self.0.bytes_max)?;
            let mut table = tx.open_table(SIZES)?;
            for ((node, chain), bytes) in &sizes {
                table.insert((node.as_str(), *chain), bytes)?;
            }
            drop(table);
            tx.commit()?;
            Ok((total(&sizes), let_go))
        };
        // After a failure redb takes no more until it is opened again.
        (grown.bytes, grown.let_go) = committed().inspect_err(|_| database.close())?;
        Ok(grown)
    }

    /// Has a chain's copy begin behind `base`, where there is none yet: the records up to there are in
    /// its node's archive alone.
    pub(crate) fn begin(&self, node: &str, chain: usize, base: Head) -> Result<(), StoreError> {
        let Source::Running(disk, open) = &self.0.source else { return Ok(()) };
        let Ok(number) = u8::try_from(chain) else { return Ok(()) };
        let Some(database) = Self::database(disk, open, chain < CHAINS)? else { return Ok(()) };
        let begin = || -> Result<(), StoreError> {
            let tx = database.get()?.begin_write()?;
            let known = {
                let table = tx.open_table(HEADS)?;
                let known = table.get((node, number))?;
                let known = known.map(|head| cbor::decode::<Head>(head.value())).transpose();
                known.map_err(StoreError::damaged)?.unwrap_or_default()
            };
            if known.seq == 0 {
                let encoded = cbor::encode(&base);
                tx.open_table(HEADS)?.insert((node, number), encoded.as_slice())?;
                tx.open_table(BASES)?.insert((node, number), encoded.as_slice())?;
            }
            tx.commit()?;
            Ok(())
        };
        begin().inspect_err(|_| database.close())
    }

    /// One of the copies, for reading.
    pub(crate) fn chain(&self, node: &str, chain: usize) -> CopiedChain {
        CopiedChain { copies: self.clone(), node: node.to_owned(), chain }
    }
}

fn total(sizes: &BTreeMap<Place, u64>) -> u64 {
    sizes.values().sum()
}

fn sizes_of_reader(tx: &ReadTransaction) -> Result<BTreeMap<Place, u64>, StoreError> {
    let mut sizes = BTreeMap::new();
    for row in tx.open_table(SIZES)?.iter()? {
        let (key, bytes) = row?;
        let (node, chain) = key.value();
        sizes.insert((node.to_owned(), chain), bytes.value());
    }
    Ok(sizes)
}

/// How many bytes the copies take; of one from before that was counted, they are counted now.
fn sizes(tx: &WriteTransaction) -> Result<BTreeMap<Place, u64>, StoreError> {
    let mut sizes = BTreeMap::new();
    let (heads, known) = (tx.open_table(HEADS)?, tx.open_table(SIZES)?);
    let records = tx.open_table(RECORDS)?;
    for row in heads.iter()? {
        let key = row?.0;
        let (node, chain) = key.value();
        let bytes = match known.get((node, chain))? {
            Some(bytes) => bytes.value(),
            None => {
                let mut bytes = 0;
                for row in records.range((node, chain, 0)..=(node, chain, u64::MAX))? {
                    bytes += size(row?.1.value());
                }
                bytes
            }
        };
        sizes.insert((node.to_owned(), chain), bytes);
    }
    Ok(sizes)
}

/// Has the largest copy let go of its oldest records until all take less than `bytes_max`, by some
/// part; how many those were.
fn make_room(
    tx: &WriteTransaction,
    sizes: &mut BTreeMap<Place, u64>,
    bytes_max: u64,
) -> Result<u64, StoreError> {
    if total(sizes) <= bytes_max {
        return Ok(0);
    }
    let goal = bytes_max - bytes_max / FREED_PART;
    let mut let_go = 0;
    let mut records = tx.open_table(RECORDS)?;
    while total(sizes) > goal {
        let Some((place, bytes)) = sizes.iter_mut().max_by_key(|(_, bytes)| **bytes) else { break };
        let (node, chain) = (place.0.as_str(), place.1);
        // No more than a part at a time, so that the next largest has its turn.
        let (mut freed, mut base) = (0, None);
        for row in
            records.extract_from_if((node, chain, 0)..=(node, chain, u64::MAX), |_, _| true)?
        {
            let (key, record) = row?;
            freed += size(record.value());
            let_go += 1;
            base = Some(Head { seq: key.value().2, hash: Sha256::digest(record.value()).into() });
            if freed >= (bytes_max / FREED_PART).max(1) {
                break;
            }
        }
        let Some(base) = base else { break };
        *bytes = bytes.saturating_sub(freed);
        let encoded = cbor::encode(&base);
        tx.open_table(BASES)?.insert((node, chain), encoded.as_slice())?;
        tracing::warn!(
            node,
            chain,
            upto = base.seq,
            bytes_max,
            "the copy of a node's audit chain let go of its oldest records, for room"
        );
    }
    Ok(let_go)
}

/// The copy of one chain.
pub(crate) struct CopiedChain {
    copies: Copies,
    node: String,
    chain: usize,
}

impl CopiedChain {
    fn number(&self) -> u8 {
        u8::try_from(self.chain).unwrap_or(u8::MAX)
    }
}

impl ChainReader for CopiedChain {
    fn head(&self) -> Result<Head, Unreadable> {
        let heads = self.copies.heads().map_err(|e| Unreadable(e.to_string()))?;
        Ok(heads.get(&self.node).and_then(|it| it.get(self.chain)).copied().unwrap_or_default())
    }

    fn base(&self) -> Result<Head, Unreadable> {
        let base = self.copies.read(|tx| {
            let table = match tx.open_table(BASES) {
                // From before there was one, opened by nothing but a reader.
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Head::default()),
                table => table?,
            };
            let base = table.get((self.node.as_str(), self.number()))?;
            let base = base.map(|base| cbor::decode(base.value())).transpose();
            Ok(base.map_err(StoreError::damaged)?.unwrap_or_default())
        });
        base.map_err(|e| Unreadable(e.to_string()))
    }

    fn walk(
        &self,
        from: u64,
        visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), Unreadable> {
        let number = self.number();
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
    use crate::audit::page::{Filter, Stream, Way, slice};
    use crate::audit::verify::verify;
    use crate::audit::{Decision, Event, Source as From};
    use crate::env::{CrashMode, MemoryDisk};
    use crate::model::Stamp;

    fn event(count: u64) -> Event {
        let source = From { node: "b".into(), address: None, request: "-".into() };
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
        let copies = Copies::new(disk.clone(), u64::MAX);
        assert!(copies.heads().unwrap().is_empty());
        assert_eq!(
            copies.append("b", 0, &[] as &[Vec<u8>]).unwrap().heads,
            [Head::default(); CHAINS]
        );
        assert!(disk.identity(LAYOUT.file).unwrap().is_none(), "nothing makes no file");
        let mut head = Head::default();
        let first = records(&mut head, 1..4);
        assert_eq!(copies.append("b", 0, &first).unwrap().heads[0], head);
        // Again, with a gap, another chain's, and one that is no chain's.
        let (mut other, behind) = (Head::default(), head);
        let gap = records(&mut head, 4..7);
        for wrong in [&first[..], &gap[1..], &records(&mut other, 7..12)[..]] {
            assert_eq!(copies.append("b", 0, wrong).unwrap().heads[0], behind);
        }
        assert_eq!(copies.append("b", 9, &gap).unwrap().heads[0], behind);
        // Up to the first that does not follow.
        let mixed = [&gap[..2], &first[..]].concat();
        assert_eq!(copies.append("b", 0, &mixed).unwrap().heads[0].seq, 5);
        assert_eq!(copies.append("b", 1, &first).unwrap().heads.map(|it| it.seq), [5, 3]);
        let all = [&first[..], &gap[..2]].concat();
        assert_eq!(walked(&copies.chain("b", 0), 1), all);
        assert_eq!(walked(&copies.chain("b", 0), 4), all[3..]);
        assert_eq!(walked(&copies.chain("a", 0), 1), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn what_is_taken_at_the_same_time_takes_nothing_back() {
        let copies = Copies::new(Arc::new(MemoryDisk::new()), u64::MAX);
        let Source::Running(disk, open) = &copies.0.source else { panic!("it is of a node") };
        let mut head = Head::default();
        let all = records(&mut head, 1..60);
        copies.append("b", 0, &all[..1]).unwrap();
        let mut stands = 1;
        for round in 0..20 {
            // Nobody gets to write before both have begun.
            let database = Copies::database(disk, open, true).unwrap().unwrap();
            let held = database.get().unwrap().begin_write().unwrap();
            let begun = std::sync::Barrier::new(3);
            let told = std::thread::scope(|scope| {
                let begun = &begun;
                let append = |end: usize| {
                    let (copies, part) = (&copies, &all[stands..stands + end]);
                    scope.spawn(move || {
                        begun.wait();
                        copies.append("b", 0, part).unwrap().heads[0].seq
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
        Copies::new(Arc::new(disk.clone()), u64::MAX).append("b", 1, &all).unwrap();
        let copies = Copies::new(Arc::new(disk.crash(CrashMode::LoseUnsynced)), u64::MAX);
        assert_eq!(copies.heads().unwrap()["b"], [Head::default(), head]);
        assert_eq!(walked(&copies.chain("b", 1), 1), all);
        assert_eq!(copies.chain("b", 1).head().unwrap(), head);
    }

    #[test]
    fn past_the_limit_the_largest_copy_lets_go_of_its_oldest_records_and_stays_whole() {
        const LIMIT: u64 = 40_000;
        let disk = Arc::new(MemoryDisk::new());
        let copies = Copies::new(disk.clone(), LIMIT);
        let (mut small, mut large) = (Head::default(), Head::default());
        let quiet = records(&mut small, 1..20);
        copies.append("quiet", 1, &quiet).unwrap();
        let (mut all, mut let_go) = (Vec::new(), 0);
        for round in 0..20 {
            let next = records(&mut large, round * 20 + 1..round * 20 + 21);
            let grown = copies.append("loud", 0, &next).unwrap();
            assert_eq!(grown.heads[0], large, "all that came was taken");
            assert!(grown.bytes <= LIMIT, "{}", grown.bytes);
            let_go += grown.let_go;
            all.extend(next);
        }
        assert!(let_go > 100, "{let_go}");
        // Who recorded little keeps all of it, and the loud one the newest, also after a crash.
        for copies in [copies, Copies::new(Arc::new(disk.crash(CrashMode::LoseUnsynced)), LIMIT)] {
            assert_eq!(walked(&copies.chain("quiet", 1), 1), quiet);
            let loud = copies.chain("loud", 0);
            let kept = walked(&loud, 1);
            assert_eq!(kept, all[usize::try_from(let_go).unwrap()..]);
            assert_eq!(loud.base().unwrap().seq, let_go);
            let report = verify("config of loud", &loud, &[]).unwrap();
            assert_eq!((report.records, report.let_go), (400 - let_go, let_go));
            assert_eq!(report.findings, Vec::<String>::new());
            let pages =
                |way, place| slice(&loud, Stream::Config, &Filter::default(), way, place, 500);
            let on = pages(Way::On, 0).unwrap();
            assert_eq!((on.records.len() as u64, on.ended), (400 - let_go, true));
            let back = pages(Way::Back, 0).unwrap();
            assert_eq!((back.records.len() as u64, back.ended), (400 - let_go, true));
            assert_eq!(back.let_go, let_go);
        }
    }

    #[test]
    fn a_copy_whose_oldest_record_was_taken_out_is_not_whole() {
        let disk = Arc::new(MemoryDisk::new());
        let copies = Copies::new(disk.clone(), u64::MAX);
        let all = records(&mut Head::default(), 1..6);
        copies.append("b", 0, &all).unwrap();
        let Source::Running(_, open) = &copies.0.source else { unreachable!() };
        let database = Copies::database(&(disk as Arc<dyn Disk>), open, true).unwrap().unwrap();
        let tx = database.get().unwrap().begin_write().unwrap();
        tx.open_table(RECORDS).unwrap().remove(("b", 0, 1)).unwrap();
        tx.commit().unwrap();
        let report = verify("config of b", &copies.chain("b", 0), &[]).unwrap();
        assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
    }

    #[test]
    fn copies_are_read_from_outside_where_there_are_any() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Copies::open(dir.path()).unwrap().heads().unwrap().is_empty());
        let disk: Arc<dyn Disk> = Arc::new(crate::env::FileDisk::open(dir.path()).unwrap());
        let mut head = Head::default();
        let all = records(&mut head, 1..4);
        Copies::new(disk, u64::MAX).append("b", 1, &all).unwrap();
        let copies = Copies::open(dir.path()).unwrap();
        assert_eq!(copies.heads().unwrap()["b"], [Head::default(), head]);
        assert_eq!(walked(&copies.chain("b", 1), 2), all[1..]);
        let report = verify("quorum of b", &copies.chain("b", 1), &[]).unwrap();
        assert_eq!((report.records, report.findings.len()), (3, 0));
    }

    #[test]
    fn a_copy_may_begin_behind_what_is_archived_and_only_where_there_is_none() {
        let (copies, mut head) =
            (Copies::new(Arc::new(MemoryDisk::new()), u64::MAX), Head::default());
        let all = records(&mut head, 0..6);
        let mut base = Head::default();
        for record in &all[..3] {
            base.follow(record).unwrap();
        }
        assert_eq!(copies.append("b", 0, &all[3..]).unwrap().heads[0].seq, 0, "it does not follow");
        copies.begin("b", 0, base).unwrap();
        assert_eq!(copies.append("b", 0, &all[3..]).unwrap().heads[0], head);
        assert_eq!(copies.chain("b", 0).base().unwrap(), base);
        let report = crate::audit::verify::verify("b", &copies.chain("b", 0), &[]).unwrap();
        assert_eq!((report.let_go, report.records, report.findings.len()), (3, 3, 0));
        // What is kept is the evidence: nobody begins it anew.
        copies.begin("b", 0, Head { seq: 90, hash: [9; 32] }).unwrap();
        assert_eq!(copies.heads().unwrap()["b"][0], head);
    }
}
