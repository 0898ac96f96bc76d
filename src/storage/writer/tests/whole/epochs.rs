//! Whole documents across epochs, trimmed logs and files that are made anew.

use super::*;

fn epoch(writer: &Writer, document: &str) -> u32 {
    let id = DocumentId::parse(document).unwrap();
    writer.published.load().document(&id).unwrap().epoch()
}

#[test]
fn a_newcomer_in_a_later_epoch_agrees_on_the_next_one_whatever_it_wrote_meanwhile() {
    let mut a = busy(&MemoryDisk::new(), 30);
    roll(&mut a, "web/dev");
    for i in 0..10_u64 {
        a.commit(Stamp(300 + i), &[put("web/dev", &[(&format!("k{}", i % 4), &i.to_string())])]);
    }
    let disk = MemoryDisk::new();
    let mut b = open(&disk);
    let taken = transfer(&a, &mut b, &disk).unwrap();
    assert_eq!(
        (taken.documents, taken.records),
        (2, 21),
        "ten of each document's epoch, and its roll"
    );
    assert_eq!((view(&b), histories(&b)), (view(&a), histories(&a)));
    assert_eq!((epoch(&b, "web/dev"), epoch(&b, "api/prod")), (1, 0));
    // Both write, and neither hears of it before the first one's document rolls.
    b.commit(Stamp(400), &[put("web/dev", &[("k1", "\"late\""), ("own", "1")])]);
    a.commit(Stamp(401), &[put("web/dev", &[("k1", "\"other\"")])]);
    roll(&mut a, "web/dev");
    assert!(!hear(&a, &mut b) && !hear(&b, &mut a));
    assert_eq!(b.counts().epoch_mismatches, 0);
    assert_eq!((epoch(&a, "web/dev"), epoch(&b, "web/dev")), (2, 2));
    assert_eq!(view(&a), view(&b));
    assert!(a.counts().conflicts > 0);
    for _ in 0..2 {
        b.commit(Stamp(500), &[put("web/dev", &[("k1", "\"settled\"")])]);
        hear(&b, &mut a);
        assert_eq!(view(&a), view(&b));
        b.checkpoint().unwrap();
        drop(b);
        b = open(&disk);
        assert_eq!(view(&a), view(&b));
        assert_whole(&b);
    }
}

#[test]
fn a_member_that_comes_back_after_two_epochs_and_a_trimmed_log_brings_what_it_wrote() {
    let mut a = busy(&MemoryDisk::new(), 30);
    let disk = MemoryDisk::new();
    let mut b = open(&disk);
    hear(&a, &mut b);
    // Alone, from here on.
    for i in 0..10_u64 {
        let key = format!("k{}", i % 7);
        b.commit(Stamp(300 + i), &[put("web/dev", &[(&key, &format!("\"b{i}\""))])]);
    }
    b.commit(Stamp(320), &[put("own/only", &[("x", "1")])]);
    let own: Vec<Dot> = b.state.vector.iter().filter(|dot| dot.origin == b.origin()).collect();
    // What there would be if nothing had been trimmed.
    let mut reference = open(&MemoryDisk::new());
    hear(&b, &mut reference);
    for round in 0..2_u64 {
        for i in 0..5_u64 {
            let command = || [put("web/dev", &[(&format!("k{i}"), &format!("\"a{round}\""))])];
            a.commit(Stamp(330 + 10 * round + i), &command());
        }
        roll(&mut a, "web/dev");
        roll(&mut a, "api/prod");
    }
    assert!(!hear(&a, &mut reference));
    let bounds = all(&a);
    assert!(trim(&mut a, &bounds) > 30);
    assert!(hear(&a, &mut b), "the log is not enough");
    transfer(&a, &mut b, &disk).unwrap();
    assert_eq!((view(&b), histories(&b)), (view(&reference), histories(&reference)));
    assert_eq!((epoch(&b, "web/dev"), epoch(&b, "api/prod")), (2, 2));
    assert!(own.iter().all(|dot| b.state.vector.includes(*dot)));
    assert_whole(&b);
    drop(b);
    let mut b = open(&disk);
    assert_eq!((view(&b), histories(&b)), (view(&reference), histories(&reference)));
    assert!(!hear(&b, &mut a), "what it wrote is in its log, and goes out");
    assert_eq!(view(&a), view(&b));
    roll(&mut b, "web/dev");
    hear(&b, &mut a);
    assert_eq!((view(&a), epoch(&a, "web/dev")), (view(&b), 3));
}

