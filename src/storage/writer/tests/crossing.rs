//! Whole documents where nodes have not heard the same: what is left out is nothing that somebody lacks,
//! and two that each took whole documents on their side of a cut can each take from the other.

use super::trim::{all, trim};
use super::whole::{hear, transfer};
use super::*;

const CUT: &str = "web/dev";

fn roll_at(writer: &mut Writer, document: &str, floor: Vector) {
    let floor = floor.told();
    let id = DocumentId::parse(document).unwrap();
    let plan = writer.epochs().plan_roll(&id, &floor, Stamp(0)).unwrap();
    let roll =
        Roll { epoch: plan.epoch, floor, base: plan.base, removals_before: Stamp(0), fold: None };
    let committed = writer.commit(Stamp(1), &[Command::Roll { document: id, roll }]);
    assert!(matches!(committed.outcomes[..], [Outcome::Rolled(Ok(_))]), "{committed:?}");
}

fn epoch(writer: &Writer, document: &str) -> u32 {
    let id = DocumentId::parse(document).unwrap();
    writer.published.load().document(&id).unwrap().epoch()
}

fn write(writer: &mut Writer, document: &str, count: u64) {
    for i in 0..count {
        let key = format!("k{}", i % 7);
        writer.commit(Stamp(100 + i), &[put(document, &[(&key, &i.to_string())])]);
    }
}

#[test]
fn a_document_whose_last_changes_are_all_late_comes_with_its_roll() {
    let disk = MemoryDisk::new();
    let (mut a, mut b) = (open(&MemoryDisk::new()), open(&disk));
    write(&mut a, CUT, 1);
    hear(&a, &mut b);
    let floor = a.state.vector.clone();
    write(&mut b, CUT, 1);
    hear(&b, &mut a);
    roll_at(&mut a, CUT, floor);
    a.checkpoint().unwrap();
    write(&mut a, "other/one", 1);
    transfer(&a, &mut b, &disk).unwrap();
    assert_eq!(epoch(&b, CUT), 1);
    write(&mut a, CUT, 1);
    assert!(!hear(&a, &mut b));
    assert_eq!((b.counts().quarantined, view(&b)), (0, view(&a)));
}

/// Two stores that take all from one each, which go.
fn two_pairs(is_rolled: bool) -> [(Writer, MemoryDisk); 2] {
    let (mut a, mut b) = (open(&MemoryDisk::new()), open(&MemoryDisk::new()));
    write(&mut a, CUT, 30);
    hear(&a, &mut b);
    write(&mut b, CUT, 30);
    hear(&b, &mut a);
    if is_rolled {
        let floor = a.state.vector.clone();
        roll_at(&mut a, CUT, floor);
        hear(&a, &mut b);
    }
    write(&mut a, CUT, 10);
    write(&mut a, "a/alone", 10);
    write(&mut b, CUT, 10);
    write(&mut b, "b/alone", 10);
    [a, b].map(|from| {
        let disk = MemoryDisk::new();
        let mut to = open(&disk);
        transfer(&from, &mut to, &disk).unwrap();
        (to, disk)
    })
}

#[test]
fn two_that_took_whole_documents_on_their_sides_of_a_cut_can_take_from_each_other() {
    for is_rolled in [false, true] {
        let [(mut a, a_disk), (mut b, b_disk)] = two_pairs(is_rolled);
        write(&mut a, CUT, 3);
        write(&mut b, CUT, 3);
        transfer(&a, &mut b, &b_disk).unwrap();
        transfer(&b, &mut a, &a_disk).unwrap();
        assert_eq!((view(&a), histories(&a)), (view(&b), histories(&b)));
        assert_eq!(a.state.vector, b.state.vector);
        for disk in [a_disk, b_disk] {
            assert_eq!(view(&open(&disk.snapshot())), view(&a));
        }
    }
}

#[test]
fn what_came_with_its_records_is_given_on_as_records() {
    for is_rolled in [false, true] {
        let [(a, _), (mut b, _)] = two_pairs(is_rolled);
        assert!(!hear(&a, &mut b), "nothing that the other lacks is gone");
        assert_eq!(b.state.vector.get(a.origin()), 0);
        assert!(b.state.vector.covers(&a.state.vector));
    }
}

#[test]
fn what_is_really_gone_is_named_up_to_its_last_record() {
    let disk = MemoryDisk::new();
    let (mut a, mut b) = (open(&MemoryDisk::new()), open(&disk));
    write(&mut a, CUT, 300);
    let floor = a.state.vector.clone();
    roll_at(&mut a, CUT, floor.clone());
    write(&mut a, CUT, 20);
    let bounds = all(&a);
    assert_eq!(trim(&mut a, &bounds), 300);
    transfer(&a, &mut b, &disk).unwrap();
    assert_eq!(
        b.trimmed().unwrap(),
        floor.told(),
        "the roll's record and what came behind it are there"
    );
    let tx = b.database.get().unwrap().begin_read().unwrap();
    assert_eq!(log::facts(&tx).unwrap().missing, None);
}
