//! What a node asks its quorum's leader for: to propose, to confirm a read, to change members. Said
//! over gossip's connections; whether the leader did something is never guessed.

use minicbor::{Decode, Encode};

use super::types::RaftId;
use super::{ChangeError, Decided, MemberChange, ProposeError};
use crate::registry::Proposal;

/// A proposal, for the leader.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub(super) struct Propose {
    #[n(0)]
    pub(super) proposal: Proposal,
    /// How long the asking node waits, in milliseconds.
    #[n(1)]
    pub(super) budget_ms: u64,
    /// The `traceparent` of the request that it comes of.
    #[n(2)]
    pub(super) trace: Option<String>,
}

/// What came of it.
#[derive(Debug, Encode, Decode)]
pub(super) enum Proposed {
    #[n(0)]
    Decided(#[n(0)] Decided),
    /// It does not lead: nothing was done.
    #[n(1)]
    Elsewhere,
    #[n(2)]
    Unavailable(#[n(0)] String),
    #[n(3)]
    Unknown(#[n(0)] String),
    #[n(4)]
    Failed(#[n(0)] String),
}

impl From<ProposeError> for Proposed {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::Unavailable(why) => Self::Unavailable(why),
            ProposeError::Unknown(why) => Self::Unknown(why),
            ProposeError::Failed(why) => Self::Failed(why),
        }
    }
}

/// What comes of asking for an index to read at.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) enum ReadAt {
    #[n(0)]
    Index(#[n(0)] u64),
    #[n(1)]
    Elsewhere,
    #[n(2)]
    Unavailable(#[n(0)] String),
}

/// About members.
#[derive(Debug, Encode, Decode)]
pub(super) enum Control {
    /// Who are you?
    #[n(0)]
    Identify,
    /// This store of the asking node wants to be a learner.
    #[n(1)]
    Join(#[n(0)] RaftId),
    #[n(2)]
    Change(#[n(0)] MemberChange, #[n(1)] u64),
}

#[derive(Debug, Encode, Decode)]
pub(super) enum Controlled {
    #[n(0)]
    Identity(#[n(0)] Identity),
    #[n(1)]
    Done,
    #[n(2)]
    Elsewhere,
    #[n(3)]
    Refused(#[n(0)] String),
    #[n(4)]
    Unavailable(#[n(0)] String),
    #[n(5)]
    Unknown(#[n(0)] String),
}

impl From<Result<(), ChangeError>> for Controlled {
    fn from(result: Result<(), ChangeError>) -> Self {
        match result {
            Ok(()) => Self::Done,
            Err(ChangeError::Refused(why)) => Self::Refused(why),
            Err(ChangeError::Unavailable(why)) => Self::Unavailable(why),
            Err(ChangeError::Unknown(why)) => Self::Unknown(why),
        }
    }
}

/// Who a node is in the quorum.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Identity {
    #[n(0)]
    pub(super) raft_id: RaftId,
    /// It has voted, or has entries of the log: there is a cluster.
    #[n(1)]
    pub(super) is_initialized: bool,
    /// Its store was lost, or is not the one that ran last: it founds nothing.
    #[n(2)]
    pub(super) is_doubtful: bool,
    /// Whom it believes to lead.
    #[n(3)]
    pub(super) leader: Option<String>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::cbor::{decode, encode};

    proptest! {
        #[test]
        fn no_bytes_panic_the_decoders(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<Propose>(&bytes);
            let _ = decode::<Proposed>(&bytes);
            let _ = decode::<ReadAt>(&bytes);
            let _ = decode::<Control>(&bytes);
            let _ = decode::<Controlled>(&bytes);
        }

        #[test]
        fn identities_read_back_as_written(
            raft_id: u64,
            is_initialized: bool,
            leader in proptest::option::of("[a-z]{0,9}"),
        ) {
            let identity = Identity { raft_id, is_initialized, is_doubtful: false, leader };
            let bytes = encode(&Controlled::Identity(identity.clone()));
            let Controlled::Identity(read) = decode(&bytes).unwrap() else { panic!("another") };
            prop_assert_eq!(read, identity);
        }
    }
}
