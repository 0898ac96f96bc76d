//! What a node remembers of its peers' chains: the last head of each that followed from the one
//! before. One that does not follow is not taken: what was remembered stays, as the evidence.
//!
//! File `audit.heads`, CBOR. Lifetime: the node's; whoever has looked into a finding removes it.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

use super::chain::{ChainHash, Head};

/// The file's name in the node's directory.
pub const FILE: &str = "audit.heads";

/// Most nodes that are remembered.
const NODES_MAX: usize = 1_024;

/// How many chains a node has: its config store's and its quorum store's.
pub const CHAINS: usize = 2;

/// Remembered heads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Heads {
    #[n(0)]
    nodes: BTreeMap<String, [Head; CHAINS]>,
}

/// What a peer says of one of its chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Told {
    /// Where it stands.
    #[n(0)]
    pub head: Head,
    /// The hash of the record that is remembered of it, if it has one under that number.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub remembered: Option<ChainHash>,
    /// Up to which number its records are archived, and in its store no more.
    #[n(2)]
    #[cbor(default)]
    pub archived: u64,
}

/// What came of what a peer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing new.
    Known,
    /// It follows, and is remembered now.
    Followed,
    /// It does not follow: the chain was cut, or changed.
    Broken,
}

impl Heads {
    /// What is remembered of a node's chains; number 0 where that is nothing.
    pub fn of(&self, node: &str) -> [Head; CHAINS] {
        self.nodes.get(node).copied().unwrap_or_default()
    }

    /// A node said this of its chain number `chain`.
    pub fn hear(&mut self, node: &str, chain: usize, told: Told) -> Heard {
        let known = self.of(node).get(chain).copied().unwrap_or_default();
        if told.head == known {
            return Heard::Known;
        }
        // What it does not have any more it cannot show: nobody asked it for as long as that.
        let is_archived = known.seq < told.archived && told.remembered.is_none();
        let follows = known.seq == 0 || is_archived || told.remembered == Some(known.hash);
        if told.head.seq <= known.seq || !follows {
            return Heard::Broken;
        }
        if self.nodes.len() >= NODES_MAX && !self.nodes.contains_key(node) {
            return Heard::Known;
        }
        match self.nodes.entry(node.to_owned()).or_default().get_mut(chain) {
            Some(place) => *place = told.head,
            None => return Heard::Known,
        }
        Heard::Followed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(seq: u64, hash: u8) -> Head {
        Head { seq, hash: [hash; 32] }
    }

    #[test]
    fn a_head_that_does_not_follow_never_replaces_the_one_that_is_remembered() {
        let mut heads = Heads::default();
        let told = |head, hash: Option<u8>| Told {
            head,
            remembered: hash.map(|it| [it; 32]),
            archived: 0,
        };
        assert_eq!(heads.hear("a", 0, told(head(0, 0), None)), Heard::Known);
        assert_eq!(heads.hear("a", 0, told(head(5, 5), None)), Heard::Followed);
        assert_eq!(heads.hear("a", 0, told(head(5, 5), Some(5))), Heard::Known);
        assert_eq!(heads.hear("a", 0, told(head(9, 9), Some(5))), Heard::Followed);
        for broken in [
            told(head(8, 8), None),
            told(head(9, 7), Some(7)),
            told(head(0, 0), None),
            told(head(12, 1), Some(8)),
            told(head(12, 1), None),
        ] {
            assert_eq!(heads.hear("a", 0, broken), Heard::Broken, "{broken:?}");
            assert_eq!(heads.of("a"), [head(9, 9), head(0, 0)]);
        }
        let archived = |archived| Told { archived, ..told(head(20, 2), None) };
        assert_eq!(heads.hear("a", 0, archived(9)), Heard::Broken, "record 9 could be shown");
        assert_eq!(heads.hear("a", 0, Told { head: head(8, 8), ..archived(10) }), Heard::Broken);
        assert_eq!(heads.hear("a", 0, archived(10)), Heard::Followed);
        assert_eq!(heads.of("a"), [head(20, 2), head(0, 0)]);
        assert_eq!(heads.hear("a", 1, told(head(1, 1), None)), Heard::Followed);
        assert_eq!(heads.hear("a", 2, told(head(1, 1), None)), Heard::Known, "no such chain");
        let bytes = crate::model::cbor::encode(&heads);
        assert_eq!(crate::model::cbor::decode::<Heads>(&bytes).unwrap(), heads);
    }
}
