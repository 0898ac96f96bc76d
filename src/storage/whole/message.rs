//! What is said on a stream of whole documents: one [`Ask`], answered by [`Piece`]s, each in a frame
//! of its own. The first is the cut, the last one its end; what belongs to a document stands together.

use bytes::Bytes;
use minicbor::bytes::ByteSlice;

use crate::config::record::RecordHash;
use crate::model::vector::Fold;
use crate::model::{Dot, Told};

/// A piece is closed when it has this many bytes.
pub(super) const PIECE_BYTES: usize = 256 * 1024;
/// Most records or rows of history in one piece.
pub(super) const ROWS_MAX: usize = 4_096;

/// Asks for whole documents.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Ask {
    /// What the asking node has: documents that it has all changes of are left out.
    #[n(0)]
    pub vector: Told,
    /// Whether it takes what keys show from the documents, and needs it in no history. A program of
    /// before does not say so, and gets it in both.
    #[n(1)]
    pub shown_in_rows: Option<bool>,
}

impl Ask {
    /// Asks as this program does.
    pub fn new(vector: Told) -> Self {
        Self { vector, shown_in_rows: Some(true) }
    }
}

/// A part of the answer.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub(in crate::storage) enum Piece<'a> {
    /// What all that follows is as of.
    #[n(0)]
    Cut(#[n(0)] CutHead),
    /// A part of what is kept of a document.
    #[n(1)]
    Part(#[b(0)] Part<'a>),
    /// Records of the document's epoch that the receiver's log has to hold.
    #[n(2)]
    Records(#[n(0)] Records),
    /// Rows of histories. Without any it says that the sender is at work, and how many documents it
    /// is done with: programs that do not know the number pass it over.
    #[n(3)]
    History(#[b(0)] Vec<HistoryRow<'a>>, #[n(1)] Option<u64>),
    /// That was it.
    #[n(4)]
    End(#[n(0)] End),
    /// Records of requests that may be retried.
    #[n(5)]
    Retries(#[n(0)] Records),
    /// A fold that the cut includes and the receiver's vector did not; each before the next one.
    #[n(6)]
    Fold(#[n(0)] Fold),
}

/// One state of the sender's store.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(in crate::storage) struct CutHead {
    /// The changes that are in it.
    #[n(0)]
    pub(in crate::storage) vector: Told,
    /// The hash of each origin's last record, in the order of the vector, one behind the other.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    heads: Vec<u8>,
    /// How many documents there are, those among them that are left out.
    #[n(2)]
    pub(in crate::storage) documents: u64,
}

impl CutHead {
    pub(super) fn new(
        vector: Told,
        hash_of: impl Fn(Dot) -> Option<RecordHash>,
        documents: u64,
    ) -> Option<Self> {
        let mut heads = Vec::with_capacity(vector.len() * size_of::<RecordHash>());
        for dot in vector.iter() {
            heads.extend(hash_of(dot)?);
        }
        Some(Self { vector, heads, documents })
    }

    /// Each origin's last change and its record's hash; none where the two don't match.
    pub(in crate::storage) fn heads(&self) -> Option<Vec<(Dot, RecordHash)>> {
        let (hashes, rest) = self.heads.as_chunks::<{ size_of::<RecordHash>() }>();
        let is_whole = rest.is_empty() && hashes.len() == self.vector.len();
        is_whole.then(|| self.vector.iter().zip(hashes.iter().copied()).collect())
    }
}

/// Which table a part of a document belongs in. Stands on the wire and never changes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, minicbor::Encode, minicbor::Decode,
)]
#[cbor(index_only)]
pub(in crate::storage) enum Table {
    /// The document as of the cut; the last of its values.
    #[n(0)]
    Base,
    /// The document as its epoch began; not in epoch 0.
    #[n(1)]
    EpochBase,
}

/// A part of a value; the parts of one value follow each other.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(in crate::storage) struct Part<'a> {
    /// Which document.
    #[n(0)]
    pub(in crate::storage) document: &'a str,
    /// Which value of it.
    #[n(1)]
    pub(in crate::storage) table: Table,
    /// The next bytes of the value.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub(in crate::storage) bytes: &'a [u8],
    /// Whether these are its last.
    #[n(3)]
    pub(in crate::storage) is_last: bool,
    /// How many documents the sender is done with once this one is here.
    #[n(4)]
    pub(in crate::storage) done: u64,
}

/// A row of the table of histories, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(in crate::storage) struct HistoryRow<'a> {
    /// The key's name.
    #[n(0)]
    pub(in crate::storage) name: &'a str,
    /// The entry's version.
    #[n(1)]
    pub(in crate::storage) version: u64,
    /// The entry's change.
    #[n(2)]
    pub(in crate::storage) dot: Dot,
    /// The entry.
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    pub(in crate::storage) entry: &'a [u8],
}

/// Records, as they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::storage) struct Records(pub(in crate::storage) Vec<Bytes>);

/// What there was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(in crate::storage) struct End {
    /// How many pieces there were before this one.
    #[n(0)]
    pub(in crate::storage) pieces: u64,
    /// SHA-256 over all of them.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub(in crate::storage) sum: [u8; 32],
}

