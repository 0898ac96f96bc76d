//! Rolls in a store: views as without them, whatever crashed when; what does not fit is not taken;
//! removals that are gone leave what still needs to be known of them.

use super::trim::trim;
use super::whole::transfer;
use super::*;
use crate::config::DocumentView;
use crate::config::document::CheckedChange;
use crate::config::epochless::Epochless;
use crate::model::vector::Fold;
use crate::storage::epochs::Plan;
use crate::storage::trim::TrimBounds;

fn id(name: &str) -> DocumentId {
    DocumentId::parse(name).unwrap()
}

fn remove_all(document: &str) -> Command {
    let Command::Write(mut write) = put(document, &[]) else { panic!() };
    write.remove_all = true;
    Command::Write(write)
}

fn plan(writer: &Writer, document: &str, removals_before: u64) -> Result<Plan, RollError> {
    let floor = writer.state.vector.told();
    writer.epochs().plan_roll(&id(document), &floor, Stamp(removals_before))
}

/// Rolls at all that the writer has.
fn rolled(writer: &Writer, document: &str, removals_before: u64) -> Roll {
    let Plan { epoch, base, .. } = plan(writer, document, removals_before).unwrap();
    let floor = writer.state.vector.told();
    Roll { epoch, floor, base, removals_before: Stamp(removals_before), fold: None }
}

fn roll(writer: &mut Writer, document: &str, roll: &Roll) -> Result<Dot, RollError> {
    let command = Command::Roll { document: id(document), roll: roll.clone() };
    match writer.commit(Stamp(1_000), &[command]).outcomes.remove(0) {
        Outcome::Rolled(rolled) => rolled,
        other => panic!("{other:?}"),
    }
}

fn records(writer: &Writer, vector: &Vector) -> Vec<Bytes> {
    let have = writer.published.load().vector.clone();
    writer.log().missing(vector.clone(), &have, 1 << 28).unwrap().records
}

fn hear(writer: &mut Writer, other: &Writer) -> Applied {
    let records = records(other, &writer.state.vector);
    applied(&writer.commit(Stamp(1), &[Command::Apply(records)]), 0)
}

fn epoch(writer: &Writer, document: &str) -> (u32, u64) {
    let snapshot = writer.published.load();
    let view = snapshot.document(&id(document)).unwrap();
    (view.epoch(), view.changes)
}

#[test]
fn a_roll_changes_nothing_that_is_shown_here_or_at_a_peer_or_after_a_restart() {
    let disk = MemoryDisk::new();
    let (mut a, mut b) = (open(&disk), open(&MemoryDisk::new()));
    for i in 0..40 {
        a.commit(Stamp(i), &[put("web/dev", &[(&format!("k{}", i % 7), &i.to_string())])]);
    }
    hear(&mut b, &a);
    b.commit(Stamp(50), &[put("web/dev", &[("k1", "\"b\""), ("new", "1")])]);
    a.commit(Stamp(51), &[put("web/dev", &[("k1", "\"a\"")])]);
    let before = view(&a);
    assert_eq!(epoch(&a, "web/dev"), (0, 41));
    assert_eq!(plan(&a, "web/dev", 0).unwrap().late, 0);
    let decided = rolled(&a, "web/dev", 0);
    let dot = roll(&mut a, "web/dev", &decided).unwrap();
    assert_eq!((view(&a), epoch(&a, "web/dev")), (before.clone(), (1, 0)));
    assert_eq!(roll(&mut a, "web/dev", &decided), Ok(dot), "the same again");
    let other = Roll { base: [7; 32], ..decided.clone() };
    assert_eq!(roll(&mut a, "web/dev", &other), Err(RollError::Other(1)));
    // Not written behind yet, and written behind.
    drop(a);
    let mut a = open(&disk);
    assert_eq!((view(&a), epoch(&a, "web/dev")), (before.clone(), (1, 0)));
    a.checkpoint().unwrap();
    drop(a);
    let mut a = open(&disk);
    assert_eq!((view(&a), epoch(&a, "web/dev")), (before, (1, 0)));
    // The peer's write is late at both.
    assert_eq!(hear(&mut b, &a).new, 2);
    assert_eq!(hear(&mut a, &b).new, 1);
    assert_eq!(view(&a), view(&b));
    assert_eq!((epoch(&a, "web/dev"), epoch(&b, "web/dev")), ((1, 1), (1, 1)));
    assert_eq!(
        a.state.documents[&id("web/dev")].rows[&Key::new("k1").unwrap()].siblings().len(),
        2
    );
    b.commit(Stamp(60), &[put("web/dev", &[("k1", "0")])]);
    hear(&mut a, &b);
    assert_eq!(view(&a), view(&b));
    assert_eq!(value(&a, "web/dev", "k1").unwrap(), "0");
}

