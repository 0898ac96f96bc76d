//! What a history promises, though no table has all of it: every write of a key, once each, whenever it
//! is read; and the same of a store that a program of before wrote, where the table had all.

use super::trim::{all, trim};
use super::whole::{hear, staged, transfer};
use super::*;
use crate::config::{Entry, HistoryPolicy, Policies};
use crate::storage::history::{HISTORY, Position};
use crate::storage::rows::{self, ROWS};
use crate::storage::whole::Ask;
use redb::ReadableTable as _;

const DOCUMENT: &str = "web/dev";

fn id() -> DocumentId {
    DocumentId::parse(DOCUMENT).unwrap()
}

/// A key's history, read a few at a time.
fn read(writer: &Writer, key: &str, size: usize) -> Vec<Entry> {
    let key = Key::new(key).unwrap();
    let (mut entries, mut before): (Vec<Entry>, Option<Position>) = (Vec::new(), None);
    loop {
        let page = writer.history().read(&id(), &key, before, size, usize::MAX).unwrap();
        assert!(page.entries.len() <= size);
        entries.extend(page.entries);
        before = entries.last().map(|entry| (entry.version, entry.dot));
        if page.is_last {
            break;
        }
    }
    let oldest = writer.history().oldest(&id(), &key).unwrap();
    assert_eq!(oldest, before, "the end of it is its oldest");
    entries
}

/// How many of the versions that rows show stand in the table of histories, too, and what it has in all.
fn twice(writer: &Writer) -> (usize, usize) {
    let tx = writer.database.get().unwrap().begin_read().unwrap();
    let (histories, rows) = (tx.open_table(HISTORY).unwrap(), tx.open_table(ROWS).unwrap());
    let mut twice = 0;
    for row in histories.iter().unwrap() {
        let (key, _) = row.unwrap();
        let (name, _, origin, n) = key.value();
        let dot = Dot { origin: Origin(origin.to_be_bytes()), n };
        let shown = rows::siblings(&rows, name).unwrap();
        twice += usize::from(shown.iter().any(|entry| entry.dot == dot));
    }
    (twice, histories.iter().unwrap().count())
}

/// Makes of a store what a program of before would have written: all versions in the table.
fn age(writer: Writer, disk: &MemoryDisk) -> Writer {
    drop(writer);
    // As that program opens it: what is in no table yet stays in the log.
    let (database, _) = Database::open(Arc::new(disk.clone())).unwrap();
    let tx = database.get().unwrap().begin_write().unwrap();
    let mut shown: Vec<(String, Entry)> = Vec::new();
    for row in tx.open_table(ROWS).unwrap().iter().unwrap() {
        let (name, row) = row.unwrap();
        let entries = rows::decode(name.value(), row.value()).unwrap();
        shown.extend(entries.into_iter().map(|entry| (name.value().to_owned(), entry)));
    }
    crate::storage::history::put(&tx, shown.iter()).unwrap();
    meta::KEY_FORMAT.put(&tx, &meta::FORMAT_WITH_EPOCHS).unwrap();
    meta::KEY_HISTORIES.remove(&tx).unwrap();
    tx.commit().unwrap();
    drop(database);
    open(disk)
}

/// Policies that let nothing go.
fn all_kept() -> Policies {
    let mut policies = Policies::default();
    policies.set.insert(None, HistoryPolicy { versions: 1_000, age_s: 1_000 });
    policies
}

fn pass(writer: &mut Writer) {
    loop {
        writer.prune(Stamp(1), &all_kept()).unwrap();
        writer.checkpoint().unwrap();
        if !writer.is_pruning() {
            return;
        }
    }
}

#[test]
fn a_first_write_is_in_the_row_and_its_history_and_in_no_table_of_histories() {
    let mut writer = open(&MemoryDisk::new());
    for i in 0..100_u64 {
        writer.commit(Stamp(i), &[put(DOCUMENT, &[(&format!("k{i}"), "1")])]);
    }
    writer.checkpoint().unwrap();
    assert_eq!(twice(&writer), (0, 0));
    assert_eq!(read(&writer, "k7", 10).len(), 1);
    for i in 0..3_u64 {
        writer.commit(Stamp(200 + i), &[put(DOCUMENT, &[("k7", "2")])]);
    }
    writer.checkpoint().unwrap();
    assert_eq!(twice(&writer), (0, 3), "the first, and two that no row was ever written of");
    let versions: Vec<u64> = read(&writer, "k7", 10).iter().map(|entry| entry.version).collect();
    assert_eq!(versions, [4, 3, 2, 1]);
}

