//! What openraft is told about this program: the types that consensus carries, and their encoding,
//! which the log on disk and the messages between nodes share. Fields and variants are only ever
//! added. openraft's own types have no encoding of ours, so that they travel inside [`Coded`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use minicbor::{Decode, Encode};
use openraft::alias::{EntryOf, LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf, VoteOf};
use openraft::vote::RaftLeaderId as _;

use super::Decided;
use crate::model::{NodeName, RegionName, cbor};
use crate::registry::{Command, Proposal};

/// What runs openraft's tasks: tokio, with randomness that a simulation can seed.
pub(crate) type Runtime = openraft_rt::deterministic_rng::DeterministicRng<openraft::TokioRuntime>;

openraft::declare_raft_types!(
    /// The types that consensus carries. A node's id is random and drawn by its store: a store that
    /// was lost or rolled back votes under another one.
    pub(crate) TypeConfig:
        D = Proposal,
        R = Decided,
        NodeId = u64,
        Node = Member,
        AsyncRuntime = Runtime,
);

/// A store's id in the consensus.
pub(crate) type RaftId = u64;
pub(crate) type Vote = VoteOf<TypeConfig>;
pub(crate) type LogId = LogIdOf<TypeConfig>;
pub(crate) type Entry = EntryOf<TypeConfig>;
pub(crate) type Membership = openraft::Membership<RaftId, Member>;
pub(crate) type StoredMembership = StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = SnapshotMetaOf<TypeConfig>;
pub(crate) type Snapshot<D> = SnapshotOf<TypeConfig, D>;
type Payload = openraft::EntryPayload<Proposal, RaftId, Member>;
type LeaderId = openraft::alias::LeaderIdOf<TypeConfig>;

/// Who stands behind an id: found by name, as every connection is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Member {
    /// The node.
    #[n(0)]
    pub(crate) node: NodeName,
    /// Its region.
    #[n(1)]
    pub(crate) region: RegionName,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.node, self.region)
    }
}

/// openraft's tests of a log store make members out of nothing.
#[cfg(test)]
impl Default for Member {
    fn default() -> Self {
        let name = "nobody";
        Self { node: NodeName::new(name).unwrap(), region: RegionName::new(name).unwrap() }
    }
}

/// What it is, without contents: openraft puts this into its events.
impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.command {
            Command::Found(_) => "found",
            Command::CreateAccount { .. } => "create account",
            Command::UpdateAccount { .. } => "update account",
            Command::DeleteAccount { .. } => "delete account",
            Command::AddCredential { .. } => "add credential",
            Command::RevokeCredential { .. } => "revoke credential",
            Command::CreateRole { .. } => "create role",
            Command::UpdateRole { .. } => "update role",
            Command::DeleteRole { .. } => "delete role",
            Command::Bind { .. } => "bind",
            Command::Unbind { .. } => "unbind",
            Command::PutSecret { .. } => "put secret",
            Command::DeleteSecret { .. } => "delete secret",
            Command::AddGeneration(_) => "add generation",
            Command::Rewrap(_) => "rewrap",
            Command::RetireGeneration(_) => "retire generation",
            Command::AddSigningKey(_) => "add signing key",
            Command::RetireSigningKey(_) => "retire signing key",
            Command::SetHistoryPolicy(..) => "set history policy",
            Command::RollEpoch { .. } => "roll epoch",
        })
    }
}

/// A type of openraft's that has an encoding here. Implemented by way of plain fields.
pub(crate) trait Codec: Sized {
    /// As it is written: borrowed where it can be large.
    type Written<'a>: Encode<()>
    where
        Self: 'a;
    /// As it is read.
    type Read: for<'b> Decode<'b, ()>;

    fn written(&self) -> Self::Written<'_>;
    fn from_read(read: Self::Read) -> Result<Self, String>;
}

/// The encoding of `value`.
#[cfg(test)]
pub(crate) fn encode<T: Codec>(value: &T) -> Vec<u8> {
    cbor::encode(&value.written())
}

/// Reads what [`encode`] wrote, and nothing behind it.
pub(crate) fn decode<T: Codec>(bytes: &[u8]) -> Result<T, minicbor::decode::Error> {
    T::from_read(cbor::decode(bytes)?).map_err(minicbor::decode::Error::message)
}

/// A value of openraft's as a field of a message or record of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Coded<T>(pub(crate) T);

impl<C, T: Codec> Encode<C> for Coded<T> {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.encode(self.0.written())?.ok()
    }
}

impl<'b, C, T: Codec> Decode<'b, C> for Coded<T> {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let value = T::from_read(d.decode()?).map_err(minicbor::decode::Error::message)?;
        Ok(Self(value))
    }
}

/// [`Vote`].
#[derive(Encode, Decode)]
#[cbor(map)]
pub(crate) struct VoteFields {
    #[n(0)]
    term: u64,
    #[n(1)]
    node: RaftId,
    #[n(2)]
    is_committed: bool,
}

impl Codec for Vote {
    type Written<'a> = VoteFields;
    type Read = VoteFields;

