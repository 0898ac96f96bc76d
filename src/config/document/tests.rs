//! The merge laws, and what is refused.

mod automerge_itself;
mod epochs;

use super::*;
use crate::config::entry::Entry;
use crate::model::{JsonText, Stamp, cbor};
use automerge::{ObjId, ReadDoc as _, ScalarValue};
use proptest::prelude::*;

fn actor(origin: u8) -> Actor {
    Actor { origin: Origin([origin; 8]), incarnation: [0; 4] }
}

fn dot(origin: u8, n: u64) -> Dot {
    Dot { origin: Origin([origin; 8]), n }
}

fn entry(dot: Dot, stamp: u64, value: Option<&str>) -> Entry {
    Entry {
        value: value.map(|v| JsonText::parse(v).unwrap()),
        version: 1,
        stamp: Stamp(stamp),
        dot,
        author: "tester".into(),
        region: "here".into(),
        message: None,
        idempotency: None,
    }
}

fn key(i: usize) -> Key {
    Key::new(&format!("key{i}")).unwrap()
}

#[test]
fn the_genesis_change_is_the_same_bytes_for_ever() {
    use sha2::{Digest as _, Sha256};
    let genesis = genesis();
    let heads = genesis.get_heads();
    assert_eq!(heads, [*GENESIS]);
    let bytes = genesis.get_change_by_hash(&heads[0]).unwrap().raw_bytes().to_vec();
    let hash: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hash, "00a7af34acb6f4d0791e14de6d9d43d7b5355a7f39eca6daba29d1ddcb970622");
    assert_eq!(bucket_of(&Key::new("server.port").unwrap()), 63);
}

#[test]
fn concurrent_writes_stand_side_by_side_until_a_later_one_replaces_them() {
    let (mut a, mut b) = (Document::new(), Document::new());
    let from_a = a.write(actor(1), dot(1, 1), &[(key(0), entry(dot(1, 1), 5, Some("1")))]).unwrap();
    let from_b = b.write(actor(2), dot(2, 1), &[(key(0), entry(dot(2, 1), 6, None))]).unwrap();
    a.apply(&[CheckedChange::decode(&from_b, dot(2, 1)).unwrap()]).unwrap();
    b.apply(&[CheckedChange::decode(&from_a, dot(1, 1)).unwrap()]).unwrap();
    assert_eq!(a.siblings(&key(0)).len(), 2);
    let mut needs: Vec<Dot> = a.head_dots().collect();
    needs.sort();
    assert_eq!(needs, [dot(1, 1), dot(2, 1)]);
    let settled =
        a.write(actor(1), dot(1, 2), &[(key(0), entry(dot(1, 2), 7, Some("3")))]).unwrap();
    b.apply(&[CheckedChange::decode(&settled, dot(1, 2)).unwrap()]).unwrap();
    assert_eq!(b.siblings(&key(0)), a.siblings(&key(0)));
    assert_eq!(b.siblings(&key(0)).len(), 1);
    assert_eq!(b.head_dots().collect::<Vec<_>>(), [dot(1, 2)]);
}

#[test]
fn a_saved_document_is_the_same_document() {
    let mut a = Document::new();
    for n in 1..20 {
        let e = entry(dot(1, n), n, Some("true"));
        a.write(actor(1), dot(1, n), &[(key(n as usize % 7), e)]).unwrap();
    }
    let saved: SavedDocument = cbor::decode(&cbor::encode(&a.save())).unwrap();
    let b = Document::load(saved, &Arc::default()).unwrap();
    assert!(a.keys().eq(b.keys()));
    assert_eq!(a.head_dots().collect::<Vec<_>>(), b.head_dots().collect::<Vec<_>>());
    for key in a.keys() {
        assert_eq!(a.siblings(key), b.siblings(key));
    }
}

