//! The same writes and the same changes, carried out by Automerge's own documents: the bytes are
//! the same, and so is what stands under each key.

use super::*;
use automerge::Change;

/// A document as Automerge keeps it.
pub(super) struct Reference(pub(super) Automerge);

impl Reference {
    fn write(&mut self, actor: Actor, entries: &[(Key, Entry)]) -> Vec<u8> {
        self.0.set_actor(ActorId::from(actor.bytes()));
        let mut transaction = self.0.transaction();
        for (key, entry) in entries {
            let scalar = ScalarValue::Bytes(cbor::encode(entry));
            transaction.put(bucket(key), key.as_str(), scalar).unwrap();
        }
        let (hash, _) = transaction.commit_with(CommitOptions::default().with_time(0));
        self.0.get_change_by_hash(&hash.unwrap()).unwrap().raw_bytes().to_vec()
    }

    pub(super) fn apply(&mut self, bytes: &[u8]) {
        self.0.apply_changes([Change::try_from(bytes).unwrap()]).unwrap();
    }

    pub(super) fn siblings(&self, key: &Key) -> Vec<Entry> {
        let values = self.0.get_all(bucket(key), key.as_str()).unwrap();
        let entry =
            |(value, _): &(automerge::Value<'_>, _)| cbor::decode(value.as_bytes().unwrap());
        values.iter().map(entry).collect::<Result<_, _>>().unwrap()
    }
}

fn bucket(key: &Key) -> ObjId {
    ObjId::Id(bucket_of(key) as u64 + 1, ActorId::from(GENESIS_ACTOR), 0)
}

pub(super) fn sorted(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by(Entry::precedence);
    entries
}

/// What one of three nodes does.
#[derive(Clone, Debug)]
enum Step {
    /// Writes some keys, some twice, with values of some length.
    Write { who: usize, keys: Vec<usize>, len: usize },
    /// Hears of some more of another's changes, in their order.
    Hear { who: usize, of: usize, count: usize },
    /// Starts again.
    Restart { who: usize },
    /// Saves its document and loads it.
    Reload { who: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let keys = prop_oneof![
        8 => proptest::collection::vec(0..6usize, 1..9),
        1 => proptest::collection::vec(0..400usize, 100..300),
    ];
    let step = prop_oneof![
        6 => (0..3usize, keys, prop_oneof![Just(3usize), 0..300usize])
            .prop_map(|(who, keys, len)| Step::Write { who, keys, len }),
        4 => (0..3usize, 0..3usize, 1..6usize)
            .prop_map(|(who, of, count)| Step::Hear { who, of, count }),
        1 => (0..3usize).prop_map(|who| Step::Restart { who }),
        1 => (0..3usize).prop_map(|who| Step::Reload { who }),
    ];
    proptest::collection::vec(step, 1..40)
}

/// A node: the document, Automerge's, and the changes it has, in an order in which they came.
struct Node {
    actor: Actor,
    document: Document,
    reference: Reference,
    log: Vec<(Dot, Vec<u8>)>,
}

impl Node {
    fn new(who: usize) -> Self {
        Self {
            actor: actor(who as u8 + 1),
            document: Document::new(),
            reference: Reference(genesis()),
            log: Vec::new(),
        }
    }

    fn write(&mut self, keys: &[usize], len: usize, stamp: u64) -> Result<(), TestCaseError> {
        let own = self.log.iter().filter(|(dot, _)| dot.origin == self.actor.origin).count();
        let dot = Dot { origin: self.actor.origin, n: own as u64 + 1 };
        let value = format!("\"{}\"", "x".repeat(len));
        let entry = |(i, which): (usize, &usize)| {
            let mut entry = entry(dot, stamp, (i % 7 > 0).then_some(&value));
            // One change that sets a key twice does so with different entries.
            entry.version = i as u64 + 1;
            (key(*which), entry)
        };
        let entries: Vec<(Key, Entry)> = keys.iter().enumerate().map(entry).collect();
        let bytes = self.document.write(self.actor, dot, &entries).unwrap();
        prop_assert_eq!(&bytes, &self.reference.write(self.actor, &entries));
        prop_assert!(CheckedChange::decode(&bytes, dot).is_ok());
        self.log.push((dot, bytes));
        Ok(())
    }

    fn hear(&mut self, log: &[(Dot, Vec<u8>)], count: usize) {
        let is_new = |(dot, _): &&(Dot, Vec<u8>)| !self.log.iter().any(|(known, _)| known == dot);
        let new: Vec<_> = log.iter().filter(is_new).take(count).cloned().collect();
        for (dot, bytes) in new {
            self.document.apply([&CheckedChange::decode(&bytes, dot).unwrap()]).unwrap();
            self.reference.apply(&bytes);
            self.log.push((dot, bytes));
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        for key in self.document.keys() {
            prop_assert_eq!(
                sorted(self.document.siblings(key)),
                sorted(self.reference.siblings(key))
            );
        }
        let keys = (0..BUCKETS).map(|i| ObjId::Id(i as u64 + 1, ActorId::from(GENESIS_ACTOR), 0));
        let keys: usize = keys.map(|bucket| self.reference.0.keys(&bucket).count()).sum();
        prop_assert_eq!(self.document.keys().count(), keys);
        if !self.document.heads.is_empty() {
            let heads: Vec<ChangeHash> = self.document.heads.keys().copied().collect();
            let mut expected = self.reference.0.get_heads();
            expected.sort();
            prop_assert_eq!(heads, expected);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn changes_and_siblings_are_those_of_automerge_itself(steps in steps()) {
        let mut nodes = [Node::new(0), Node::new(1), Node::new(2)];
        for (i, step) in steps.iter().enumerate() {
            match step {
                Step::Write { who, keys, len } => nodes[*who].write(keys, *len, i as u64 / 3)?,
                Step::Hear { who, of, count } => {
                    let log = nodes[*of].log.clone();
                    nodes[*who].hear(&log, *count);
                    nodes[*who].check()?;
                }
                Step::Restart { who } => nodes[*who].actor.incarnation[0] += 1,
                Step::Reload { who } => {
                    let saved = cbor::encode(&nodes[*who].document.save());
                    nodes[*who].document = Document::load(cbor::decode(&saved).unwrap(), &Arc::default()).unwrap();
                }
            }
        }
        for node in &nodes {
            node.check()?;
            // What stores held at first: Automerge's own documents.
            let saved = SavedDocument::of_automerge(node.reference.0.save_nocompress());
            let loaded = Document::load(cbor::decode(&cbor::encode(&saved)).unwrap(), &Arc::default()).unwrap();
            prop_assert_eq!(view(&loaded), view(&node.document));
            prop_assert_eq!(&loaded.heads, &node.document.heads);
            prop_assert_eq!(cbor::encode(&loaded.save()), cbor::encode(&node.document.save()));
        }
    }
}
