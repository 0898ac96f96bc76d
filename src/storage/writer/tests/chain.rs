//! The audit chain of a store: it goes through whatever happens to the store, and says where it
//! does not.

use super::*;
use crate::audit::verify::{Witness, verify};
use crate::audit::{
    Behalf, ChainError, ChainReader as _, Decision, Head, Record as AuditRecord, Source,
};
use crate::storage::writer::settling::REST;
use crate::storage::{ConfigChain, audit};
use redb::ReadableTable as _;
use std::ops::ControlFlow;

fn source() -> Source {
    Source { node: "here-1".into(), address: Some("192.0.2.1".into()), request: "r1".into() }
}

pub(super) fn audited(command: Command) -> Command {
    let Command::Write(mut write) = command else { panic!() };
    write.behalf = Some(Behalf { grant: "config:write:*".into(), source: source() });
    Command::Write(write)
}

fn event(action: &str) -> Event {
    Event {
        at: Stamp(5),
        principal: "ada".into(),
        action: action.into(),
        target: "/config/web/dev/a".into(),
        decision: Decision::Denied("no".into()),
        outcome: "refused".into(),
        source: source(),
        count: 1,
        index: None,
    }
}

fn denied(action: &str) -> Command {
    Command::Record(vec![event(action)])
}

/// The records from `from` on, as they lie there.
fn raw(chain: &ConfigChain, from: u64) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    let visit = &mut |record: &[u8]| {
        records.push(record.to_vec());
        ControlFlow::Continue(())
    };
    chain.walk(from, visit).unwrap();
    records
}

/// Goes along the chain, which has to end where the store says.
fn check(writer: &Writer) -> Result<Vec<AuditRecord>, ChainError> {
    let mut head = Head::default();
    let records = raw(&writer.chain(), 1);
    let records: Result<Vec<_>, _> = records.iter().map(|record| head.follow(record)).collect();
    assert!(records.is_err() || head == writer.chain().head().unwrap());
    records
}

pub(super) fn targets(writer: &Writer) -> Vec<String> {
    check(writer).unwrap().iter().map(|it| it.event.target.to_string()).collect()
}

/// A store with changes of two documents, shared ones among them, and denied attempts between.
fn example(disk: &MemoryDisk) -> Writer {
    let mut writer = open(disk);
    writer.commit(
        Stamp(10),
        &[
            audited(put("web/dev", &[("a", "1")])),
            denied("config.read"),
            audited(put("api/dev", &[("x", "1"), ("y", "2")])),
            audited(put("web/dev", &[("b", "1")])),
            audited(put("web/dev", &[("a", "2")])),
        ],
    );
    writer.commit(Stamp(11), &[denied("config.write"), denied("config.remove")]);
    writer.commit(Stamp(12), &[audited(put("web/dev", &[("c", "1")]))]);
    writer
}

#[test]
fn each_request_has_its_record_in_the_order_of_the_log_and_denials_between() {
    let disk = MemoryDisk::new();
    let writer = example(&disk);
    let denied = "/config/web/dev/a";
    let expected = [
        "web/dev/a",
        "web/dev/b",
        "api/dev: 2 keys: x, y",
        "web/dev/a",
        denied,
        denied,
        denied,
        "web/dev/c",
    ];
    assert_eq!(targets(&writer), expected);
    let first = &check(&writer).unwrap()[0];
    assert_eq!(&*first.event.principal, "tester");
    assert_eq!(first.event.decision, Decision::Allowed("config:write:*".into()));
    assert_eq!((first.event.at, &first.event.source), (Stamp(10), &source()));
    assert_eq!(writer.chain().inconsistency(), Ok(None));
    for from in 1..=9 {
        let found = raw(&writer.chain(), from);
        let seqs: Vec<u64> =
            found.iter().map(|record| AuditRecord::decode(record).unwrap().seq).collect();
        assert_eq!(seqs, (from..=8).collect::<Vec<u64>>(), "from {from}");
    }
}

