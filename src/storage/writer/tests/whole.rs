//! Whole documents: what they bring is what the changes would have, what the receiver wrote stays, and
//! what breaks off leaves no trace.

use super::trim::{all, roll, trim};
use super::*;
use crate::config::Idempotency;
use crate::storage::whole::{
    Ask, Complete, Cut, CutReader, Said, Staging, StagingError, Step, alive,
};

/// The pieces of a cut, as a node says them.
pub(super) struct Pieces {
    pub(super) cut: Cut,
    said: Said,
    is_ended: bool,
}

impl Pieces {
    pub(super) fn new(cuts: &CutReader, vector: &Vector, now: Stamp) -> Self {
        Self::asked(cuts, &Ask::new(vector.told()), now)
    }

    pub(super) fn asked(cuts: &CutReader, ask: &Ask, now: Stamp) -> Self {
        let cut = cuts.begin(ask, now).unwrap();
        Self { cut, said: Said::default(), is_ended: false }
    }
}

impl Iterator for Pieces {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.is_ended {
            return None;
        }
        let piece = loop {
            match self.cut.step().unwrap() {
                Step::Piece(piece) => break piece,
                Step::Busy => {}
                Step::Done => {
                    self.is_ended = true;
                    return Some(self.said.end());
                }
            }
        };
        self.said.note(&piece);
        Some(piece)
    }
}

/// All pieces that answer a store with `vector`.
pub(super) fn pieces(cuts: &CutReader, vector: &Vector) -> Vec<Vec<u8>> {
    Pieces::new(cuts, vector, Stamp(1_000)).collect()
}

pub(super) fn staged(pieces: &[Vec<u8>], disk: &MemoryDisk) -> Complete {
    let mut staging = Staging::begin(Arc::new(disk.clone()), u64::MAX).unwrap();
    let mut is_complete = false;
    for chunk in pieces.chunks(3) {
        is_complete = staging.push(chunk.iter().map(Vec::as_slice)).unwrap();
    }
    assert!(is_complete);
    staging.complete().unwrap()
}

pub(super) fn transfer(
    from: &Writer,
    to: &mut Writer,
    disk: &MemoryDisk,
) -> Result<Taken, TakeError> {
    let vector = to.state.vector.clone();
    to.take(&staged(&pieces(&from.cuts(), &vector), disk))
}

/// Brings what `from` has to `to`, as changes.
pub(super) fn hear(from: &Writer, to: &mut Writer) -> bool {
    let have = from.published.load().vector.clone();
    let vector = (*to.published.load().vector).clone();
    let missing = from.log().missing(vector, &have, 1 << 24).unwrap();
    to.commit(Stamp(1), &[Command::Apply(missing.records)]);
    missing.is_trimmed
}

/// Writes `count` changes of two documents, the last ones not in the derived tables.
fn busy(disk: &MemoryDisk, count: u64) -> Writer {
    let mut writer = open(disk);
    for i in 0..count {
        let document = if i % 3 == 0 { "api/prod" } else { "web/dev" };
        let key = format!("k{}", i % 7);
        writer.commit(Stamp(100 + i), &[put(document, &[(&key, &i.to_string())])]);
        if i + 5 == count {
            writer.checkpoint().unwrap();
        }
    }
    writer
}

/// All that the vector names is in the log or was trimmed, and no row shows what it does not name.
fn assert_whole(writer: &Writer) {
    let snapshot = writer.published.load();
    let database = writer.database.get().unwrap();
    let tx = database.begin_read().unwrap();
    for last in snapshot.vector.iter() {
        for n in 1..=last.n {
            log::find(&tx, &snapshot.vector.folds(), Dot { n, ..last }).unwrap();
        }
    }
    for view in snapshot.documents.values() {
        for row in view.rows.values() {
            assert!(row.is_included_in(&snapshot.vector));
        }
    }
}