#[test]
fn a_change_that_no_node_makes_is_refused() {
    let mut a = Document::new();
    let bytes = a.write(actor(1), dot(1, 1), &[(key(0), entry(dot(1, 1), 5, Some("1")))]).unwrap();
    assert!(CheckedChange::decode(&bytes, dot(1, 1)).is_ok());
    assert!(CheckedChange::decode(&bytes, dot(1, 2)).is_err(), "another number");
    assert!(CheckedChange::decode(&bytes, dot(2, 1)).is_err(), "another origin");
    let mut raw = genesis().with_actor(ActorId::from(actor(1).bytes()));
    let mut tx = raw.transaction();
    tx.delete(ROOT, "00").unwrap();
    tx.commit();
    let bytes = raw.get_last_local_change().unwrap().raw_bytes().to_vec();
    assert!(matches!(
        CheckedChange::decode(&bytes, dot(1, 1)),
        Err(DocumentError::Illegal("it does something else than to set an entry"))
    ));
    let mut raw = genesis().with_actor(ActorId::from(actor(1).bytes()));
    let wrong = (bucket_of(&key(0)) + 1) % BUCKETS;
    let mut tx = raw.transaction();
    let scalar = ScalarValue::Bytes(cbor::encode(&entry(dot(1, 1), 1, None)));
    tx.put(ObjId::Id(wrong as u64 + 1, ActorId::from(GENESIS_ACTOR), 0), "key0", scalar).unwrap();
    tx.commit();
    let bytes = raw.get_last_local_change().unwrap().raw_bytes().to_vec();
    assert!(matches!(
        CheckedChange::decode(&bytes, dot(1, 1)),
        Err(DocumentError::Illegal("a key stands in another bucket than its own"))
    ));
}

#[test]
fn a_change_whose_dependency_is_missing_is_not_taken_silently() {
    let mut a = Document::new();
    a.write(actor(1), dot(1, 1), &[(key(0), entry(dot(1, 1), 1, None))]).unwrap();
    let second = a.write(actor(1), dot(1, 2), &[(key(0), entry(dot(1, 2), 2, None))]).unwrap();
    let mut b = Document::new();
    let second = CheckedChange::decode(&second, dot(1, 2)).unwrap();
    assert_eq!(b.apply(&[second]), Err(DocumentError::Unapplied));
}

/// What a change says of itself.
struct Claims {
    seq: u64,
    start_op: u64,
    deps: Vec<ChangeHash>,
    replaced: Vec<OpId>,
}

/// What becomes of actor 1's next change of key 0 that is right but for what `alter` does to it.
fn offered(document: &mut Document, alter: impl FnOnce(&mut Claims)) -> Result<(), DocumentError> {
    let own = actor(1).bytes();
    let siblings = document.rows.get(&key(0)).into_iter().flatten();
    let mut claims = Claims {
        seq: document.next_seq(&own),
        start_op: document.max_op + 1,
        deps: document.next_deps(&own),
        replaced: siblings.map(|sibling| sibling.op).collect(),
    };
    let dot = dot(1, claims.seq);
    alter(&mut claims);
    let (key, entry) = (key(0), entry(dot, 9, Some("7")));
    let operations = [encode::Operation { key: &key, entry: &entry, replaced: claims.replaced }];
    let (_, bytes) = encode::change(&encode::Draft {
        actor: own,
        seq: claims.seq,
        start_op: claims.start_op,
        deps: &claims.deps,
        operations: &operations,
    });
    document.apply([&CheckedChange::decode(&bytes, dot).unwrap()])
}

#[test]
fn a_change_that_does_not_follow_from_what_it_builds_on_is_refused() {
    let mut document = Document::new();
    let first = entry(dot(1, 1), 1, Some("1"));
    document.write(actor(1), dot(1, 1), &[(key(0), first)]).unwrap();
    let other = entry(dot(2, 1), 1, Some("2"));
    document.write(actor(2), dot(2, 1), &[(key(1), other)]).unwrap();
    let saved = cbor::encode(&document.save());
    let load = || Document::load(cbor::decode(&saved).unwrap(), &Arc::default()).unwrap();
    assert_eq!(offered(&mut load(), |_| ()), Ok(()));
    let heads: Vec<ChangeHash> = document.heads.keys().copied().collect();
    let replacing = |who, number| vec![OpId { number, actor: actor(who).bytes() }];
    type Alter<'a> = Box<dyn Fn(&mut Claims) + 'a>;
    let wrong: [(&str, Alter<'_>); 9] = [
        ("one of its actor's changes is left out", Box::new(|claims| claims.seq += 1)),
        ("its actor has such a change", Box::new(|claims| claims.seq -= 1)),
        ("an operation is left out", Box::new(|claims| claims.start_op += 1)),
        ("there is such an operation", Box::new(|claims| claims.start_op -= 1)),
        ("it builds on nothing", Box::new(|claims| claims.deps.clear())),
        ("not on its actor's one before", Box::new(|claims| claims.deps.clone_from(&heads))),
        ("it replaces itself", Box::new(|claims| claims.replaced = replacing(1, claims.start_op))),
        ("it replaces what is yet to come", Box::new(|claims| claims.replaced = replacing(2, 67))),
        ("it replaces what nobody wrote", Box::new(|claims| claims.replaced = replacing(3, 1))),
    ];
    for (what, alter) in wrong {
        let outcome = offered(&mut load(), alter);
        assert!(matches!(outcome, Err(DocumentError::Refused(_))), "{what}: {outcome:?}");
    }
}

#[test]
fn no_damage_to_a_base_panics_its_reader() {
    let mut document = Document::new();
    document.write(actor(1), dot(1, 1), &[(key(0), entry(dot(1, 1), 1, None))]).unwrap();
    let bytes = cbor::encode(&document.save());
    assert!(cbor::decode(&bytes).is_ok_and(|saved| Document::load(saved, &Arc::default()).is_ok()));
    for i in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[i] ^= 0x20;
        // Whatever it comes to, it does not panic.
        if let Ok(saved) = cbor::decode::<SavedDocument>(&bytes) {
            let _ = Document::load(saved, &Arc::default());
        }
    }
}

