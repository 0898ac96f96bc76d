//! What a store promises: nothing acknowledged is lost, no (origin, n) names two changes, and the
//! view is a function of the log.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::audit::Event;
use crate::config::roll::Roll;
use crate::config::{Action, Check, Operation, WriteError, WriteRequest, Written};
use crate::env::{CrashMode, Entropy, MemoryDisk};
use crate::model::{Dot, JsonText, Key, Told, Vector};
use crate::storage::epochs::RollError;
use crate::storage::{Missing, origins};

mod bounds;
mod chain;
mod crossing;
mod damaged;
mod epochs;
mod folding;
mod folds;
mod foreign;
mod forks;
mod format;
mod histories;
mod journal;
mod pruning;
mod pruning_order;
mod random;
mod rebuilding;
mod settling;
mod sizes;
mod stepping;
mod tombstones;
mod trim;
mod whole;

fn settings() -> WriterSettings {
    WriterSettings {
        cluster: "test".into(),
        node: NodeName::new("here-1").unwrap(),
        region: "here".into(),
        value_bytes_max: 1_000,
        documents_bytes_max: 8 << 10,
        waiting_bytes_max: 100_000,
        peers: 0,
    }
}

fn open(disk: &MemoryDisk) -> Writer {
    let stream = Entropy::system().stream("store");
    Writer::open(settings(), Arc::new(disk.clone()), stream).unwrap()
}

fn put(document: &str, pairs: &[(&str, &str)]) -> Command {
    let operation = |(key, value): &(&str, &str)| Operation {
        key: Key::new(key).unwrap(),
        action: Action::Put(JsonText::parse(value).unwrap()),
        check: Check::None,
    };
    Command::Write(WriteRequest {
        document: DocumentId::parse(document).unwrap(),
        operations: pairs.iter().map(operation).collect(),
        remove_all: false,
        author: "tester".into(),
        message: None,
        idempotency: None,
        behalf: None,
    })
}

fn witnessed(by: &str, origin: Origin, n: u64) -> Command {
    Command::Witnessed { by: NodeName::new(by).unwrap(), dot: Dot { origin, n } }
}

fn written(committed: &Committed, i: usize) -> &Written {
    match &committed.outcomes[i] {
        Outcome::Written(Ok(written)) => written,
        other => panic!("{other:?}"),
    }
}

fn applied(committed: &Committed, i: usize) -> Applied {
    match &committed.outcomes[i] {
        Outcome::Applied(Ok(applied)) => *applied,
        other => panic!("{other:?}"),
    }
}

/// Everything a reader can see, as text.
fn view(writer: &Writer) -> Vec<String> {
    let snapshot = writer.published.load();
    let rows = snapshot.documents.iter().flat_map(|(id, view)| {
        view.rows.iter().map(move |(key, row)| format!("{id}/{key}: {:?}", row.siblings()))
    });
    rows.collect()
}

fn value(writer: &Writer, document: &str, key: &str) -> Option<String> {
    let snapshot = writer.published.load();
    let row = snapshot.live(&DocumentId::parse(document).unwrap(), &Key::new(key).unwrap())?;
    row.winner().value.as_ref().map(|value| value.to_string())
}

#[test]
fn writes_that_meet_share_a_change_and_a_second_write_of_a_key_starts_the_next() {
    let mut writer = open(&MemoryDisk::new());
    let committed = writer.commit(
        Stamp(10),
        &[
            put("web/dev", &[("a", "1"), ("b", "2")]),
            put("web/dev", &[("c", "3")]),
            put("web/dev", &[("a", "4")]),
            put("api/dev", &[("a", "5")]),
        ],
    );
    let n = |i| written(&committed, i).dot.unwrap().n;
    assert_eq!([n(0), n(1), n(2), n(3)], [1, 1, 2, 3]);
    assert_eq!(committed.own.len(), 3);
    assert_eq!(value(&writer, "web/dev", "a").unwrap(), "4");
    let a = written(&committed, 2);
    assert_eq!((a.keys[0].row.winner().version, a.keys[0].created), (2, false));
    assert!(a.snapshot.vector.includes(a.dot.unwrap()));
}