#[test]
fn a_newcomer_that_takes_whole_documents_shows_what_the_changes_would() {
    let a = busy(&MemoryDisk::new(), 60);
    let disk = MemoryDisk::new();
    let mut b = open(&disk);
    let taken = transfer(&a, &mut b, &disk).unwrap();
    assert_eq!((taken.documents, taken.records, taken.versions), (2, 60, 46));
    let origin = b.origin();
    assert_eq!((view(&b), histories(&b)), (view(&a), histories(&a)));
    assert_eq!((&b.state.vector, &b.state.hashes), (&a.state.vector, &a.state.hashes));
    assert_whole(&b);
    assert_eq!(
        b.format,
        meta::FORMAT_WITHOUT_FOLDS,
        "an older program would take its log for damaged"
    );
    assert!(disk.identity("staged.redb").unwrap().is_none(), "nothing is left aside");
    // It goes on with changes, and with its own.
    let mut a = a;
    a.commit(Stamp(500), &[put("web/dev", &[("new", "1")])]);
    assert!(!hear(&a, &mut b));
    let own = b.commit(Stamp(501), &[put("web/dev", &[("k1", "2")])]);
    assert_eq!(written(&own, 0).dot, Some(Dot { origin, n: 1 }));
    assert!(!hear(&b, &mut a));
    assert_eq!(view(&a), view(&b));
    drop(b);
    let b = open(&disk);
    assert_eq!((view(&b), histories(&b)), (view(&a), histories(&a)));
    assert_whole(&b);
    // The records of their epochs came with them: whoever asks it for those is served.
    let mut c = open(&MemoryDisk::new());
    assert!(!hear(&b, &mut c));
    assert_eq!(view(&c), view(&b));
}

#[test]
fn a_receiver_keeps_what_it_wrote_alone_and_passes_it_on() {
    let mut a = busy(&MemoryDisk::new(), 30);
    let disk = MemoryDisk::new();
    let mut b = open(&disk);
    hear(&a, &mut b);
    // Both go on without each other; what `b` had first is among what comes.
    for i in 0..20_u64 {
        let key = format!("k{}", i % 7);
        a.commit(Stamp(300 + i), &[put("web/dev", &[(&key, &format!("\"a{i}\""))])]);
        b.commit(Stamp(310 + i), &[put("web/dev", &[(&key, &format!("\"b{i}\""))])]);
        if i == 10 {
            b.checkpoint().unwrap();
        }
    }
    b.commit(Stamp(400), &[put("own/only", &[("x", "1")])]);
    let own = b.state.vector.get(b.origin());
    // What changes alone would have come to.
    let reference_disk = disk.snapshot();
    let mut reference = open(&reference_disk);
    hear(&a, &mut reference);
    transfer(&a, &mut b, &disk).unwrap();
    assert_eq!((view(&b), histories(&b)), (view(&reference), histories(&reference)));
    assert_eq!(b.state.vector.get(b.origin()), own);
    assert!(b.counts().conflicts > 0, "both sides' writes stand");
    assert_whole(&b);
    b.checkpoint().unwrap();
    drop(b);
    let mut b = open(&disk);
    assert_eq!((view(&b), histories(&b)), (view(&reference), histories(&reference)));
    assert!(!hear(&b, &mut a), "its own records are there");
    assert_eq!(view(&a), view(&b));
    b.commit(Stamp(500), &[put("web/dev", &[("k1", "0")])]);
    hear(&b, &mut a);
    assert_eq!(view(&a), view(&b));
}

#[test]
fn documents_of_which_the_receiver_has_every_change_are_left_out() {
    let mut a = busy(&MemoryDisk::new(), 30);
    let disk = MemoryDisk::new();
    let mut b = open(&disk);
    hear(&a, &mut b);
    a.commit(Stamp(300), &[put("web/dev", &[("new", "1")])]);
    let taken = transfer(&a, &mut b, &disk).unwrap();
    assert_eq!((taken.documents, taken.versions), (1, 0), "the row shows it");
    assert_eq!((view(&b), histories(&b)), (view(&a), histories(&a)));
    assert_eq!(transfer(&a, &mut b, &disk).unwrap(), Taken::default(), "there is nothing new");
}

#[test]
fn a_cut_is_one_state_however_long_it_takes() {
    let mut a = busy(&MemoryDisk::new(), 30);
    let (before, vector) = (view(&a), a.state.vector.clone());
    let disk = MemoryDisk::new();
    let mut b = open(&disk);
    let mut cut = Pieces::new(&a.cuts(), &Vector::new(), Stamp(1_000));
    let mut pieces = vec![cut.next().unwrap()];
    for i in 0..300_u64 {
        a.commit(Stamp(500 + i), &[put("web/dev", &[("k1", &i.to_string())])]);
        a.checkpoint().unwrap();
    }
    pieces.extend(cut);
    b.take(&staged(&pieces, &disk)).unwrap();
    assert_eq!((view(&b), &b.state.vector), (before, &vector));
    assert!(!hear(&a, &mut b));
    assert_eq!(view(&b), view(&a));
}