#[test]
fn a_change_of_many_keys_is_one_record_of_bounded_length() {
    let mut writer = open(&MemoryDisk::new());
    let names: Vec<String> = (0..500).map(|i| format!("key.{i:03}")).collect();
    let pairs: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    writer.commit(Stamp(1), &[audited(put("web/dev", &pairs))]);
    let remove = |operations| WriteRequest {
        document: DocumentId::parse("web/dev").unwrap(),
        operations,
        remove_all: true,
        author: "tester".into(),
        message: None,
        idempotency: None,
        behalf: None,
    };
    writer.commit(Stamp(2), &[audited(Command::Write(remove(Vec::new())))]);
    let records = check(&writer).unwrap();
    assert_eq!(records.len(), 2);
    assert_eq!(&*records[1].event.action, "config.remove_all");
    let named = "key.000, key.001, key.002, key.003, key.004, key.005, key.006, key.007";
    assert_eq!(&*records[1].event.target, format!("web/dev: 500 keys: {named}, …"));
}

#[test]
fn what_changes_nothing_has_no_record() {
    let mut writer = open(&MemoryDisk::new());
    let idempotent = |value| {
        let Command::Write(mut write) = audited(put("web/dev", &[("a", value)])) else { panic!() };
        write.idempotency = Some(crate::config::Idempotency { key: [1; 16], request: [2; 16] });
        Command::Write(write)
    };
    writer.commit(Stamp(1), &[idempotent("1"), idempotent("1")]);
    writer.commit(Stamp(2), &[idempotent("1")]);
    let Command::Write(mut refused) = audited(put("web/dev", &[("a", "3")])) else { panic!() };
    refused.operations[0].check = Check::Absent;
    let committed = writer.commit(Stamp(3), &[Command::Write(refused)]);
    assert!(matches!(committed.outcomes[0], Outcome::Written(Err(_))));
    assert_eq!(targets(&writer), ["web/dev/a"]);
}

#[test]
fn changes_of_peers_have_their_records_at_the_peers() {
    let mut writer = example(&MemoryDisk::new());
    let mut other = open(&MemoryDisk::new());
    let own = writer.commit(Stamp(20), &[audited(put("web/dev", &[("d", "1")]))]).own;
    other.commit(Stamp(21), &[denied("config.read"), Command::Apply(own)]);
    assert_eq!(targets(&other), ["/config/web/dev/a"]);
}

/// Does something to a store's rows behind its back, and says what is then found first.
fn tampered(change: impl FnOnce(&redb::WriteTransaction, u64)) -> (String, Option<String>) {
    let disk = MemoryDisk::new();
    let writer = example(&disk);
    let database = writer.database.get().unwrap();
    let tx = database.begin_write().unwrap();
    change(&tx, u64::from_be_bytes(writer.origin().0));
    tx.commit().unwrap();
    let chain = match check(&writer) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    };
    (chain, writer.chain().inconsistency().unwrap())
}

fn row(tx: &redb::WriteTransaction, key: (u64, u64)) -> Vec<u8> {
    tx.open_table(log::LOG).unwrap().get(key).unwrap().unwrap().value().to_vec()
}

