//! Steps of writing behind beside the writer: groups go on at each of their places, readers find all that
//! is committed, and neither a crash nor a failure loses any of it.

use super::journal::{MODES, logged, write};
use super::*;
use crate::storage::documents;

/// A step on its way: begun, written, noted, and synced.
struct Way {
    step: Option<Step>,
    stepped: Option<Result<Stepped, StoreError>>,
}

impl Way {
    fn begin(writer: &mut Writer) -> Self {
        let step = writer.begin_step();
        assert!(step.is_some() && writer.begin_step().is_none(), "one at a time");
        Self { step, stepped: None }
    }

    /// Goes on to this place, where it is not there yet.
    fn to(&mut self, place: usize, writer: &mut Writer) {
        if place >= 1
            && let Some(step) = self.step.take()
        {
            self.stepped = Some(step.write());
        }
        if place >= 2
            && let Some(stepped) = self.stepped.take()
        {
            stepped.as_ref().unwrap();
            writer.stepped(stepped);
            assert!(!writer.is_stepping());
        }
        if place >= 3 {
            let synced = writer.sync()();
            writer.synced(synced);
        }
    }
}

/// All values that keys ever had, newest first.
fn values(writer: &Writer) -> Vec<Vec<String>> {
    let value = |entry: &crate::config::Entry| entry.value.as_ref().unwrap().to_string();
    histories(writer).iter().map(|entries| entries.iter().map(value).collect()).collect()
}

#[test]
fn a_crash_at_any_place_of_a_step_loses_nothing_and_readers_find_all_of_it_there() {
    for (mode, place) in MODES.into_iter().flat_map(|mode| (0..4).map(move |at| (mode, at))) {
        let disk = MemoryDisk::new();
        let (mut writer, mut plain) = (open(&disk), open(&MemoryDisk::new()));
        let mut write_both = |writer: &mut Writer, from: u64| {
            for i in from..from + 50 {
                write(writer, i);
                write(&mut plain, i);
            }
            values(&plain)
        };
        write_both(&mut writer, 0);
        writer.checkpoint().unwrap();
        write_both(&mut writer, 50);
        let mut way = Way::begin(&mut writer);
        write_both(&mut writer, 100);
        way.to(place.min(1), &mut writer);
        write_both(&mut writer, 150);
        way.to(place, &mut writer);
        let expected = write_both(&mut writer, 200);
        let crashed = disk.crash(mode);
        assert_eq!((values(&writer), logged(&writer)), (expected.clone(), 250), "{place}");
        for disk in [crashed, disk.crash(mode)] {
            let again = open(&disk);
            assert_eq!(view(&again), view(&writer), "{mode:?} {place}");
            assert_eq!(
                (values(&again), logged(&again)),
                (expected.clone(), 250),
                "{mode:?} {place}"
            );
        }
        way.to(2, &mut writer);
        assert_eq!(values(&writer), expected);
        writer.close().unwrap();
        drop(writer);
        assert_eq!(values(&open(&disk)), expected, "{mode:?} {place}");
    }
}

/// Takes the document to its next epoch, at a floor that leaves out what was written after it.
fn roll_at(writer: &mut Writer, floor: &Told) {
    let id = DocumentId::parse("web/dev").unwrap();
    let plan = writer.epochs().plan_roll(&id, floor, Stamp(0)).unwrap();
    let floor = floor.clone();
    let roll =
        Roll { epoch: plan.epoch, floor, base: plan.base, removals_before: Stamp(0), fold: None };
    let committed = writer.commit(Stamp(1), &[Command::Roll { document: id, roll }]);
    assert!(matches!(committed.outcomes[..], [Outcome::Rolled(Ok(_))]), "{committed:?}");
}

/// Writes and a roll that is late to some of them, or to none.
fn write_and_roll(writer: &mut Writer, from: u64, is_late: bool) {
    (from..from + 5).for_each(|i| write(writer, i));
    let floor = writer.state.vector.told();
    if is_late {
        (from + 5..from + 10).for_each(|i| write(writer, i));
    }
    roll_at(writer, &floor);
    (from + 10..from + 15).for_each(|i| write(writer, i));
}

