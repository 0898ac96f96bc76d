//! What is folded: named no more, and included all the same, here and at peers, after restarts and with
//! whole documents; and who goes on after it was folded.

use super::trim::{all, trim};
use super::whole::{hear, transfer};
use super::*;
use crate::model::vector::{Fold, FoldRow, VECTOR_ORIGINS_MAX};

const DOCUMENT: &str = "web/dev";

fn id() -> DocumentId {
    DocumentId::parse(DOCUMENT).unwrap()
}

fn stores<const N: usize>() -> [Writer; N] {
    [(); N].map(|()| open(&MemoryDisk::new()))
}

/// What a store shows, and includes.
fn shown(writer: &Writer) -> (Vec<String>, &Vector) {
    (view(writer), &writer.state.vector)
}

/// What it took for bad, and for a second change under one number.
fn faults(writer: &Writer) -> (u64, u64) {
    (writer.counts().quarantined, writer.counts().forks)
}

pub(super) fn write(writer: &mut Writer, key: &str, count: u64) {
    for i in 0..count {
        let committed = writer.commit(Stamp(100 + i), &[put(DOCUMENT, &[(key, &i.to_string())])]);
        written(&committed, 0);
    }
}

/// A roll at this floor, which folds what the store has of these origins.
pub(super) fn folding(writer: &Writer, floor: &Vector, origins: &[Origin]) -> Roll {
    let floor = floor.told();
    let plan = writer.epochs().plan_roll(&id(), &floor, Stamp(0)).unwrap();
    let mut dots: Vec<Dot> =
        origins.iter().map(|&origin| Dot { origin, n: floor.get(origin) }).collect();
    dots.sort();
    let rows = writer.epochs().fold_rows(&dots).unwrap();
    assert_eq!(rows.len(), origins.len(), "all are the origins' last changes");
    let fold = Some(Fold::new(floor.generation() + 1, rows).unwrap());
    Roll { epoch: plan.epoch, floor, base: plan.base, removals_before: Stamp(0), fold }
}

pub(super) fn begin(writer: &mut Writer, roll: Roll) -> Dot {
    let committed = writer.commit(Stamp(1), &[Command::Roll { document: id(), roll }]);
    match committed.outcomes[..] {
        [Outcome::Rolled(Ok(dot))] => dot,
        _ => panic!("{committed:?}"),
    }
}

/// Folds these origins, of which everybody has what this store has.
pub(super) fn fold(writer: &mut Writer, origins: &[Origin]) {
    let floor = writer.state.vector.clone();
    let roll = folding(writer, &floor, origins);
    begin(writer, roll);
}

fn named(writer: &Writer) -> usize {
    let database = writer.database.get().unwrap();
    let tx = database.begin_read().unwrap();
    let (vector, hashes) = origins::read(&tx, &Arc::default()).unwrap();
    assert_eq!((&vector, &hashes), (&writer.state.vector, &writer.state.hashes));
    assert_eq!(vector.len(), hashes.len());
    assert_eq!(*writer.published.load().vector, vector);
    assert_eq!(log::facts(&tx).unwrap().missing, None);
    vector.len()
}

#[test]
fn what_is_folded_is_named_no_more_and_included_all_the_same() {
    let disk = MemoryDisk::new();
    let mut a = open(&disk);
    let [mut b, mut gone] = stores();
    write(&mut gone, "gone", 5);
    hear(&gone, &mut a);
    write(&mut a, "a", 3);
    let full: Vec<Dot> = a.state.vector.all().collect();
    assert_eq!((named(&a), a.format), (2, meta::FORMAT_WITHOUT_FOLDS));
    fold(&mut a, &[gone.origin()]);
    assert_eq!((named(&a), a.format, a.state.vector.generation()), (1, meta::FORMAT, 1));
    let last = Dot { origin: gone.origin(), n: 5 };
    assert!(a.state.vector.includes(last));
    assert!(!a.state.vector.includes(Dot { n: 6, ..last }));
    assert!(full.iter().all(|dot| a.state.vector.includes(*dot)));
    assert_eq!(a.state.vector.all().count(), 2);
    // With and without a checkpoint behind it.
    for is_written in [false, true] {
        if is_written {
            a.checkpoint().unwrap();
        }
        let again = open(&disk.snapshot());
        assert_eq!(shown(&again), shown(&a));
        assert_eq!(named(&again), 1);
    }
    // Who has nothing takes all of it, in one go.
    hear(&a, &mut b);
    assert_eq!(shown(&b), shown(&a));
    assert_eq!(named(&b), 1);
    assert_eq!(faults(&b), (0, 0));
    // Nobody is sent anything twice.
    let missing = |of: &Writer, to: &Writer| {
        let have = of.published.load().vector.clone();
        of.log().missing(to.state.vector.clone(), &have, 1 << 20).unwrap().records.len()
    };
    assert_eq!((missing(&a, &b), missing(&b, &a)), (0, 0));
}

