use proptest::prelude::*;
use redb::ReadableDatabase as _;

use super::*;
use crate::env::{CrashMode, MemoryDisk};
use crate::model::DocumentId;
use crate::model::vector::FoldRow;
use crate::storage::frame::sum;

const HEADER: usize = 60;
const ID: JournalId = [7; 16];
const START: Reached = Reached { id: ID, seq: 0 };
const ORIGIN: Origin = Origin([1; 8]);

/// Groups of one change each, each following from the one before.
fn groups(count: u64) -> Vec<Group> {
    let mut previous = NO_RECORD;
    let one = |n| {
        let id = DocumentId::parse("web/dev").unwrap();
        let dot = Dot { origin: ORIGIN, n };
        let record = Record::with(dot, previous, id, 0, Vec::new(), &n.to_be_bytes(), None);
        previous = record.hash;
        let mut group = Group::default();
        group.push(&record, None);
        group
    };
    (1..=count).map(one).collect()
}

/// Tables that have nothing.
fn tables() -> redb::Database {
    let backend = redb::backends::InMemoryBackend::new();
    let database = redb::Builder::new().create_with_backend(backend).unwrap();
    let tx = database.begin_write().unwrap();
    tx.open_table(origins::ORIGINS).unwrap();
    tx.open_table(meta::META).unwrap();
    tx.commit().unwrap();
    database
}

fn open(disk: &MemoryDisk, reached: Reached) -> (Journal, Replayed) {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Journal::open(&disk, reached, &tables().begin_read().unwrap()).unwrap()
}

/// Tables whose last change is this group's.
fn heads(n: u64, last: &Group) -> Heads {
    let changes = BTreeMap::from([(ORIGIN, (n, last.changes[0].hash))]);
    Heads { changes, ..Heads::default() }
}

fn append(journal: &mut Journal, groups: &[Group]) {
    for group in groups {
        assert!(journal.append(group, true).unwrap());
    }
}

#[test]
fn the_format_of_a_frame_does_not_change() {
    let row = vec![1, 2].into();
    let group = Group {
        changes: vec![Logged { dot: Dot { origin: ORIGIN, n: 3 }, hash: [4; 32], row }],
        audit: vec![(5, vec![6].into())],
        chain: Some(Head { seq: 5, hash: [8; 32] }),
        spans: Some(vec![Span { origin: ORIGIN, n: 3, seq: 4 }]),
        origin: Some(ORIGIN),
        format: Some(2),
        chain_before: Some(Head { seq: 4, hash: [9; 32] }),
        ..Group::default()
    };
    let frame = frame(&ID, 9, 7, &group);
    assert_eq!(frame.len(), PAGE);
    let len = u32::from_be_bytes(frame[24..28].try_into().unwrap()) as usize;
    let hex: String = frame[..HEADER + len].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, include_str!("frame.hex").trim_end());
    assert_eq!(cbor::decode::<Group>(&frame[HEADER..HEADER + len]).unwrap(), group);
    // A later program may say more of it.
    let mut later = frame[HEADER..HEADER + len].to_vec();
    later[0] += 1;
    later.extend([0x18, 40, 1]);
    assert_eq!(cbor::decode::<Group>(&later).unwrap(), group);
}

#[test]
fn what_was_appended_is_there_after_a_crash_and_once_the_tables_have_it_no_more() {
    let memory = MemoryDisk::new();
    let all = groups(5);
    let (mut journal, replayed) = open(&memory, START);
    assert_eq!((replayed.groups.len(), journal.needed()), (0, 0));
    append(&mut journal, &all[..3]);
    let (_, replayed) = open(&memory.crash(CrashMode::LoseUnsynced), START);
    assert_eq!((&replayed.groups[..], replayed.seq), (&all[..3], 3));
    assert_eq!(replayed.damage, None);
    // The tables have two of them.
    let content = memory.read(FILE).unwrap().unwrap();
    let rest = replay(&content, Reached { seq: 2, ..START }, heads(2, &all[1]));
    assert_eq!((&rest.groups[..], rest.damage), (&all[2..3], None));
    // They have all; the next round begins at the front, over what is there.
    assert_eq!(journal.needed(), 3 * PAGE);
    let old = Place { seq: 2, at: 2 * PAGE };
    journal.release(journal.last());
    assert_eq!(journal.needed(), 0);
    append(&mut journal, &all[3..]);
    // What is said late of a place that is another group's now changes nothing.
    journal.release(old);
    assert_eq!((journal.needed(), journal.done.seq, journal.is_round), (2 * PAGE, 3, false));
    let content = memory.read(FILE).unwrap().unwrap();
    let next = replay(&content, Reached { seq: 3, ..START }, heads(3, &all[2]));
    assert_eq!((&next.groups[..], next.seq, next.damage), (&all[3..], 5, None));
    assert_eq!(next.at, (0, journal.last().at));
}

