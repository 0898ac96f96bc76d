//! What a store promises: nothing acknowledged is lost, no (origin, n) names two changes, and the
//! view is a function of the log.

use super::*;
use crate::config::{Action, Check, Operation};
use crate::env::{CrashMode, Entropy, MemoryDisk};
use crate::model::{JsonText, Told, Vector};
use crate::storage::{Missing, origins};
use proptest::prelude::*;

mod bounds;
mod chain;
mod crossing;
mod epochs;
mod folding;
mod folds;
mod format;
mod histories;
mod journal;
mod pruning;
mod rebuilding;
mod settling;
mod sizes;
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

#[test]
fn one_origin_that_cannot_be_applied_starves_no_other() {
    let (mut a, mut b) = (open(&MemoryDisk::new()), open(&MemoryDisk::new()));
    // Whichever origin comes first, its changes alone would fill the page.
    let (mut from_a, mut from_b) = (Vec::new(), Vec::new());
    for i in 0..50_u64 {
        let command = || [put("web/dev", &[("a", "\"some value\"")])];
        from_a.extend(a.commit(Stamp(i), &command()).own);
        from_b.extend(b.commit(Stamp(i), &command()).own);
    }
    let mut c = open(&MemoryDisk::new());
    c.commit(Stamp(2), &[Command::Apply([from_a, from_b].concat())]);
    let have = c.published.load().vector.clone();
    let page = c.log().missing(Vector::new(), &have, 2_000).unwrap();
    let more = page.more;
    let origins: BTreeSet<Origin> =
        page.records.into_iter().map(|bytes| Record::decode(bytes).unwrap().dot.origin).collect();
    assert!(more && origins.len() == 2, "both have their turn");
}

#[test]
fn a_bad_record_under_a_good_ones_number_does_not_silence_its_origin() {
    let mut a = open(&MemoryDisk::new());
    let good = a.commit(Stamp(1), &[put("web/dev", &[("a", "1")])]).own;
    let known = Record::decode(good[0].clone()).unwrap();
    let forged = Record::new(known.dot, known.previous, known.document, 0, vec![], b"garbage");
    let mut c = open(&MemoryDisk::new());
    let refused = c.commit(Stamp(2), &[Command::Apply(vec![forged.bytes])]);
    assert_eq!(applied(&refused, 0).quarantined, 1);
    assert_eq!(applied(&c.commit(Stamp(3), &[Command::Apply(good)]), 0).new, 1);
}

#[test]
fn a_node_that_meets_another_change_of_its_own_goes_on_as_a_new_origin() {
    let disk = MemoryDisk::new();
    let mut a = open(&disk);
    a.commit(Stamp(1), &[put("web/dev", &[("a", "1")])]);
    let mut twin = open(&disk.snapshot());
    a.commit(Stamp(2), &[put("web/dev", &[("a", "2")])]);
    let other = twin.commit(Stamp(2), &[put("web/dev", &[("a", "3")])]).own;
    let origin = a.origin();
    let both = [put("web/dev", &[("b", "1")]), Command::Apply(other)];
    let committed = a.commit(Stamp(3), &both);
    assert_ne!(a.origin(), origin);
    assert_eq!(
        written(&committed, 0).dot.unwrap().origin,
        a.origin(),
        "nothing more as the old one"
    );
}

#[test]
fn records_in_any_order_give_the_same_view_and_duplicates_do_nothing() {
    let mut a = open(&MemoryDisk::new());
    let mut records = Vec::new();
    for i in 0..40_u64 {
        let key = format!("k{}", i % 5);
        records.extend(a.commit(Stamp(i), &[put("web/dev", &[(&key, "1")])]).own);
    }
    let mut b = open(&MemoryDisk::new());
    for record in records.iter().rev() {
        b.commit(Stamp(1), &[Command::Apply(vec![record.clone()])]);
    }
    assert_eq!(view(&a), view(&b));
    assert_eq!(a.state.vector, b.state.vector);
    let again = b.commit(Stamp(1), &[Command::Apply(records.clone())]);
    assert_eq!(applied(&again, 0), Applied { duplicate: 40, ..Applied::default() });
    let missing = b.log().missing(Vector::new(), &b.published.load().vector, 1 << 20).unwrap();
    assert_eq!(missing, Missing { records: records.clone(), ..Missing::default() });
    let Missing { records: some, more, .. } =
        b.log().missing(Vector::new(), &b.published.load().vector, 500).unwrap();
    assert!(more && !some.is_empty() && some.len() < 40);
}