#[test]
fn what_is_read_when_opening_is_counted_as_what_was_written() {
    let disk = MemoryDisk::new();
    let (mut writer, mut other) = (open(&disk), open(&MemoryDisk::new()));
    writer.commit(Stamp(1), &[put("web/a", &[("k", "1"), ("l", "1")])]);
    let theirs = other.commit(Stamp(2), &[put("web/a", &[("k", "2")])]).own;
    writer.commit(Stamp(3), &[Command::Apply(theirs)]);
    let counted = |writer: &Writer| (writer.counts().rows, writer.counts().conflicts);
    assert_eq!(counted(&writer), (2, 1));
    writer.checkpoint().unwrap();
    drop(writer);
    assert_eq!(counted(&open(&disk)), (2, 1));
}

#[test]
fn a_store_opened_again_shows_what_it_showed_with_and_without_a_checkpoint() {
    let disk = MemoryDisk::new();
    let mut writer = open(&disk);
    for i in 0..600_u64 {
        let command = put(&format!("web/{}", i % 3), &[(&format!("k{}", i % 50), &i.to_string())]);
        writer.commit(Stamp(i), &[command]);
        if i == 300 || i == 550 {
            writer.checkpoint().unwrap();
        }
    }
    let before = view(&writer);
    let origin = writer.origin();
    let history = |writer: &Writer| {
        let id = DocumentId::parse("web/0").unwrap();
        writer
            .history()
            .read(&id, &Key::new("k0").unwrap(), None, 1_000, usize::MAX)
            .unwrap()
            .entries
    };
    let versions = history(&writer);
    assert_eq!(versions.len(), 4);
    drop(writer);
    let mut writer = open(&disk);
    assert_eq!(view(&writer), before);
    assert_eq!(history(&writer), versions);
    assert_eq!(writer.origin(), origin, "nothing was lost: the same origin");
    writer.close().unwrap();
    let writer = open(&disk.rebooted());
    assert_eq!((view(&writer), writer.origin()), (before, origin));
    assert_eq!(history(&writer), versions);
}

#[test]
fn a_history_is_paged_newest_first() {
    let mut writer = open(&MemoryDisk::new());
    for i in 1..=10_u64 {
        writer.commit(Stamp(i), &[put("web/dev", &[("k", &i.to_string())])]);
        if i == 6 {
            writer.checkpoint().unwrap();
        }
    }
    let (id, key) = (DocumentId::parse("web/dev").unwrap(), Key::new("k").unwrap());
    let mut versions = Vec::new();
    let mut before = None;
    loop {
        let page = writer.history().read(&id, &key, before, 3, usize::MAX).unwrap().entries;
        let Some(last) = page.last() else { break };
        before = Some((last.version, last.dot));
        versions.extend(page.iter().map(|entry| entry.version));
    }
    assert_eq!(versions, (1..=10).rev().collect::<Vec<u64>>());
}

#[test]
fn a_page_of_a_history_is_bounded_in_bytes_from_the_tail_and_from_the_table() {
    let mut writer = open(&MemoryDisk::new());
    for i in 1..=10_u64 {
        let value = format!("\"{i:098}\"");
        writer.commit(Stamp(i), &[put("web/dev", &[("k", &value)])]);
        if i == 6 {
            writer.checkpoint().unwrap();
        }
    }
    let (id, key) = (DocumentId::parse("web/dev").unwrap(), Key::new("k").unwrap());
    for (bytes_max, len) in [(0, 1), (99, 1), (350, 3), (820, 7), (usize::MAX, 10)] {
        let (mut versions, mut before) = (Vec::new(), None);
        loop {
            let page = writer.history().read(&id, &key, before, 10, bytes_max).unwrap();
            versions.extend(page.entries.iter().map(|entry| entry.version));
            assert_eq!(page.entries.len(), len.min(10 - (versions.len() - page.entries.len())));
            before = page.entries.last().map(|last| (last.version, last.dot));
            if page.is_last {
                break;
            }
        }
        assert_eq!(versions, (1..=10).rev().collect::<Vec<u64>>(), "{bytes_max}");
    }
}