#[test]
fn a_store_of_before_is_read_and_its_histories_are_made_smaller_in_bounded_steps() {
    let disk = MemoryDisk::new();
    let mut writer = open(&disk);
    for i in 0..3_000_u64 {
        let pairs = [(&*format!("k{i}"), "1"), ("often", "2")];
        writer.commit(Stamp(i), &[put(DOCUMENT, &pairs)]);
        if i % 1_000 == 0 {
            writer.checkpoint().unwrap();
        }
    }
    writer.checkpoint().unwrap();
    assert_eq!(twice(&writer), (0, 2_999));
    let before = histories(&writer);
    let mut writer = age(writer, &disk);
    assert_eq!((writer.format, twice(&writer)), (meta::FORMAT_WITH_EPOCHS, (3_001, 6_000)));
    assert!(histories(&writer) == before, "what is in both counts once");
    writer.prune(Stamp(1), &all_kept()).unwrap();
    writer.checkpoint().unwrap();
    let (left, _) = twice(&writer);
    assert!((1_900..2_100).contains(&left), "one step: {left} are left");
    assert_eq!(
        writer.format,
        meta::FORMAT_WITHOUT_FOLDS,
        "a program of before would lose what is left out"
    );
    // What ends it in the middle has it begin anew, and it comes to an end.
    drop(writer);
    let mut writer = open(&disk);
    writer.commit(Stamp(4_000), &[put(DOCUMENT, &[("k5", "3"), ("k2999", "3")])]);
    writer.prune(Stamp(1), &all_kept()).unwrap();
    writer.checkpoint().unwrap();
    // What was found in both is replaced before it is taken out of one.
    writer.prune(Stamp(1), &all_kept()).unwrap();
    writer.commit(Stamp(4_001), &[put(DOCUMENT, &[("k200", "3"), ("k2000", "3")])]);
    pass(&mut writer);
    assert_eq!(twice(&writer), (0, 3_003));
    assert!(!writer.is_pruning());
    let tx = writer.database.get().unwrap().begin_read().unwrap();
    assert_eq!(meta::KEY_HISTORIES.get(&tx).unwrap(), Some(true));
    drop(tx);
    let after = histories(&writer);
    assert_eq!(after.iter().map(Vec::len).sum::<usize>(), 4_004, "a thousand of one key");
    assert_eq!(read(&writer, "k2000", 1).len(), 2);
    drop(writer);
    let mut writer = open(&disk);
    assert!(histories(&writer) == after);
    writer.prune(Stamp(1), &all_kept()).unwrap();
    assert!(!writer.is_pruning(), "no key is looked at again");
}

#[test]
fn a_conflict_of_an_old_number_holds_itself_and_nothing_else() {
    let (mut here, mut there) = (open(&MemoryDisk::new()), open(&MemoryDisk::new()));
    here.commit(Stamp(1), &[put(DOCUMENT, &[("k", "1")])]);
    hear(&here, &mut there);
    there.commit(Stamp(2), &[put(DOCUMENT, &[("k", "\"other\"")])]);
    for i in 2..10_u64 {
        here.commit(Stamp(i), &[put(DOCUMENT, &[("k", "1")])]);
    }
    hear(&there, &mut here);
    here.checkpoint().unwrap();
    let mut policies = Policies::default();
    policies.set.insert(None, HistoryPolicy { versions: 1, age_s: 0 });
    let prune = |writer: &mut Writer| {
        writer.prune(Stamp(1_000_000_000), &policies).unwrap();
        writer.checkpoint().unwrap();
    };
    let versions = |writer: &Writer| -> Vec<u64> {
        read(writer, "k", 3).iter().map(|entry| entry.version).collect()
    };
    assert_eq!(versions(&here), [9, 8, 7, 6, 5, 4, 3, 2, 2, 1]);
    prune(&mut here);
    assert_eq!(versions(&here), [9, 2]);
    let shown = there.state.view(&id()).unwrap().rows[&Key::new("k").unwrap()].winner().dot;
    assert_eq!(read(&here, "k", 3).last().unwrap().dot, shown);
    // Settled, and the row that says so is not written yet.
    here.commit(Stamp(11), &[put(DOCUMENT, &[("k", "1")])]);
    prune(&mut here);
    assert_eq!(versions(&here), [10, 9, 2]);
    prune(&mut here);
    assert_eq!(versions(&here), [10]);
}

/// A cut as the program before asks for it, and as it is said to that.
fn cut_of_before(from: &Writer, to: &Writer) -> Vec<Vec<u8>> {
    let ask = Ask { vector: to.state.vector.told(), shown_in_rows: None };
    super::whole::Pieces::asked(&from.cuts(), &ask, Stamp(1_000)).collect()
}

