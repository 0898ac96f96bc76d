use super::*;
use crate::audit::archive::verify_segments;
use crate::audit::verify::verify;
use crate::audit::{Decision, Event, Source};
use crate::env::{CrashMode, Entropy, MemoryDisk};
use crate::model::NodeName;
use crate::storage::{Command, Writer, WriterSettings};

const BOUNDS: Bounds = Bounds { close_before: Stamp(0), bytes: 8 << 20, keep_from: Stamp(0) };

fn open(disk: &MemoryDisk) -> Writer {
    let settings = WriterSettings {
        cluster: "test".into(),
        node: NodeName::new("a").unwrap(),
        region: "eu".into(),
        value_bytes_max: 1_000,
        documents_bytes_max: 1 << 20,
        waiting_bytes_max: 1_000,
        peers: 0,
    };
    Writer::open(settings, Arc::new(disk.clone()), Entropy::seeded(1).stream("a")).unwrap()
}

/// An event of each of these times.
fn record(writer: &mut Writer, times: std::ops::Range<u64>) {
    for at in times {
        let event = Event {
            at: Stamp(at),
            principal: "ada".into(),
            action: "config.read".into(),
            target: "web/dev/a".into(),
            decision: Decision::Denied("no".into()),
            outcome: "refused".into(),
            source: Source { node: "a".into(), address: None, request: "r".into() },
            count: 1,
            index: None,
        };
        writer.commit(Stamp(at), &[Command::Record(vec![event])]);
    }
}

/// The segment that is due.
fn due(writer: &Writer, bounds: Bounds) -> Option<(Segment, Archived)> {
    let found = look(&writer.chain(), bounds).unwrap();
    let (before, records) = found.segment?;
    let archived = found.archived.unwrap();
    let (cluster, node, store) = ("test".to_owned(), "a".to_owned(), "config".to_owned());
    Some((Segment { cluster, node, store, before, head: archived.upto, records }, archived))
}

fn archive(disk: &MemoryDisk) -> Arc<dyn Disk> {
    disk.directory(std::path::Path::new("audit")).unwrap()
}

fn files(disk: &MemoryDisk) -> Vec<Segment> {
    let names = disk.names("audit.").into_iter();
    names.map(|name| Segment::decode(&disk.read(&name).unwrap().unwrap()).unwrap()).collect()
}

/// What is on disk is whole: the files, the chain from where it goes on, and both together.
fn is_whole(disk: &MemoryDisk, writer: &Writer, records: u64) {
    let report = verify("config", &writer.chain(), &[]).unwrap();
    assert!(report.findings.is_empty(), "{report:?}");
    assert_eq!(report.let_go + report.records, records);
    let segments = files(disk);
    if !segments.is_empty() {
        let base = writer.chain().base().unwrap();
        let archived = verify_segments("config", segments, Some(base));
        assert!(archived.findings.is_empty(), "{archived:?}");
        assert!(archived.records >= base.seq);
    }
}

#[test]
fn a_segment_is_closed_when_it_is_large_or_old_and_nothing_goes_that_is_in_none() {
    let disk = MemoryDisk::new();
    let mut writer = open(&disk);
    record(&mut writer, 100..120);
    let late = Bounds { keep_from: Stamp(1_000), ..BOUNDS };
    assert!(due(&writer, late).is_none(), "neither large nor old");
    assert!(look(&writer.chain(), late).unwrap().archived.is_none(), "and so nothing goes");
    let (segment, _) = due(&writer, Bounds { bytes: 1_000, ..BOUNDS }).unwrap();
    assert!((2..20).contains(&segment.records.len()), "as large as was asked for");
    assert!(due(&writer, Bounds { close_before: Stamp(100), ..BOUNDS }).is_none());
    let (segment, archived) = due(&writer, Bounds { close_before: Stamp(101), ..BOUNDS }).unwrap();
    assert_eq!((segment.records.len(), archived.upto.seq, archived.base.seq), (20, 20, 0));
    writer.archive(&archived).unwrap();
    assert!(due(&writer, Bounds { close_before: Stamp(101), ..BOUNDS }).is_none(), "once");
    let found = look(&writer.chain(), Bounds { keep_from: Stamp(105), ..BOUNDS }).unwrap();
    assert_eq!(found.archived.unwrap().base.seq, 5, "what is older than that");
    writer.archive(&found.archived.unwrap()).unwrap();
    record(&mut writer, 120..125);
    let found = look(&writer.chain(), late).unwrap().archived.unwrap();
    assert_eq!((found.base.seq, found.base_at), (20, Some(Stamp(119))), "the rest is in no file");
}