#[test]
fn an_old_copy_never_uses_a_number_again() {
    let disk = MemoryDisk::new();
    let mut writer = open(&disk);
    writer.commit(Stamp(1), &[put("web/dev", &[("a", "1")])]);
    let old = disk.snapshot();
    writer.commit(Stamp(2), &[put("web/dev", &[("a", "2")])]);
    let origin = writer.origin();
    let put_back = |disk: &MemoryDisk| {
        let copy = disk.snapshot();
        let bytes = old.read(database_file()).unwrap().unwrap();
        copy.write(database_file(), &bytes, false).unwrap();
        open(&copy)
    };
    // The store alone is put back, and all that it had since is in its journal.
    let whole = put_back(&disk);
    assert_eq!((whole.origin(), value(&whole, "web/dev", "a").unwrap()), (origin, "2".into()));
    // It is not, once the journal began anew: the mark beside it knows better.
    writer.checkpoint().unwrap();
    writer.commit(Stamp(3), &[put("web/dev", &[("b", "1")])]);
    let back = put_back(&disk);
    assert_ne!(back.origin(), origin);
    assert_eq!(value(&back, "web/dev", "a").unwrap(), "1");
    drop(writer);
    // The whole directory is copied elsewhere: another file.
    assert_ne!(open(&old.snapshot().copied()).origin(), origin);
    // The machine went down: the mark may be older than what was sent.
    assert_ne!(open(&disk.snapshot().rebooted()).origin(), origin);
    // Everything is put back, in place: only a peer can tell.
    let mut rolled_back = open(&old);
    assert_eq!(rolled_back.origin(), origin);
    rolled_back.commit(Stamp(3), &[witnessed("b-1", origin, 2)]);
    assert_ne!(rolled_back.origin(), origin);
    let new = rolled_back.origin();
    let committed = rolled_back.commit(Stamp(4), &[put("web/dev", &[("a", "3")])]);
    assert_eq!(written(&committed, 0).dot, Some(Dot { origin: new, n: 1 }));
    drop(rolled_back);
    assert_eq!(open(&old).origin(), new);
}

#[test]
fn a_store_among_peers_goes_on_as_its_origin_only_once_all_of_them_agree() {
    let disk = MemoryDisk::new();
    let open = || {
        let settings = WriterSettings { peers: 2, ..settings() };
        let stream = Entropy::system().stream("store");
        Writer::open(settings, Arc::new(disk.clone()), stream).unwrap()
    };
    let origin = |committed: &Committed| written(committed, 0).dot.unwrap().origin;
    let write = || [put("web/dev", &[("a", "1")])];
    let first = origin(&open().commit(Stamp(1), &write()));
    let mut writer = open();
    assert_eq!(writer.origin(), first);
    writer.commit(Stamp(2), &[witnessed("b-1", first, 1), witnessed("c-1", first, 0)]);
    assert_eq!(origin(&writer.commit(Stamp(3), &write())), first);
    drop(writer);
    assert_ne!(origin(&open().commit(Stamp(4), &write())), first, "nobody was asked");
}

fn database_file() -> &'static str {
    crate::storage::database::FILE
}