impl<C> minicbor::Encode<C> for Records {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        let list: Vec<&ByteSlice> = self.0.iter().map(|record| (&**record).into()).collect();
        e.encode_with(&list, ctx)?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Records {
    fn decode(d: &mut minicbor::Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        let list: Vec<&ByteSlice> = d.decode_with(ctx)?;
        Ok(Self(list.into_iter().map(|record| Bytes::copy_from_slice(record)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Origin;
    use crate::model::cbor::{decode, encode};
    use proptest::prelude::*;

    fn dot(origin: u8, n: u64) -> Dot {
        Dot { origin: Origin([origin; 8]), n }
    }

    fn pieces() -> Vec<Piece<'static>> {
        let vector: Told = [dot(1, 3)].into_iter().collect();
        let part =
            Part { document: "web/dev", table: Table::Base, bytes: b"ab", is_last: true, done: 7 };
        let row = HistoryRow { name: "web/dev/k", version: 2, dot: dot(1, 3), entry: b"e" };
        vec![
            Piece::Cut(CutHead::new(vector, |_| Some([9; 32]), 5).unwrap()),
            Piece::Part(part),
            Piece::Records(Records(vec![Bytes::from_static(b"r")])),
            Piece::History(vec![row], None),
            Piece::End(End { pieces: 4, sum: [8; 32] }),
            Piece::Retries(Records(vec![Bytes::from_static(b"r")])),
            Piece::History(vec![], Some(7)),
        ]
    }

    #[test]
    fn the_format_of_a_piece_does_not_change() {
        let hex = |bytes: Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let nines = "09".repeat(32);
        let eights = "08".repeat(32);
        let expected = [
            format!("820081a300a148010101010101010103015820{nines}0205"),
            "820181a500677765622f64657601000242616203f50407".into(),
            "820281814172".into(),
            "82038181a400697765622f6465762f6b0102028248010101010101010103034165".into(),
            format!("820481a20004015820{eights}"),
            "820581814172".into(),
            "8203828007".into(),
        ];
        for (piece, expected) in pieces().iter().zip(expected) {
            assert_eq!(hex(encode(piece)), expected);
            assert_eq!(&decode::<Piece<'_>>(&encode(piece)).unwrap(), piece);
        }
        let vector: Told = [dot(1, 3)].into_iter().collect();
        for (ask, expected) in [
            (Ask { vector: vector.clone(), shown_in_rows: None }, "a100a148010101010101010103"),
            (Ask::new(vector), "a200a14801010101010101010301f5"),
        ] {
            assert_eq!(hex(encode(&ask)), expected);
            assert_eq!(decode::<Ask>(&encode(&ask)).unwrap(), ask);
        }
    }

    /// An ask as the first programs that sent whole documents read it.
    #[derive(Debug, PartialEq, minicbor::Decode)]
    #[cbor(map)]
    struct OldAsk {
        #[n(0)]
        vector: Told,
    }

    #[test]
    fn who_asks_for_less_is_understood_by_a_program_that_sends_all() {
        let vector: Told = [dot(1, 3)].into_iter().collect();
        let ask = encode(&Ask::new(vector.clone()));
        assert_eq!(decode::<OldAsk>(&ask).unwrap(), OldAsk { vector });
    }

    /// A piece as the first programs that sent whole documents read it.
    #[derive(Debug, PartialEq, minicbor::Decode)]
    enum OldPiece<'a> {
        #[n(3)]
        History(#[b(0)] Vec<HistoryRow<'a>>),
    }

    #[test]
    fn a_sender_that_is_at_work_says_nothing_to_a_program_that_knows_no_such_piece() {
        let alive = encode(&Piece::History(vec![], Some(u64::MAX)));
        assert_eq!(decode::<OldPiece<'_>>(&alive).unwrap(), OldPiece::History(vec![]));
        let row = HistoryRow { name: "web/dev/k", version: 2, dot: dot(1, 3), entry: b"e" };
        let rows = encode(&Piece::History(vec![row.clone()], None));
        assert_eq!(decode::<OldPiece<'_>>(&rows).unwrap(), OldPiece::History(vec![row]));
    }

    #[test]
    fn a_cut_whose_hashes_are_not_as_many_as_its_origins_is_no_cut() {
        let Piece::Cut(mut cut) = pieces().remove(0) else { panic!() };
        assert_eq!(cut.heads().unwrap(), [(dot(1, 3), [9; 32])]);
        cut.heads.pop();
        assert_eq!(cut.heads(), None);
        cut.heads = vec![0; 64];
        assert_eq!(cut.heads(), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_decoders(
            noise in proptest::collection::vec(any::<u8>(), 0..200),
            which in 0..7usize,
            at in any::<prop::sample::Index>(),
            with in any::<u8>(),
        ) {
            let _ = decode::<Piece<'_>>(&noise);
            let _ = decode::<Ask>(&noise);
            let mut bytes = encode(&pieces()[which]);
            let i = at.index(bytes.len());
            bytes[i] = with;
            let _ = decode::<Piece<'_>>(&bytes);
        }
    }
}