#[test]
fn an_origin_with_two_changes_under_one_number_is_refused_and_harms_nobody() {
    let disk = MemoryDisk::new();
    let mut a = open(&disk);
    let first = a.commit(Stamp(1), &[put("web/dev", &[("a", "1")])]).own;
    let mut twin = open(&disk.snapshot());
    let branch_a = a.commit(Stamp(2), &[put("web/dev", &[("a", "2")])]).own;
    let branch_b = twin.commit(Stamp(2), &[put("web/dev", &[("a", "3")])]).own;
    let branch_b2 = twin.commit(Stamp(3), &[put("web/dev", &[("a", "4")])]).own;
    let mut c = open(&MemoryDisk::new());
    c.commit(Stamp(4), &[Command::Apply([first, branch_a.clone()].concat())]);
    let before = view(&c);
    let fork = c.commit(Stamp(5), &[Command::Apply(branch_b), Command::Apply(branch_b2)]);
    assert_eq!(applied(&fork, 0).quarantined, 1);
    assert_eq!(applied(&fork, 1).quarantined, 1);
    assert_eq!(c.counts().forks, 2);
    assert_eq!(view(&c), before);
    let mut b = open(&MemoryDisk::new());
    let other = b.commit(Stamp(6), &[put("web/dev", &[("b", "1")])]).own;
    assert_eq!(applied(&c.commit(Stamp(7), &[Command::Apply(other)]), 0).new, 1);
    // The node whose origin it is learns of the other branch and goes on as another.
    let origin = a.origin();
    a.commit(Stamp(8), &[witnessed("b-1", origin, 3)]);
    assert_ne!(a.origin(), origin);
}

#[test]
fn damaged_records_are_quarantined_and_the_rest_goes_on() {
    let mut a = open(&MemoryDisk::new());
    let good = a.commit(Stamp(1), &[put("web/dev", &[("a", "1")])]).own;
    let document = DocumentId::parse("web/dev").unwrap();
    let dot = Dot { origin: Origin([9; 8]), n: 1 };
    let bad = Record::new(dot, [0; 32], document, 0, vec![], b"no change");
    let mut b = open(&MemoryDisk::new());
    let noise = Bytes::from_static(b"noise");
    let records = vec![noise, bad.bytes.clone(), good[0].clone()];
    let outcome = applied(&b.commit(Stamp(2), &[Command::Apply(records)]), 0);
    assert_eq!(outcome, Applied { new: 1, quarantined: 2, ..Applied::default() });
    assert_eq!(view(&a), view(&b));
}

#[test]
fn a_change_that_its_document_refuses_takes_nothing_good_with_it() {
    // A change that builds on one that its record does not name as needed.
    let mut a = open(&MemoryDisk::new());
    let one = a.commit(Stamp(1), &[put("web/dev", &[("a", "1")])]).own;
    let mut b = open(&MemoryDisk::new());
    b.commit(Stamp(2), &[Command::Apply(one)]);
    let two = b.commit(Stamp(3), &[put("web/dev", &[("a", "2")])]).own;
    let honest = Record::decode(two[0].clone()).unwrap();
    let lying =
        Record::new(honest.dot, honest.previous, honest.document, 0, vec![], &honest.change);
    let mut d = open(&MemoryDisk::new());
    let good = d.commit(Stamp(4), &[put("web/dev", &[("z", "1")])]).own;
    let mut c = open(&MemoryDisk::new());
    let outcome = c.commit(Stamp(5), &[Command::Apply(vec![lying.bytes, good[0].clone()])]);
    assert_eq!(applied(&outcome, 0), Applied { new: 1, quarantined: 1, ..Applied::default() });
    assert_eq!(view(&c), view(&d));
}