#[test]
fn a_retry_is_recognised_here_after_a_restart_and_in_another_region() {
    let disk = MemoryDisk::new();
    let mut writer = open(&disk);
    let with_key = |value: &str, request: u8| {
        let Command::Write(mut write) = put("web/dev", &[("a", value)]) else { panic!() };
        write.idempotency =
            Some(crate::config::Idempotency { key: [7; 16], request: [request; 16] });
        Command::Write(write)
    };
    let first = writer.commit(Stamp(1), &[with_key("1", 1), with_key("1", 1), with_key("2", 2)]);
    assert!(!written(&first, 0).replayed && written(&first, 1).replayed);
    assert!(matches!(first.outcomes[2], Outcome::Written(Err(WriteError::IdempotencyKeyReused))));
    let again = writer.commit(Stamp(2), &[with_key("1", 1)]);
    assert_eq!(written(&again, 0).dot, written(&first, 0).dot);
    writer.checkpoint().unwrap();
    drop(writer);
    let mut writer = open(&disk);
    assert!(written(&writer.commit(Stamp(3), &[with_key("1", 1)]), 0).replayed);
    let mut other = open(&MemoryDisk::new());
    other.commit(Stamp(4), &[Command::Apply(first.own.clone())]);
    assert!(written(&other.commit(Stamp(5), &[with_key("1", 1)]), 0).replayed);
    let late = Stamp(10 + crate::storage::idempotency::RETENTION_US);
    assert!(!written(&other.commit(late, &[with_key("1", 1)]), 0).replayed);
}

#[test]
fn a_full_disk_refuses_writes_keeps_reads_and_recovers() {
    let disk = MemoryDisk::new();
    let mut writer = open(&disk);
    writer.commit(Stamp(1), &[put("web/dev", &[("a", "1")])]);
    disk.fill(0);
    let big = format!("\"{}\"", "x".repeat(900));
    let mut refused = 0;
    for i in 0..2_000_u64 {
        let committed = writer.commit(Stamp(2 + i), &[put("web/dev", &[("a", &big)])]);
        match &committed.outcomes[0] {
            Outcome::Written(Err(WriteError::StorageFull)) => refused += 1,
            Outcome::Written(Ok(_)) => assert_eq!(refused, 0),
            other => panic!("{other:?}"),
        }
        if refused == 3 {
            break;
        }
        // The pause after a failure is for the sake of the disk, not of this test.
        writer.resting = None;
    }
    assert_eq!(refused, 3, "the disk filled up");
    let (id, key) = (DocumentId::parse("web/dev").unwrap(), Key::new("a").unwrap());
    assert!(value(&writer, "web/dev", "a").is_some());
    let page = writer.history().read(&id, &key, None, 10, 1 << 20).unwrap();
    assert!(!page.entries.is_empty(), "reads go on");
    let have = writer.published.load().vector.clone();
    assert!(!writer.log().missing(Vector::new(), &have, 1_000).unwrap().records.is_empty());
    disk.free();
    writer.resting = None;
    let committed = writer.commit(Stamp(10_000_000), &[put("web/dev", &[("a", "3")])]);
    written(&committed, 0);
    assert_eq!(value(&writer, "web/dev", "a").unwrap(), "3");
}

#[test]
fn a_write_that_would_not_fit_into_a_record_is_refused_alone() {
    let mut writer = open(&MemoryDisk::new());
    let Command::Write(mut big) = put("web/dev", &[("a", "1")]) else { panic!() };
    big.message = Some("x".repeat(6 << 20).as_str().into());
    let committed = writer.commit(Stamp(1), &[Command::Write(big), put("web/dev", &[("b", "1")])]);
    let refused = &committed.outcomes[0];
    assert!(matches!(refused, Outcome::Written(Err(WriteError::TooLarge { .. }))), "{refused:?}");
    written(&committed, 1);
}

fn histories(writer: &Writer) -> Vec<Vec<crate::config::Entry>> {
    let snapshot = writer.published.load();
    let keys = snapshot
        .documents
        .iter()
        .flat_map(|(id, view)| view.rows.keys().map(move |key| (id.clone(), key.clone())));
    keys.map(|(id, key)| writer.history().read(&id, &key, None, 1_000, usize::MAX).unwrap().entries)
        .collect()
}