#[test]
fn a_removal_that_is_gone_leaves_its_version_and_who_has_not_seen_it_is_told() {
    let mut a = open(&MemoryDisk::new());
    let seen = |writer: &Writer| writer.state.vector.clone();
    for i in 1..=5 {
        a.commit(Stamp(i), &[put("web/dev", &[("gone", &i.to_string()), ("here", "1")])]);
    }
    let old = seen(&a);
    a.commit(Stamp(6), &[remove_all("web/dev")]);
    let new = seen(&a);
    a.commit(Stamp(7), &[put("web/dev", &[("here", "2")])]);
    let rows = a.counts().rows;
    let decided = rolled(&a, "web/dev", 100);
    roll(&mut a, "web/dev", &decided).unwrap();
    assert_eq!(a.counts().rows, rows - 1);
    // A peer that hears of the removal and of the roll at once has to tell who watches.
    let mut b = open(&MemoryDisk::new());
    let (before, after): (Vec<Bytes>, Vec<Bytes>) =
        records(&a, &Vector::new()).into_iter().partition(|it| {
            old.includes(crate::config::record::Record::decode(it.clone()).unwrap().dot)
        });
    b.commit(Stamp(1), &[Command::Apply(before)]);
    let heard = b.commit(Stamp(1), &[Command::Apply(after)]);
    assert!(heard.touched[&id("web/dev")].contains(&Key::new("gone").unwrap()), "{heard:?}");
    let view = a.state.documents[&id("web/dev")].clone();
    assert_eq!((view.version_floor(), view.rows.len()), (6, 1));
    assert!(view.is_reset_for(&old) && !view.is_reset_for(&new));
    a.checkpoint().unwrap();
    let committed = a.commit(Stamp(1_001), &[put("web/dev", &[("gone", "1"), ("other", "1")])]);
    let versions: Vec<u64> =
        written(&committed, 0).keys.iter().map(|it| it.row.winner().version).collect();
    assert_eq!(versions, [7, 7]);
    // The next roll keeps what is known of the first one's.
    let decided = rolled(&a, "web/dev", 0);
    roll(&mut a, "web/dev", &decided).unwrap();
    let view = a.state.documents[&id("web/dev")].clone();
    assert_eq!((view.epoch(), view.version_floor()), (2, 6));
    assert!(view.is_reset_for(&old) && !view.is_reset_for(&new));
}

#[test]
fn a_base_that_does_not_come_to_what_was_agreed_is_not_taken_and_holds_up_its_origin_alone() {
    let (mut a, mut b, mut c) =
        (open(&MemoryDisk::new()), open(&MemoryDisk::new()), open(&MemoryDisk::new()));
    a.commit(Stamp(1), &[put("web/dev", &[("k", "1")])]);
    let wrong = Roll { base: [7; 32], ..rolled(&a, "web/dev", 0) };
    assert_eq!(roll(&mut a, "web/dev", &wrong), Err(RollError::Mismatch { epoch: 1 }));
    assert_eq!((epoch(&a, "web/dev"), a.counts().epoch_mismatches), ((0, 1), 1));
    // A record that says so all the same, as one that lies would write it.
    let dot = Dot { origin: a.origin(), n: 2 };
    let previous = a.state.hashes[&dot.origin];
    let record = Record::new(dot, previous, id("web/dev"), 1, vec![], &wrong.encode());
    hear(&mut b, &a);
    c.commit(Stamp(2), &[put("web/dev", &[("other", "1")])]);
    let mut batch = vec![record.bytes.clone()];
    batch.extend(records(&c, &Vector::new()));
    let done = applied(&b.commit(Stamp(3), &[Command::Apply(batch)]), 0);
    assert_eq!((done.new, done.dropped, done.quarantined), (1, 1, 0));
    let counts = b.counts();
    assert_eq!((counts.epoch_mismatches, counts.documents_mismatched), (1, 1));
    assert_eq!(value(&b, "web/dev", "other").unwrap(), "1");
    let again = applied(&b.commit(Stamp(3), &[Command::Apply(vec![record.bytes])]), 0);
    assert_eq!((again.dropped, b.counts().epoch_mismatches), (1, 1), "told once");
}