#[test]
fn a_late_roll_waits_for_nobody_who_writes_into_the_tables() {
    let id = DocumentId::parse("web/dev").unwrap();
    let mut writer = open(&MemoryDisk::new());
    write_and_roll(&mut writer, 0, false);
    writer.checkpoint().unwrap();
    let floor = writer.state.vector.told();
    let plan = writer.epochs().plan_roll(&id, &floor, Stamp(0)).unwrap();
    // In the journal alone, or on its way from there: what is late, and what that replaced.
    (0..5).for_each(|i| write(&mut writer, i));
    let database = writer.database.clone();
    let busy = database.tables().unwrap().begin_write().unwrap();
    let (done, is_done) = std::sync::mpsc::channel();
    let roll =
        Roll { epoch: plan.epoch, floor, base: plan.base, removals_before: Stamp(0), fold: None };
    let roll = Command::Roll { document: id, roll };
    let came = std::thread::scope(|scope| {
        scope.spawn(|| database.get().map(drop));
        while database.pending_bytes() > 0 {
            std::thread::yield_now();
        }
        scope.spawn(|| {
            (5..10).for_each(|i| write(&mut writer, i));
            let committed = writer.commit(Stamp(1), std::slice::from_ref(&roll));
            done.send((committed.outcomes, epoch(&writer))).unwrap();
        });
        let came = is_done.recv_timeout(std::time::Duration::from_secs(20));
        drop(busy);
        came
    });
    let (outcomes, epoch) = came.expect("it waits");
    assert!(matches!(outcomes[..], [Outcome::Rolled(Ok(_))]), "{outcomes:?}");
    assert_eq!(epoch, 2);
}

fn epoch(writer: &Writer) -> u32 {
    let view = writer.state.view(&DocumentId::parse("web/dev").unwrap()).unwrap();
    view.rolled.as_ref().unwrap().roll.epoch
}

#[test]
fn a_crash_beside_a_step_that_writes_how_an_epoch_began_loses_nothing_and_late_rolls_go_on() {
    let cases = MODES.into_iter().flat_map(|mode| (0..4).map(move |place| (mode, place)));
    for ((mode, place), is_late) in cases.flat_map(|case| [(case, false), (case, true)]) {
        let what = format!("{mode:?} {place} late: {is_late}");
        let disk = MemoryDisk::new();
        let (mut writer, mut plain) = (open(&disk), open(&MemoryDisk::new()));
        let mut both = |writer: &mut Writer, from: u64| {
            write_and_roll(writer, from, is_late);
            write_and_roll(&mut plain, from, is_late);
            values(&plain)
        };
        both(&mut writer, 0);
        writer.checkpoint().unwrap();
        both(&mut writer, 100);
        let mut way = Way::begin(&mut writer);
        // How the epoch on its way began is asked of the document here, and of the tables or the log
        // where it has to be loaded.
        if place % 2 == 1 {
            writer.documents.clear();
        }
        both(&mut writer, 200);
        way.to(place.min(1), &mut writer);
        if place % 2 == 0 {
            writer.documents.clear();
        }
        both(&mut writer, 300);
        way.to(place, &mut writer);
        let mut expected = both(&mut writer, 400);
        let crashed = disk.crash(mode);
        assert_eq!((values(&writer), epoch(&writer)), (expected.clone(), 5), "{what}");
        let mut again = open(&crashed);
        assert_eq!((view(&again), values(&again)), (view(&writer), expected.clone()), "{what}");
        way.to(2, &mut writer);
        let mut next = Way::begin(&mut writer);
        next.to(3, &mut writer);
        for writer in [&mut again, &mut writer] {
            write_and_roll(writer, 500, is_late);
            writer.checkpoint().unwrap();
        }
        write_and_roll(&mut plain, 500, is_late);
        expected = values(&plain);
        for writer in [again, writer] {
            assert_eq!((values(&writer), epoch(&writer)), (expected.clone(), 6), "{what}");
        }
        let mut last = open(&disk);
        write_and_roll(&mut last, 600, is_late);
        assert_eq!(epoch(&last), 7, "{what}");
    }
}