#[test]
fn a_changed_removed_swapped_or_added_row_is_found_and_named() {
    // Row 1 of the log carries records 1 and 2, row 2 the third, row 3 the fourth, row 4 the eighth.
    let broken = |n| ChainError::Broken(n).to_string();
    let missing = |expected, found| ChainError::Missing { expected, found }.to_string();
    let altered = tampered(|tx, origin| {
        let bytes = row(tx, (origin, 2));
        let at = bytes.windows(6).rposition(|it| it == b"tester").unwrap();
        let mut bytes = bytes;
        bytes[at] = b'T';
        tx.open_table(log::LOG).unwrap().insert((origin, 2), bytes.as_slice()).unwrap();
    });
    assert_eq!(altered, (broken(4), None), "the record after a changed one does not follow it");
    let removed = tampered(|tx, origin| {
        tx.open_table(log::LOG).unwrap().remove((origin, 2)).unwrap();
    });
    assert_eq!(removed.0, missing(3, 4));
    assert!(removed.1.unwrap().starts_with("change "));
    let denial_removed = tampered(|tx, _| {
        tx.open_table(audit::AUDIT).unwrap().remove(6).unwrap();
    });
    assert_eq!(denial_removed, (missing(6, 7), None));
    let swapped = tampered(|tx, _| {
        let mut table = tx.open_table(audit::AUDIT).unwrap();
        let six = table.get(6).unwrap().unwrap().value().to_vec();
        let seven = table.get(7).unwrap().unwrap().value().to_vec();
        table.insert(6, seven.as_slice()).unwrap();
        table.insert(7, six.as_slice()).unwrap();
    });
    assert_eq!(swapped, (missing(6, 7), None));
    let added = tampered(|tx, _| {
        let mut forged = Head { seq: 5, hash: [7; 32] };
        let record = forged.append(event("config.read"));
        tx.open_table(audit::AUDIT).unwrap().insert(6, record.as_slice()).unwrap();
    });
    assert_eq!(added, (broken(6), None));
    let replaced = tampered(|tx, origin| {
        // Another change under the same record.
        let (first, second) = (row(tx, (origin, 1)), row(tx, (origin, 4)));
        let (change, _) = log::parts(&second).unwrap();
        let (_, audit) = log::parts(&first).unwrap();
        let bytes = log::row(change, audit);
        tx.open_table(log::LOG).unwrap().insert((origin, 1), bytes.as_slice()).unwrap();
    });
    assert_eq!(replaced.0, "", "the chain itself is whole");
    assert!(replaced.1.unwrap().contains("was changed"));
    let noise = tampered(|tx, origin| {
        tx.open_table(log::LOG).unwrap().insert((origin, 3), &b"noise"[..]).unwrap();
    });
    assert!(noise.0.starts_with("audit record 4 is damaged"), "{}", noise.0);
}

#[test]
fn an_old_copy_put_back_goes_on_with_its_own_chain_under_a_new_origin() {
    let disk = MemoryDisk::new();
    let mut writer = example(&disk);
    let old = disk.snapshot().copied();
    let own = writer.commit(Stamp(20), &[audited(put("web/dev", &[("late", "1")]))]).own;
    let lost = writer.chain().head().unwrap();
    let mut writer = open(&old);
    assert_eq!(check(&writer).unwrap().len(), 8);
    let witness = Witness { by: "there-1".into(), head: lost };
    let report = verify("config", &writer.chain(), &[witness]).unwrap();
    let finding = "there-1 remembers record 9; the chain goes to 8: the tail is missing";
    assert!(report.findings[0].starts_with(finding), "{report:?}");
    // What the lost store sent comes back from peers, without its records.
    writer.commit(Stamp(21), &[Command::Apply(own)]);
    for i in 0..5 {
        writer.commit(Stamp(22 + i), &[audited(put("web/dev", &[("z", "1")])), denied("x")]);
    }
    assert_eq!(check(&writer).unwrap().len(), 18);
    assert_eq!(writer.chain().inconsistency(), Ok(None));
    for from in 1..=18 {
        assert_eq!(raw(&writer.chain(), from).len(), 19 - from as usize, "from {from}");
    }
    let at_lost = AuditRecord::decode(&raw(&writer.chain(), lost.seq)[0]).unwrap();
    assert_eq!(at_lost.seq, lost.seq);
    let check = |head| {
        let witness = Witness { by: "there-1".into(), head };
        verify("config", &writer.chain(), &[witness]).unwrap().findings
    };
    assert_eq!(check(writer.chain().head().unwrap()), [""; 0]);
    let finding = "record 9 is not the one that there-1 remembers";
    assert!(check(lost)[0].starts_with(finding), "{:?}", check(lost));
}