#[test]
fn what_is_not_here_or_goes_back_is_not_rolled_at() {
    let mut a = open(&MemoryDisk::new());
    a.commit(Stamp(1), &[put("web/dev", &[("k", "1")])]);
    let ahead: Told = [Dot { origin: a.origin(), n: 9 }].into_iter().collect();
    let planned = a.epochs().plan_roll(&id("web/dev"), &ahead, Stamp(0));
    assert_eq!(planned, Err(RollError::Ahead));
    let first = rolled(&a, "web/dev", 0);
    let far = Roll { floor: ahead, ..first.clone() };
    assert_eq!(roll(&mut a, "web/dev", &far), Err(RollError::Ahead));
    let skipping = Roll { epoch: 2, ..first.clone() };
    assert_eq!(roll(&mut a, "web/dev", &skipping), Err(RollError::Epoch(0)));
    roll(&mut a, "web/dev", &first).unwrap();
    let planned = a.epochs().plan_roll(&id("web/dev"), &first.floor, Stamp(0));
    assert_eq!(planned, Err(RollError::Behind), "it leaves out the roll's own record");
    let second = rolled(&a, "web/dev", 0);
    roll(&mut a, "web/dev", &second).unwrap();
    assert_eq!(roll(&mut a, "web/dev", &first), Err(RollError::Epoch(2)));
}

#[derive(Clone, Debug)]
enum Step {
    Put { who: usize, document: usize, key: usize },
    RemoveAll { who: usize, document: usize },
    Hear { who: usize, of: usize },
    Roll { who: usize, document: usize, of: usize, removals_before: u64 },
    Checkpoint { who: usize },
    Crash { who: usize, keeps: bool },
    Take { who: usize, of: usize },
    Trim { who: usize, waits_for_last: bool },
}

const STORES: usize = 3;
const DOCUMENTS: usize = 3;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = || 0..STORES;
    let document = || 0..DOCUMENTS;
    let step = prop_oneof![
        8 => (who(), document(), 0..4usize)
            .prop_map(|(who, document, key)| Step::Put { who, document, key }),
        1 => (who(), document()).prop_map(|(who, document)| Step::RemoveAll { who, document }),
        8 => (who(), who()).prop_map(|(who, of)| Step::Hear { who, of }),
        4 => (who(), document(), 0..STORES + 1, 0..60u64).prop_map(
            |(who, document, of, removals_before)| Step::Roll { who, document, of, removals_before }
        ),
        2 => who().prop_map(|who| Step::Checkpoint { who }),
        2 => (who(), any::<bool>()).prop_map(|(who, keeps)| Step::Crash { who, keeps }),
        2 => (who(), who()).prop_map(|(who, of)| Step::Take { who, of }),
        2 => (who(), any::<bool>())
            .prop_map(|(who, waits_for_last)| Step::Trim { who, waits_for_last }),
    ];
    proptest::collection::vec(step, 1..50)
}

type Decided = BTreeMap<(usize, u32), Roll>;

/// All records that were ever made, each behind what it builds on: logs forget.
#[derive(Default)]
struct Made {
    records: Vec<Record>,
    vector: Vector,
}

impl Made {
    fn gather(&mut self, writer: &Writer) {
        for bytes in records(writer, &self.vector) {
            let record = Record::decode(bytes).unwrap();
            self.vector.advance(record.dot);
            self.vector = self.vector.read_by(&writer.state.vector.folds());
            self.vector.reach(record.carries());
            self.records.push(record);
        }
    }
}