#[test]
fn an_epochs_base_is_held_until_the_step_is_noted_and_not_written_again() {
    let id = DocumentId::parse("web/dev").unwrap();
    let mut writer = open(&MemoryDisk::new());
    write_and_roll(&mut writer, 0, true);
    let mut way = Way::begin(&mut writer);
    way.to(1, &mut writer);
    assert!(writer.document(&id).unwrap().epoch_base().is_some());
    way.to(2, &mut writer);
    assert!(writer.document(&id).unwrap().epoch_base().is_none());
    // Loaded from the log beside the step that writes it: held until the next one.
    write_and_roll(&mut writer, 100, true);
    let mut way = Way::begin(&mut writer);
    writer.documents.clear();
    write(&mut writer, 200);
    way.to(2, &mut writer);
    assert!(writer.document(&id).unwrap().epoch_base().is_some());
    Way::begin(&mut writer).to(2, &mut writer);
    assert!(writer.document(&id).unwrap().epoch_base().is_none());
    // A roll beside a step is another base than the one that is noted.
    write(&mut writer, 201);
    let mut way = Way::begin(&mut writer);
    write_and_roll(&mut writer, 300, false);
    way.to(2, &mut writer);
    assert!(writer.document(&id).unwrap().epoch_base().is_some());
}

#[test]
fn more_bases_of_epochs_than_a_step_takes_along_are_written_by_the_writer() {
    let mut writer = open(&MemoryDisk::new());
    let big = format!("\"{}\"", "x".repeat(900));
    let keys: Vec<String> = (0..10_000).map(|i| format!("k{i}")).collect();
    for keys in keys.chunks(1_000) {
        let pairs: Vec<(&str, &str)> = keys.iter().map(|key| (&**key, &*big)).collect();
        written(&writer.commit(Stamp(1), &[put("web/dev", &pairs)]), 0);
    }
    writer.checkpoint().unwrap();
    let floor = writer.state.vector.told();
    roll_at(&mut writer, &floor);
    assert!(writer.can_step() && writer.begin_step().is_none());
    writer.write_behind().unwrap();
    assert_eq!((epoch(&writer), view(&writer).len()), (1, 10_000));
    writer.documents.clear();
    written(&writer.commit(Stamp(2), &[put("web/dev", &[("k0", "1")])]), 0);
    assert!(writer.begin_step().is_some());
}

#[test]
fn a_document_that_is_loaded_beside_a_step_has_each_of_its_changes_once() {
    let id = DocumentId::parse("web/dev").unwrap();
    for place in 0..3 {
        let disk = MemoryDisk::new();
        let mut writer = open(&disk);
        for i in 0..300 {
            write(&mut writer, i);
        }
        let mut way = Way::begin(&mut writer);
        write(&mut writer, 300);
        way.to(place, &mut writer);
        for i in 301..303 {
            writer.documents.clear();
            write(&mut writer, i);
        }
        assert_eq!(writer.document(&id).unwrap().changes_in_epoch(), 303, "{place}");
        way.to(2, &mut writer);
        let tx = writer.database.get().unwrap().begin_read().unwrap();
        assert!(documents::read(&tx, &id).unwrap().0.is_some(), "a base was due");
        drop(tx);
        writer.documents.clear();
        assert_eq!(writer.document(&id).unwrap().changes_in_epoch(), 303, "{place}");
        let mut next = Way::begin(&mut writer);
        next.to(2, &mut writer);
        let shown = view(&writer);
        drop(writer);
        let mut writer = open(&disk);
        assert_eq!(writer.document(&id).unwrap().changes_in_epoch(), 303, "{place}");
        assert_eq!(view(&writer), shown);
    }
}