#[test]
fn who_asks_as_the_program_before_is_sent_every_version() {
    let mut a = open(&MemoryDisk::new());
    for i in 0..60_u64 {
        a.commit(Stamp(i), &[put(DOCUMENT, &[(&format!("k{}", i % 7), "1")])]);
        if i == 50 {
            a.checkpoint().unwrap();
        }
    }
    let mut b = open(&MemoryDisk::new());
    let rows = |pieces: &[Vec<u8>]| -> Vec<Dot> {
        let mut dots = Vec::new();
        for piece in pieces {
            use crate::storage::whole::Piece;
            if let Piece::History(rows, _) = crate::model::cbor::decode(piece).unwrap() {
                dots.extend(rows.iter().map(|row| row.dot));
            }
        }
        dots
    };
    let mut all = rows(&cut_of_before(&a, &b));
    all.sort();
    let n = |n| Dot { origin: a.origin(), n };
    assert_eq!(all, (1..=60).map(n).collect::<Vec<_>>(), "each once");
    // This program takes what is shown from the documents, and more of it does no harm.
    a.checkpoint().unwrap();
    let less = rows(&super::whole::pieces(&a.cuts(), &b.state.vector));
    assert_eq!(less.len(), 53);
    let disk = MemoryDisk::new();
    b.take(&staged(&cut_of_before(&a, &b), &disk)).unwrap();
    assert_eq!((twice(&b), histories(&b)), ((0, 53), histories(&a)));
}

#[test]
fn readers_miss_no_version_and_see_none_twice_while_rows_are_written() {
    let mut writer = open(&MemoryDisk::new());
    writer.commit(Stamp(1), &[put(DOCUMENT, &[("k", "1")])]);
    let (history, key) = (writer.history(), Key::new("k").unwrap());
    let is_done = std::sync::atomic::AtomicBool::new(false);
    let looks = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut looks, mut newest) = (0_u64, 0);
            while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
                let page = history.read(&id(), &key, None, 10_000, usize::MAX).unwrap();
                let versions: Vec<u64> = page.entries.iter().map(|it| it.version).collect();
                let first = versions[0];
                assert!(first >= newest, "{first} behind {newest}");
                assert_eq!(versions, (1..=first).rev().collect::<Vec<_>>());
                (looks, newest) = (looks + 1, first);
            }
            looks
        });
        for i in 2..400_u64 {
            writer.commit(Stamp(i), &[put(DOCUMENT, &[("k", "1")])]);
            if i % 2 == 0 {
                writer.checkpoint().unwrap();
            }
        }
        is_done.store(true, std::sync::atomic::Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert!(looks > 3, "{looks}");
}

/// What a test does to two stores, the first or the second of them.
#[derive(Clone, Debug)]
enum Step {
    Put(usize, u8),
    Remove(usize, u8),
    Hear(usize),
    Transfer(usize),
    TransferOfBefore(usize),
    Checkpoint(usize),
    Crash(usize),
    Age(usize),
    Pass(usize),
    Rebuild(usize),
    Roll,
    Trim,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = || 0..2_usize;
    let step = prop_oneof![
        16 => (who(), 0..4_u8).prop_map(|(who, key)| Step::Put(who, key)),
        3 => (who(), 0..4_u8).prop_map(|(who, key)| Step::Remove(who, key)),
        5 => who().prop_map(Step::Hear),
        2 => who().prop_map(Step::Transfer),
        1 => who().prop_map(Step::TransferOfBefore),
        6 => who().prop_map(Step::Checkpoint),
        2 => who().prop_map(Step::Crash),
        1 => who().prop_map(Step::Age),
        2 => who().prop_map(Step::Pass),
        2 => who().prop_map(Step::Rebuild),
        3 => Just(Step::Roll),
        1 => Just(Step::Trim),
    ];
    proptest::collection::vec(step, 1..70)
}

/// Two stores, and all that was ever written.
struct World {
    disks: [MemoryDisk; 2],
    stores: [Option<Writer>; 2],
    ever: BTreeMap<String, Vec<Entry>>,
    now: u64,
    transfers: usize,
}

impl World {
    fn new() -> Self {
        let disks = [MemoryDisk::new(), MemoryDisk::new()];
        let stores = [Some(open(&disks[0])), Some(open(&disks[1]))];
        Self { disks, stores, ever: BTreeMap::new(), now: 1, transfers: 0 }
    }

    fn store(&mut self, who: usize) -> &mut Writer {
        self.stores[who].as_mut().unwrap()
    }