#[test]
fn what_the_tables_do_not_have_yet_is_never_written_over() {
    let memory = MemoryDisk::new();
    let all = groups(3_000);
    let (mut journal, _) = open(&memory, START);
    let (mut appended, mut released) = (0, 0);
    let mut places = vec![journal.last()];
    let mut rounds = 0;
    while appended < all.len() {
        // As far as there is room.
        while appended < all.len() && journal.append(&all[appended], true).unwrap() {
            appended += 1;
            rounds += usize::from(journal.is_round && journal.last().at == PAGE);
            places.push(journal.last());
        }
        let content = memory.read(FILE).unwrap().unwrap();
        let heads = match released {
            0 => Heads::default(),
            _ => heads(released as u64, &all[released - 1]),
        };
        let replayed = replay(&content, Reached { seq: released as u64, ..START }, heads);
        assert_eq!((replayed.damage, replayed.unfit), (None, None), "{released}");
        assert!(replayed.groups == all[released..appended], "{released} to {appended}");
        let needed = (appended - released) * PAGE;
        assert!(journal.needed() >= needed && journal.needed() <= FILE_BYTES_MAX);
        // A part of it comes to the tables.
        released += (appended - released).div_ceil(3);
        journal.release(places[released]);
    }
    assert!(rounds >= 1, "it went on from the beginning");
}

#[test]
fn one_that_went_on_from_the_beginning_is_gone_on_with_after_a_start() {
    let memory = MemoryDisk::new();
    let all = groups(3_100);
    let (mut journal, _) = open(&memory, START);
    let full = FILE_BYTES_MAX / PAGE;
    append(&mut journal, &all[..1_000]);
    let place = journal.last();
    append(&mut journal, &all[1_000..full]);
    assert!(!journal.append(&all[full], true).unwrap(), "there is no room");
    journal.release(place);
    append(&mut journal, &all[full..full + 500]);
    drop(journal);
    let disk: Arc<dyn Disk> = Arc::new(memory.clone());
    let database = tables();
    let tx = database.begin_write().unwrap();
    let last = &all[999].changes[0];
    origins::put(&tx, last.dot, last.hash).unwrap();
    tx.commit().unwrap();
    let reached = Reached { seq: 1_000, ..START };
    let tx = database.begin_read().unwrap();
    let (mut journal, replayed) = Journal::open(&disk, reached, &tx).unwrap();
    assert!(replayed.groups == all[1_000..full + 500]);
    let more = (full + 500..).take_while(|i| journal.append(&all[*i], true).unwrap()).count();
    assert_eq!(more, 499, "up to what is needed");
    let content = memory.read(FILE).unwrap().unwrap();
    assert!(replay(&content, reached, heads(1_000, &all[999])).groups == all[1_000..full + 999]);
}

#[test]
fn it_goes_on_behind_what_is_there() {
    let memory = MemoryDisk::new();
    let all = groups(4);
    append(&mut open(&memory, START).0, &all[..2]);
    let (mut journal, _) = open(&memory, START);
    append(&mut journal, &all[2..]);
    drop(journal);
    assert_eq!(open(&memory, START).1.groups, all);
}

#[test]
fn a_torn_frame_is_cut_off_and_what_was_on_disk_before_it_stays() {
    for seed in 0..100 {
        let memory = MemoryDisk::new();
        let all = groups(40);
        let (mut journal, _) = open(&memory, START);
        append(&mut journal, &all[..3]);
        let mut large = Group::default();
        all[3..].iter().for_each(|group| large.changes.extend(group.changes.clone()));
        // Written, and the machine goes down before it is synced.
        assert!(journal.append(&large, false).unwrap());
        let (mut again, replayed) = open(&memory.crash(CrashMode::TearUnsynced(seed)), START);
        assert_eq!(replayed.damage, None, "{seed}");
        assert_eq!(replayed.groups[..3], all[..3], "{seed}");
        assert!(replayed.groups[3..].iter().all(|it| *it == large), "{seed}: a part of a frame");
        let next = if replayed.groups.len() == 3 { &large } else { &Group::default() };
        append(&mut again, std::slice::from_ref(next));
    }
}

