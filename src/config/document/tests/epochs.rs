//! Rolls in the middle of everything: replicas that hear of each other when they like, documents
//! that are rolled at whatever a part of them has acknowledged, members that were left out and come
//! back, crashes at each step. All show what a model without epochs shows, come to the same changes,
//! and any Automerge shows the same for these.

use std::collections::{BTreeMap, btree_map};

use super::automerge_itself::{Reference, sorted};
use super::*;
use crate::config::epochless::Epochless;
use crate::config::record::{NO_RECORD, Record};
use crate::config::roll::Roll;
use crate::config::waiting::{in_causal_order, is_applicable};
use crate::model::{DocumentId, Vector};

mod undo;

const REPLICAS: usize = 4;
const KEYS: usize = 5;

#[derive(Clone, Debug)]
enum Step {
    /// Writes some keys; some writes are removals. A program of before does not say what it
    /// replaces, and knows epoch 0 alone.
    Write {
        who: usize,
        keys: Vec<(usize, bool)>,
        is_old: bool,
    },
    /// Writes to another document.
    Elsewhere {
        who: usize,
    },
    /// Hears of some more of another's records.
    Hear {
        who: usize,
        of: usize,
        count: usize,
    },
    /// Rolls at what all but the left out ones have; writes it even where it was decided before.
    Roll {
        who: usize,
        left_out: usize,
        age: u64,
    },
    Restart {
        who: usize,
    },
    /// Keeps what it has, as a store does at a checkpoint.
    Checkpoint {
        who: usize,
    },
    /// Goes back to what was kept, and reads the log since.
    Crash {
        who: usize,
    },
    /// What was kept is as a program of before kept it.
    Forget {
        who: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = || 0..REPLICAS;
    let keys = || proptest::collection::btree_map(0..KEYS, proptest::bool::weighted(0.3), 1..4);
    let step = prop_oneof![
        10 => (who(), keys(), any::<bool>()).prop_map(|(who, keys, is_old)| Step::Write {
            who,
            keys: keys.into_iter().collect(),
            is_old,
        }),
        1 => who().prop_map(|who| Step::Elsewhere { who }),
        12 => (who(), who(), 1..9usize).prop_map(|(who, of, count)| Step::Hear { who, of, count }),
        4 => (who(), 0..REPLICAS + 2, 0..30u64)
            .prop_map(|(who, left_out, age)| Step::Roll { who, left_out, age }),
        1 => who().prop_map(|who| Step::Restart { who }),
        2 => who().prop_map(|who| Step::Checkpoint { who }),
        2 => who().prop_map(|who| Step::Crash { who }),
        1 => who().prop_map(|who| Step::Forget { who }),
    ];
    proptest::collection::vec(step, 1..70)
}

fn id() -> DocumentId {
    DocumentId::parse("web/prod").unwrap()
}

/// What a store keeps beside its log.
#[derive(Clone, Default)]
struct Kept {
    saved: Option<Vec<u8>>,
    base: Option<Vec<u8>>,
    vector: Vector,
}

/// A replica, and what it would keep.
struct Replica {
    actor: Actor,
    document: Document,
    vector: Vector,
    log: BTreeMap<Dot, Record>,
    order: Vec<Dot>,
    kept: Kept,
}

struct Disk<'a> {
    log: &'a BTreeMap<Dot, Record>,
    base: Option<&'a Vec<u8>>,
}

impl Past for Disk<'_> {
    type Error = DocumentError;

    fn folds(&self) -> Arc<Folds> {
        Arc::default()
    }

    fn base(&mut self) -> Result<SavedDocument, DocumentError> {
        Ok(cbor::decode(self.base.expect("a base was kept")).unwrap())
    }

    fn dots(&mut self) -> Result<Vec<Dot>, DocumentError> {
        let of_epoch_0 = |record: &&Record| {
            record.epoch == 0 && record.document == id() && !Roll::is_roll(&record.change)
        };
        Ok(self.log.values().filter(of_epoch_0).map(|record| record.dot).collect())
    }

    fn record(&mut self, dot: Dot) -> Result<Record, DocumentError> {
        Ok(self.log[&dot].clone())
    }

    fn has_all(&mut self, _: &[Dot]) -> Result<bool, DocumentError> {
        Ok(true)
    }
}

