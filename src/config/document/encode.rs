//! A change's bytes, made from what it does: exactly those that Automerge's own `put` and `commit`
//! would make, without a document that has to be edited for them. It writes the one kind of change
//! there is here, entries set in buckets, and it checks nothing: a test holds it to Automerge, byte
//! for byte.
//!
//! The format: <https://automerge.org/automerge-binary-format-spec/>, sections "chunk", "change"
//! and "columns".

use std::collections::BTreeSet;

use automerge::ChangeHash;
use sha2::{Digest as _, Sha256};

use super::{ActorBytes, GENESIS_ACTOR, OpId, bucket_of};
use crate::config::entry::Entry;
use crate::model::{Key, cbor};

const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
const CHECKSUM_LEN: usize = 4;
const CHANGE_CHUNK: u8 = 1;
/// A map's key is set to a value.
const PUT: u64 = 1;
/// A value's type, in the low bits of what says its length.
const BYTES: u64 = 7;
const TYPE_BITS: u32 = 4;
/// The columns that are not empty for such a change, by their specifications.
const OBJECT_ACTOR: u64 = 0x01;
const OBJECT_NUMBER: u64 = 0x02;
const KEY: u64 = 0x15;
const INSERT: u64 = 0x34;
const ACTION: u64 = 0x42;
const VALUE_META: u64 = 0x56;
const VALUE: u64 = 0x57;
const REPLACED_COUNT: u64 = 0x70;
const REPLACED_ACTOR: u64 = 0x71;
const REPLACED_NUMBER: u64 = 0x73;

/// What a change does, and what it builds on.
pub(super) struct Draft<'a> {
    pub(super) actor: ActorBytes,
    /// Which of the actor's changes of the document it is, from 1.
    pub(super) seq: u64,
    /// The first operation's number.
    pub(super) start_op: u64,
    /// Sorted.
    pub(super) deps: &'a [ChangeHash],
    pub(super) operations: &'a [Operation<'a>],
}

/// A key is set to an entry, in place of what other operations set it to.
pub(super) struct Operation<'a> {
    pub(super) key: &'a Key,
    pub(super) entry: &'a Entry,
    /// Sorted.
    pub(super) replaced: Vec<OpId>,
}

/// The change's bytes, and the hash that others name it by.
pub(super) fn change(draft: &Draft<'_>) -> (ChangeHash, Vec<u8>) {
    let replaced = || draft.operations.iter().flat_map(|operation| &operation.replaced);
    let mut others: BTreeSet<ActorBytes> = replaced().map(|op| op.actor).collect();
    others.insert(GENESIS_ACTOR);
    others.remove(&draft.actor);
    let others: Vec<ActorBytes> = others.into_iter().collect();
    let columns = columns(draft, &others);

    let mut body = Vec::with_capacity(128 + draft.deps.len() * 32 + columns.data.len());
    unsigned(draft.deps.len() as u64, &mut body);
    for hash in draft.deps {
        body.extend_from_slice(&hash.0);
    }
    prefixed(&draft.actor, &mut body);
    unsigned(draft.seq, &mut body);
    unsigned(draft.start_op, &mut body);
    // No wall time in the change: an entry has its own stamp. And no message.
    signed(0, &mut body);
    unsigned(0, &mut body);
    unsigned(others.len() as u64, &mut body);
    for actor in &others {
        prefixed(actor, &mut body);
    }
    unsigned(columns.lens.len() as u64, &mut body);
    for (spec, len) in &columns.lens {
        unsigned(*spec, &mut body);
        unsigned(*len as u64, &mut body);
    }
    body.extend_from_slice(&columns.data);

    let mut head = vec![CHANGE_CHUNK];
    unsigned(body.len() as u64, &mut head);
    let hash: [u8; 32] = Sha256::new().chain_update(&head).chain_update(&body).finalize().into();
    let bytes = [&MAGIC[..], &hash[..CHECKSUM_LEN], &head, &body].concat();
    (ChangeHash(hash), bytes)
}

/// Columns behind each other, empty ones left out.
#[derive(Default)]
struct Columns {
    lens: Vec<(u64, usize)>,
    data: Vec<u8>,
}