#[test]
fn a_damaged_frame_before_a_whole_one_is_named_and_kept_aside() {
    for (at, says) in [(70, "group 1 is not whole, and 2 is"), (PAGE as u64 + 70, "group 2 is")] {
        let memory = MemoryDisk::new();
        let all = groups(3);
        let (mut journal, _) = open(&memory, START);
        append(&mut journal, &all);
        journal.file.as_ref().unwrap().write(at, b"x").unwrap();
        drop(journal);
        let (_, replayed) = open(&memory, START);
        let damage = replayed.damage.unwrap();
        assert!(damage.contains(says) && damage.contains("config.journal.damaged"), "{damage}");
        assert_eq!(replayed.groups[..], all[..(at / PAGE as u64) as usize]);
        assert!(memory.read("config.journal.damaged").unwrap().is_some());
    }
}

#[test]
fn one_that_is_older_or_newer_than_the_tables_or_anothers_adds_nothing() {
    let memory = MemoryDisk::new();
    append(&mut open(&memory, START).0, &groups(3));
    let with = |reached| open(&memory.snapshot(), reached).1;
    let newer = with(Reached { seq: 9, ..START });
    assert_eq!((newer.groups.len(), newer.seq, newer.damage), (0, 9, None));
    let another = with(Reached { id: [8; 16], seq: 0 });
    assert_eq!((another.groups.len(), another.seq, another.damage), (0, 0, None));
    // Tables that were put back to before it began anew.
    memory.remove(FILE).unwrap();
    let (mut journal, _) = open(&memory, Reached { seq: 5, ..START });
    append(&mut journal, &groups(1));
    drop(journal);
    let older = with(START);
    assert_eq!((older.groups.len(), older.seq, older.damage), (0, 0, None));
    assert!(older.unfit.unwrap().contains("group 1 is missing"));
}

#[test]
fn a_group_that_does_not_follow_from_the_tables_is_not_taken() {
    let memory = MemoryDisk::new();
    let all = groups(3);
    append(&mut open(&memory, START).0, &[all[0].clone(), all[2].clone()]);
    let (_, replayed) = open(&memory, START);
    assert_eq!(replayed.groups[..], all[..1]);
    let unfit = replayed.unfit.unwrap();
    assert!(unfit.contains("does not follow") && unfit.contains("config.journal.unfit"), "{unfit}");
    // So where the audit chain went on elsewhere.
    let memory = MemoryDisk::new();
    let mut group = all[0].clone();
    group.chain_before = Some(Head { seq: 1, hash: [1; 32] });
    append(&mut open(&memory, START).0, &[group]);
    let (_, replayed) = open(&memory, START);
    assert!(replayed.unfit.unwrap().contains("audit chain"));
    assert!(replayed.groups.is_empty());
}

#[test]
fn a_group_is_taken_only_where_each_of_its_changes_is_the_next_one_and_what_it_says() {
    let [first, second, third] = <[Group; 3]>::try_from(groups(3)).unwrap();
    let made = |n, previous| {
        let id = DocumentId::parse("web/dev").unwrap();
        Record::with(Dot { origin: ORIGIN, n }, previous, id, 0, Vec::new(), b"change", None)
    };
    let of = |record: &Record| {
        let mut group = Group::default();
        group.push(record, None);
        group
    };
    let before = first.changes[0].hash;
    let mut other_hash = second.clone();
    other_hash.changes[0].hash = [9; 32];
    let mut other_dot = of(&made(3, before));
    other_dot.changes[0].dot.n = 2;
    let branch = of(&made(2, [9; 32]));
    let gap = of(&made(3, before));
    for (next, why) in [
        (branch, "it builds on another record"),
        (gap, "a number is missing"),
        (other_dot, "the record has another number"),
        (other_hash, "the record has another hash"),
    ] {
        let bytes = [frame(&ID, 1, 0, &first), frame(&ID, 2, 0, &next)].concat();
        let replayed = replay(&bytes, START, Heads::default());
        assert_eq!(replayed.groups[..], std::slice::from_ref(&first)[..], "{why}");
        assert!(replayed.unfit.unwrap().contains("does not follow"), "{why}");
    }
    let good = [first, second, third];
    let bytes: Vec<u8> =
        good.iter().zip(1..).flat_map(|(it, seq)| frame(&ID, seq, 0, it)).collect();
    let replayed = replay(&bytes, START, Heads::default());
    assert_eq!((&replayed.groups[..], replayed.unfit), (&good[..], None));
}

