//! What a trimmed log still does: it goes to nobody in part, its audit records stay, and what a
//! document is loaded from is never gone.

use super::chain::{audited, targets};
use super::*;
use crate::audit::ChainReader as _;
use crate::audit::verify::verify;
use crate::config::Idempotency;
use crate::storage::trim::{TrimBounds, Trimmed};

/// Takes a document to its next epoch at all that the store has.
pub(super) fn roll(writer: &mut Writer, document: &str) {
    let id = DocumentId::parse(document).unwrap();
    writer.checkpoint().unwrap();
    let floor = writer.state.vector.told();
    let plan = writer.epochs().plan_roll(&id, &floor, Stamp(0)).unwrap();
    let roll =
        Roll { epoch: plan.epoch, floor, base: plan.base, removals_before: Stamp(0), fold: None };
    let committed = writer.commit(Stamp(1), &[Command::Roll { document: id, roll }]);
    assert!(matches!(committed.outcomes[..], [Outcome::Rolled(Ok(_))]), "{committed:?}");
}

pub(super) fn all(writer: &Writer) -> TrimBounds {
    TrimBounds { acknowledged: writer.state.vector.clone(), before: Stamp(u64::MAX) }
}

/// Trims until nothing more goes.
pub(super) fn trim(writer: &mut Writer, bounds: &TrimBounds) -> usize {
    let mut records = 0;
    loop {
        let Trimmed { records: gone, is_under_way, .. } = writer.trim(bounds).unwrap();
        records += gone;
        if !is_under_way {
            return records;
        }
    }
}

fn logged(writer: &Writer) -> Vec<Dot> {
    let tx = writer.database.get().unwrap().begin_read().unwrap();
    let table = tx.open_table(log::LOG).unwrap();
    let dot = |(origin, n): (u64, u64)| Dot { origin: Origin(origin.to_be_bytes()), n };
    table.range::<(u64, u64)>(..).unwrap().map(|row| dot(row.unwrap().0.value())).collect()
}

fn busy(disk: &MemoryDisk, count: u64) -> Writer {
    let mut writer = open(disk);
    for i in 0..count {
        let document = if i % 4 == 0 { "api/prod" } else { "web/dev" };
        let key = format!("k{}", i % 7);
        writer.commit(Stamp(100 + i), &[audited(put(document, &[(&key, &i.to_string())]))]);
    }
    writer
}

#[test]
fn what_an_epoch_began_with_goes_and_nothing_else() {
    let disk = MemoryDisk::new();
    let mut writer = busy(&disk, 400);
    let bounds = all(&writer);
    assert_eq!(trim(&mut writer, &bounds), 0, "no document has rolled");
    roll(&mut writer, "web/dev");
    writer.commit(Stamp(700), &[put("web/dev", &[("k1", "1")])]);
    let (shown, histories_before) = (view(&writer), histories(&writer));
    let bounds = all(&writer);
    assert_eq!(trim(&mut writer, &bounds), 300);
    let kept = logged(&writer);
    assert_eq!(kept.len(), 102, "the other document's, the roll, and what came behind it");
    assert_eq!((writer.counts().log_records, writer.counts().log_trimmed), (102, 300));
    assert_eq!(trim(&mut writer, &bounds), 0, "the next pass does not even begin");
    assert_eq!((view(&writer), histories(&writer)), (shown.clone(), histories_before));
    drop(writer);
    for crashed in [disk.crash(CrashMode::LoseUnsynced), disk.snapshot()] {
        let mut writer = open(&crashed);
        assert_eq!(view(&writer), shown);
        writer.commit(Stamp(800), &[put("web/dev", &[("k2", "2")])]);
        assert_eq!(value(&writer, "web/dev", "k2").unwrap(), "2");
        let tx = writer.database.get().unwrap().begin_read().unwrap();
        assert_eq!(log::facts(&tx).unwrap().missing, None);
    }
    let mut writer = open(&disk);
    roll(&mut writer, "api/prod");
    let bounds = all(&writer);
    assert_eq!(trim(&mut writer, &bounds), 100);
}

