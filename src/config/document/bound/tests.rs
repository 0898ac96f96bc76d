//! Real changes are counted right; what would take for ever to unpack is refused.

use super::*;
use crate::config::Entry;
use crate::config::document::{Actor, CheckedChange, Document, DocumentError};
use crate::model::{Dot, JsonText, Key, Origin, Stamp};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

const DOT: Dot = Dot { origin: Origin([1; 8]), n: 1 };

fn entry(dot: Dot, value: Option<&str>) -> Entry {
    Entry {
        value: value.map(|v| JsonText::parse(v).unwrap()),
        version: 1,
        stamp: Stamp(0),
        dot,
        author: "".into(),
        region: "".into(),
        message: None,
        idempotency: None,
    }
}

/// One change of `document` that writes these keys.
fn write(
    document: &mut Document,
    n: u64,
    keys: impl Iterator<Item = usize>,
    value: Option<&str>,
) -> Vec<u8> {
    let dot = Dot { n, ..DOT };
    let key = |i: usize| Key::new(&format!("k{i}")).unwrap();
    let entries: Vec<(Key, Entry)> = keys.map(|i| (key(i), entry(dot, value))).collect();
    let actor = Actor { origin: DOT.origin, incarnation: [0; 4] };
    document.write(actor, dot, &entries).unwrap()
}

