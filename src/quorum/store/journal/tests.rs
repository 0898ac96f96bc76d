//! The file by itself: its format, crashes at any byte, damage, full disks, and no bytes that panic it.

use super::*;
use crate::env::{CrashMode, MemoryDisk};
use crate::storage::frame::sum;
use proptest::prelude::*;

const HEADER: usize = 64;
const STORE: RaftId = 7;

fn event(target: &str) -> Event {
    Event {
        at: Stamp(7),
        principal: "ada".into(),
        action: "secret.reveal".into(),
        target: target.into(),
        decision: Decision::Allowed("operator".into()),
        outcome: "done".into(),
        source: Source { node: "eu-1".into(), address: None, request: "r".into() },
        count: 1,
        index: None,
    }
}

fn records(head: &mut Head, count: usize) -> Vec<Numbered> {
    let one = |_| {
        let bytes = head.append(event("a"));
        (head.seq, Arc::from(bytes))
    };
    (0..count).map(one).collect()
}

fn disk() -> (MemoryDisk, Arc<dyn Disk>) {
    let disk = MemoryDisk::new();
    (disk.clone(), Arc::new(disk))
}

fn open(disk: &MemoryDisk, head: Head) -> (Journal, Replayed) {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Journal::open(&disk, STORE, head).unwrap()
}

#[test]
fn the_format_of_a_frame_does_not_change() {
    let records: Vec<Numbered> = vec![(9, Arc::from(&b"abc"[..])), (10, Arc::from(&b""[..]))];
    let frame = frame(5, 9, &records);
    assert_eq!(frame.len(), PAGE);
    let hex: String = frame[..75].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        "484f4c4a000000010000000000000005000000000000000900000002\
         0000000b\
         a34c83911e55f4fdf1932a7598924484239df3ed73494299682a89b3841a1393\
         0000000361626300000000"
    );
    assert!(frame[75..].iter().all(|byte| *byte == 0));
    let read = Frame::read(&frame).unwrap();
    assert_eq!((read.store, read.first, read.pages), (5, 9, 1));
    assert_eq!(read.records, [&b"abc"[..], b""]);
}

#[test]
fn what_was_appended_and_is_not_in_the_table_is_there_after_a_crash() {
    let (memory, disk) = disk();
    let (mut journal, replayed) = open(&memory, Head::default());
    assert_eq!(replayed, Replayed::default());
    assert!(disk.identity(FILE).unwrap().is_none(), "nothing makes no file");
    let mut head = Head::default();
    let (first, second) = (records(&mut head, 2), records(&mut head, 40));
    let whole = head;
    for records in [&first, &second] {
        assert!(journal.append(records).unwrap());
    }
    let (_, replayed) = open(&memory.crash(CrashMode::LoseUnsynced), Head::default());
    assert_eq!(replayed.records, [first, second.clone()].concat());
    assert_eq!((replayed.head, replayed.damage), (whole, None));
    // The table has them; the next round begins at the front, over what is there.
    journal.restart();
    let third = records(&mut head, 1);
    assert!(journal.append(&third).unwrap());
    let (mut journal, replayed) = open(&memory.crash(CrashMode::LoseUnsynced), whole);
    assert_eq!((replayed.records, replayed.head), (third, head));
    // And goes on behind what is there.
    let fourth = records(&mut head, 1);
    assert!(journal.append(&fourth).unwrap());
    assert_eq!(journal.at, 2 * PAGE);
}

#[test]
fn a_torn_frame_is_cut_off_and_what_was_on_disk_before_it_stays() {
    for seed in 0..200 {
        let (memory, _) = disk();
        let (mut journal, _) = open(&memory, Head::default());
        let mut head = Head::default();
        let kept = records(&mut head, 3);
        let stood = head;
        assert!(journal.append(&kept).unwrap());
        let torn = records(&mut head, 60);
        let bytes = frame(STORE, stood.seq + 1, &torn);
        // Written, and the machine goes down before it is synced.
        journal.file.as_ref().unwrap().write(journal.at as u64, &bytes).unwrap();
        let (mut again, replayed) =
            open(&memory.crash(CrashMode::TearUnsynced(seed)), Head::default());
        assert_eq!(replayed.damage, None, "{seed}");
        assert_eq!(replayed.records[..3], kept, "{seed}");
        assert!([3, 63].contains(&replayed.records.len()), "{seed}: a part of a frame");
        let mut head = replayed.head;
        assert!(again.append(&records(&mut head, 1)).unwrap());
    }
}

#[test]
fn a_damaged_frame_before_a_whole_one_is_named_and_kept_aside() {
    let (memory, disk) = disk();
    let (mut journal, _) = open(&memory, Head::default());
    let mut head = Head::default();
    let first = records(&mut head, 1);
    let stood = head;
    assert!(journal.append(&first).unwrap());
    for _ in 0..2 {
        assert!(journal.append(&records(&mut head, 1)).unwrap());
    }
    journal.file.as_ref().unwrap().write(PAGE as u64 + 70, b"x").unwrap();
    journal.close();
    for _ in 0..2 {
        let (mut journal, replayed) = open(&memory, Head::default());
        let damage = replayed.damage.unwrap();
        assert!(damage.contains("audit record 2 is missing"), "{damage}");
        assert!(damage.contains("quorum.journal.damaged-1"), "one copy of it: {damage}");
        assert_eq!((&replayed.records, replayed.head), (&first, stood));
        let mut head = stood;
        assert!(!journal.append(&records(&mut head, 1)).unwrap(), "it is not told yet");
    }
    assert!(disk.identity("quorum.journal.damaged-1").unwrap().is_some());
    assert!(disk.identity("quorum.journal.damaged-2").unwrap().is_none());
    let (mut journal, _) = open(&memory, Head::default());
    journal.blank().unwrap();
    journal.close();
    // What was good is kept all the same.
    let (_, replayed) = open(&memory.crash(CrashMode::LoseUnsynced), Head::default());
    assert_eq!((replayed.records, replayed.damage), (first, None));
}