fn apply(document: &mut Document, record: &Record, disk: &mut Disk<'_>) {
    if record.document != id() {
        return;
    }
    assert!(record.epoch <= document.epoch() + u32::from(Roll::is_roll(&record.change)));
    if Roll::is_roll(&record.change) {
        let roll = Roll::decode(&record.change).unwrap();
        document.roll(&id(), &roll, record.dot, disk).unwrap();
    } else {
        document.apply([&CheckedChange::of_record(record).unwrap()]).unwrap();
    }
}

impl Replica {
    fn new(who: usize) -> Self {
        Self {
            actor: actor(who as u8 + 1),
            document: Document::new(),
            vector: Vector::new(),
            log: BTreeMap::new(),
            order: Vec::new(),
            kept: Kept::default(),
        }
    }

    fn next(&self) -> Dot {
        Dot { origin: self.actor.origin, n: self.vector.get(self.actor.origin) + 1 }
    }

    fn put(&mut self, record: Record) {
        self.vector.advance(record.dot);
        self.order.push(record.dot);
        self.log.insert(record.dot, record);
    }

    fn take(&mut self, record: &Record) {
        self.put(record.clone());
        let mut disk = Disk { log: &self.log, base: self.kept.base.as_ref() };
        apply(&mut self.document, record, &mut disk);
    }

    fn hear(&mut self, other: &[Record], count: usize) {
        let mut left = count;
        for record in other {
            if left > 0 && is_applicable(record, &self.vector) {
                self.take(record);
                left -= 1;
            }
        }
    }

    fn records(&self) -> Vec<Record> {
        self.order.iter().map(|dot| self.log[dot].clone()).collect()
    }

    fn checkpoint(&mut self) {
        if let Some(base) = self.document.epoch_base() {
            self.kept.base = Some(base.to_vec());
        }
        self.kept.saved = Some(cbor::encode(&self.document.save()));
        self.kept.vector = self.vector.clone();
        self.document.set_bases();
    }

    fn crash(&mut self) {
        let saved = self.kept.saved.as_ref().map(|saved| cbor::decode(saved).unwrap());
        let mut document =
            saved.map_or_else(Document::new, |it| Document::load(it, &Arc::default()).unwrap());
        let since = self.log.values().filter(|record| !self.kept.vector.includes(record.dot));
        for record in in_causal_order(since.cloned().collect(), &Folds::default()) {
            let mut disk = Disk { log: &self.log, base: self.kept.base.as_ref() };
            apply(&mut document, &record, &mut disk);
        }
        self.document = document;
    }
}

/// What a change wrote, and what each entry replaced.
type Written = (Vec<(Key, Entry)>, Vec<Vec<Dot>>);

/// What was written, as the model wants it.
#[derive(Default)]
struct Told {
    writes: BTreeMap<Dot, Written>,
    rolls: BTreeMap<u32, Roll>,
}

impl Told {
    /// The model of what a state with this vector in this epoch shows.
    fn model(&self, vector: &Vector, epoch: u32) -> Epochless {
        let mut model = Epochless::new();
        for (dot, (entries, replaces)) in &self.writes {
            if vector.includes(*dot) {
                for ((key, entry), replaces) in entries.iter().zip(replaces) {
                    model.write(key, entry, replaces);
                }
            }
        }
        for roll in self.rolls.values().filter(|roll| roll.epoch <= epoch) {
            model.prune(&roll.floor.read(&Arc::default()), roll.removals_before);
        }
        model
    }
}

fn check(replica: &Replica, told: &Told) -> Result<(), TestCaseError> {
    prop_assert_eq!(replica.document.keys_bytes, replica.document.measure_keys());
    let model = told.model(&replica.vector, replica.document.epoch());
    prop_assert!(replica.document.keys().eq(model.keys()));
    for key in replica.document.keys() {
        prop_assert_eq!(sorted(replica.document.siblings(key)), model.siblings(key));
    }
    Ok(())
}

fn write(replica: &mut Replica, keys: &[(usize, bool)], is_old: bool, at: u64, told: &mut Told) {
    let dot = replica.next();
    let entries: Vec<(Key, Entry)> = keys
        .iter()
        .map(|(i, is_removal)| {
            let value = (!is_removal).then(|| at.to_string());
            let key = key(*i);
            let floor = replica.document.rolled().map_or(0, |it| it.version_floor);
            let seen = replica.document.siblings(&key).iter().map(|it| it.version).max();
            let version = seen.unwrap_or(floor) + 1;
            (key, Entry { version, ..entry(dot, at, value.as_deref()) })
        })
        .collect();
    let (epoch, needs) = (replica.document.epoch(), replica.document.needs(dot.origin));
    let made = replica.document.make(replica.actor, dot, &entries).unwrap();
    let replaces = (epoch > 0 || !is_old).then(|| made.replaces.clone());
    let record = Record::with(dot, NO_RECORD, id(), epoch, needs, &made.bytes, replaces);
    told.writes.insert(dot, (entries, made.replaces));
    replica.put(Record::decode(record.bytes).unwrap());
}