    fn written(&self) -> VoteFields {
        let LeaderId { term, node_id } = self.leader_id;
        VoteFields { term, node: node_id, is_committed: self.committed }
    }

    fn from_read(read: VoteFields) -> Result<Self, String> {
        let leader_id = LeaderId::new(read.term, read.node);
        Ok(Self { leader_id, committed: read.is_committed })
    }
}

/// [`LogId`].
#[derive(Encode, Decode)]
#[cbor(map)]
pub(crate) struct LogIdFields {
    #[n(0)]
    term: u64,
    #[n(1)]
    node: RaftId,
    #[n(2)]
    index: u64,
}

impl Codec for LogId {
    type Written<'a> = LogIdFields;
    type Read = LogIdFields;

    fn written(&self) -> LogIdFields {
        let LeaderId { term, node_id } = self.leader_id;
        LogIdFields { term, node: node_id, index: self.index }
    }

    fn from_read(read: LogIdFields) -> Result<Self, String> {
        Ok(Self { leader_id: LeaderId::new(read.term, read.node), index: read.index })
    }
}

/// [`Membership`]: its voters (two sets while it changes), and all members by id.
#[derive(Encode, Decode)]
#[cbor(map)]
pub(crate) struct MembershipFields {
    #[n(0)]
    voters: Vec<BTreeSet<RaftId>>,
    #[n(1)]
    members: BTreeMap<RaftId, Member>,
}

impl Codec for Membership {
    type Written<'a> = MembershipFields;
    type Read = MembershipFields;

    fn written(&self) -> MembershipFields {
        let members = self.nodes().map(|(id, member)| (*id, member.clone())).collect();
        MembershipFields { voters: self.get_joint_config().clone(), members }
    }

    fn from_read(read: MembershipFields) -> Result<Self, String> {
        Self::new(read.voters, read.members).map_err(|e| e.to_string())
    }
}

/// [`StoredMembership`].
#[derive(Encode, Decode)]
#[cbor(map)]
pub(crate) struct StoredMembershipFields {
    #[n(0)]
    at: Option<LogIdFields>,
    #[n(1)]
    membership: MembershipFields,
}

impl Codec for StoredMembership {
    type Written<'a> = StoredMembershipFields;
    type Read = StoredMembershipFields;

    fn written(&self) -> StoredMembershipFields {
        let at = self.log_id().as_ref().map(Codec::written);
        StoredMembershipFields { at, membership: self.membership().written() }
    }

    fn from_read(read: StoredMembershipFields) -> Result<Self, String> {
        let at = read.at.map(LogId::from_read).transpose()?;
        Ok(Self::new(at, Membership::from_read(read.membership)?))
    }
}

/// [`SnapshotMeta`].
#[derive(Encode, Decode)]
#[cbor(map)]
pub(crate) struct SnapshotMetaFields {
    #[n(0)]
    last: Option<LogIdFields>,
    #[n(1)]
    membership: StoredMembershipFields,
}

impl Codec for SnapshotMeta {
    type Written<'a> = SnapshotMetaFields;
    type Read = SnapshotMetaFields;

    fn written(&self) -> SnapshotMetaFields {
        let last = self.last_log_id.as_ref().map(Codec::written);
        SnapshotMetaFields { last, membership: self.last_membership.written() }
    }

    fn from_read(read: SnapshotMetaFields) -> Result<Self, String> {
        let last_log_id = read.last.map(LogId::from_read).transpose()?;
        let last_membership = StoredMembership::from_read(read.membership)?;
        Ok(Self { last_log_id, last_membership })
    }
}

/// [`Entry`].
#[derive(Encode, Decode)]
#[cbor(map)]
pub(crate) struct EntryFields<P> {
    #[n(0)]
    id: LogIdFields,
    #[n(1)]
    payload: PayloadFields<P>,
}

#[derive(Encode, Decode)]
pub(crate) enum PayloadFields<P> {
    /// A new leader's first.
    #[n(0)]
    Blank,
    #[n(1)]
    Proposal(#[n(0)] P),
    #[n(2)]
    Membership(#[n(0)] MembershipFields),
}

impl Codec for Entry {
    type Written<'a> = EntryFields<&'a Proposal>;
    type Read = EntryFields<Proposal>;

    fn written(&self) -> EntryFields<&Proposal> {
        let payload = match &self.payload {
            Payload::Blank => PayloadFields::Blank,
            Payload::Normal(proposal) => PayloadFields::Proposal(proposal),
            Payload::Membership(membership) => PayloadFields::Membership(membership.written()),
        };
        EntryFields { id: self.log_id.written(), payload }
    }

    fn from_read(read: EntryFields<Proposal>) -> Result<Self, String> {
        let payload = match read.payload {
            PayloadFields::Blank => Payload::Blank,
            PayloadFields::Proposal(proposal) => Payload::Normal(proposal),
            PayloadFields::Membership(membership) => {
                Payload::Membership(Membership::from_read(membership)?)
            }
        };
        Ok(Self { log_id: LogId::from_read(read.id)?, payload })
    }
}

#[cfg(test)]
mod tests;