/// A history of three origins that write and now and then hear of each other.
fn history(steps: &[(u8, usize, u8)]) -> Vec<(Dot, Vec<u8>)> {
    let mut documents = [Document::new(), Document::new(), Document::new()];
    let mut changes: Vec<(Dot, Vec<u8>)> = Vec::new();
    let mut ns = [0_u64; 3];
    for (stamp, &(who, which, hears)) in steps.iter().enumerate() {
        let (who, hears) = (usize::from(who % 3), usize::from(hears % 4));
        if hears < 3 {
            let heard: Vec<CheckedChange> = changes
                .iter()
                .map(|(dot, bytes)| CheckedChange::decode(bytes, *dot).unwrap())
                .collect();
            documents[hears].apply(&heard).unwrap();
        }
        ns[who] += 1;
        let dot = dot(who as u8 + 1, ns[who]);
        let value = (stamp % 5 > 0).then(|| stamp.to_string());
        let e = entry(dot, stamp as u64 / 2, value.as_deref());
        let bytes = documents[who].write(actor(who as u8 + 1), dot, &[(key(which % 4), e)]);
        changes.push((dot, bytes.unwrap()));
    }
    changes
}

/// Everything a reader can see, as bytes.
fn view(document: &Document) -> Vec<(Key, Vec<Vec<u8>>)> {
    let row = |key: &Key| {
        let mut siblings = document.siblings(key);
        siblings.sort_by(Entry::precedence);
        (key.clone(), siblings.iter().map(cbor::encode).collect())
    };
    document.keys().map(row).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_order_any_batching_and_duplicates_give_the_same_view(
        steps in proptest::collection::vec(any::<(u8, usize, u8)>(), 1..25),
        shuffle in any::<u64>(),
        batch in 1usize..6,
    ) {
        let changes = history(&steps);
        let checked: Vec<CheckedChange> =
            changes.iter().map(|(dot, bytes)| CheckedChange::decode(bytes, *dot).unwrap()).collect();
        let mut whole = Document::new();
        whole.apply(&checked).unwrap();
        // One at a time, in the order they were made.
        let mut single = Document::new();
        for change in &checked {
            single.apply(std::slice::from_ref(change)).unwrap();
        }
        // In batches, by origin and not by time, some of them twice.
        let mut order: Vec<usize> = (0..checked.len()).collect();
        order.sort_by_key(|i| (checked[*i].dot.origin.0[0] as u64 ^ shuffle) % 3);
        let mut batched = Document::new();
        let mut pending: Vec<CheckedChange> = order.iter().map(|i| checked[*i].clone()).collect();
        while !pending.is_empty() {
            let mut rest = Vec::new();
            for chunk in pending.chunks(batch) {
                let mut trial = Document::load(batched.save(), &Arc::default()).unwrap();
                if trial.apply(chunk).is_ok() {
                    batched = trial;
                    batched.apply(chunk).unwrap();
                } else {
                    rest.extend_from_slice(chunk);
                }
            }
            if rest.len() == pending.len() {
                batched.apply(&rest).unwrap();
                break;
            }
            pending = rest;
        }
        prop_assert_eq!(view(&whole), view(&single));
        prop_assert_eq!(view(&whole), view(&batched));
        prop_assert_eq!(&whole.heads, &single.heads);
        prop_assert_eq!(&whole.heads, &batched.heads);
    }

    #[test]
    fn no_bytes_panic_the_decoder(noise in proptest::collection::vec(any::<u8>(), 0..80), at in any::<prop::sample::Index>(), with in any::<u8>()) {
        let _ = CheckedChange::decode(&noise, dot(1, 1));
        let mut a = Document::new();
        let mut bytes = a.write(actor(1), dot(1, 1), &[(key(0), entry(dot(1, 1), 5, Some("1")))]).unwrap();
        let i = at.index(bytes.len());
        bytes[i] = with;
        let _ = CheckedChange::decode(&bytes, dot(1, 1));
    }
}