#[test]
fn a_retry_is_recognised_by_who_took_whole_documents() {
    let write = |key: u8| {
        let Command::Write(mut write) = put("web/dev", &[("a", "1")]) else { panic!() };
        write.idempotency = Some(Idempotency { key: [key; 16], request: [1; 16] });
        Command::Write(write)
    };
    let day = crate::storage::idempotency::RETENTION_US;
    let mut a = open(&MemoryDisk::new());
    a.commit(Stamp(1), &[write(1)]);
    a.checkpoint().unwrap();
    a.commit(Stamp(day), &[put("web/dev", &[("a", "2")])]);
    let second = a.commit(Stamp(day + 10), &[write(2)]);
    a.checkpoint().unwrap();
    let third = a.commit(Stamp(day + 11), &[write(3)]);
    let disk = MemoryDisk::new();
    let mut b = open(&disk);
    let pieces: Vec<_> = Pieces::new(&a.cuts(), &Vector::new(), Stamp(day + 20)).collect();
    let taken = b.take(&staged(&pieces, &disk)).unwrap();
    assert_eq!(taken.records, 4);
    for (key, of) in [(2, &second), (3, &third)] {
        let again = b.commit(Stamp(day + 30), &[write(key)]);
        assert!(written(&again, 0).replayed);
        assert_eq!(written(&again, 0).dot, written(of, 0).dot);
    }
    b.checkpoint().unwrap();
    drop(b);
    let mut b = open(&disk);
    assert!(written(&b.commit(Stamp(day + 31), &[write(2)]), 0).replayed);
    assert!(!written(&b.commit(Stamp(day + 32), &[write(1)]), 0).replayed);
}

#[test]
fn pieces_that_are_no_cut_are_refused_and_leave_nothing() {
    let a = busy(&MemoryDisk::new(), 30);
    let good = pieces(&a.cuts(), &Vector::new());
    assert!(good.len() >= 5);
    let disk = MemoryDisk::new();
    let push = |pieces: &[Vec<u8>]| {
        let mut staging = Staging::begin(Arc::new(disk.clone()), u64::MAX).unwrap();
        let pushed = staging.push(pieces.iter().map(Vec::as_slice));
        (pushed, staging.complete().is_some())
    };
    let is_illegal = |pieces: &[Vec<u8>]| {
        let (pushed, is_complete) = push(pieces);
        assert!(!is_complete && disk.identity("staged.redb").unwrap().is_none());
        matches!(pushed, Err(StagingError::Illegal(_)))
    };
    assert_eq!(push(&good), (Ok(true), true));
    assert_eq!(push(&good[..good.len() - 1]), (Ok(false), false), "the end has not come");
    assert!(is_illegal(&good[1..]), "no cut");
    let mut without = good.clone();
    without.remove(1);
    assert!(is_illegal(&without), "a piece is missing");
    let mut swapped = good.clone();
    swapped.swap(1, 2);
    assert!(is_illegal(&swapped));
    assert!(is_illegal(&[good.clone(), good.clone()].concat()));
    assert!(is_illegal(&[b"noise".to_vec()]));
}

#[test]
fn a_cut_that_this_store_cannot_build_on_is_refused() {
    let a_disk = MemoryDisk::new();
    let mut a = busy(&a_disk, 30);
    // A cut of before what this store has no records of.
    let disk = MemoryDisk::new();
    let mut b = open(&disk);
    let early = pieces(&a.cuts(), &Vector::new());
    let mut twin = open(&a_disk.snapshot());
    a.commit(Stamp(400), &[put("web/dev", &[("k1", "1")])]);
    transfer(&a, &mut b, &disk).unwrap();
    let before = view(&b);
    assert_eq!(b.take(&staged(&early, &disk)), Ok(Taken::default()), "nothing new");
    let mut c = open(&MemoryDisk::new());
    c.commit(Stamp(1), &[put("other/one", &[("x", "1")])]);
    let vector = c.state.vector.clone();
    // Somebody who has nothing of what is gone from this log, and something else.
    let late = pieces(&c.cuts(), &Vector::new());
    let mut rolled = busy(&MemoryDisk::new(), 30);
    roll(&mut rolled, "web/dev");
    let lacking_disk = MemoryDisk::new();
    let mut lacking = open(&lacking_disk);
    transfer(&rolled, &mut lacking, &lacking_disk).unwrap();
    let behind = lacking.take(&staged(&late, &lacking_disk));
    assert!(matches!(behind, Err(TakeError::Behind(_))), "{behind:?}");
    assert!(!b.state.vector.covers(&vector));
    // The other branch of a fork.
    twin.commit(Stamp(401), &[put("web/dev", &[("k1", "2")])]);
    twin.commit(Stamp(402), &[put("web/dev", &[("k1", "3")])]);
    let fork_disk = MemoryDisk::new();
    let mut d = open(&fork_disk);
    hear(&a, &mut d);
    d.commit(Stamp(403), &[put("web/dev", &[("k1", "4")])]);
    let before_fork = view(&d);
    let unfit = transfer(&twin, &mut d, &fork_disk);
    assert_eq!(unfit, Err(TakeError::Unfit(DocumentId::parse("web/dev").unwrap())));
    assert_eq!((view(&d), d.counts().forks), (before_fork, 1));
    drop(d);
    open(&fork_disk);
    let mut e = open(&MemoryDisk::new());
    hear(&twin, &mut e);
    e.commit(Stamp(1), &[put("other/one", &[("x", "1")])]);
    a.commit(Stamp(404), &[put("web/dev", &[("k1", "5")])]);
    a.commit(Stamp(405), &[put("web/dev", &[("k1", "6")])]);
    let fork_disk = MemoryDisk::new();
    let mut f = open(&fork_disk);
    hear(&a, &mut f);
    assert_eq!(transfer(&e, &mut f, &fork_disk), Err(TakeError::Fork(a.origin())));
    assert_eq!(f.counts().forks, 1);
    assert_eq!(view(&f), view(&a));
    assert_eq!(view(&b), before);
}