#[test]
fn a_crash_between_any_two_steps_loses_nothing_and_repeats_nothing() {
    for (crash_after, mode) in (0..4).flat_map(|step| {
        [CrashMode::LoseUnsynced, CrashMode::KeepUnsynced, CrashMode::TearUnsynced(7)]
            .map(|mode| (step, mode))
    }) {
        let mut disk = MemoryDisk::new();
        let mut writer = open(&disk);
        record(&mut writer, 100..140);
        let all = Bounds { close_before: Stamp(1_000), keep_from: Stamp(1_000), ..BOUNDS };
        let mut taken = 0;
        for step in 0.. {
            let found = look(&writer.chain(), all).unwrap();
            let Some(archived) = found.archived else { break };
            if found.segment.is_some() {
                let (segment, _) = due(&writer, all).unwrap();
                write(&*archive(&disk), &segment).unwrap();
            }
            if taken == 0 && step == crash_after {
                // The file may be there; the store has not heard of it.
                (disk, taken) = (disk.crash(mode), 1);
                writer = open(&disk);
                is_whole(&disk, &writer, 40);
                continue;
            }
            writer.archive(&archived).unwrap();
            if taken == 0 && step + 2 == crash_after {
                (disk, taken) = (disk.crash(mode), 1);
                writer = open(&disk);
            }
            is_whole(&disk, &writer, 40);
        }
        assert_eq!(disk.names("audit.").len(), 1, "the same file, whatever happened");
        assert_eq!(files(&disk)[0].records.len(), 40);
        assert_eq!(writer.chain().base().unwrap().seq, 40, "{crash_after} {mode:?}");
        record(&mut writer, 140..150);
        is_whole(&disk, &writer, 50);
        drop(writer);
        is_whole(&disk, &open(&disk), 50);
    }
}

#[test]
fn a_file_that_is_not_on_disk_as_it_was_written_is_no_archive() {
    let disk = MemoryDisk::new();
    let mut writer = open(&disk);
    record(&mut writer, 100..110);
    let (segment, _) = due(&writer, Bounds { close_before: Stamp(1_000), ..BOUNDS }).unwrap();
    disk.fill(16);
    let full = write(&*archive(&disk), &segment).unwrap_err();
    assert!(full.contains("a.config.000000000001"), "{full}");
    disk.free();
    write(&*archive(&disk), &segment).unwrap();
}

#[test]
fn a_chain_that_is_broken_is_kept_as_it_is() {
    struct Broken(Vec<Vec<u8>>);
    impl ChainReader for Broken {
        fn head(&self) -> Result<Head, crate::audit::Unreadable> {
            Ok(Head { seq: 3, hash: [0; 32] })
        }
        fn walk(
            &self,
            from: u64,
            visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
        ) -> Result<(), crate::audit::Unreadable> {
            let behind = self.0.iter().skip(usize::try_from(from - 1).unwrap());
            let _ = behind.map(|record| visit(record)).find(|flow| flow.is_break());
            Ok(())
        }
    }
    let disk = MemoryDisk::new();
    let mut writer = open(&disk);
    record(&mut writer, 100..103);
    let (segment, _) = due(&writer, Bounds { close_before: Stamp(1_000), ..BOUNDS }).unwrap();
    let mut records = segment.records;
    *records[1].last_mut().unwrap() ^= 1;
    let all = Bounds { close_before: Stamp(1_000), keep_from: Stamp(1_000), ..BOUNDS };
    let why = look(&Broken(records), all).unwrap_err();
    assert!(why.contains("does not follow"), "{why}");
}