#[test]
fn a_store_of_another_cluster_or_node_is_refused_and_a_damaged_one_set_aside() {
    let disk = MemoryDisk::new();
    open(&disk).commit(Stamp(1), &[put("web/dev", &[("a", "1")])]);
    let with = |change: fn(&mut WriterSettings)| {
        let mut settings = settings();
        change(&mut settings);
        Writer::open(settings, Arc::new(disk.clone()), Entropy::system().stream("store"))
    };
    assert!(with(|s| s.cluster = "other".into()).is_err());
    assert!(with(|s| s.node = NodeName::new("other").unwrap()).is_err());
    let origin = with(|_| ()).unwrap().origin();
    disk.write(database_file(), b"this is no database at all", true).unwrap();
    let writer = with(|s| s.peers = 1).unwrap();
    assert!(view(&writer).is_empty());
    assert_ne!(writer.origin(), origin);
    assert!(disk.read("config.redb.failed-1").unwrap().is_some());
}

/// A store in which a row is not what was written, though redb opens it.
fn damaged_inside() -> MemoryDisk {
    let disk = MemoryDisk::new();
    open(&disk).commit(Stamp(1), &[put("web/dev", &[("a", "1")])]);
    let (database, _) = Database::open(Arc::new(disk.clone())).unwrap();
    let tx = database.get().unwrap().begin_write().unwrap();
    tx.open_table(origins::ORIGINS).unwrap().insert(1, &b"noise"[..]).unwrap();
    tx.commit().unwrap();
    disk
}

#[test]
fn a_store_that_opens_and_cannot_be_read_is_set_aside_where_there_are_peers() {
    let disk = damaged_inside();
    let settings = WriterSettings { peers: 2, ..settings() };
    let store = Entropy::system().stream("store");
    let writer = Writer::open(settings, Arc::new(disk.clone()), store).unwrap();
    assert!(view(&writer).is_empty());
    assert!(disk.identity("config.redb.failed-1").unwrap().is_some());
}

#[test]
fn a_node_without_peers_leaves_a_damaged_or_missing_store_and_does_not_start() {
    let noise = MemoryDisk::new();
    open(&noise).commit(Stamp(1), &[put("web/dev", &[("a", "1")])]);
    let gone = noise.snapshot();
    noise.write(database_file(), b"this is no database at all", true).unwrap();
    gone.remove(database_file()).unwrap();
    for disk in [noise, gone, damaged_inside()] {
        let store = Entropy::system().stream("store");
        let opened = Writer::open(settings(), Arc::new(disk.clone()), store);
        let why = opened.map(|writer| writer.origin()).unwrap_err().to_string();
        assert!(why.contains("config.redb: ") && why.contains("holm restore"), "{why}");
        assert!(disk.identity("config.redb.failed-1").unwrap().is_none());
    }
}