#[test]
fn a_change_of_an_origin_that_the_tables_have_folded_follows_from_the_fold() {
    let all = groups(3);
    let row = FoldRow { dot: all[0].changes[0].dot, hash: all[0].changes[0].hash };
    let folds = Folds::default().with(&Fold::new(1, vec![row]).unwrap()).unwrap();
    let heads = || Heads { folds: Arc::new(folds.clone()), ..Heads::default() };
    let bytes = [frame(&ID, 1, 0, &all[1]), frame(&ID, 2, 0, &all[2])].concat();
    let replayed = replay(&bytes, START, heads());
    assert_eq!((&replayed.groups[..], replayed.unfit), (&all[1..], None));
    let unfit = replay(&frame(&ID, 1, 0, &all[2]), START, heads()).unfit;
    assert!(unfit.unwrap().contains("does not follow"));
}

#[test]
fn a_frame_that_begins_otherwise_or_is_of_a_later_format_is_none_though_its_sum_is_right() {
    let all = groups(2);
    for at in [0, 7] {
        let mut bytes = frame(&ID, 1, 0, &all[0]);
        bytes[at] += 1;
        let len = u32::from_be_bytes(bytes[24..28].try_into().unwrap()) as usize;
        let sum = sum(&ID, &bytes[..28], &bytes[HEADER..HEADER + len]);
        bytes[28..HEADER].copy_from_slice(&sum);
        let alone = replay(&bytes, START, Heads::default());
        assert_eq!((alone.groups.len(), alone.seq, alone.damage), (0, 0, None));
        // What is behind it shows that something is not there.
        bytes.extend(frame(&ID, 2, 0, &all[1]));
        let damage = replay(&bytes, START, Heads::default()).damage.unwrap();
        assert!(damage.contains("group 1 is not whole, and 2 is"), "{damage}");
    }
}

#[test]
fn there_is_room_for_some_megabytes_and_none_on_a_disk_that_is_nearly_full() {
    let memory = MemoryDisk::new();
    let (mut journal, _) = open(&memory, START);
    let group = groups(1).remove(0);
    append(&mut journal, std::slice::from_ref(&group));
    assert_eq!(memory.len(FILE).unwrap(), Some(STEP_BYTES as u64));
    let mut taken = 1;
    while journal.append(&group, false).unwrap() {
        taken += 1;
    }
    assert_eq!(taken, FILE_BYTES_MAX / PAGE);
    assert_eq!(memory.len(FILE).unwrap(), Some(FILE_BYTES_MAX as u64));
    journal.release(journal.last());
    memory.fill(ROOM_MIN - 1);
    assert!(!journal.append(&group, true).unwrap());
    memory.fill(ROOM_MIN);
    assert!(journal.append(&group, true).unwrap());
    memory.fail(true);
    assert!(journal.append(&group, true).is_err());
}

proptest! {
    #[test]
    fn no_bytes_panic_the_reader(noise in proptest::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>(), with in any::<u8>()) {
        let _ = replay(&noise, START, Heads::default());
        let mut bytes: Vec<u8> = Vec::new();
        for (i, group) in groups(2).iter().enumerate() {
            bytes.extend(frame(&ID, i as u64 + 1, 0, group));
        }
        let i = at.index(bytes.len());
        bytes[i] = with;
        let replayed = replay(&bytes, START, Heads::default());
        prop_assert!(replayed.groups.len() <= 2);
        // The same with a sum that is right: what is behind it is read, too.
        let len = u32::from_be_bytes(bytes[24..28].try_into().unwrap()) as usize;
        let i = HEADER + at.index(len.max(1));
        if let (Some(body), true) = (bytes.get(HEADER..HEADER + len), i < bytes.len()) {
            let mut body = body.to_vec();
            if let Some(byte) = body.get_mut(i - HEADER) {
                *byte = with;
            }
            let sum = sum(&ID, &bytes[..28], &body);
            bytes[HEADER..HEADER + len].copy_from_slice(&body);
            bytes[28..HEADER].copy_from_slice(&sum);
            prop_assert!(replay(&bytes, START, Heads::default()).groups.len() <= 2);
        }
    }
}