#[test]
fn what_somebody_lacks_or_what_is_young_stays_until_its_time() {
    let mut writer = busy(&MemoryDisk::new(), 400);
    let own = writer.origin();
    roll(&mut writer, "web/dev");
    roll(&mut writer, "api/prod");
    let of = |n, before| TrimBounds {
        acknowledged: [Dot { origin: own, n }].into_iter().collect(),
        before: Stamp(before),
    };
    assert_eq!(trim(&mut writer, &of(0, u64::MAX)), 0);
    assert_eq!(trim(&mut writer, &of(100, u64::MAX)), 100);
    assert_eq!(trim(&mut writer, &of(400, 100 + 250)), 150, "written before that");
    assert_eq!(trim(&mut writer, &of(400, u64::MAX)), 150);
}

#[test]
fn audit_records_of_trimmed_changes_stay_on_the_chain() {
    let disk = MemoryDisk::new();
    let mut writer = busy(&disk, 400);
    let before = targets(&writer);
    roll(&mut writer, "web/dev");
    let bounds = all(&writer);
    assert_eq!(trim(&mut writer, &bounds), 300);
    for _ in 0..2 {
        assert_eq!(targets(&writer), before);
        let report = verify("config", &writer.chain(), &[]).unwrap();
        assert!(report.findings.is_empty(), "{report:?}");
        // From the middle, too.
        let mut seqs = Vec::new();
        writer
            .chain()
            .walk(250, &mut |record| {
                seqs.push(crate::audit::Record::decode(record).unwrap().seq);
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(seqs, (250..=400).collect::<Vec<u64>>());
        roll(&mut writer, "api/prod");
        let bounds = all(&writer);
        trim(&mut writer, &bounds);
    }
    drop(writer);
    let mut writer = open(&disk);
    assert_eq!(targets(&writer), before);
    writer.commit(Stamp(900), &[audited(put("web/dev", &[("k1", "1")]))]);
    assert_eq!(targets(&writer).len(), 401);
    let report = verify("config", &writer.chain(), &[]).unwrap();
    assert!(report.findings.is_empty(), "{report:?}");
    // What should be there and is not is still found.
    let tx = writer.database.get().unwrap().begin_write().unwrap();
    let last = writer.state.vector.get(writer.origin());
    let key = (u64::from_be_bytes(writer.origin().0), last);
    tx.open_table(log::LOG).unwrap().remove(key).unwrap();
    tx.commit().unwrap();
    assert!(writer.chain().inconsistency().unwrap().is_some());
}

#[test]
fn who_asks_for_what_is_gone_is_told_and_gets_the_rest() {
    let mut writer = busy(&MemoryDisk::new(), 400);
    let mut other = open(&MemoryDisk::new());
    let own = other.commit(Stamp(5), &[put("own/only", &[("x", "1")])]).own;
    writer.commit(Stamp(600), &[Command::Apply(own)]);
    roll(&mut writer, "web/dev");
    let bounds = all(&writer);
    trim(&mut writer, &bounds);
    let have = writer.published.load().vector.clone();
    let missing = writer.log().missing(Vector::new(), &have, 1 << 20).unwrap();
    assert!(missing.is_trimmed && !missing.more);
    let of_other =
        |bytes: &Bytes| Record::decode(bytes.clone()).unwrap().dot.origin == other.origin();
    assert!(missing.records.iter().any(of_other));
    // Who has all that is gone is served from the log.
    let behind: Vector = [Dot { origin: writer.origin(), n: 400 }].into_iter().collect();
    let missing = writer.log().missing(behind, &have, 1 << 20).unwrap();
    assert_eq!((missing.is_trimmed, missing.records.len()), (false, 2));
}

#[test]
fn a_retry_of_a_trimmed_change_is_a_new_request_and_leaves_no_row() {
    let write = |key: u8| {
        let Command::Write(mut write) = put("web/dev", &[("a", "1")]) else { panic!() };
        write.idempotency = Some(Idempotency { key: [key; 16], request: [1; 16] });
        Command::Write(write)
    };
    let mut writer = busy(&MemoryDisk::new(), 300);
    writer.commit(Stamp(1_000), &[write(1)]);
    writer.commit(Stamp(1_001), &[write(2)]);
    roll(&mut writer, "web/dev");
    // The second one is used again, by a change that stays.
    let bounds = TrimBounds { before: Stamp(1_001), ..all(&writer) };
    trim(&mut writer, &bounds);
    assert!(!written(&writer.commit(Stamp(1_010), &[write(1)]), 0).replayed);
    assert!(written(&writer.commit(Stamp(1_011), &[write(2)]), 0).replayed);
    let bounds = all(&writer);
    trim(&mut writer, &bounds);
    assert!(written(&writer.commit(Stamp(1_012), &[write(1)]), 0).replayed, "the newer one stays");
    assert!(!written(&writer.commit(Stamp(1_013), &[write(2)]), 0).replayed);
}

#[test]
fn a_full_disk_or_a_crash_in_a_step_loses_nothing() {
    let start = MemoryDisk::new();
    // Too little for a journal, whose ways leave pages free in the file.
    start.fill(30 << 20);
    let mut writer = busy(&start, 300);
    roll(&mut writer, "web/dev");
    roll(&mut writer, "api/prod");
    let (shown, records) = (view(&writer), targets(&writer));
    writer.close().unwrap();
    drop(writer);
    let (mut before, mut after) = (0, 0);
    for step in 0..40_u64 {
        let disk = start.snapshot();
        let mut writer = open(&disk);
        disk.fill(step * 16_000);
        let bounds = all(&writer);
        let trimmed = writer.trim(&bounds);
        let mode = match step % 3 {
            0 => CrashMode::LoseUnsynced,
            1 => CrashMode::KeepUnsynced,
            _ => CrashMode::TearUnsynced(step),
        };
        let crashed = disk.crash(mode);
        disk.free();
        crashed.free();
        drop(writer);
        let mut writer = open(&crashed);
        assert_eq!((view(&writer), targets(&writer)), (shown.clone(), records.clone()));
        let kept = logged(&writer).len();
        assert!(kept == 302 || kept == 302 - 256, "{kept}");
        if kept == 302 {
            before += 1
        } else {
            after += 1
        }
        assert!(trimmed.is_err() || kept < 302, "what was said to be gone is");
        let bounds = all(&writer);
        trim(&mut writer, &bounds);
        assert_eq!(logged(&writer).len(), 2);
    }
    assert!(before > 2 && after > 2, "{before} before, {after} after");
}

#[test]
fn a_step_is_bounded_in_bytes_and_only_the_first_one_of_a_pass_writes_the_derived_tables() {
    let mut writer = open(&MemoryDisk::new());
    let big = format!("\"{}\"", "x".repeat(900));
    let keys: Vec<String> = (0..100).map(|i| format!("k{i}")).collect();
    let pairs: Vec<(&str, &str)> = keys.iter().map(|key| (&**key, &*big)).collect();
    for i in 0..120 {
        writer.commit(Stamp(i), &[put("web/dev", &pairs)]);
    }
    roll(&mut writer, "web/dev");
    let bounds = all(&writer);
    let (mut gone, mut steps) = (0, 0);
    loop {
        let step = writer.trim(&bounds).unwrap();
        assert!(step.records * 90_000 <= 5_000_000, "{step:?}");
        gone += step.records;
        steps += 1;
        assert!(
            steps == 1 || writer.unwritten_rows() > 0,
            "what is written meanwhile waits its time"
        );
        if !step.is_under_way {
            break;
        }
        writer.commit(Stamp(900 + steps), &[put("web/dev", &[("k1", "1")])]);
    }
    assert_eq!(gone, 120);
    assert!(steps > 2, "{steps}");
}

#[test]
fn what_stays_is_not_looked_at_again_before_a_document_rolls() {
    let mut writer = busy(&MemoryDisk::new(), 400);
    let own = writer.origin();
    roll(&mut writer, "web/dev");
    let of = |n, before| TrimBounds {
        acknowledged: [Dot { origin: own, n }].into_iter().collect(),
        before: Stamp(before),
    };
    let step = |writer: &mut Writer, bounds| {
        let mut sum = (0, 0);
        loop {
            let step = writer.trim(&bounds).unwrap();
            sum = (sum.0 + step.records, sum.1 + step.looked);
            if !step.is_under_way {
                return sum;
            }
        }
    };
    // One in four is the other document's; the one after the last is looked at, and too new.
    assert_eq!(step(&mut writer, of(400, 100 + 202)), (151, 203));
    for _ in 0..3 {
        assert_eq!(step(&mut writer, of(400, 100 + 202)), (0, 1), "too new");
    }
    assert_eq!(step(&mut writer, of(300, u64::MAX)), (74, 98), "not everywhere behind that");
    assert_eq!(step(&mut writer, of(300, u64::MAX)), (0, 0));
    assert_eq!(step(&mut writer, of(400, u64::MAX)).0, 75);
    assert_eq!(step(&mut writer, of(400, u64::MAX)), (0, 0), "nothing was held up");
    roll(&mut writer, "api/prod");
    let bounds = all(&writer);
    assert_eq!(step(&mut writer, bounds).0, 100);
}

#[test]
fn records_that_are_archived_go_whether_their_change_is_in_the_log_or_was_trimmed() {
    let disk = MemoryDisk::new();
    let mut writer = busy(&disk, 400);
    let before = targets(&writer);
    let mut head = crate::audit::Head::default();
    let mut archived = crate::audit::Archived::default();
    let mut follow = |record: &[u8]| {
        head.follow(record).unwrap();
        if head.seq == 250 {
            archived = crate::audit::Archived { upto: head, base: head, base_at: Some(Stamp(9)) };
        }
        std::ops::ControlFlow::Continue(())
    };
    writer.chain().walk(1, &mut follow).unwrap();
    let rows = |writer: &Writer| {
        let tx = writer.database.get().unwrap().begin_read().unwrap();
        redb::ReadableTableMetadata::len(&tx.open_table(crate::storage::audit::AUDIT).unwrap())
    };
    let check = |writer: &Writer| {
        assert_eq!(writer.chain().base().unwrap().seq, 250);
        let report = verify("config", &writer.chain(), &[]).unwrap();
        assert_eq!((report.let_go, report.records, report.findings.len()), (250, 150, 0));
        let mut shown = Vec::new();
        let mut visit = |record: &[u8]| {
            let record = crate::audit::Record::decode(record).unwrap();
            shown.push(record.event.target.to_string());
            std::ops::ControlFlow::Continue(())
        };
        writer.chain().walk(1, &mut visit).unwrap();
        assert_eq!(shown, before[250..], "also where somebody asks for more");
    };
    // In the middle of making another file, which has to come to the same.
    writer.begin_rebuild(1 << 20);
    writer.step_rebuild();
    writer.archive(&archived).unwrap();
    check(&writer);
    roll(&mut writer, "web/dev");
    let bounds = all(&writer);
    assert_eq!(trim(&mut writer, &bounds), 300);
    check(&writer);
    assert!(rows(&writer).unwrap() <= 150, "what was archived does not come to the table");
    while writer.is_rebuilding() {
        writer.step_rebuild();
    }
    assert_eq!(writer.counts().rebuilt, 1, "nothing went past the mirror");
    check(&writer);
    drop(writer);
    check(&open(&disk));
}
