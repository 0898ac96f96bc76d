//! One change as it is logged and sent: the same bytes on every disk and every wire, so that
//! anyone can pass them on and anyone can check the chain.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::roll::Roll;
use crate::model::{DocumentId, Dot, Origin, cbor};

const VERSION: u8 = 1;

/// Largest record, in bytes.
pub const RECORD_BYTES_MAX: usize = 6 * 1024 * 1024;

/// Most changes a record may say it builds on: one for each origin that wrote at the same time.
const NEEDS_MAX: usize = 4_096;

/// SHA-256 of a record's bytes; the next record of its origin carries it.
pub type RecordHash = [u8; 32];

/// What stands before an origin's first record.
pub const NO_RECORD: RecordHash = [0; 32];

#[derive(minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
struct Body<'a> {
    #[n(0)]
    origin: Origin,
    #[n(1)]
    n: u64,
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    previous: RecordHash,
    #[n(3)]
    document: &'a str,
    #[n(4)]
    epoch: u32,
    #[n(5)]
    needs: Vec<Dot>,
    #[n(6)]
    #[cbor(with = "minicbor::bytes")]
    change: &'a [u8],
    #[n(7)]
    replaces: Option<Vec<Vec<Dot>>>,
}

/// Which document a record is of; all else is passed over.
#[derive(minicbor::Decode)]
#[cbor(map)]
struct OfDocument<'a> {
    #[n(3)]
    document: &'a str,
}

/// One change of one origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which change it is.
    pub dot: Dot,
    /// The hash of the origin's record before.
    pub previous: RecordHash,
    /// Which document it changes.
    pub document: DocumentId,
    /// Which epoch of that document.
    pub epoch: u32,
    /// The changes it builds on, but for its origin's own, which are always needed.
    pub needs: Vec<Dot>,
    /// The Automerge change; or a roll ([`super::roll`]).
    pub change: Bytes,
    /// For each entry of the change, in its order, which changes' entries of the same key it
    /// replaces, ascending: what stays true of it in any epoch. Absent in a roll, and in records of
    /// programs that knew epoch 0 alone.
    pub replaces: Option<Vec<Vec<Dot>>>,
    /// This record's own hash.
    pub hash: RecordHash,
    /// This record as it is stored and sent.
    pub bytes: Bytes,
}

/// Why bytes are not a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Larger than [`RECORD_BYTES_MAX`].
    #[error("the record has {0} bytes")]
    TooLarge(usize),
    /// Of a format this program does not know.
    #[error("the record has format {0}; this node knows format 1")]
    Version(u8),
    /// The bytes do not decode.
    #[error("the record is damaged: {0}")]
    Damaged(String),
}

impl Record {
    /// Makes the record of a change that does not say what it replaces.
    pub fn new(
        dot: Dot,
        previous: RecordHash,
        document: DocumentId,
        epoch: u32,
        needs: Vec<Dot>,
        change: &[u8],
    ) -> Self {
        Self::with(dot, previous, document, epoch, needs, change, None)
    }

    /// Makes the record of a change that says what each of its entries replaces, if it does.
    pub fn with(
        dot: Dot,
        previous: RecordHash,
        document: DocumentId,
        epoch: u32,
        needs: Vec<Dot>,
        change: &[u8],
        replaces: Option<Vec<Vec<Dot>>>,
    ) -> Self {
        let name = document.to_string();
        let body = Body {
            origin: dot.origin,
            n: dot.n,
            previous,
            document: &name,
            epoch,
            needs: needs.clone(),
            change,
            replaces: replaces.clone(),
        };
        let mut bytes = vec![VERSION];
        cbor::encode_into(&body, &mut bytes);
        let bytes = Bytes::from(bytes);
        let hash = Sha256::digest(&bytes).into();
        // A slice of the same memory: nothing but what it replaces, with its key, comes behind it.
        let behind = replaces.as_ref().map_or(0, |replaces| 1 + cbor::encode(replaces).len());
        let end = bytes.len() - behind;
        let change = bytes.slice(end - change.len()..end);
        Self { dot, previous, document, epoch, needs, change, replaces, hash, bytes }
    }

