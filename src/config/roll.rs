//! The change that takes a document to its next epoch: what stands in a record in place of an
//! Automerge change. It says which changes the new epoch's base holds, and what that base has to
//! come to; the base itself everyone builds alone (`config::document`). Nothing is decided here.

use crate::model::vector::Fold;
use crate::model::{Stamp, Told, cbor};

/// How a roll begins; no Automerge chunk does.
pub const MAGIC: [u8; 4] = *b"HLRL";

const VERSION: u8 = 1;

/// SHA-256 over all that a base is.
pub type BaseHash = [u8; 32];

/// A document goes to an epoch.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Roll {
    /// The epoch that begins. The first one that can be rolled to is 1.
    #[n(0)]
    pub epoch: u32,
    /// Which changes the base holds: a vector that every member had acknowledged, so that it is
    /// closed under what changes build on.
    #[n(1)]
    pub floor: Told,
    /// What the base comes to.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub base: BaseHash,
    /// Removals older than this that nothing stands beside are left out of the base.
    #[n(3)]
    pub removals_before: Stamp,
    /// What everybody has of origins that nobody writes as any more: whoever takes the record takes it
    /// for included. It has nothing to do with the document; the floor includes all that it lists, and
    /// the fold before it.
    #[n(4)]
    pub fold: Option<Fold>,
}

/// Why bytes are not a roll.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RollDecodeError {
    /// They begin like something else.
    #[error("not a roll")]
    Other,
    /// Of a format this program does not know.
    #[error("the roll has format {0}; this node knows format 1")]
    Version(u8),
    /// The bytes do not decode.
    #[error("the roll is damaged: {0}")]
    Damaged(String),
}

impl Roll {
    /// Whether a record's change is a roll, and not Automerge's.
    pub fn is_roll(change: &[u8]) -> bool {
        change.starts_with(&MAGIC)
    }

    /// What stands in a record.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.push(VERSION);
        cbor::encode_into(self, &mut bytes);
        bytes
    }

    /// Reads what [`Roll::encode`] made.
    pub fn decode(bytes: &[u8]) -> Result<Self, RollDecodeError> {
        let rest = bytes.strip_prefix(&MAGIC).ok_or(RollDecodeError::Other)?;
        let damaged = |why: &dyn std::fmt::Display| RollDecodeError::Damaged(why.to_string());
        let roll: Self = match rest.split_first() {
            Some((&VERSION, body)) => cbor::decode(body).map_err(|e| damaged(&e))?,
            Some((&version, _)) => return Err(RollDecodeError::Version(version)),
            None => return Err(damaged(&"cut off")),
        };
        if roll.epoch == 0 {
            return Err(damaged(&"no document is rolled to epoch 0"));
        }
        if roll.fold.as_ref().is_some_and(|fold| fold.generation == 0) {
            return Err(damaged(&"folds are numbered from 1"));
        }
        Ok(roll)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::vector::FoldRow;
    use crate::model::{Dot, Origin};
    use proptest::prelude::*;

    fn roll() -> Roll {
        let dot = |o, n| Dot { origin: Origin([o; 8]), n };
        Roll {
            epoch: 3,
            floor: [dot(1, 7), dot(2, 300)].into_iter().collect(),
            base: [9; 32],
            removals_before: Stamp(1_000_000),
            fold: None,
        }
    }

    #[test]
    fn the_format_of_a_roll_does_not_change() {
        let bytes = roll().encode();
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "484c524c01a4000301a24801010101010101010748020202020202020219012c0258200909090909090909\
             090909090909090909090909090909090909090909090909031a000f4240"
        );
        assert_eq!(Roll::decode(&bytes), Ok(roll()));
        assert!(Roll::is_roll(&bytes) && !Roll::is_roll(&[0x85, 0x6f, 0x4a, 0x83]));
    }

    #[test]
    fn the_format_of_a_roll_with_a_fold_does_not_change() {
        let row = FoldRow { dot: Dot { origin: Origin([1; 8]), n: 7 }, hash: [5; 32] };
        let with = Roll { fold: Some(Fold::new(2, vec![row]).unwrap()), ..roll() };
        let hex =
            |roll: &Roll| -> String { roll.encode().iter().map(|b| format!("{b:02x}")).collect() };
        // All that one without it has, and one field more.
        let rest = hex(&roll()).replacen("484c524c01a4", "484c524c01a5", 1);
        let fold = format!("04a20002018183480101010101010101075820{}", "05".repeat(32));
        assert_eq!(hex(&with), rest + &fold);
        assert_eq!(Roll::decode(&with.encode()), Ok(with));
    }

    #[test]
    fn fields_of_a_later_program_are_passed_over_and_a_later_format_is_not() {
        let mut bytes = roll().encode();
        assert_eq!(bytes[5], 0xa4, "a map of four");
        bytes[5] = 0xa5;
        bytes.extend([0x18, 99, 0x63, b'n', b'e', b'w']);
        assert_eq!(Roll::decode(&bytes), Ok(roll()));
        bytes[4] = 2;
        assert_eq!(Roll::decode(&bytes), Err(RollDecodeError::Version(2)));
        let none = Roll { epoch: 0, ..roll() }.encode();
        assert!(matches!(Roll::decode(&none), Err(RollDecodeError::Damaged(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_decoder(noise in proptest::collection::vec(any::<u8>(), 0..100), at in any::<prop::sample::Index>(), with in any::<u8>()) {
            let _ = Roll::decode(&noise);
            let mut bytes = roll().encode();
            let i = at.index(bytes.len());
            bytes[i] = with;
            let _ = Roll::decode(&bytes);
        }
    }
}
