//! Archived segments of audit logs, as files in a directory: checked, also against the stores that go on
//! from them, and printed. Nothing is written.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Failure;
use crate::audit::archive::{SUFFIX, Segment, chains, verify_segments};
use crate::audit::merge::Item;
use crate::audit::page::Filter;
use crate::audit::verify::Report;
use crate::audit::{Head, Record};

/// What a store says of where its records begin.
pub(super) struct Held {
    /// `config` or `quorum`.
    pub(super) store: String,
    /// What the first record that it has follows from.
    pub(super) base: Head,
}

impl Held {
    /// What a report says of it; none where the store has all of its records.
    pub(super) fn of(report: &Report) -> Option<Self> {
        let digits = report.base.as_deref()?;
        let mut hash = [0; 32];
        for (at, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        let base = Head { seq: report.let_go, hash };
        Some(Self { store: report.store.clone(), base })
    }
}

/// Reads the segments in a directory, and says of each file that is none why.
fn read(dir: &Path) -> Result<(Vec<Segment>, Vec<Report>), Failure> {
    let failed = |e: std::io::Error| Failure::failed(e.to_string()).about(dir.display());
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        files.push(entry.map_err(failed)?.path());
    }
    files.retain(|path| path.to_string_lossy().ends_with(SUFFIX));
    files.sort();
    let (mut segments, mut bad) = (Vec::new(), Vec::new());
    for path in files {
        match Segment::decode(&std::fs::read(&path).map_err(failed)?) {
            Ok(segment) => segments.push(segment),
            Err(error) => {
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
                let mut report = verify_segments(&name.unwrap_or_default(), Vec::new(), None);
                report.findings.push(error.to_string());
                bad.push(report);
            }
        }
    }
    Ok((segments, bad))
}

/// Goes along all chains in `dir`, and holds them against what stores go on from.
pub(super) fn check(dir: &Path, held: &[Held]) -> Result<Vec<Report>, Failure> {
    let (segments, mut reports) = read(dir)?;
    if segments.is_empty() && reports.is_empty() {
        let why = format!("there is no segment of an audit log in {}", dir.display());
        return Err(Failure::failed(why).hint("files of audit.archive_dir end with .audit"));
    }
    let chains = chains(segments);
    let mut bases: Vec<Option<Head>> = vec![None; chains.len()];
    for Held { store, base } in held.iter().filter(|held| held.base.seq > 0) {
        let is_of = |((_, of), segments): &((String, String), Vec<Segment>)| {
            of == store && segments.iter().any(|segment| segment.head_at(base.seq) == Some(*base))
        };
        match chains.iter().position(is_of) {
            Some(at) => bases[at] = Some(*base),
            None => {
                let mut report = verify_segments(&format!("{store}, archived"), Vec::new(), None);
                report.findings.push(format!(
                    "record {}, which the store goes on from, is in no segment here",
                    base.seq
                ));
                reports.push(report);
            }
        }
    }
    for (((node, store), segments), base) in chains.into_iter().zip(bases) {
        reports.push(verify_segments(&format!("{store} of {node}, archived"), segments, base));
    }
    Ok(reports)
}