impl Columns {
    fn add(&mut self, spec: u64, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.data.len();
        write(&mut self.data);
        let len = self.data.len() - start;
        if len > 0 {
            self.lens.push((spec, len));
        }
    }
}

fn columns(draft: &Draft<'_>, others: &[ActorBytes]) -> Columns {
    let operations = draft.operations;
    let count = operations.len();
    // The change's own actor is the first.
    let actor_index = |actor: &ActorBytes| others.binary_search(actor).map_or(0, |i| i as u64 + 1);
    let mut values = Vec::new();
    let mut metas = Vec::with_capacity(count);
    for operation in operations {
        let start = values.len();
        cbor::encode_into(operation.entry, &mut values);
        metas.push(((values.len() - start) as u64) << TYPE_BITS | BYTES);
    }
    let each = |of: &dyn Fn(&Operation<'_>) -> u64| operations.iter().map(of).collect::<Vec<u64>>();
    let replaced = || operations.iter().flat_map(|operation| &operation.replaced);
    let mut last = 0;
    let steps: Vec<i64> = replaced()
        .map(|op| op.number as i64 - std::mem::replace(&mut last, op.number as i64))
        .collect();
    let keys: Vec<&str> = operations.iter().map(|operation| operation.key.as_str()).collect();

    let mut columns = Columns { lens: Vec::new(), data: Vec::with_capacity(values.len() + 64) };
    let genesis = actor_index(&GENESIS_ACTOR);
    columns.add(OBJECT_ACTOR, |out| runs(&vec![genesis; count], out, |v, out| unsigned(*v, out)));
    let objects = each(&|operation| bucket_of(operation.key) as u64 + 1);
    columns.add(OBJECT_NUMBER, |out| runs(&objects, out, |v, out| unsigned(*v, out)));
    columns.add(KEY, |out| runs(&keys, out, |key, out| prefixed(key.as_bytes(), out)));
    // A column of truths counts how many are false, then how many are true, and so on.
    columns.add(INSERT, |out| unsigned(count as u64, out));
    columns.add(ACTION, |out| runs(&vec![PUT; count], out, |v, out| unsigned(*v, out)));
    columns.add(VALUE_META, |out| runs(&metas, out, |v, out| unsigned(*v, out)));
    columns.add(VALUE, |out| out.extend_from_slice(&values));
    let counts = each(&|operation| operation.replaced.len() as u64);
    columns.add(REPLACED_COUNT, |out| runs(&counts, out, |v, out| unsigned(*v, out)));
    let actors: Vec<u64> = replaced().map(|op| actor_index(&op.actor)).collect();
    columns.add(REPLACED_ACTOR, |out| runs(&actors, out, |v, out| unsigned(*v, out)));
    columns.add(REPLACED_NUMBER, |out| runs(&steps, out, |v, out| signed(*v, out)));
    columns
}

/// Run lengths: of equal values how many and which one; of different ones how many, negative, and
/// each of them.
fn runs<T: PartialEq>(values: &[T], out: &mut Vec<u8>, write: impl Fn(&T, &mut Vec<u8>)) {
    let equal_from = |i: usize| values[i..].iter().take_while(|value| **value == values[i]).count();
    let mut at = 0;
    while at < values.len() {
        let equal = equal_from(at);
        if equal > 1 {
            signed(equal as i64, out);
            write(&values[at], out);
            at += equal;
            continue;
        }
        let starts_run = |i: &usize| values.get(i + 1).is_some_and(|next| *next == values[*i]);
        let end = (at..values.len()).find(starts_run).unwrap_or(values.len());
        signed(-((end - at) as i64), out);
        for value in &values[at..end] {
            write(value, out);
        }
        at = end;
    }
}

fn prefixed(bytes: &[u8], out: &mut Vec<u8>) {
    unsigned(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// LEB128.
fn unsigned(mut number: u64, out: &mut Vec<u8>) {
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// LEB128, signed: the last byte's second bit is the sign.
fn signed(mut number: i64, out: &mut Vec<u8>) {
    while !(-0x40..0x40).contains(&number) {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8 & 0x7f);
}