fn roll(
    replicas: &mut [Replica],
    who: usize,
    left_out: usize,
    removals_before: Stamp,
    told: &mut Told,
) -> Result<(), TestCaseError> {
    let epoch = replicas[who].document.epoch() + 1;
    if let btree_map::Entry::Vacant(undecided) = told.rolls.entry(epoch) {
        let mut floor = replicas[who].vector.clone();
        let members = replicas.iter().enumerate().filter(|(i, _)| *i != left_out);
        for (_, member) in members {
            floor = floor
                .iter()
                .map(|dot| Dot { n: dot.n.min(member.vector.get(dot.origin)), ..dot })
                .collect();
        }
        let (replica, floor) = (&replicas[who], floor.told());
        let mut disk = Disk { log: &replica.log, base: replica.kept.base.as_ref() };
        let planned = replica.document.plan_roll(&id(), &floor, removals_before, &mut disk);
        let Ok((base, _)) = planned else {
            prop_assert!(matches!(planned, Err(DocumentError::Roll(_))), "{:?}", planned);
            return Ok(());
        };
        undecided.insert(Roll { epoch, floor, base, removals_before, fold: None });
    }
    let roll = &told.rolls[&epoch];
    // A leader knows all that its predecessor had acknowledged to the floor.
    if replicas[who].vector.covers_told(&roll.floor) {
        let dot = replicas[who].next();
        let needs = roll.floor.iter().filter(|it| it.origin != dot.origin).collect();
        let record = Record::new(dot, NO_RECORD, id(), epoch, needs, &roll.encode());
        replicas[who].take(&record);
    }
    Ok(())
}

fn step(
    replicas: &mut [Replica],
    step: &Step,
    at: u64,
    told: &mut Told,
) -> Result<(), TestCaseError> {
    match step {
        Step::Write { who, keys, is_old } => write(&mut replicas[*who], keys, *is_old, at, told),
        Step::Elsewhere { who } => {
            let other = DocumentId::parse("web/dev").unwrap();
            let dot = replicas[*who].next();
            let record = Record::new(dot, NO_RECORD, other, 0, vec![], b"");
            replicas[*who].put(record);
        }
        Step::Hear { who, of, count } => {
            let records = replicas[*of].records();
            replicas[*who].hear(&records, *count);
        }
        Step::Roll { who, left_out, age } => {
            roll(replicas, *who, *left_out, Stamp(at.saturating_sub(*age)), told)?;
        }
        Step::Restart { who } => replicas[*who].actor.incarnation[0] += 1,
        Step::Checkpoint { who } => replicas[*who].checkpoint(),
        Step::Crash { who } => replicas[*who].crash(),
        Step::Forget { who } => {
            let document = &mut replicas[*who].document;
            if document.epoch() == 0 {
                document.has_dots = false;
                document.by_dot.clear();
            }
        }
    }
    Ok(())
}

/// What Automerge shows for the base and the changes of the document's epoch.
fn check_automerge(replica: &Replica) -> Result<(), TestCaseError> {
    // From the first change on, so that all of the last epoch's bytes are seen.
    let mut document = Document::new();
    for dot in &replica.order {
        let mut disk = Disk { log: &replica.log, base: None };
        apply(&mut document, &replica.log[dot], &mut disk);
    }
    prop_assert_eq!(&document.changes, &replica.document.changes);
    let mut reference = Reference(genesis());
    for bytes in document.trace.iter().filter(|bytes| !bytes.is_empty()) {
        reference.apply(bytes);
    }
    for dot in &replica.order {
        let record = &replica.log[dot];
        let is_change = record.document == id() && !Roll::is_roll(&record.change);
        if is_change && record.epoch == document.epoch() {
            reference.apply(&record.change);
        }
    }
    for i in 0..KEYS {
        let expected = sorted(reference.siblings(&key(i)));
        prop_assert_eq!(sorted(replica.document.siblings(&key(i))), expected);
    }
    if !document.heads.is_empty() {
        let mut heads = reference.0.get_heads();
        heads.sort();
        prop_assert_eq!(document.heads.keys().copied().collect::<Vec<_>>(), heads);
    }
    Ok(())
}

