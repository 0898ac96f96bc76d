//! Segments of a chain as files: so many records, between the heads before and behind them, so that a
//! segment can be checked by itself, against its neighbours, and against the store that goes on from it.
//!
//! A file is a magic line with the version of the format, a CBOR map (what it is, and the records,
//! deflated), and the SHA-256 of all before. It is written once and never changed; whoever holds the
//! files can remove one, and the one behind it tells that it is missing. It refuses to open a file that
//! says it is larger than a segment can be.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use sha2::{Digest as _, Sha256};

use super::chain::Head;
use super::verify::{Report, hex};
use crate::model::{Stamp, cbor};

/// How such files' names end.
pub const SUFFIX: &str = ".audit";

/// What a file begins with.
const MAGIC: &[u8] = b"holm audit 1\n";
/// How long the sum at its end is.
const SUM_LEN: usize = 32;
/// Most bytes of records that a segment is read with.
const RECORDS_BYTES_MAX: u64 = 64 << 20;

/// How far a store's chain is archived, and from where on it still has its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Archived {
    /// Where the chain stood behind the last record that is in a file.
    #[n(0)]
    pub upto: Head,
    /// Where it stood before the first one that the store still has.
    #[n(1)]
    pub base: Head,
    /// When the last record was made that it does not have any more.
    #[n(2)]
    pub base_at: Option<Stamp>,
}

/// A stretch of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Which cluster's.
    pub cluster: String,
    /// Which node's.
    pub node: String,
    /// Which store's: `config` or `quorum`.
    pub store: String,
    /// Where the chain stood before its first record.
    pub before: Head,
    /// Where it stood behind its last one.
    pub head: Head,
    /// The records, as the chain has them.
    pub records: Vec<Vec<u8>>,
}

/// As it is written.
#[derive(Encode, Decode)]
#[cbor(map)]
struct Body {
    #[n(0)]
    cluster: String,
    #[n(1)]
    node: String,
    #[n(2)]
    store: String,
    #[n(3)]
    before: Head,
    #[n(4)]
    head: Head,
    /// The records' CBOR list, deflated, and how long it is without that.
    #[n(5)]
    len: u64,
    #[n(6)]
    records: ByteVec,
}

/// Why a file is no segment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// It begins otherwise, or is of a format that this program does not know.
    #[error("it is no segment of an audit log, or of a later format")]
    Foreign,
    /// Its sum is another one: it was changed, or is not whole.
    #[error("its sum is not that of what is in it: it was changed, or is not whole")]
    Sum,
    /// It cannot be read.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// Its records are no chain between the heads that it names.
    #[error("{0}")]
    Chain(String),
}

impl Segment {
    /// The file's name: the same for a segment that is written again, also with more records, and
    /// another one for another chain of the node's.
    pub fn file_name(&self) -> String {
        let first = self.records.first().map(Sha256::digest).unwrap_or_default();
        let Self { node, store, before, .. } = self;
        format!("{node}.{store}.{:012}.{}{SUFFIX}", before.seq + 1, hex(&first[..4]))
    }

    /// The file.
    pub fn encode(&self) -> std::io::Result<Vec<u8>> {
        let records: Vec<ByteVec> = self.records.iter().map(|it| it.clone().into()).collect();
        let list = cbor::encode(&records);
        let mut deflated = DeflateEncoder::new(Vec::new(), Compression::default());
        deflated.write_all(&list)?;
        let body = Body {
            cluster: self.cluster.clone(),
            node: self.node.clone(),
            store: self.store.clone(),
            before: self.before,
            head: self.head,
            len: list.len() as u64,
            records: deflated.finish()?.into(),
        };
        let mut bytes = MAGIC.to_vec();
        bytes.extend(cbor::encode(&body));
        let sum = Sha256::digest(&bytes);
        bytes.extend(sum);
        Ok(bytes)
    }