#[test]
fn a_store_of_before_the_audit_log_starts_its_chain_with_the_next_change() {
    let disk = MemoryDisk::new();
    let mut writer = open(&disk);
    for i in 0..10 {
        writer.commit(Stamp(i), &[put("web/dev", &[("a", "1")])]);
    }
    assert_eq!(writer.chain().head().unwrap(), Head::default());
    writer.commit(Stamp(20), &[audited(put("web/dev", &[("a", "2")]))]);
    writer.close().unwrap();
    let writer = open(&disk);
    assert_eq!(targets(&writer), ["web/dev/a"]);
    assert_eq!(writer.chain().inconsistency(), Ok(None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Groups of changes and denials, a crash that may tear what was not synced, and on.
    #[test]
    fn an_acknowledged_change_has_its_record_after_any_crash(
        groups in proptest::collection::vec(proptest::collection::vec(0..6_u8, 1..6), 1..12),
        crash_at in any::<prop::sample::Index>(),
        mode in 0..3_u8,
        seed in any::<u64>(),
    ) {
        let mut disk = MemoryDisk::new();
        let mut writer = open(&disk);
        let (mut changes, mut denials) = (Vec::new(), 0);
        let crash_at = crash_at.index(groups.len());
        for (g, group) in groups.iter().enumerate() {
            let mut names = Vec::new();
            let commands: Vec<Command> = group.iter().enumerate().map(|(i, kind)| {
                if *kind == 0 {
                    denials += 1;
                    return denied("config.read");
                }
                let name = format!("k{g}.{i}");
                names.push(name.clone());
                audited(put(&format!("web/{}", kind % 3), &[(&name, "1")]))
            }).collect();
            let committed = writer.commit(Stamp(g as u64), &commands);
            let good = committed.outcomes.iter().all(|it| {
                matches!(it, Outcome::Written(Ok(_)) | Outcome::Recorded(Ok(())))
            });
            prop_assert!(good);
            changes.extend(names);
            if g % 5 == 3 {
                writer.checkpoint().unwrap();
            }
            if g == crash_at {
                let mode = match mode {
                    0 => CrashMode::KeepUnsynced,
                    1 => CrashMode::LoseUnsynced,
                    _ => CrashMode::TearUnsynced(seed),
                };
                disk = disk.crash(mode);
                drop(writer);
                writer = open(&disk);
            }
        }
        let records = check(&writer).unwrap();
        let mut found: Vec<String> = records.iter().filter(|it| &*it.event.action == "config.write")
            .map(|it| it.event.target.rsplit_once('/').unwrap().1.to_owned()).collect();
        prop_assert_eq!(records.len() - found.len(), denials);
        found.sort();
        changes.sort();
        prop_assert_eq!(found, changes);
        prop_assert_eq!(writer.chain().inconsistency(), Ok(None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_leaves_the_chain_whole() {
    let disk = MemoryDisk::new();
    let mut writer = example(&disk);
    disk.fill(0);
    let big = format!("\"{}\"", "x".repeat(900));
    let mut refused = 0;
    for i in 0..200 {
        let name = format!("k{i}");
        let commands = [audited(put("web/dev", &[(&name, &big)])), denied("x")];
        let committed = writer.commit(Stamp(30 + i), &commands);
        refused += usize::from(matches!(committed.outcomes[1], Outcome::Recorded(Err(_))));
    }
    assert!(refused > 0, "the disk was full");
    disk.free();
    tokio::time::sleep(2 * REST).await;
    let committed = writer.commit(Stamp(300), &[denied("after")]);
    assert!(matches!(committed.outcomes[0], Outcome::Recorded(Ok(()))));
    let records = check(&writer).unwrap();
    assert_eq!(records.len(), 8 + 2 * (200 - refused) + 1);
    assert_eq!(writer.chain().inconsistency(), Ok(None));
}