#[test]
fn another_stores_journal_is_set_aside() {
    let (memory, disk) = disk();
    let (mut journal, _) = open(&memory, Head::default());
    assert!(journal.append(&records(&mut Head::default(), 1)).unwrap());
    journal.close();
    let (_, replayed) = Journal::open(&disk, STORE + 1, Head::default()).unwrap();
    assert_eq!((replayed.records.len(), replayed.damage), (0, None));
    assert!(disk.identity("quorum.journal.other-1").unwrap().is_some());
}

#[test]
fn there_is_room_for_a_number_of_frames_and_none_for_a_larger_one() {
    let (memory, _) = disk();
    let (mut journal, _) = open(&memory, Head::default());
    let mut head = Head::default();
    for _ in 0..FILE_BYTES as usize / PAGE {
        assert!(journal.append(&records(&mut head, 1)).unwrap());
    }
    let more = records(&mut head, 1);
    assert!(!journal.append(&more).unwrap());
    journal.restart();
    assert!(journal.append(&more).unwrap());
    let large: Numbered = (1, vec![0; FILE_BYTES as usize].into());
    journal.restart();
    assert!(!journal.append(&[large]).unwrap());
    // A disk without room for the file is no error; one that fails is.
    let full = MemoryDisk::new();
    full.fill(1_000);
    assert!(!open(&full, Head::default()).0.append(&more).unwrap());
    memory.fail(true);
    assert!(journal.append(&more).is_err());
}

#[test]
fn on_a_nearly_full_disk_no_file_is_made_and_what_is_left_stays() {
    let (memory, disk) = disk();
    memory.fill(FILE_BYTES / 2);
    let (mut journal, _) = open(&memory, Head::default());
    let mut head = Head::default();
    let first = records(&mut head, 1);
    for _ in 0..3 {
        assert!(!journal.append(&first).unwrap());
    }
    disk.write("needs-the-rest", &vec![0; FILE_BYTES as usize / 2], true).unwrap();
    assert!(!journal.append(&first).unwrap());
    memory.free();
    assert!(journal.append(&first).unwrap(), "there is room again");
    assert_eq!(open(&memory.crash(CrashMode::LoseUnsynced), Head::default()).1.records, first);
}

#[test]
fn a_file_that_was_cut_short_while_it_was_made_is_filled() {
    for len in [0, 5 * PAGE as u64, FILE_BYTES - 1] {
        let (memory, disk) = disk();
        let file = disk.database(FILE).unwrap();
        file.write(0, &vec![0; len as usize]).unwrap();
        file.sync_data().unwrap();
        drop(file);
        let (mut journal, _) = open(&memory, Head::default());
        assert!(journal.append(&records(&mut Head::default(), 1)).unwrap());
        assert_eq!(disk.len(FILE).unwrap(), Some(FILE_BYTES));
    }
}

#[test]
fn a_frame_that_finds_no_room_in_a_file_with_holes_is_not_there_and_no_failure() {
    let (memory, disk) = disk();
    let file = disk.database(FILE).unwrap();
    file.set_len(FILE_BYTES).unwrap();
    file.sync_data().unwrap();
    drop(file);
    let (mut journal, _) = open(&memory, Head::default());
    let mut head = Head::default();
    let first = records(&mut head, 60);
    memory.fill(PAGE as u64);
    assert!(!journal.append(&first).unwrap(), "there is room for a part of it");
    assert_eq!(open(&memory.snapshot(), Head::default()).1, Replayed::default());
    memory.free();
    assert!(journal.append(&first).unwrap());
    assert_eq!(open(&memory.snapshot(), Head::default()).1.records, first);
}

proptest! {
    #[test]
    fn no_bytes_panic_the_reader(noise in proptest::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>(), with in any::<u8>()) {
        let _ = replay(&noise, STORE, Head::default());
        let mut head = Head::default();
        let records = records(&mut head, 3);
        let mut bytes = frame(STORE, 1, &records);
        let i = at.index(bytes.len());
        bytes[i] = with;
        let _ = replay(&bytes, STORE, Head::default());
        // The same among what says how long things are, with a sum that is right: what is behind
        // it is read, too.
        let mut bytes = frame(STORE, 1, &records);
        bytes[16 + at.index(HEADER + 4 - 16)] = with;
        let len = u32::from_be_bytes(bytes[28..32].try_into().unwrap()) as usize;
        if let Some(body) = bytes[HEADER..].get(..len) {
            let sum = sum(b"", &bytes[..32], body);
            bytes[32..HEADER].copy_from_slice(&sum);
            let replayed = replay(&bytes, STORE, Head::default());
            prop_assert!(replayed.records.len() <= 3);
        }
    }
}
