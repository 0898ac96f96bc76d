//! Whole documents: what they bring is what the changes would have, what the receiver wrote stays, and
//! what breaks off leaves no trace.

use super::trim::{all, roll, trim};
use super::*;
use crate::config::Idempotency;
use crate::storage::whole::{
    Ask, Complete, Cut, CutReader, Said, Staging, StagingError, Step, alive,
};

mod epochs;
mod pieces;

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
    assert_eq!(transfer(&twin, &mut d, &fork_disk), Err(TakeError::Fork(a.origin())));
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