fn leb(number: u64) -> Vec<u8> {
    let mut number = number;
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A positive number as signed LEB128: a zero byte more where its last one would look negative.
fn run(len: u64) -> Vec<u8> {
    let mut bytes = leb(len);
    if let Some(last) = bytes.last_mut().filter(|last| **last & 0x40 != 0) {
        *last |= 0x80;
        bytes.push(0);
    }
    bytes
}

/// A chunk that Automerge takes: the checksum is right.
fn chunk(columns: &[(u32, Vec<u8>)]) -> Vec<u8> {
    // No dependency; an actor that is the dot's; sequence number, first operation, time, message.
    let mut body = [&[0, 8][..], &[1; 8], &[1, 1, 0, 0, 0]].concat();
    body.extend(leb(columns.len() as u64));
    for (spec, data) in columns {
        body.extend(leb(u64::from(*spec)));
        body.extend(leb(data.len() as u64));
    }
    columns.iter().for_each(|(_, data)| body.extend(data));
    let framed = [&[CHANGE_CHUNK][..], &leb(body.len() as u64), &body].concat();
    [&MAGIC[..], &Sha256::digest(&framed)[..4], &framed].concat()
}

/// `operations` puts of null to the root's "a", each of which replaces `replaced` others.
fn bomb(operations: u64, replaced: u64) -> Vec<u8> {
    let ops = |value: &[u8]| [run(operations), value.to_vec()].concat();
    let all_replaced = |value: u8| [run(operations * replaced), vec![value]].concat();
    let mut columns = vec![
        (21, ops(b"\x01a")),
        (52, leb(operations)),
        (ACTIONS, ops(&[1])),
        (86, ops(&[0])),
        (112, ops(&leb(replaced))),
    ];
    if replaced > 0 {
        columns.extend([(REPLACED_ACTORS, all_replaced(0)), (115, all_replaced(1))]);
    }
    chunk(&columns)
}

fn refusal(bytes: &[u8]) -> String {
    match CheckedChange::decode(bytes, DOT) {
        Err(DocumentError::Undecodable(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_would_take_for_ever_to_unpack_is_refused() {
    // Small enough, it is a change that Automerge takes, so that the large ones are, too.
    let small = CheckedChange::decode(&bomb(2, 1), DOT);
    assert!(matches!(small, Err(DocumentError::Illegal(_))), "{small:?}");
    for operations in [1_000, 1 << 16, 1 << 40, 1 << 62] {
        assert_eq!(refusal(&bomb(operations, 0)), "more operations than bytes for them");
    }
    for replaced in [1_000, 1 << 16, 1 << 40, 1 << 62] {
        assert_eq!(refusal(&bomb(1, replaced)), "more writes replaced than bytes for them");
    }
    // Runs of nothing, some of which Automerge reads as negative, and one too long to be negated.
    for len in [1_000, 1 << 62, u64::MAX] {
        let nulls = [&[0][..], &leb(len)].concat();
        assert_eq!(refusal(&chunk(&[(ACTIONS, nulls)])), "more operations than bytes for them");
    }
    let least = [vec![0x80; 9], vec![0x7f, 1]].concat();
    assert_eq!(refusal(&chunk(&[(ACTIONS, least)])), "more operations than bytes for them");
    let twice = [(ACTIONS, [run(1 << 20), vec![1]].concat()), (ACTIONS, vec![1, 1])];
    assert!(operations(&chunk(&twice)).is_err());
    let twice = [(ACTIONS, vec![1, 1]), (ACTIONS, vec![1, 1])];
    assert_eq!(refusal(&chunk(&twice)), "columns are out of order");
    let long_text = [&[1][..], &leb(900_000_000), b"a"].concat();
    let columns = [(21, long_text), (ACTIONS, vec![1, 1])];
    assert_eq!(refusal(&chunk(&columns)), "a text is longer than its column");
}

#[test]
fn nothing_compressed_is_unpacked() {
    let mut document = Document::new();
    let bytes = write(&mut document, 1, 0..50, Some("1"));
    let mut change = automerge::Change::try_from(&bytes[..]).unwrap();
    let compressed = change.bytes().into_owned();
    assert_eq!(compressed[8], 2, "Automerge compressed it");
    assert!(CheckedChange::decode(&bytes, DOT).is_ok());
    assert_eq!(refusal(&compressed), "not a plain change chunk");
    let column = [(ACTIONS | DEFLATED_BIT, vec![3, 0])];
    assert_eq!(refusal(&chunk(&column)), "a column is compressed");
}

#[test]
fn a_change_that_replaces_many_writes_is_counted() {
    let mut documents: Vec<Document> = (0..40).map(|_| Document::new()).collect();
    let mut all = Document::new();
    for (i, document) in documents.iter_mut().enumerate() {
        let dot = Dot { origin: Origin([i as u8 + 1; 8]), n: 1 };
        let actor = Actor { origin: dot.origin, incarnation: [0; 4] };
        let key = |i: usize| Key::new(&format!("k{i}")).unwrap();
        let entries: Vec<(Key, Entry)> = (0..20).map(|i| (key(i), entry(dot, None))).collect();
        let bytes = document.write(actor, dot, &entries).unwrap();
        all.apply(&[CheckedChange::decode(&bytes, dot).unwrap()]).unwrap();
    }
    let bytes = write(&mut all, 2, 0..20, None);
    assert_eq!(operations(&bytes), Ok(20));
    let dot = Dot { n: 2, ..DOT };
    assert_eq!(CheckedChange::decode(&bytes, dot).unwrap().entries.len(), 20);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_a_node_writes_is_counted_right(
        writes in proptest::collection::vec((0_usize..300, 1_usize..120, "[a-z]{0,20}"), 1..6),
    ) {
        let mut document = Document::new();
        for (n, (from, len, text)) in (1..).zip(writes) {
            let value = format!("\"{text}\"");
            let value = (!text.is_empty()).then_some(value.as_str());
            let bytes = write(&mut document, n, from..from + len, value);
            prop_assert_eq!(operations(&bytes), Ok(len));
            let checked = CheckedChange::decode(&bytes, Dot { n, ..DOT }).unwrap();
            prop_assert_eq!(checked.entries.len(), len);
        }
    }

    #[test]
    fn no_bytes_panic_the_reader_or_hold_it_up(
        noise in proptest::collection::vec(any::<u8>(), 0..120),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        bombs in (any::<u64>(), 0_u64..3),
    ) {
        let mut samples = vec![noise.clone(), [&MAGIC[..], &[0; 4], &[1], &noise].concat()];
        samples.push(chunk(&[(ACTIONS, noise.clone())]));
        samples.push(chunk(&[(21, noise.clone()), (REPLACED_ACTORS, noise)]));
        samples.push(bomb(bombs.0 >> 2, bombs.1));
        let mut bytes = write(&mut Document::new(), 1, 0..5, Some("1"));
        for (at, with) in changes {
            let at = at.index(bytes.len());
            bytes[at] = with;
        }
        samples.push(bytes);
        for sample in samples {
            if let Ok(operations) = operations(&sample) {
                prop_assert!(operations <= sample.len());
            }
            let _ = CheckedChange::decode(&sample, DOT);
        }
    }

    #[test]
    fn numbers_are_read_as_automerge_reads_them(number in any::<i64>(), len in any::<u64>()) {
        let mut bytes = Vec::new();
        let mut left = number;
        loop {
            let byte = left as u8 & 0x7f;
            left >>= 7;
            if (left == 0 && byte & 0x40 == 0) || (left == -1 && byte & 0x40 != 0) {
                bytes.push(byte);
                break;
            }
            bytes.push(byte | 0x80);
        }
        prop_assert_eq!(signed(&mut &bytes[..]), Some(number));
        prop_assert_eq!(unsigned(&mut &leb(len)[..]), Some(len));
    }
}