#[test]
fn an_origin_that_goes_on_after_it_was_folded_is_named_again() {
    let disk = MemoryDisk::new();
    let mut a = open(&disk);
    let [mut b, mut back] = stores();
    write(&mut back, "k", 3);
    hear(&back, &mut a);
    // It goes on alone, and nobody waits for it.
    write(&mut back, "alone", 2);
    fold(&mut a, &[back.origin()]);
    hear(&a, &mut b);
    let last = Dot { origin: back.origin(), n: 5 };
    hear(&a, &mut back);
    assert!(back.state.vector.names(last.origin) && back.state.vector.includes(last));
    assert_eq!((named(&back), back.state.vector.generation()), (2, 1));
    hear(&back, &mut a);
    hear(&a, &mut b);
    for store in [&a, &b] {
        assert_eq!(shown(store), shown(&back));
        assert_eq!(faults(store), (0, 0));
        assert_eq!(named(store), 2);
    }
    // And on, and folded again, further.
    write(&mut back, "k", 1);
    hear(&back, &mut a);
    fold(&mut a, &[last.origin]);
    assert_eq!((named(&a), a.state.vector.get(last.origin)), (1, 6));
    assert_eq!(shown(&open(&disk.snapshot())), shown(&a));
    // What is folded is in the tables, and what goes on from there in the journal alone.
    a.checkpoint().unwrap();
    write(&mut back, "k", 1);
    hear(&a, &mut back);
    hear(&back, &mut a);
    assert!(a.ahead_bytes() > 0);
    assert_eq!(shown(&open(&disk.crash(CrashMode::LoseUnsynced))), shown(&a));
    assert_eq!(shown(&a), shown(&back));
    assert_eq!((a.counts().quarantined, back.counts().quarantined), (0, 0));
}

#[test]
fn two_records_of_one_decision_fold_once_whichever_is_heard_first() {
    let [mut a, mut b, mut c, mut d, mut gone] = stores();
    write(&mut gone, "gone", 2);
    hear(&gone, &mut a);
    hear(&a, &mut b);
    let floor = a.state.vector.clone();
    let decided = folding(&a, &floor, &[gone.origin()]);
    begin(&mut a, decided.clone());
    begin(&mut b, decided);
    hear(&a, &mut c);
    hear(&b, &mut d);
    assert_eq!((c.state.vector.generation(), d.state.vector.generation()), (1, 1));
    // The next one builds on either.
    write(&mut c, "c", 1);
    let origin = c.origin();
    fold(&mut c, &[origin]);
    hear(&c, &mut d);
    hear(&d, &mut c);
    assert_eq!(shown(&c), shown(&d));
    assert_eq!(c.state.vector.generation(), 2);
    assert_eq!((c.counts().quarantined, d.counts().quarantined), (0, 0));
}

#[test]
fn a_fold_that_nobody_decided_is_refused() {
    let [mut a, mut b] = stores();
    write(&mut a, "k", 2);
    hear(&a, &mut b);
    let floor = a.state.vector.clone();
    let good = folding(&a, &floor, &[a.origin()]);
    let row = |n| FoldRow { dot: Dot { origin: a.origin(), n }, hash: [1; 32] };
    for (generation, n) in [(1, 9), (2, 2)] {
        let fold = Some(Fold::new(generation, vec![row(n)]).unwrap());
        let bad = Roll { fold, ..good.clone() };
        let dot = Dot { origin: a.origin(), n: 3 };
        let record = Record::new(dot, a.state.hashes[&dot.origin], id(), 1, vec![], &bad.encode());
        let done = applied(&b.commit(Stamp(1), &[Command::Apply(vec![record.bytes])]), 0);
        assert_eq!((done.quarantined, b.state.vector.generation()), (1, 0));
    }
    begin(&mut a, good);
    hear(&a, &mut b);
    assert_eq!(shown(&b), shown(&a));
}

#[test]
fn another_change_under_a_number_that_is_folded_is_noticed() {
    let disk = MemoryDisk::new();
    let [mut a, mut b] = stores();
    let mut twin = open(&disk);
    let elsewhere = |writer: &mut Writer, at: u64| {
        let committed = writer.commit(Stamp(at), &[put("other/dev", &[("k", &at.to_string())])]);
        written(&committed, 0);
    };
    elsewhere(&mut twin, 1);
    // The same store, twice.
    let copy = disk.snapshot();
    elsewhere(&mut twin, 2);
    write(&mut a, "k", 1);
    let origin = twin.origin();
    hear(&twin, &mut a);
    let mut other = open(&copy);
    other.actor.origin = origin;
    other.fresh = Some(origin);
    elsewhere(&mut other, 900);
    assert_eq!(other.state.vector.get(origin), 2);
    hear(&other, &mut b);
    fold(&mut a, &[origin]);
    hear(&a, &mut b);
    assert_eq!(b.counts().forks, 1);
    assert_eq!(b.state.vector.generation(), 1, "it goes on all the same");
    assert_eq!(value(&b, "other/dev", "k").unwrap(), "900", "it keeps what it has");
    // What follows on the other branch is refused, here as anywhere.
    elsewhere(&mut twin, 3);
    hear(&twin, &mut b);
    assert_eq!((b.counts().forks, value(&b, "other/dev", "k").unwrap().as_str()), (2, "900"));
}