    /// Which document a record changes: costs little, whatever its length, and checks nothing else.
    pub fn document_of(bytes: &[u8]) -> Result<DocumentId, RecordError> {
        let damaged = |e: &dyn std::fmt::Display| RecordError::Damaged(e.to_string());
        let body: OfDocument<'_> = match bytes.split_first() {
            Some((&VERSION, body)) => cbor::decode(body).map_err(|e| damaged(&e))?,
            Some((&version, _)) => return Err(RecordError::Version(version)),
            None => return Err(damaged(&"no bytes")),
        };
        DocumentId::parse(body.document).map_err(|e| damaged(&e))
    }

    /// The number of the fold that it carries; 0 where it carries none.
    pub fn carries(&self) -> u64 {
        if !Roll::is_roll(&self.change) {
            return 0;
        }
        let roll = Roll::decode(&self.change).ok();
        roll.and_then(|roll| roll.fold).map_or(0, |fold| fold.generation)
    }

    /// Reads what [`Record::new`] made. The change within is not looked at.
    pub fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(RecordError::TooLarge(bytes.len()));
        }
        let damaged = |e: &dyn std::fmt::Display| RecordError::Damaged(e.to_string());
        let body: Body<'_> = match bytes.split_first() {
            Some((&VERSION, body)) => cbor::decode(body).map_err(|e| damaged(&e))?,
            Some((&version, _)) => return Err(RecordError::Version(version)),
            None => return Err(damaged(&"no bytes")),
        };
        if body.n == 0 || body.needs.len() > NEEDS_MAX {
            return Err(damaged(&"numbers out of range"));
        }
        Ok(Self {
            dot: Dot { origin: body.origin, n: body.n },
            previous: body.previous,
            document: DocumentId::parse(body.document).map_err(|e| damaged(&e))?,
            epoch: body.epoch,
            needs: body.needs,
            change: bytes.slice_ref(body.change),
            replaces: body.replaces,
            hash: Sha256::digest(&bytes).into(),
            bytes: bytes.clone(),
        })
    }
}

#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> Record {
        let dot = |o, n| Dot { origin: Origin([o; 8]), n };
        let document = DocumentId::parse("web/prod").unwrap();
        Record::new(dot(1, 7), [9; 32], document, 0, vec![dot(2, 3)], b"change")
    }

    #[test]
    fn a_record_reads_back_as_written() {
        let record = record();
        assert_eq!(Record::decode(record.bytes.clone()), Ok(record.clone()));
        assert_eq!(Record::document_of(&record.bytes), Ok(record.document.clone()));
        assert_eq!(&record.change[..], b"change");
    }

    #[test]
    fn the_format_of_a_record_does_not_change() {
        let hex: String = record().bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "01a70048010101010101010101070258200909090909090909090909090909090909090909090909090909090909090909\
             03687765622f70726f6404000581824802020202020202020306466368616e6765"
        );
    }

    #[test]
    fn the_format_of_a_record_that_says_what_it_replaces_does_not_change() {
        let dot = |o, n| Dot { origin: Origin([o; 8]), n };
        let document = DocumentId::parse("web/prod").unwrap();
        let replaces = Some(vec![vec![], vec![dot(2, 3), dot(3, 300)]]);
        let needs = vec![dot(2, 3)];
        let record = Record::with(dot(1, 7), [9; 32], document, 1, needs, b"change", replaces);
        assert_eq!(Record::decode(record.bytes.clone()), Ok(record.clone()));
        assert_eq!(&record.change[..], b"change");
        let hex: String = record.bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "01a80048010101010101010101070258200909090909090909090909090909090909090909090909090909090909090909\
             03687765622f70726f6404010581824802020202020202020306466368616e6765078280828248020202020202020203\
             8248030303030303030319012c"
        );
    }

    #[test]
    fn fields_of_a_later_program_are_passed_over() {
        let known = record();
        let mut bytes = known.bytes.to_vec();
        assert_eq!(bytes[1], 0xa7, "a map of seven");
        bytes[1] = 0xa8;
        bytes.extend([0x18, 99, 0x63, b'n', b'e', b'w']);
        let later = Record::decode(bytes.into()).unwrap();
        assert_eq!((later.dot, &later.change), (known.dot, &known.change));
        assert_ne!(later.hash, known.hash, "the chain covers what is not understood");
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_decoder(noise in proptest::collection::vec(any::<u8>(), 0..100), at in any::<prop::sample::Index>(), with in any::<u8>()) {
            let _ = Record::decode(noise.into());
            let mut bytes = record().bytes.to_vec();
            let i = at.index(bytes.len());
            bytes[i] = with;
            let _ = Record::decode(bytes.into());
        }
    }
}
