//! The high-water mark, `origin.mark` (and `quorum.mark`, beside the quorum's store): a small file beside the store that says how far its origin
//! got. A store that was copied, restored or rolled back does not agree with it, and takes a new
//! origin before it acknowledges anything: an (origin, n) never names two changes.
//!
//! Written without fsync after each commit and before anything is acknowledged or sent: exact over
//! a crash of the process, possibly old over a crash of the machine, and then not trusted.

use crate::model::{Origin, cbor};

/// The file's name in the node's directory.
pub const FILE: &str = "origin.mark";

/// What the file says. `I` is what the store is known by.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Mark<I = Origin> {
    /// Whose changes the store makes.
    #[n(0)]
    pub origin: I,
    /// The last of them that was committed. Always as long, so that the file is: then no crash
    /// leaves a part of it.
    #[n(1)]
    #[cbor(encode_with = "encode_fixed")]
    pub n: u64,
    /// Which file the store is (device and inode): a copy is another.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub store: Vec<u8>,
    /// Which run of the machine wrote this.
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    pub boot: Vec<u8>,
    /// Whether the node was stopped in order, with this on disk.
    #[n(4)]
    pub clean: bool,
    /// The file that is about to take the store's place, where one is: until the mark says otherwise
    /// either is the store.
    #[n(5)]
    #[cbor(with = "minicbor::bytes")]
    pub next: Option<Vec<u8>>,
}

fn encode_fixed<C, W: minicbor::encode::Write>(
    n: &u64,
    e: &mut minicbor::Encoder<W>,
    _: &mut C,
) -> Result<(), minicbor::encode::Error<W::Error>> {
    /// The initial byte of an unsigned integer with eight bytes to follow.
    const U64: u8 = 0x1b;
    let mut bytes = [U64; 9];
    bytes[1..].copy_from_slice(&n.to_be_bytes());
    e.writer_mut().write_all(&bytes).map_err(minicbor::encode::Error::write)
}

impl<I: minicbor::Encode<()> + for<'b> minicbor::Decode<'b, ()>> Mark<I> {
    /// The file's content.
    pub fn encode(&self) -> Vec<u8> {
        cbor::encode(self)
    }

    /// Reads the file's content; what does not decode is no mark.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        cbor::decode(bytes).ok()
    }
}

/// Why a store takes a new origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTheSame {
    /// There is no mark, or it does not decode.
    #[error("there is no high-water mark beside it")]
    NoMark,
    /// The mark is another store's.
    #[error("the high-water mark is of another origin")]
    AnotherOrigin,
    /// The store is a copy of the file that the mark was written for.
    #[error("it is a copy of the store that the high-water mark was written for")]
    Copy,
    /// The store has fewer changes than were committed.
    #[error("it has fewer changes than the high-water mark: an old copy")]
    RolledBack,
    /// The machine crashed since: the mark may be older than what was sent.
    #[error("the machine went down without stopping it")]
    MachineCrashed,
}

/// Whether the store, whose origin made `found.n` changes, is the one that `mark` was written for
/// and has all that it ever had. `found` is what a mark written now would say.
pub fn is_the_same<I: PartialEq>(
    mark: Option<&Mark<I>>,
    found: &Mark<I>,
) -> Result<(), NotTheSame> {
    let mark = mark.ok_or(NotTheSame::NoMark)?;
    if mark.origin != found.origin {
        return Err(NotTheSame::AnotherOrigin);
    }
    if mark.store != found.store && mark.next.as_ref() != Some(&found.store) {
        return Err(NotTheSame::Copy);
    }
    if mark.n > found.n || (mark.clean && mark.n < found.n) {
        return Err(NotTheSame::RolledBack);
    }
    if !mark.clean && (mark.boot != found.boot || mark.boot.is_empty()) {
        return Err(NotTheSame::MachineCrashed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_store_that_ran_last_keeps_its_origin() {
        let found = Mark {
            origin: Origin([1; 8]),
            n: 5,
            store: vec![1],
            boot: vec![7],
            clean: false,
            next: None,
        };
        let with = |change: fn(&mut Mark)| {
            let mut mark = found.clone();
            change(&mut mark);
            is_the_same(Some(&mark), &found)
        };
        assert_eq!(with(|_| ()), Ok(()));
        assert_eq!(with(|m| m.n = 4), Ok(()), "killed between commit and mark");
        assert_eq!(with(|m| m.n = 6), Err(NotTheSame::RolledBack));
        assert_eq!(with(|m| m.store = vec![2]), Err(NotTheSame::Copy));
        let switching =
            |store| move |m: &mut Mark| (m.store, m.next) = (vec![2], Some(vec![store]));
        let with_next = |store| {
            let mut mark = found.clone();
            switching(store)(&mut mark);
            is_the_same(Some(&mark), &found)
        };
        assert_eq!(with_next(1), Ok(()), "a new file took its place");
        assert_eq!(with_next(3), Err(NotTheSame::Copy));
        assert_eq!(with(|m| m.boot = vec![8]), Err(NotTheSame::MachineCrashed));
        assert_eq!(with(|m| (m.boot, m.clean) = (vec![8], true)), Ok(()));
        assert_eq!(with(|m| (m.n, m.clean) = (4, true)), Err(NotTheSame::RolledBack));
        assert_eq!(with(|m| m.origin = Origin([2; 8])), Err(NotTheSame::AnotherOrigin));
        assert_eq!(is_the_same(None, &found), Err(NotTheSame::NoMark));
        assert_eq!(Mark::decode(&found.encode()).as_ref(), Some(&found));
        assert_eq!(Mark::<Origin>::decode(b"noise"), None);
        let long = Mark { n: u64::MAX, ..found.clone() };
        assert_eq!(long.encode().len(), found.encode().len());
        assert_eq!(Mark::decode(&long.encode()), Some(long));
    }
}
