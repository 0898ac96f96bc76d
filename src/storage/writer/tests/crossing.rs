//! Whole documents where nodes have not heard the same: what is left out is nothing that somebody lacks.

use super::whole::{hear, transfer};
use super::*;

const CUT: &str = "web/dev";

fn roll_at(writer: &mut Writer, document: &str, floor: Vector) {
    let id = DocumentId::parse(document).unwrap();
    let plan = writer.epochs().plan_roll(&id, &floor, Stamp(0)).unwrap();
    let roll = Roll { epoch: plan.epoch, floor, base: plan.base, removals_before: Stamp(0) };
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