#[test]
fn whole_documents_bring_folds_along() {
    let (disk, own_disk) = (MemoryDisk::new(), MemoryDisk::new());
    let [mut a, mut gone] = stores();
    let (mut b, mut own) = (open(&disk), open(&own_disk));
    write(&mut gone, "gone", 4);
    write(&mut own, "own", 2);
    hear(&gone, &mut a);
    hear(&own, &mut a);
    // What is not sent yet of an origin that is folded.
    write(&mut own, "own", 2);
    fold(&mut a, &[gone.origin(), own.origin()]);
    write(&mut a, "a", 5);
    a.checkpoint().unwrap();
    let bounds = all(&a);
    assert!(trim(&mut a, &bounds) >= 6, "logs of what is folded are trimmed, too");
    assert_eq!(named(&a), 1);
    assert!(hear(&a, &mut b), "records are gone");
    transfer(&a, &mut b, &disk).unwrap();
    assert_eq!((view(&b), &b.state.vector, b.format), (view(&a), &a.state.vector, meta::FORMAT));
    assert_eq!(named(&b), 1);
    transfer(&a, &mut own, &own_disk).unwrap();
    let origin = own.origin();
    assert_eq!((own.state.vector.get(origin), named(&own)), (4, 2), "it keeps what it wrote");
    assert_eq!(shown(&open(&own_disk.snapshot())), shown(&own));
    assert!(!hear(&own, &mut a));
    assert_eq!(shown(&a), shown(&own));
    // From somebody who knows no folds: what is folded and gone here it cannot give back.
    let mut late = open(&MemoryDisk::new());
    write(&mut late, "late", 1);
    assert!(matches!(transfer(&late, &mut a, &disk), Err(TakeError::Behind(_))));
    assert_eq!((a.counts().forks, own.counts().forks, b.counts().forks), (0, 0, 0));
}

#[test]
fn removals_of_folded_origins_that_are_gone_are_stood_for_by_the_fold() {
    let [mut a, mut gone] = stores();
    write(&mut gone, "k", 1);
    let before = gone.state.vector.clone();
    let Command::Write(mut remove) = put(DOCUMENT, &[]) else { panic!() };
    remove.remove_all = true;
    gone.commit(Stamp(200), &[Command::Write(remove)]);
    hear(&gone, &mut a);
    let epoch = |writer: &mut Writer| {
        let (floor, after) = (writer.state.vector.told(), Stamp(500));
        let plan = writer.epochs().plan_roll(&id(), &floor, after).unwrap();
        let (epoch, base) = (plan.epoch, plan.base);
        begin(writer, Roll { epoch, floor, base, removals_before: after, fold: None });
    };
    write(&mut a, "a", 1);
    epoch(&mut a);
    let view = |writer: &Writer| writer.state.documents[&id()].clone();
    assert!(view(&a).is_reset_for(&before) && !view(&a).is_reset_for(&gone.state.vector));
    fold(&mut a, &[gone.origin()]);
    let folded = a.state.vector.clone();
    epoch(&mut a);
    let rolled = view(&a).rolled.clone().unwrap();
    assert_eq!((rolled.pruned.len(), rolled.pruned.generation()), (0, 1));
    assert!(view(&a).is_reset_for(&before) && !view(&a).is_reset_for(&folded));
}

#[test]
fn there_may_be_any_number_of_origins_as_long_as_they_are_folded() {
    let [mut a, mut b] = stores();
    let mut all = Vec::new();
    for round in 0..(VECTOR_ORIGINS_MAX / 200 + 2) {
        let mut origins = Vec::new();
        for i in 0..200 {
            b.renew_origin(&"a test");
            write(&mut b, &format!("k{}", i % 7), 1);
            origins.push(b.origin());
        }
        hear(&b, &mut a);
        all.extend(origins.iter().copied());
        fold(&mut a, &origins);
        hear(&a, &mut b);
        assert_eq!(named(&a), 1, "{round}");
    }
    assert!(all.len() > VECTOR_ORIGINS_MAX);
    assert!(all.iter().all(|origin| a.state.vector.get(*origin) == 1));
    assert_eq!(shown(&a), shown(&b));
    let told = crate::model::cbor::encode(&a.state.vector.told());
    assert!(told.len() < 50, "{}", told.len());
}