/// All records in `dir` that `filter` wants, of each chain the newest first.
pub(super) fn records(dir: &Path, filter: &Filter) -> Result<Vec<Value>, Failure> {
    let (segments, bad) = read(dir)?;
    if let Some(report) = bad.first() {
        let why = report.findings.first().cloned().unwrap_or_default();
        return Err(Failure::failed(why).about(&report.store));
    }
    let mut items = Vec::new();
    for ((node, store), segments) in chains(segments) {
        let mut shown = u64::MAX;
        for segment in segments.iter().rev() {
            for record in segment.records.iter().rev() {
                let Ok(Record { seq, event, .. }) = Record::decode(record) else { continue };
                if seq >= shown {
                    continue;
                }
                shown = seq;
                if filter.matches(&event) {
                    let store = if store == "config" { "config" } else { "quorum" };
                    let item = Item { event, store, recorded_by: node.as_str().into(), seq };
                    items.push(serde_json::to_value(item).unwrap_or_default());
                }
            }
        }
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Decision, Event, Source};
    use crate::model::Stamp;

    /// A directory with segments of one chain that end behind these numbers.
    fn directory(ends: &[u64]) -> (tempfile::TempDir, Vec<Segment>) {
        let (dir, mut head) = (tempfile::tempdir().unwrap(), Head::default());
        let mut segments = Vec::new();
        for end in ends {
            let before = head;
            let event = |seq: u64| Event {
                at: Stamp(seq * 1_000_000),
                principal: "ada".into(),
                action: if seq.is_multiple_of(2) { "config.write" } else { "config.read" }.into(),
                target: "web/dev/a".into(),
                decision: Decision::Allowed("config:*".into()),
                outcome: "done".into(),
                source: Source { node: "a".into(), address: None, request: "r".into() },
                count: 1,
                index: None,
            };
            let records = (head.seq..*end).map(|seq| head.append(event(seq))).collect();
            let (cluster, node, store) = ("c".to_owned(), "a".to_owned(), "config".to_owned());
            let segment = Segment { cluster, node, store, before, head, records };
            let path = dir.path().join(segment.file_name());
            std::fs::write(path, segment.encode().unwrap()).unwrap();
            segments.push(segment);
        }
        (dir, segments)
    }

    fn findings(dir: &Path, held: &[Held]) -> Vec<String> {
        check(dir, held).unwrap().into_iter().flat_map(|report| report.findings).collect()
    }

    #[test]
    fn an_archive_is_checked_by_itself_and_against_the_store_that_goes_on() {
        let (dir, segments) = directory(&[4, 9]);
        let reports = check(dir.path(), &[]).unwrap();
        assert_eq!((reports.len(), reports[0].records), (1, 9));
        assert_eq!(reports[0].store, "config of a, archived");
        let held = |base: Head| [Held { store: "config".into(), base }];
        assert_eq!(findings(dir.path(), &held(segments[0].head)), [""; 0]);
        assert_eq!(findings(dir.path(), &held(Head::default())), [""; 0], "it has all itself");
        let other = findings(dir.path(), &held(Head { seq: 4, hash: [9; 32] }));
        assert_eq!(other, ["record 4, which the store goes on from, is in no segment here"]);
        // What a running node says of itself is as good.
        let mut report = verify_segments("config", Vec::new(), None);
        assert!(Held::of(&report).is_none());
        report.let_go = 4;
        report.base = Some(segments[0].head.hash.iter().map(|it| format!("{it:02x}")).collect());
        assert_eq!(Held::of(&report).unwrap().base, segments[0].head);
    }

    #[test]
    fn a_file_that_was_changed_or_taken_away_is_named() {
        let (dir, segments) = directory(&[4, 9, 12]);
        let path = dir.path().join(segments[1].file_name());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[60] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let found = findings(dir.path(), &[]);
        assert!(found[0].contains("its sum is not"), "{found:?}");
        assert_eq!(found[1], "records 5 to 9 are missing");
        assert!(records(dir.path(), &Filter::default()).is_err(), "nothing is shown of it");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(findings(dir.path(), &[]), ["records 5 to 9 are missing"]);
        let empty = tempfile::tempdir().unwrap();
        assert!(check(empty.path(), &[]).is_err(), "nothing is not whole");
    }

    #[test]
    fn records_of_an_archive_are_shown_newest_first_and_filtered() {
        let (dir, _) = directory(&[4, 9]);
        let seqs = |filter: &Filter| -> Vec<u64> {
            let items = records(dir.path(), filter).unwrap();
            items.iter().map(|item| item["seq"].as_u64().unwrap()).collect()
        };
        assert_eq!(seqs(&Filter::default()), [9, 8, 7, 6, 5, 4, 3, 2, 1]);
        let writes = Filter { action: Some("config.write".into()), ..Filter::default() };
        assert_eq!(seqs(&writes), [9, 7, 5, 3, 1]);
        let early = Filter { to: Some(Stamp(3_000_000)), ..Filter::default() };
        assert_eq!(seqs(&early), [3, 2, 1]);
    }
}