/// What is trimmed by: what the first two have, and unless it is not waited for, the last one.
fn bounds(stores: &[Option<Writer>], waits_for_last: bool) -> TrimBounds {
    let waited_for = if waits_for_last { STORES } else { STORES - 1 };
    let vectors: Vec<&Vector> =
        stores[..waited_for].iter().flatten().map(|it| &it.state.vector).collect();
    let meet = |met: Vector, vector: &&Vector| met.meet(vector);
    let acknowledged = vectors.iter().fold(vectors[0].clone(), meet);
    TrimBounds { acknowledged, before: Stamp(u64::MAX) }
}

/// What the store's records come to without epochs.
fn check(writer: &Writer, decided: &Decided, made: &Made) -> Result<(), TestCaseError> {
    let mut models: BTreeMap<DocumentId, Epochless> = BTreeMap::new();
    let mut dots: BTreeMap<DocumentId, Vec<Dot>> = BTreeMap::new();
    let is_here = |record: &&Record| writer.state.vector.includes(record.dot);
    for record in made.records.iter().filter(is_here) {
        let model = models.entry(record.document.clone()).or_default();
        if !Roll::is_roll(&record.change) {
            dots.entry(record.document.clone()).or_default().push(record.dot);
            let change = CheckedChange::of_record(record).unwrap();
            let replaces = record.replaces.as_ref().unwrap();
            for ((key, entry), replaces) in change.entries.iter().zip(replaces) {
                model.write(key, entry, replaces);
            }
        }
    }
    let snapshot = writer.published.load();
    let folds = snapshot.vector.folds();
    for (name, mut model) in models {
        let view = snapshot.document(&name).unwrap();
        for ((document, epoch), roll) in decided {
            if id(&format!("web/{document}")) == name && *epoch <= view.epoch() {
                model.prune(&roll.floor.read(&folds), roll.removals_before);
            }
        }
        prop_assert!(view.rows.keys().eq(model.keys()), "{}", name);
        for (key, row) in &view.rows {
            prop_assert_eq!(row.siblings(), &model.siblings(key)[..]);
        }
        let in_base = |dot: &&Dot| {
            !view.rolled.as_ref().is_some_and(|it| it.roll.floor.includes(**dot, &folds))
        };
        let changes = dots.get(&name).into_iter().flatten().filter(in_base).count();
        prop_assert_eq!(view.changes, changes as u64);
    }
    let rows: usize = snapshot.documents.values().map(|view| view.rows.len()).sum();
    prop_assert_eq!(writer.counts().rows, rows);
    Ok(())
}

/// What is folded with a roll: all that is named in its floor and goes no further here, whether or not
/// somebody still writes as that.
fn fold(writer: &Writer, floor: &Told, decided: &Decided) -> Option<Fold> {
    let folds = decided.values().filter_map(|roll| roll.fold.as_ref());
    let latest = folds.map(|fold| fold.generation).max().unwrap_or(0);
    let dots: Vec<Dot> = floor.iter().collect();
    let rows = writer.epochs().fold_rows(&dots).unwrap();
    (floor.generation() == latest).then(|| Fold::new(latest + 1, rows).ok()).flatten()
}