#[test]
fn a_roll_that_needs_records_which_did_not_come_is_held_back_until_the_document_is_taken_whole() {
    let mut a = busy(&MemoryDisk::new(), 30);
    roll(&mut a, "web/dev");
    a.commit(Stamp(300), &[put("web/dev", &[("k1", "1")])]);
    let disk = MemoryDisk::new();
    let mut b = open(&disk);
    transfer(&a, &mut b, &disk).unwrap();
    // As from a sender that left them out.
    let tx = b.database.get().unwrap().begin_write().unwrap();
    tx.open_table(log::LOG).unwrap().retain(|_, _| false).unwrap();
    meta::KEY_TRIMMED.put(&tx, &b.state.vector.told()).unwrap();
    tx.commit().unwrap();
    b.commit(Stamp(400), &[put("web/dev", &[("k1", "\"late\"")])]);
    a.commit(Stamp(401), &[put("web/dev", &[("k1", "\"other\"")])]);
    roll(&mut a, "web/dev");
    hear(&a, &mut b);
    let counts = b.counts();
    assert_eq!((counts.documents_mismatched, counts.epoch_mismatches), (1, 0));
    assert_eq!(epoch(&b, "web/dev"), 1);
    transfer(&a, &mut b, &disk).unwrap();
    assert_eq!((b.counts().documents_mismatched, epoch(&b, "web/dev")), (0, 2));
    assert!(!hear(&b, &mut a));
    assert_eq!(view(&a), view(&b));
}

#[test]
fn a_file_is_rebuilt_while_its_log_is_trimmed_and_whole_documents_are_read_from_it() {
    let disk = MemoryDisk::new();
    let mut a = busy(&disk, 300);
    let other = MemoryDisk::new();
    let mut b = open(&other);
    b.commit(Stamp(90), &[put("web/dev", &[("own", "1")])]);
    let cuts = a.cuts();
    let mut cut = Pieces::new(&cuts, &b.state.vector, Stamp(1_000));
    let mut pieces = vec![cut.next().unwrap()];
    let then = view(&a);
    // Behind the cut's back the file is made anew, and half of what it tells goes from the log.
    a.begin_rebuild(1 << 20);
    a.step_rebuild();
    roll(&mut a, "web/dev");
    let bounds = all(&a);
    assert_eq!(trim(&mut a, &bounds), 200);
    a.commit(Stamp(600), &[put("web/dev", &[("late", "1")])]);
    while a.is_rebuilding() {
        a.step_rebuild();
        pieces.extend(cut.next());
    }
    assert_eq!(a.counts().rebuilt, 1, "nothing went past the mirror");
    pieces.extend(&mut cut);
    drop(cut);
    drop(cuts);
    // Who takes it is making its own file anew: that is given up for what comes.
    b.begin_rebuild(1 << 20);
    b.step_rebuild();
    b.take(&staged(&pieces, &other)).unwrap();
    assert!(!b.is_rebuilding() && b.counts().rebuilt == 0);
    assert_whole(&b);
    let there = view(&b);
    assert!(then.iter().all(|row| there.contains(row)), "all of the cut");
    // What came after the cut comes as changes, and both go on.
    for _ in 0..2 {
        hear(&a, &mut b);
        hear(&b, &mut a);
    }
    assert_eq!((view(&a), histories(&a)), (view(&b), histories(&b)));
    for (disk, writer) in [(disk, a), (other, b)] {
        let (rows, past) = (view(&writer), histories(&writer));
        drop(writer);
        let writer = open(&disk);
        assert_eq!((view(&writer), histories(&writer)), (rows, past));
        assert_whole(&writer);
    }
}