#[test]
fn an_origin_of_which_the_cut_has_more_is_left_before_the_next_write() {
    let disk = MemoryDisk::new();
    let mut a = open(&disk);
    a.commit(Stamp(1), &[put("web/dev", &[("a", "1")])]);
    let old = disk.snapshot();
    a.commit(Stamp(2), &[put("web/dev", &[("a", "2")])]);
    let mut rolled_back = open(&old);
    let origin = rolled_back.origin();
    assert_eq!(origin, a.origin());
    transfer(&a, &mut rolled_back, &old).unwrap();
    let committed = rolled_back.commit(Stamp(3), &[put("web/dev", &[("a", "3")])]);
    let dot = written(&committed, 0).dot.unwrap();
    assert!(dot.origin != origin && dot.n == 1);
    assert!(!hear(&rolled_back, &mut a));
    assert_eq!(view(&a), view(&rolled_back));
}

#[test]
fn a_crash_or_a_full_disk_at_any_step_leaves_all_of_a_cut_or_nothing() {
    let mut a = busy(&MemoryDisk::new(), 40);
    let disk = MemoryDisk::new();
    let mut b = open(&disk);
    hear(&a, &mut b);
    for i in 0..40_u64 {
        a.commit(Stamp(300 + i), &[put("web/dev", &[(&format!("l{i}"), "\"some text\"")])]);
    }
    b.commit(Stamp(310), &[put("web/dev", &[("k1", "\"own\"")])]);
    b.close().unwrap();
    drop(b);
    let start = disk;
    let expected = {
        let disk = start.snapshot();
        let mut b = open(&disk);
        transfer(&a, &mut b, &disk).unwrap();
        view(&b)
    };
    let (mut before, mut after) = (0, 0);
    for step in 0..60_u64 {
        let disk = start.snapshot();
        let mut b = open(&disk);
        let shown = view(&b);
        let complete = staged(&pieces(&a.cuts(), &b.state.vector), &disk);
        disk.fill(step * 3_000);
        let taken = b.take(&complete);
        let mode = match step % 3 {
            0 => CrashMode::LoseUnsynced,
            1 => CrashMode::KeepUnsynced,
            _ => CrashMode::TearUnsynced(step),
        };
        let crashed = disk.crash(mode);
        disk.free();
        crashed.free();
        // The running node goes on, too.
        b.resting = None;
        b.ensure_open().unwrap();
        assert!([&shown, &expected].contains(&&view(&b)), "step {step}");
        assert_whole(&b);
        drop((b, complete));
        let mut b = open(&crashed);
        assert_whole(&b);
        match view(&b) {
            found if found == expected => after += 1,
            found => {
                assert!(found == shown && taken.is_err(), "step {step}");
                before += 1;
                transfer(&a, &mut b, &crashed).unwrap();
                assert_eq!(view(&b), expected);
            }
        }
    }
    assert!(before > 3 && after > 3, "{before} before, {after} after");
}

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
fn a_document_with_a_long_history_is_sent_in_pieces_and_never_held_as_a_whole() {
    let mut a = open(&MemoryDisk::new());
    let big = format!("\"{}\"", "x".repeat(900));
    let keys: Vec<String> = (0..20).map(|i| format!("k{i}")).collect();
    let pairs: Vec<(&str, &str)> = keys.iter().map(|key| (&**key, &*big)).collect();
    for i in 0..500_u64 {
        a.commit(Stamp(i), &[put("web/dev", &pairs)]);
    }
    a.checkpoint().unwrap();
    let mut cut = Pieces::new(&a.cuts(), &Vector::new(), Stamp(1_000));
    let (mut bytes, mut pieces) = (0, Vec::new());
    while let Some(piece) = cut.next() {
        assert!(piece.len() <= 300_000, "a piece of {} bytes", piece.len());
        assert!(cut.cut.held_bytes() <= 2 * 256 * 1024, "{}", cut.cut.held_bytes());
        bytes += piece.len();
        pieces.push(piece);
    }
    assert!(bytes > 10_000_000, "{bytes}");
    let disk = MemoryDisk::new();
    let mut b = open(&disk);
    assert_eq!(b.take(&staged(&pieces, &disk)).unwrap().versions, 9_980);
    assert_eq!((view(&b), histories(&b)), (view(&a), histories(&a)));
}