/// Takes whole documents, unless they end before what is gone here, or are in an earlier epoch and what
/// would have to be made anew in the next one is gone.
fn take(
    stores: &mut [Option<Writer>],
    disks: &[MemoryDisk],
    who: usize,
    of: usize,
) -> Result<(), TestCaseError> {
    let mut taker = stores[who].take().unwrap();
    let taken = transfer(stores[of].as_ref().unwrap(), &mut taker, &disks[who]);
    stores[who] = Some(taker);
    let is_refused = matches!(taken, Err(TakeError::Behind(_) | TakeError::Unfit(_)));
    prop_assert!(taken.is_ok() || is_refused, "{:?}", taken);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn stores_show_what_a_model_without_epochs_shows_whatever_crashed_when(steps in steps()) {
        let mut disks: Vec<MemoryDisk> = (0..STORES).map(|_| MemoryDisk::new()).collect();
        let mut stores: Vec<Option<Writer>> = disks.iter().map(|disk| Some(open(disk))).collect();
        let (mut decided, mut made) = (Decided::new(), Made::default());
        for (at, step) in steps.iter().enumerate() {
            match step {
                Step::Put { who, document, key } => {
                    let pairs = [(&*format!("k{key}"), &*at.to_string())];
                    let command = put(&format!("web/{document}"), &pairs);
                    stores[*who].as_mut().unwrap().commit(Stamp(at as u64), &[command]);
                }
                Step::RemoveAll { who, document } => {
                    let command = remove_all(&format!("web/{document}"));
                    stores[*who].as_mut().unwrap().commit(Stamp(at as u64), &[command]);
                }
                Step::Hear { who, of } if who != of => {
                    let records = records(stores[*of].as_ref().unwrap(), &stores[*who].as_ref().unwrap().state.vector);
                    stores[*who].as_mut().unwrap().commit(Stamp(1), &[Command::Apply(records)]);
                }
                Step::Hear { .. } => {}
                Step::Roll { who, document, of, removals_before } => {
                    // At what the two of them have; a third one is out of reach.
                    let mut floor = stores[*who].as_ref().unwrap().state.vector.clone();
                    if let Some(other) = stores.get(*of) {
                        let other = &other.as_ref().unwrap().state.vector;
                        floor = floor.meet(other);
                    }
                    let floor = floor.told();
                    let name = format!("web/{document}");
                    let writer = stores[*who].as_mut().unwrap();
                    let next = writer.state.view(&id(&name)).map_or(0, DocumentView::epoch) + 1;
                    if !decided.contains_key(&(*document, next))
                        && let Ok(Plan { epoch, base, .. }) =
                            writer.epochs().plan_roll(&id(&name), &floor, Stamp(*removals_before))
                    {
                        prop_assert_eq!(epoch, next);
                        let removals_before = Stamp(*removals_before);
                        let fold = fold(writer, &floor, &decided);
                        let roll = Roll { epoch, floor, base, removals_before, fold };
                        decided.insert((*document, next), roll);
                    }
                    if let Some(agreed) = decided.get(&(*document, next)) {
                        let rolled = roll(writer, &name, agreed);
                        prop_assert!(matches!(rolled, Ok(_) | Err(RollError::Ahead)), "{:?}", rolled);
                    }
                }
                Step::Checkpoint { who } => stores[*who].as_mut().unwrap().checkpoint().unwrap(),
                Step::Crash { who, keeps } => {
                    let mode = if *keeps { CrashMode::KeepUnsynced } else { CrashMode::LoseUnsynced };
                    stores[*who] = None;
                    disks[*who] = disks[*who].crash(mode);
                    stores[*who] = Some(open(&disks[*who]));
                }
                Step::Take { who, of } if who != of => {
                    take(&mut stores, &disks, *who, *of)?;
                }
                Step::Take { .. } => {}
                Step::Trim { who, waits_for_last } => {
                    let bounds = bounds(&stores, *waits_for_last || *who == STORES - 1);
                    trim(stores[*who].as_mut().unwrap(), &bounds);
                }
            }
            for store in stores.iter().flatten() {
                made.gather(store);
            }
            for store in stores.iter().flatten() {
                check(store, &decided, &made)?;
            }
        }
        for who in [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2] {
            for of in (0..STORES).filter(|of| *of != who) {
                let records = records(stores[of].as_ref().unwrap(), &stores[who].as_ref().unwrap().state.vector);
                let committed = stores[who].as_mut().unwrap().commit(Stamp(1), &[Command::Apply(records)]);
                prop_assert_eq!(applied(&committed, 0).quarantined, 0);
                let mine = &stores[who].as_ref().unwrap().state.vector;
                if !mine.covers(&stores[of].as_ref().unwrap().state.vector) {
                    take(&mut stores, &disks, who, of)?;
                }
            }
        }
        for store in stores.iter().flatten() {
            prop_assert_eq!(&store.state.vector, &made.vector);
            check(store, &decided, &made)?;
            prop_assert_eq!(view(store), view(stores[0].as_ref().unwrap()));
            prop_assert_eq!(store.counts().epoch_mismatches, 0);
        }
        // A fourth one gets the bare records, all at once, or all whole.
        let disk = MemoryDisk::new();
        let mut fresh = open(&disk);
        hear(&mut fresh, stores[0].as_ref().unwrap());
        transfer(stores[0].as_ref().unwrap(), &mut fresh, &disk).unwrap();
        check(&fresh, &decided, &made)?;
        prop_assert_eq!(view(&fresh), view(stores[0].as_ref().unwrap()));
    }
}