    /// Reads a file, and follows its records from the one head to the other.
    pub fn decode(bytes: &[u8]) -> Result<Self, ArchiveError> {
        if !bytes.starts_with(MAGIC) {
            return Err(ArchiveError::Foreign);
        }
        let at = bytes.len().checked_sub(SUM_LEN).filter(|at| *at >= MAGIC.len());
        let (content, sum) = bytes.split_at(at.ok_or(ArchiveError::Sum)?);
        if Sha256::digest(content)[..] != *sum {
            return Err(ArchiveError::Sum);
        }
        let damaged = |e: &dyn std::fmt::Display| ArchiveError::Damaged(e.to_string());
        let body: Body = cbor::decode(&content[MAGIC.len()..]).map_err(|e| damaged(&e))?;
        if body.len > RECORDS_BYTES_MAX {
            return Err(damaged(&format!(
                "{} bytes of records are more than it can have",
                body.len
            )));
        }
        let mut list = Vec::new();
        let mut inflated = DeflateDecoder::new(&body.records[..]).take(body.len + 1);
        inflated.read_to_end(&mut list).map_err(|e| damaged(&e))?;
        if list.len() as u64 != body.len {
            return Err(damaged(&"its records are more or fewer bytes than it says"));
        }
        let records: Vec<ByteVec> = cbor::decode(&list).map_err(|e| damaged(&e))?;
        let segment = Self {
            cluster: body.cluster,
            node: body.node,
            store: body.store,
            before: body.before,
            head: body.head,
            records: records.into_iter().map(Vec::from).collect(),
        };
        segment.follow()?;
        Ok(segment)
    }

    fn follow(&self) -> Result<(), ArchiveError> {
        let mut head = self.before;
        for record in &self.records {
            head.follow(record).map_err(|e| ArchiveError::Chain(e.to_string()))?;
        }
        if self.records.is_empty() || head != self.head {
            let (last, named) = (head.seq, self.head.seq);
            return Err(ArchiveError::Chain(format!(
                "its records end with {last}, and not with {named} as it says"
            )));
        }
        Ok(())
    }

    /// The hash of the record `seq`, or of where the chain stood before its first one.
    pub(crate) fn head_at(&self, seq: u64) -> Option<Head> {
        if seq == self.before.seq {
            return Some(self.before);
        }
        let at = usize::try_from(seq.checked_sub(self.before.seq + 1)?).ok()?;
        let record = self.records.get(at)?;
        Some(Head { seq, hash: Sha256::digest(record).into() })
    }
}

/// Goes along all segments of one store of one node's, and says what is wrong with them. `base` is
/// where the store itself says that its records begin, where it is known.
pub fn verify_segments(store: &str, mut segments: Vec<Segment>, base: Option<Head>) -> Report {
    segments.sort_by_key(|segment| (segment.before.seq, segment.head.seq));
    let mut findings = Vec::new();
    let let_go = segments.first().map_or(0, |segment| segment.before.seq);
    let mut head = segments.first().map(|segment| segment.before).unwrap_or_default();
    let mut records = 0;
    for segment in &segments {
        let (first, last) = (segment.before.seq + 1, segment.head.seq);
        if segment.before.seq > head.seq {
            findings.push(format!("records {} to {} are missing", head.seq + 1, first - 1));
        } else if !agrees(segment, head, &segments) {
            findings.push(format!(
                "the segment of records {first} to {last} does not follow the one before it"
            ));
        }
        records += last.saturating_sub(head.seq.max(segment.before.seq));
        head = if last > head.seq { segment.head } else { head };
    }
    match base {
        Some(base) if base.seq > head.seq => {
            let (from, to) = (head.seq + 1, base.seq);
            findings.push(format!("records {from} to {to} are in the store no more, and not here"));
        }
        Some(base) if base.seq >= let_go => {
            let here = segments.iter().find_map(|segment| segment.head_at(base.seq));
            if here != Some(base) {
                let seq = base.seq;
                findings.push(format!("record {seq} is not the one that the store goes on from"));
            }
        }
        _ => {}
    }
    let hash = hex(&head.hash);
    let witnesses = u64::from(base.is_some());
    Report { store: store.to_owned(), records, let_go, hash, base: None, witnesses, findings }
}