#[test]
fn a_sender_that_is_at_work_may_say_so_between_any_two_pieces() {
    let a = busy(&MemoryDisk::new(), 30);
    let mut pieces = Vec::new();
    let mut said = Said::default();
    let ended = self::pieces(&a.cuts(), &Vector::new());
    for piece in &ended[..ended.len() - 1] {
        said.note(piece);
        pieces.push(piece.clone());
        let alive = alive(pieces.len() as u64);
        said.note(&alive);
        pieces.push(alive);
    }
    pieces.push(said.end());
    let disk = MemoryDisk::new();
    let mut b = open(&disk);
    b.take(&staged(&pieces, &disk)).unwrap();
    assert_eq!((view(&b), histories(&b)), (view(&a), histories(&a)));
}

#[test]
fn what_would_be_too_much_or_leave_no_room_is_not_put_aside() {
    struct Small(MemoryDisk);
    impl Disk for Small {
        fn database(&self, name: &str) -> std::io::Result<Box<dyn redb::StorageBackend>> {
            self.0.database(name)
        }
        fn read(&self, name: &str) -> std::io::Result<Option<Vec<u8>>> {
            self.0.read(name)
        }
        fn write(&self, name: &str, bytes: &[u8], durable: bool) -> std::io::Result<()> {
            self.0.write(name, bytes, durable)
        }
        fn remove(&self, name: &str) -> std::io::Result<()> {
            self.0.remove(name)
        }
        fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
            self.0.rename(from, to)
        }
        fn identity(&self, name: &str) -> std::io::Result<Option<Vec<u8>>> {
            self.0.identity(name)
        }
        fn len(&self, name: &str) -> std::io::Result<Option<u64>> {
            self.0.len(name)
        }
        fn room(&self) -> std::io::Result<Option<(u64, u64)>> {
            // Of 70 MiB, what the file leaves.
            let used = self.0.len("staged.redb")?.unwrap_or_default();
            Ok(Some(((70_u64 << 20).saturating_sub(used), 70 << 20)))
        }
        fn machine_boot(&self) -> Option<Vec<u8>> {
            None
        }
    }
    let a = busy(&MemoryDisk::new(), 30);
    let pieces = pieces(&a.cuts(), &Vector::new());
    let bytes: usize = pieces.iter().map(Vec::len).sum();
    let push = |bytes_max: usize| {
        let disk = Arc::new(MemoryDisk::new());
        let mut staging = Staging::begin(disk, bytes_max as u64).unwrap();
        pieces.iter().try_fold(false, |_, piece| staging.push([&**piece]))
    };
    assert_eq!(push(bytes), Ok(true));
    assert_eq!(push(bytes - 1), Err(StagingError::TooMuch(bytes as u64 - 1)));
    let disk = Arc::new(Small(MemoryDisk::new()));
    let mut staging = Staging::begin(disk.clone(), u64::MAX).unwrap();
    staging.push([&*pieces[0]]).unwrap();
    let alive = vec![alive(1); 1_000];
    let mut pushed = Ok(false);
    for _ in 0..1_000 {
        // Much of nothing.
        pushed = staging.push(alive.iter().map(Vec::as_slice));
        if pushed.is_err() {
            break;
        }
    }
    assert!(matches!(pushed, Err(StagingError::NoRoom { .. })), "{pushed:?}");
    drop(staging);
    assert_eq!(disk.len("staged.redb").unwrap(), None);
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