    fn write(&mut self, who: usize, key: u8, is_removal: bool) {
        self.now += 1;
        let (key, now) = (format!("k{key}"), Stamp(self.now));
        let Command::Write(mut request) = put(DOCUMENT, &[(&key, &self.now.to_string())]) else {
            panic!()
        };
        if is_removal {
            if value(self.store(who), DOCUMENT, &key).is_none() {
                return;
            }
            request.operations[0].action = Action::Remove;
        }
        let committed = self.store(who).commit(now, &[Command::Write(request)]);
        let entry = written(&committed, 0).keys[0].row.winner().clone();
        self.ever.entry(key).or_default().push(entry);
    }

    fn transfer(&mut self, who: usize, is_of_before: bool) {
        self.transfers += 1;
        let [a, b] = &mut self.stores;
        let (from, to) = if who == 0 { (b, a) } else { (a, b) };
        let (from, to) = (from.as_mut().unwrap(), to.as_mut().unwrap());
        let taken = match is_of_before {
            true => to.take(&staged(&cut_of_before(from, to), &self.disks[who])),
            false => transfer(from, to, &self.disks[who]),
        };
        // Who has trimmed what the peer has not even rolled is refused a cut of its, and needs none.
        let is_refused = matches!(taken, Err(TakeError::Behind(_) | TakeError::Unfit(_)));
        assert!(taken.is_ok() || is_refused, "{taken:?}");
    }

    /// The first store rolls the document at what both have, all removals of which go.
    fn roll(&mut self) {
        let [a, b] = &mut self.stores;
        let (a, b) = (a.as_mut().unwrap(), b.as_mut().unwrap());
        let floor = a.state.vector.meet(&b.state.vector).told();
        let before = Stamp(u64::MAX);
        let Ok(plan) = a.epochs().plan_roll(&id(), &floor, before) else { return };
        let roll =
            Roll { epoch: plan.epoch, floor, base: plan.base, removals_before: before, fold: None };
        let rolled = a.commit(Stamp(self.now), &[Command::Roll { document: id(), roll }]);
        assert!(matches!(rolled.outcomes[..], [Outcome::Rolled(Ok(_))]), "{rolled:?}");
    }

    fn trim(&mut self) {
        let mut bounds = all(self.store(0));
        let other = all(self.store(1)).acknowledged;
        bounds.acknowledged = (bounds.acknowledged.iter())
            .map(|dot| Dot { n: dot.n.min(other.get(dot.origin)), ..dot })
            .filter(|dot| dot.n > 0)
            .collect();
        for who in 0..2 {
            trim(self.store(who), &bounds);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Put(who, key) => self.write(who, key, false),
            Step::Remove(who, key) => self.write(who, key, true),
            Step::Hear(who) => {
                let [a, b] = &mut self.stores;
                let (a, b) = (a.as_mut().unwrap(), b.as_mut().unwrap());
                let _ = if who == 0 { hear(b, a) } else { hear(a, b) };
            }
            Step::Transfer(who) => self.transfer(who, false),
            Step::TransferOfBefore(who) => self.transfer(who, true),
            Step::Checkpoint(who) => self.store(who).checkpoint().unwrap(),
            Step::Crash(who) => {
                self.stores[who] = None;
                self.disks[who] = self.disks[who].crash(CrashMode::TearUnsynced(self.now));
                self.stores[who] = Some(open(&self.disks[who]));
            }
            Step::Age(who) => {
                let writer = self.stores[who].take().unwrap();
                self.stores[who] = Some(age(writer, &self.disks[who]));
            }
            Step::Pass(who) => pass(self.store(who)),
            Step::Rebuild(who) => {
                let writer = self.store(who);
                writer.begin_rebuild(1 << 20);
                (0..6).for_each(|_| writer.step_rebuild());
            }
            Step::Roll => self.roll(),
            Step::Trim => self.trim(),
        }
    }

    /// Each store has of each key what it has heard of, newest first, once.
    fn check(&mut self, page: usize) -> Result<(), TestCaseError> {
        for who in 0..2 {
            let writer = self.stores[who].as_ref().unwrap();
            for (key, entries) in &self.ever {
                let known = entries.iter().filter(|it| writer.state.vector.includes(it.dot));
                let mut known: Vec<Entry> = known.cloned().collect();
                known.sort_by_key(|entry| std::cmp::Reverse((entry.version, entry.dot)));
                prop_assert_eq!(read(writer, key, page), known, "{} at {}", key, who);
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn a_history_is_every_write_that_a_store_has_heard_of_whatever_comes_between(
        steps in steps(),
        page in 1..5_usize,
    ) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
            world.check(page)?;
        }
        for who in 0..2 {
            pass(world.store(who));
            let (twice, _) = twice(world.store(who));
            prop_assert!(twice == 0 || world.transfers > 0, "{} are kept twice in the end", twice);
        }
        world.check(100)?;
    }
}
