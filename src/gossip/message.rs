//! What peers say after the hello. On the one stream that a dialer opens: [`Message`]s. On a
//! two-way stream that either side opens: one [`Pull`], answered by [`Answer`]s, or a [`Tag`] and
//! then whatever its kind of stream says.

use bytes::Bytes;
use minicbor::data::Type;

use super::streams::Tag;
use crate::env::Release;
use crate::members::Words;
use crate::model::{Stamp, Told, cbor};
use crate::topology::NODES_MAX;

/// Most records in one frame.
pub(super) const RECORDS_MAX: usize = 4_096;
/// A frame of records is closed when it has this many bytes.
const FRAME_BYTES: usize = 256 * 1024;
/// Longest [`Pull`], in bytes: a vector of all origins fits.
pub(super) const PULL_LEN_MAX: usize = 128 * 1024;

/// On the dialer's stream, in this order: changes before the vector that includes them.
#[derive(Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub(super) enum Message {
    /// Changes that were made here.
    #[n(0)]
    Push(#[n(0)] Records),
    /// What is here.
    #[n(1)]
    Have(#[n(0)] Have),
}

/// What a node has.
#[derive(Clone, Debug, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(super) struct Have {
    /// Applied, visible and on disk.
    #[n(0)]
    pub(super) vector: Told,
    /// Its time of day.
    #[n(1)]
    pub(super) now: Stamp,
    /// Whom it hears; absent where that was said a moment ago.
    #[n(2)]
    pub(super) hears: Option<Nodes>,
    /// What others have whom the receiver doesn't hear.
    #[n(3)]
    #[cbor(default)]
    pub(super) others: Others,
    /// Who joined and who left, where the receiver is not known to know it.
    #[n(4)]
    pub(super) members: Option<Words>,
    /// Which state of that the sender knows: see [`crate::members::Members::words`]. Said with
    /// `hears`, and with `members`.
    #[n(5)]
    pub(super) members_hash: Option<u64>,
    /// Whether a balancer may send requests to it; said with `hears`, and at once when it drains.
    #[n(6)]
    pub(super) ready: Option<bool>,
}

impl Have {
    /// What that release knows of it.
    pub(super) fn known_to(self, release: Release) -> Self {
        Self { ready: release.knows(self.ready), ..self }
    }
}

/// Asks for what `vector` does not include.
#[derive(Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(super) struct Pull {
    /// What the asking node has.
    #[n(0)]
    pub(super) vector: Told,
    /// Whether it can be told to take whole documents; absent in programs of before there were any,
    /// and then [`Answer::Documents`] is not said.
    #[n(1)]
    pub(super) takes_documents: Option<bool>,
}

/// The first frame of a two-way stream: a pull is a map, a tag an array.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opening {
    Pull(Pull),
    Tag(Tag),
}