/// Whether a segment is of the chain that the ones before it brought to `head`.
fn agrees(segment: &Segment, head: Head, all: &[Segment]) -> bool {
    match segment.head_at(head.seq) {
        Some(known) => known == head,
        // It ends before that: it was written again, with more records.
        None => {
            all.iter().any(|it| it != segment && it.head_at(segment.head.seq) == Some(segment.head))
        }
    }
}

/// Sorts segments by the chain they are of: a node whose store was made anew has another one under the
/// same name. Each chain's name says whose it is.
pub fn chains(segments: Vec<Segment>) -> Vec<((String, String), Vec<Segment>)> {
    let mut sorted = segments;
    sorted.sort_by(|a, b| {
        let of = |it: &Segment| (it.cluster.clone(), it.node.clone(), it.store.clone());
        of(a).cmp(&of(b)).then(a.before.seq.cmp(&b.before.seq)).then(a.head.seq.cmp(&b.head.seq))
    });
    let mut chains: Vec<((String, String), Vec<Segment>)> = Vec::new();
    for segment in sorted {
        let name = (segment.node.clone(), segment.store.clone());
        let is_same = |known: &Segment| {
            let first = |it: &Segment| it.records.first().cloned();
            known.cluster == segment.cluster
                && (known.head_at(segment.before.seq) == Some(segment.before)
                    && (segment.before.seq > 0 || first(known) == first(&segment)))
        };
        let found = chains.iter().position(|(of, known)| *of == name && known.iter().any(is_same));
        // What follows none, and begins none, is told as what does not follow.
        let last = || chains.iter().rposition(|(of, _)| *of == name && segment.before.seq > 0);
        match found.or_else(last) {
            Some(at) => chains[at].1.push(segment),
            None => chains.push((name, vec![segment])),
        }
    }
    chains
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::chain::GENESIS;
    use crate::audit::{Decision, Event, Source};
    use crate::model::Stamp;
    use proptest::prelude::*;

    fn event(seq: u64) -> Event {
        Event {
            at: Stamp(seq),
            principal: "ada".into(),
            action: "config.write".into(),
            target: format!("web/dev/{seq}").as_str().into(),
            decision: Decision::Allowed("config:write:web/*".into()),
            outcome: "done".into(),
            source: Source { node: "a".into(), address: None, request: "r".into() },
            count: 1,
            index: None,
        }
    }

    /// Segments that end behind these numbers.
    fn segments(ends: &[u64]) -> Vec<Segment> {
        let mut head = Head::default();
        let segment = |end: &u64| {
            let before = head;
            let records = (head.seq..*end).map(|seq| head.append(event(seq))).collect();
            let (cluster, node, store) = ("c".to_owned(), "a".to_owned(), "config".to_owned());
            Segment { cluster, node, store, before, head, records }
        };
        ends.iter().map(segment).collect()
    }

    fn findings(segments: Vec<Segment>, base: Option<Head>) -> Vec<String> {
        verify_segments("config of a", segments, base).findings
    }

    #[test]
    fn a_segment_is_read_as_it_was_written_and_compressed() {
        let segment = segments(&[300]).remove(0);
        let bytes = segment.encode().unwrap();
        assert_eq!(Segment::decode(&bytes), Ok(segment.clone()));
        let plain: usize = segment.records.iter().map(Vec::len).sum();
        assert!(bytes.len() < plain * 2 / 3, "{} of {plain}", bytes.len());
        assert!(segment.file_name().starts_with("a.config.000000000001."));
    }

    #[test]
    fn whatever_is_changed_in_a_file_is_found() {
        let bytes = segments(&[5]).remove(0).encode().unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(Segment::decode(&changed).is_err(), "byte {at}");
            assert!(Segment::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
        assert_eq!(Segment::decode(b"something else"), Err(ArchiveError::Foreign));
    }

    #[test]
    fn who_makes_the_sum_anew_still_needs_the_chain() {
        let forged = |change: fn(&mut Segment)| {
            let mut segment = segments(&[5]).remove(0);
            change(&mut segment);
            Segment::decode(&segment.encode().unwrap())
        };
        assert!(forged(|_| {}).is_ok());
        for change in [
            (|it| drop(it.records.pop())) as fn(&mut Segment),
            |it| drop(it.records.remove(2)),
            |it| it.records.swap(1, 2),
            |it| it.records.clear(),
            |it| *it.records[1].last_mut().unwrap() ^= 1,
            |it| it.before.hash = [9; 32],
            |it| it.head.hash = [9; 32],
        ] {
            let found = forged(change);
            assert!(matches!(found, Err(ArchiveError::Chain(_))), "{found:?}");
        }
    }

    #[test]
    fn segments_are_held_against_each_other_and_against_the_store() {
        let all = segments(&[4, 9, 12]);
        let base = |seq: u64| all.iter().find_map(|it| it.head_at(seq)).unwrap();
        let report = verify_segments("config of a", all.clone(), Some(base(9)));
        assert_eq!((report.records, report.let_go, report.findings.len()), (12, 0, 0));
        for good in [0, 3, 12] {
            assert_eq!(findings(all.clone(), Some(base(good))), [""; 0], "{good}");
        }
        assert_eq!(findings(all[1..].to_vec(), None), [""; 0], "older ones are elsewhere");
        let mut holed = all.clone();
        holed.remove(1);
        assert_eq!(findings(holed, None), ["records 5 to 9 are missing"]);
        let ahead = Head { seq: 20, hash: [1; 32] };
        let wrong = findings(all.clone(), Some(ahead));
        assert_eq!(wrong, ["records 13 to 20 are in the store no more, and not here"]);
        let other = Head { seq: 7, hash: [1; 32] };
        assert!(findings(all.clone(), Some(other))[0].contains("record 7 is not the one"));
        let mut foreign = all.clone();
        foreign[1].before.hash = GENESIS;
        assert!(findings(foreign, None)[0].contains("records 5 to 9 does not follow"));
        // One that was written again with more records, after a crash, stands for the first.
        let mut again = all.clone();
        again.insert(1, segments(&[4, 7]).remove(1));
        let report = verify_segments("config of a", again, Some(base(12)));
        assert_eq!((report.records, report.findings.len()), (12, 0), "{report:?}");
    }

    #[test]
    fn a_store_that_was_made_anew_has_a_chain_of_its_own() {
        let all = segments(&[4, 9]);
        let mut other = segments(&[6]);
        other[0].records.iter_mut().for_each(|it| it.push(0));
        let count = |given: Vec<Segment>| -> Vec<usize> {
            chains(given).into_iter().map(|(_, segments)| segments.len()).collect()
        };
        assert_eq!(count([all.clone(), segments(&[2])].concat()), [3], "the same, and shorter");
        assert_eq!(count([all.clone(), other.clone()].concat()), [2, 1]);
        assert_eq!(count([vec![all[1].clone()], other].concat()), [2], "whatever begins none");
        let names: Vec<String> = [&all[0], &all[1]].map(Segment::file_name).into();
        assert_ne!(names[0], names[1]);
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_reader(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Segment::decode(&noise);
            let mut with_magic = MAGIC.to_vec();
            with_magic.extend(&noise);
            let sum = Sha256::digest(&with_magic);
            with_magic.extend(sum);
            let _ = Segment::decode(&with_magic);
        }
    }
}