/// A document in this epoch, with one key, and a record of a next change of it, which says that it
/// replaces `replaces`.
fn next(epoch: u32, replaces: Option<Vec<Vec<Dot>>>) -> (Document, Record) {
    let mut document = Document::new();
    document.write(actor(1), dot(1, 1), &[(key(0), entry(dot(1, 1), 1, Some("1")))]).unwrap();
    for epoch in 1..=epoch {
        let floor: crate::model::Told =
            [dot(1, 1), dot(3, u64::from(epoch) - 1)].into_iter().collect();
        let (log, removals_before) = (BTreeMap::new(), Stamp(0));
        let mut disk = Disk { log: &log, base: None };
        let (base, late) = document.plan_roll(&id(), &floor, removals_before, &mut disk).unwrap();
        let roll = Roll { epoch, floor, base, removals_before, fold: None };
        let rolled = document.roll(&id(), &roll, dot(3, u64::from(epoch)), &mut disk).unwrap();
        assert_eq!((late, rolled), (0, Rolling::Began { dropped: Vec::new() }));
    }
    let mut other = Document::load(document.save(), &Arc::default()).unwrap();
    let needs = other.needs(Origin([2; 8]));
    let entries = [(key(0), entry(dot(2, 1), 2, Some("2"))), (key(1), entry(dot(2, 1), 2, None))];
    let made = other.make(actor(2), dot(2, 1), &entries).unwrap();
    assert_eq!(made.replaces, [vec![dot(1, 1)], vec![]]);
    let record = Record::with(dot(2, 1), NO_RECORD, id(), epoch, needs, &made.bytes, replaces);
    (document, record)
}

#[test]
fn a_roll_reads_what_is_late_and_what_that_replaced_and_nothing_else_of_the_log() {
    for epoch in 1..3 {
        let (mut replicas, mut told) = ([Replica::new(0)], Told::default());
        for at in 0..40 {
            write(&mut replicas[0], &[(at as usize % 4, false)], false, at, &mut told);
        }
        if epoch == 2 {
            roll(&mut replicas, 0, 9, Stamp(0), &mut told).unwrap();
            replicas[0].checkpoint();
            // Keys 2 and 3 are as the epoch began.
            write(&mut replicas[0], &[(0, false), (1, true)], false, 40, &mut told);
        }
        let [mut replica] = replicas;
        let floor = replica.vector.told();
        let mut disk = Disk { log: &replica.log, base: replica.kept.base.as_ref() };
        let planned = replica.document.plan_roll(&id(), &floor, Stamp(0), &mut disk);
        let (base, late) = planned.unwrap();
        assert_eq!((late, replica.document.epoch()), (0, epoch - 1));
        let late = [vec![(0, false), (2, true)], vec![(2, false)], vec![(1, false), (4, false)]];
        let late = late.iter().zip(50..).map(|(keys, at)| {
            write(&mut replica, keys, false, at, &mut told);
            *replica.order.last().unwrap()
        });
        let late: Vec<Dot> = late.collect();
        let replaced = late.iter().flat_map(|dot| told.writes[dot].1.concat());
        let read: Vec<Dot> = replaced.chain(late.clone()).collect();
        assert!(read.len() < 8);
        let held = replica.log.clone();
        replica.log.retain(|dot, _| read.contains(dot));
        let roll = Roll { epoch, floor, base, removals_before: Stamp(0), fold: None };
        let record = replica.next();
        let mut disk = Disk { log: &replica.log, base: replica.kept.base.as_ref() };
        let rolled = replica.document.roll(&id(), &roll, record, &mut disk).unwrap();
        assert_eq!(rolled, Rolling::Began { dropped: vec![] });
        told.rolls.insert(epoch, roll);
        replica.vector.advance(record);
        replica.log = held;
        check(&replica, &told).unwrap();
    }
}

