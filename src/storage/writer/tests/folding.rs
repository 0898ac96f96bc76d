//! Where a fold is not what this store has, or not all of it came: it is noticed, or not taken; and what
//! builds on a fold comes after what that stands for.

use super::folds::{begin, fold, folding, write};
use super::trim::{all, trim};
use super::whole::{hear, pieces, staged, transfer};
use super::*;
use crate::model::Folds;
use crate::model::vector::{Fold, FoldRow};

fn elsewhere(writer: &mut Writer, at: u64) {
    let committed = writer.commit(Stamp(at), &[put("other/dev", &[("k", &at.to_string())])]);
    written(&committed, 0);
}

/// A store, and one that makes changes under the same origin: from the second on they are others.
fn twins() -> (Writer, Writer) {
    let disk = MemoryDisk::new();
    let mut one = open(&disk);
    elsewhere(&mut one, 1);
    let mut other = open(&disk.snapshot());
    other.actor.origin = one.origin();
    other.fresh = Some(one.origin());
    elsewhere(&mut one, 2);
    elsewhere(&mut other, 900);
    (one, other)
}

#[test]
fn an_origin_that_went_on_from_another_change_than_the_fold_has_is_a_fork() {
    let ([mut a, mut b], (one, mut other)) = ([(); 2].map(|()| open(&MemoryDisk::new())), twins());
    write(&mut a, "k", 1);
    hear(&one, &mut a);
    // Further than what is folded, on the other branch.
    elsewhere(&mut other, 901);
    hear(&other, &mut b);
    fold(&mut a, &[one.origin()]);
    hear(&a, &mut b);
    assert_eq!((b.counts().forks, b.state.vector.generation()), (1, 1));
    assert_eq!(b.state.vector.get(one.origin()), 3, "it is named, with what it has here");
    assert_eq!(value(&b, "other/dev", "k").unwrap(), "901");
    // One that went on from the very change is none.
    let mut c = open(&MemoryDisk::new());
    let (mut one, _) = (one, other);
    elsewhere(&mut one, 3);
    hear(&one, &mut c);
    hear(&a, &mut c);
    assert_eq!((c.counts().forks, c.state.vector.get(one.origin())), (0, 3));
}

#[test]
fn a_cut_in_which_another_change_is_folded_under_a_number_is_refused() {
    let (disk, (one, other)) = (MemoryDisk::new(), twins());
    let (mut a, mut b) = (open(&MemoryDisk::new()), open(&disk));
    write(&mut a, "k", 1);
    hear(&one, &mut a);
    hear(&other, &mut b);
    fold(&mut a, &[one.origin()]);
    let taken = transfer(&a, &mut b, &disk);
    assert!(matches!(taken, Err(TakeError::Fork(origin)) if origin == one.origin()), "{taken:?}");
    assert_eq!(value(&b, "other/dev", "k").unwrap(), "900", "it keeps what it has");
    assert_eq!(b.state.vector.generation(), 0);
}

#[test]
fn a_cut_without_the_folds_that_it_goes_by_is_refused_and_with_them_names_none_of_these_as_gone() {
    let disk = MemoryDisk::new();
    let [mut a, mut gone] = [(); 2].map(|()| open(&MemoryDisk::new()));
    let mut b = open(&disk);
    write(&mut gone, "gone", 3);
    hear(&gone, &mut a);
    fold(&mut a, &[gone.origin()]);
    write(&mut a, "a", 2);
    a.checkpoint().unwrap();
    let bounds = all(&a);
    assert!(trim(&mut a, &bounds) > 0);
    let pieces = pieces(&a.cuts(), &b.state.vector);
    let mut whole = staged(&pieces, &disk);
    assert_eq!(std::mem::take(&mut whole.folds).len(), 1);
    let taken = b.take(&whole);
    assert!(matches!(&taken, Err(TakeError::Illegal(why)) if why.contains("folds")), "{taken:?}");
    assert_eq!((view(&b).len(), b.state.vector.is_empty()), (0, true));
    drop(whole);
    // What it knew before to be gone of an origin that is folded now.
    hear(&gone, &mut b);
    let tx = b.database.get().unwrap().begin_write().unwrap();
    let last = Dot { origin: gone.origin(), n: 3 };
    meta::KEY_TRIMMED.put(&tx, &[last].into_iter().collect()).unwrap();
    tx.commit().unwrap();
    transfer(&a, &mut b, &disk).unwrap();
    assert_eq!((view(&b), &b.state.vector), (view(&a), &a.state.vector));
    let trimmed = b.trimmed().unwrap();
    assert!(trimmed.iter().all(|dot| dot.origin != gone.origin()), "{trimmed:?}");
}