#[test]
fn a_retry_is_recognised_wherever_the_step_is_that_writes_its_key() {
    for place in 0..4 {
        let mut writer = open(&MemoryDisk::new());
        let with_key = || {
            let Command::Write(mut request) = put("web/dev", &[("a", "1")]) else { panic!() };
            request.idempotency =
                Some(crate::config::Idempotency { key: [1; 16], request: [2; 16] });
            Command::Write(request)
        };
        writer.commit(Stamp(2), &[with_key()]);
        let mut way = Way::begin(&mut writer);
        way.to(place, &mut writer);
        assert!(written(&writer.commit(Stamp(3), &[with_key()]), 0).replayed, "{place}");
    }
}

#[test]
fn a_step_whose_disk_fails_has_the_store_read_anew_and_loses_nothing() {
    let disk = MemoryDisk::new();
    let mut writer = open(&disk);
    (0..50).for_each(|i| write(&mut writer, i));
    let step = writer.begin_step().unwrap();
    (50..60).for_each(|i| write(&mut writer, i));
    disk.fail(true);
    let stepped = step.write();
    disk.fail(false);
    assert!(stepped.is_err(), "{stepped:?}");
    // It was not heard of yet: groups go on.
    write(&mut writer, 60);
    let (shown, history) = (view(&writer), 61);
    writer.stepped(stepped);
    assert!(!writer.is_open());
    writer.resting = None;
    assert_eq!(writer.ensure_open(), Ok(true));
    assert!(!writer.is_stepping());
    assert_eq!((view(&writer), logged(&writer)), (shown, history));
    write(&mut writer, 61);
    let again = open(&disk.crash(CrashMode::LoseUnsynced));
    assert_eq!((view(&again), values(&again)), (view(&writer), values(&writer)));
}

#[test]
fn a_store_that_fails_beside_a_step_waits_for_it_and_takes_no_late_word_of_it() {
    for is_written in [false, true] {
        let disk = MemoryDisk::new();
        let mut writer = open(&disk);
        (0..50).for_each(|i| write(&mut writer, i));
        let mut way = Way::begin(&mut writer);
        (50..60).for_each(|i| write(&mut writer, i));
        let shown = view(&writer);
        way.to(usize::from(is_written), &mut writer);
        disk.fail(true);
        writer.commit(Stamp(60), &[put("web/dev", &[("x", "1")])]);
        disk.fail(false);
        assert!(!writer.is_open());
        writer.resting = None;
        let mut late = way.stepped.take();
        if let Some(step) = way.step.take() {
            assert!(writer.ensure_open().is_err(), "not beside what may still write");
            let stepped = step.write();
            assert!(stepped.is_err(), "{stepped:?}");
            late = Some(stepped);
        }
        writer.resting = None;
        assert_eq!(writer.ensure_open(), Ok(true));
        writer.stepped(late.unwrap());
        assert!(writer.is_open());
        let found = view(&writer);
        assert!(shown.iter().all(|row| found.contains(row)), "nothing acknowledged is lost");
        write(&mut writer, 61);
        writer.checkpoint().unwrap();
        let (shown, past) = (view(&writer), values(&writer));
        drop(writer);
        let again = open(&disk.crash(CrashMode::LoseUnsynced));
        assert_eq!((view(&again), values(&again)), (shown, past));
    }
}

#[test]
fn what_is_committed_beside_a_step_is_bounded() {
    let mut writer = open(&MemoryDisk::new());
    let big = format!("\"{}\"", "x".repeat(900));
    let keys: Vec<String> = (0..1_000).map(|i| format!("k{i}")).collect();
    let commands: Vec<Command> = keys.iter().map(|key| put("web/big", &[(key, &big)])).collect();
    while !writer.has_much_unwritten() {
        written(&writer.commit(Stamp(1), &commands), 999);
    }
    let mut way = Way::begin(&mut writer);
    assert!(writer.has_much_unwritten(), "what is on its way counts");
    let refused = &writer.commit(Stamp(2), &commands[..1]).outcomes[0];
    assert!(matches!(refused, Outcome::Written(Err(WriteError::StorageFailed(_)))), "{refused:?}");
    way.to(2, &mut writer);
    assert!(!writer.has_much_unwritten());
    written(&writer.commit(Stamp(3), &commands[..1]), 0);
}