#[test]
fn a_change_that_replaces_something_else_than_it_says_is_refused_in_any_epoch() {
    for epoch in 0..3 {
        let outcome = |replaces| {
            let (mut document, record) = next(epoch, replaces);
            CheckedChange::of_record(&record).and_then(|change| document.apply([&change]))
        };
        let (one, none) = (vec![dot(1, 1)], vec![]);
        assert_eq!(outcome(Some(vec![one.clone(), none.clone()])), Ok(()));
        assert_eq!(outcome(None).is_ok(), epoch == 0, "only programs of before do not say");
        for (wrong, what) in [
            (vec![none.clone(), none.clone()], "less than it does"),
            (vec![none.clone(), one.clone()], "under another key"),
            (vec![one.clone()], "of too few entries"),
            (vec![vec![dot(2, 1)], none.clone()], "itself"),
            (vec![vec![dot(1, 1), dot(1, 1)], none.clone()], "twice"),
        ] {
            assert!(outcome(Some(wrong)).is_err(), "{what}, in epoch {epoch}");
        }
        let more = outcome(Some(vec![vec![dot(1, 1), dot(9, 9)], none]));
        assert_eq!(more.is_ok(), epoch == 0, "what is gone is not known in epoch 0");
    }
}

#[test]
fn a_change_waits_for_its_epoch_and_one_of_an_epoch_before_is_late() {
    let (_, of_epoch_1) = next(1, Some(vec![vec![dot(1, 1)], vec![]]));
    let (mut document, of_epoch_0) = next(0, Some(vec![vec![dot(1, 1)], vec![]]));
    assert_eq!(
        (&of_epoch_0.needs[..], &of_epoch_1.needs[..]),
        (&[dot(1, 1)][..], &[dot(3, 1)][..])
    );
    let change = CheckedChange::of_record(&of_epoch_1).unwrap();
    assert_eq!(document.apply([&change]), Err(DocumentError::Later(1)));
    let (mut document, _) = next(2, None);
    let change = CheckedChange::of_record(&of_epoch_0).unwrap();
    document.apply([&change, &change]).unwrap();
    assert_eq!(document.siblings(&key(0)).len(), 1);
    assert_eq!(document.changes_in_epoch(), 1);
    // What builds on nothing but that would not say which epoch it is of.
    assert_eq!(document.needs(Origin([4; 8])), [dot(2, 1), dot(3, 2)]);
}

#[test]
fn a_document_that_came_without_its_changes_names_does_not_roll_past_what_the_log_lacks() {
    let mut replica = Replica::new(0);
    for at in 0..3 {
        write(&mut replica, &[(at as usize, false)], false, at, &mut Told::default());
    }
    let last = replica.next().n - 1;
    let floor: Vector = [Dot { n: last - 1, ..replica.next() }].into_iter().collect();
    let plan = |replica: &Replica| {
        let mut disk = Disk { log: &replica.log, base: None };
        replica.document.plan_roll(&id(), &floor.told(), Stamp(0), &mut disk)
    };
    let known = plan(&replica).unwrap();
    replica.document.has_dots = false;
    replica.document.by_dot.clear();
    assert_eq!(plan(&replica), Ok(known), "the log has them");
    let first = *replica.log.keys().next().unwrap();
    replica.log.remove(&first);
    assert!(matches!(plan(&replica), Err(DocumentError::Trimmed(_))), "{:?}", plan(&replica));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn whatever_is_rolled_when_shows_what_a_model_without_epochs_shows(steps in steps()) {
        let mut replicas: Vec<Replica> = (0..REPLICAS).map(Replica::new).collect();
        let mut told = Told::default();
        for (at, it) in steps.iter().enumerate() {
            step(&mut replicas, it, at as u64, &mut told)?;
            for replica in &replicas {
                check(replica, &told)?;
            }
        }
        // Everyone hears of everything.
        for _ in 0..3 {
            for who in 0..REPLICAS {
                for of in 0..REPLICAS {
                    let records = replicas[of].records();
                    replicas[who].hear(&records, usize::MAX);
                }
            }
        }
        let vector = replicas[0].vector.clone();
        for replica in &mut replicas {
            prop_assert_eq!(&replica.vector, &vector);
            check(replica, &told)?;
        }
        let same = |a: &Replica, b: &Replica| {
            let base = |it: &Replica| it.document.rolled().map(|it| (it.roll.clone(), it.version_floor, it.pruned.clone()));
            a.document.changes == b.document.changes
                && a.document.heads.keys().eq(b.document.heads.keys())
                && base(a) == base(b)
        };
        for replica in &replicas {
            prop_assert!(same(replica, &replicas[0]));
            check_automerge(replica)?;
        }
        for replica in &mut replicas {
            replica.crash();
            check(replica, &told)?;
        }
        prop_assert!(replicas.iter().all(|it| same(it, &replicas[0])));
    }
}