/// What answers a [`Pull`]: batches, then one `Done` or `Documents`.
#[derive(Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub(super) enum Answer {
    /// Changes, in an order that can be applied.
    #[n(0)]
    Batch(#[n(0)] Records),
    /// That was it; whether another pull would bring more.
    #[n(1)]
    Done(#[n(0)] bool),
    /// The rest comes with whole documents: because it is gone from the log (`true`), or because
    /// they are much less than the records.
    #[n(2)]
    Documents(#[n(0)] bool),
}

/// Opaque changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Records(pub(super) Vec<Bytes>);

/// Names as a peer says them: nothing is believed about them yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Nodes(pub(super) Vec<String>);

/// Other nodes and what they have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Others(pub(super) Vec<(String, Told)>);

impl Records {
    /// Splits `records` into frames' worths, in order, none of them empty.
    pub(super) fn split(records: Vec<Bytes>) -> Vec<Records> {
        let mut frames: Vec<Records> = Vec::new();
        let mut room = 0;
        for record in records {
            match frames.last_mut() {
                Some(frame) if record.len() <= room && frame.0.len() < RECORDS_MAX => {
                    room -= record.len();
                    frame.0.push(record);
                }
                _ => {
                    room = FRAME_BYTES.saturating_sub(record.len());
                    frames.push(Records(vec![record]));
                }
            }
        }
        frames
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Opening {
    fn decode(d: &mut minicbor::Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        match d.datatype()? {
            Type::Map | Type::MapIndef => d.decode_with(ctx).map(Self::Pull),
            _ => d.decode_with(ctx).map(Self::Tag),
        }
    }
}

type Encoded<W> = Result<(), minicbor::encode::Error<<W as minicbor::encode::Write>::Error>>;

impl<C> minicbor::Encode<C> for Records {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Encoded<W> {
        cbor::write_list(e, self.0.iter(), |e, record| e.bytes(record)?.ok())
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Records {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        // Copied, so that one record that waits does not hold the frame it came in.
        let copied = |d: &mut minicbor::Decoder<'b>| d.bytes().map(Bytes::copy_from_slice);
        cbor::read_list(d, RECORDS_MAX, copied).map(Self)
    }
}

impl<C> minicbor::Encode<C> for Nodes {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Encoded<W> {
        cbor::write_list(e, self.0.iter(), |e, node| e.str(node)?.ok())
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Nodes {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        cbor::read_list(d, NODES_MAX, |d| d.str().map(str::to_owned)).map(Self)
    }
}

impl<C> minicbor::Encode<C> for Others {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        ctx: &mut C,
    ) -> Encoded<W> {
        cbor::write_list(e, self.0.iter(), |e, (node, vector)| {
            e.array(2)?.str(node)?.encode_with(vector, ctx)?.ok()
        })
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Others {
    fn decode(d: &mut minicbor::Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        let pair = |d: &mut minicbor::Decoder<'b>| match d.array()? {
            Some(2) => Ok((d.str()?.to_owned(), d.decode_with(ctx)?)),
            _ => Err(minicbor::decode::Error::message("a pair has two parts")),
        };
        cbor::read_list(d, NODES_MAX, pair).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cbor::{decode, encode};
    use crate::model::{Dot, Origin};
    use proptest::prelude::*;

    fn vector(dots: Vec<([u8; 8], u64)>) -> Told {
        dots.into_iter().map(|(o, n)| Dot { origin: Origin(o), n }).collect()
    }

    fn any_vector() -> impl Strategy<Value = Told> {
        proptest::collection::vec(any::<([u8; 8], u64)>(), 0..5).prop_map(vector)
    }

    fn any_records() -> impl Strategy<Value = Records> {
        let record = proptest::collection::vec(any::<u8>(), 0..50).prop_map(Bytes::from);
        proptest::collection::vec(record, 0..10).prop_map(Records)
    }

    proptest! {
        #[test]
        fn messages_read_back_as_written(
            records in any_records(),
            vector in any_vector(),
            now: u64,
            hears in proptest::option::of(proptest::collection::vec("[a-z]{0,9}", 0..4)),
            others in proptest::collection::vec(("[a-z]{0,9}", any_vector()), 0..3),
            more: bool,
        ) {
            let push = Message::Push(records.clone());
            prop_assert_eq!(&decode::<Message>(&encode(&push)).unwrap(), &push);
            let have = Message::Have(Have {
                vector: vector.clone(),
                now: Stamp(now),
                hears: hears.map(Nodes),
                others: Others(others),
                members: more.then(|| Words(Vec::new())),
                members_hash: more.then_some(now),
                ready: more.then_some(now > 5),
            });
            prop_assert_eq!(&decode::<Message>(&encode(&have)).unwrap(), &have);
            let pull = Pull { vector, takes_documents: more.then_some(true) };
            prop_assert_eq!(decode::<Opening>(&encode(&pull)).unwrap(), Opening::Pull(pull));
            let tag = || Tag { kind: u32::from(more) };
            prop_assert_eq!(decode::<Opening>(&encode(&tag())).unwrap(), Opening::Tag(tag()));
            for answer in [Answer::Batch(records), Answer::Done(more), Answer::Documents(more)] {
                prop_assert_eq!(&decode::<Answer>(&encode(&answer)).unwrap(), &answer);
            }
        }

        #[test]
        fn no_bytes_panic_the_decoders(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode::<Message>(&bytes);
            let _ = decode::<Opening>(&bytes);
            let _ = decode::<Answer>(&bytes);
        }

        #[test]
        fn a_damaged_message_is_refused_or_read(records in any_records(), at: usize, byte: u8) {
            let mut bytes = encode(&Message::Push(records));
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = decode::<Message>(&bytes);
            let _ = decode::<Answer>(&bytes);
        }

        #[test]
        fn a_split_keeps_all_records_in_order(lens in proptest::collection::vec(0..200_000_usize, 0..20)) {
            let records: Vec<Bytes> = lens.iter().map(|len| vec![7; *len].into()).collect();
            let frames = Records::split(records.clone());
            for frame in &frames {
                let bytes: usize = frame.0.iter().map(Bytes::len).sum();
                prop_assert!(bytes <= FRAME_BYTES && !frame.0.is_empty());
            }
            let joined: Vec<Bytes> = frames.into_iter().flat_map(|frame| frame.0).collect();
            prop_assert_eq!(joined, records);
        }
    }

    #[test]
    fn a_frame_of_countless_records_is_refused() {
        let mut bytes = vec![0x82, 0x00, 0x81, 0x9a];
        bytes.extend(u32::MAX.to_be_bytes());
        assert!(decode::<Message>(&bytes).is_err());
        let many = Records(vec![Bytes::new(); RECORDS_MAX + 1]);
        assert!(decode::<Message>(&encode(&Message::Push(many.clone()))).is_err());
        assert!(Records::split(many.0).len() == 2);
    }

    /// As it was before nodes joined.
    #[derive(minicbor::Decode)]
    #[cbor(map)]
    struct OldHave {
        #[n(0)]
        vector: Told,
        #[n(3)]
        #[cbor(default)]
        others: Others,
    }

    /// As it was before there were whole documents.
    #[derive(minicbor::Decode)]
    #[cbor(map)]
    struct OldPull {
        #[n(0)]
        vector: Told,
    }

    #[test]
    fn an_old_program_reads_a_pull_and_an_old_pull_takes_no_documents() {
        let vector = vector(vec![([1; 8], 3)]);
        let new = Pull { vector: vector.clone(), takes_documents: Some(true) };
        assert_eq!(decode::<OldPull>(&encode(&new)).unwrap().vector, vector);
        let old = Opening::Pull(Pull { vector: vector.clone(), takes_documents: None });
        let bytes = encode(&Pull { vector, takes_documents: None });
        assert_eq!(decode::<Opening>(&bytes).unwrap(), old);
    }

    #[test]
    fn an_old_program_passes_over_who_joined_and_left_and_who_is_ready() {
        let word = crate::members::Word {
            node: "a-2".into(),
            region: "a".into(),
            peer: "127.0.0.1:1".into(),
            http: "127.0.0.1:2".into(),
            incarnation: 1,
            left: true,
            gone_ms: Some(9),
        };
        let new = Have {
            vector: vector(vec![([1; 8], 3)]),
            members: Some(Words(vec![word])),
            members_hash: Some(7),
            ready: Some(true),
            ..Have::default()
        };
        let old: OldHave = decode(&encode(&new)).unwrap();
        assert_eq!((old.vector, old.others), (new.vector.clone(), Others::default()));
        assert_eq!(decode::<Have>(&encode(&new)).unwrap(), new);
    }

    #[test]
    fn the_format_of_a_message_does_not_change() {
        let hex = |bytes: Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let push = Message::Push(Records(vec![Bytes::from_static(b"ab")]));
        assert_eq!(hex(encode(&push)), "82008181426162");
        let vector = vector(vec![([1; 8], 3)]);
        let have = Have { vector: vector.clone(), now: Stamp(5), ..Have::default() };
        assert_eq!(hex(encode(&Message::Have(have))), "820181a300a14801010101010101010301050380");
        let pull = |takes_documents| Pull { vector: vector.clone(), takes_documents };
        assert_eq!(hex(encode(&pull(None))), "a100a148010101010101010103");
        assert_eq!(hex(encode(&pull(Some(true)))), "a200a14801010101010101010301f5");
        assert_eq!(hex(encode(&Answer::Done(true))), "820181f5");
        assert_eq!(hex(encode(&Answer::Documents(true))), "820281f5");
    }
}