fn crash_modes() -> impl Strategy<Value = CrashMode> {
    prop_oneof![
        Just(CrashMode::LoseUnsynced),
        Just(CrashMode::KeepUnsynced),
        any::<u64>().prop_map(CrashMode::TearUnsynced),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_crash_loses_nothing_acknowledged(
        rounds in proptest::collection::vec((1usize..12, any::<bool>(), crash_modes()), 1..4)
    ) {
        let mut disk = MemoryDisk::new();
        let mut expected: BTreeMap<String, String> = BTreeMap::new();
        let mut dots = BTreeSet::new();
        let mut i = 0_u64;
        for (writes, checkpoint, mode) in rounds {
            let mut writer = open(&disk);
            for _ in 0..writes {
                i += 1;
                let key = format!("k{}", i % 7);
                let committed = writer.commit(Stamp(i), &[put("web/dev", &[(&key, &i.to_string())])]);
                prop_assert!(dots.insert(written(&committed, 0).dot.unwrap()), "a number used twice");
                expected.insert(key, i.to_string());
                if checkpoint && i.is_multiple_of(3) {
                    writer.checkpoint().unwrap();
                }
            }
            disk = disk.crash(mode);
            drop(writer);
            let writer = open(&disk);
            for (key, expected) in &expected {
                let found = value(&writer, "web/dev", key);
                prop_assert_eq!(found.as_ref(), Some(expected));
            }
        }
    }
}

/// One step of a random life of two stores that now and then hear of each other.
#[derive(Clone, Debug)]
enum Step {
    Put { who: usize, document: usize, key: usize },
    RemoveAll { who: usize, document: usize },
    Hear { who: usize },
    Checkpoint { who: usize },
    Reopen { who: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..2usize, 0..2usize, 0..4usize)
            .prop_map(|(who, document, key)| Step::Put { who, document, key }),
        1 => (0..2usize, 0..2usize).prop_map(|(who, document)| Step::RemoveAll { who, document }),
        2 => (0..2usize).prop_map(|who| Step::Hear { who }),
        1 => (0..2usize).prop_map(|who| Step::Checkpoint { who }),
        1 => (0..2usize).prop_map(|who| Step::Reopen { who }),
    ];
    proptest::collection::vec(step, 1..40)
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn view_and_history_are_functions_of_the_changes_alone(steps in steps()) {
        let disks = [MemoryDisk::new(), MemoryDisk::new()];
        let mut stores: Vec<Option<Writer>> = disks.iter().map(|disk| Some(open(disk))).collect();
        let hear = |stores: &mut Vec<Option<Writer>>, who: usize| {
            let (me, other) = (stores[who].as_ref().unwrap(), stores[1 - who].as_ref().unwrap());
            let vector = (*me.published.load().vector).clone();
            let have = other.published.load().vector.clone();
            let records = other.log().missing(vector, &have, 1 << 20).unwrap().records;
            stores[who].as_mut().unwrap().commit(Stamp(1), &[Command::Apply(records)]);
        };
        for (i, step) in steps.iter().enumerate() {
            let document = |document: &usize| format!("web/{document}");
            match step {
                Step::Put { who, document: d, key } => {
                    let command = put(&document(d), &[(&format!("k{key}"), &i.to_string())]);
                    stores[*who].as_mut().unwrap().commit(Stamp(i as u64 / 3), &[command]);
                }
                Step::RemoveAll { who, document: d } => {
                    let Command::Write(mut write) = put(&document(d), &[]) else { panic!() };
                    write.remove_all = true;
                    stores[*who].as_mut().unwrap().commit(Stamp(i as u64), &[Command::Write(write)]);
                }
                Step::Hear { who } => hear(&mut stores, *who),
                Step::Checkpoint { who } => stores[*who].as_mut().unwrap().checkpoint().unwrap(),
                Step::Reopen { who } => {
                    stores[*who] = None;
                    stores[*who] = Some(open(&disks[*who]));
                }
            }
        }
        hear(&mut stores, 0);
        hear(&mut stores, 1);
        let [a, b] = &stores[..] else { unreachable!() };
        let (a, b) = (a.as_ref().unwrap(), b.as_ref().unwrap());
        // A third store gets the bare changes, all at once.
        let mut c = open(&MemoryDisk::new());
        let have = a.published.load().vector.clone();
        let records = a.log().missing(Vector::new(), &have, 1 << 24).unwrap().records;
        c.commit(Stamp(1), &[Command::Apply(records)]);
        prop_assert_eq!(view(a), view(b));
        prop_assert_eq!(view(a), view(&c));
        prop_assert_eq!(histories(a), histories(b));
        prop_assert_eq!(histories(a), histories(&c));
        prop_assert_eq!(a.counts().rows, c.counts().rows);
        prop_assert_eq!(a.counts().conflicts, c.counts().conflicts);
    }
}