#[test]
fn a_fold_is_taken_after_the_one_before_it_though_later_ones_are_known() {
    let mut a = open(&MemoryDisk::new());
    write(&mut a, "k", 4);
    let floor = a.state.vector.clone();
    let row = |n| FoldRow { dot: Dot { origin: a.origin(), n }, hash: [1; 32] };
    let [one, two] = [1, 2].map(|n| Fold::new(n, vec![row(n)]).unwrap());
    let folds = Folds::default().with(&one).unwrap().with(&two).unwrap();
    let roll = Roll { fold: Some(two), ..folding(&a, &floor, &[a.origin()]) };
    a.state.vector = floor.told().read(&Arc::new(folds));
    let why = a.fold(&roll).unwrap_err();
    assert!(why.contains("does not include"), "{why}");
    assert_eq!(a.state.vector.generation(), 0);
}

#[test]
fn a_document_whose_roll_names_a_folded_origin_no_more_is_loaded_from_the_log_in_order() {
    let disk = MemoryDisk::new();
    let mut a = open(&disk);
    // By origins alone, what is folded would come last.
    let mut gone = std::iter::repeat_with(|| open(&MemoryDisk::new()))
        .find(|gone| gone.origin() > a.origin())
        .unwrap();
    write(&mut a, "a", 2);
    elsewhere(&mut a, 5);
    write(&mut gone, "gone", 3);
    hear(&gone, &mut a);
    // With another document's epoch.
    let other = DocumentId::parse("other/dev").unwrap();
    let floor = a.state.vector.told();
    let plan = a.epochs().plan_roll(&other, &floor, Stamp(0)).unwrap();
    let rows = a.epochs().fold_rows(&[Dot { origin: gone.origin(), n: 3 }]).unwrap();
    let fold = Some(Fold::new(1, rows).unwrap());
    let (epoch, base) = (plan.epoch, plan.base);
    let roll = Roll { epoch, floor, base, removals_before: Stamp(0), fold };
    let done = a.commit(Stamp(6), &[Command::Roll { document: other, roll }]);
    assert!(matches!(done.outcomes[..], [Outcome::Rolled(Ok(_))]), "{done:?}");
    let id = DocumentId::parse("web/dev").unwrap();
    let floor = a.state.vector.told();
    assert_eq!((floor.len(), floor.generation()), (1, 1));
    let plan = a.epochs().plan_roll(&id, &floor, Stamp(0)).unwrap();
    let (epoch, base) = (plan.epoch, plan.base);
    begin(&mut a, Roll { epoch, floor, base, removals_before: Stamp(0), fold: None });
    write(&mut a, "a", 1);
    // Neither has a base in the tables yet.
    let tx = a.database.get().unwrap().begin_read().unwrap();
    let dots = a.unwritten.changes.get(&id).into_iter().flatten().copied();
    let loaded = past::load(&tx, &id, dots, &a.state.vector.folds()).unwrap();
    assert_eq!((loaded.epoch(), loaded.keys().count()), (1, 2));
    let again = open(&disk.snapshot());
    assert_eq!((view(&again), &again.state.vector), (view(&a), &a.state.vector));
}
