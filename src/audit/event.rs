//! One thing that happened. Never a value, a token or a credential.

use minicbor::{Decode, Encode};
use schemars::JsonSchema;
use serde::Serialize;

use crate::model::{Stamp, Text};

/// Where a request came from.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, JsonSchema)]
#[cbor(map)]
pub struct Source {
    /// The node that took it.
    #[n(0)]
    pub node: Text,
    /// The client's address, where there is one.
    #[n(1)]
    pub address: Option<Text>,
    /// The request's id.
    #[n(2)]
    pub request: Text,
}

/// Whether it was allowed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// By this grant, as it was written (and by which role).
    #[n(0)]
    Allowed(#[n(0)] Text),
    /// For this reason.
    #[n(1)]
    Denied(#[n(0)] Text),
}

fn as_text<S: serde::Serializer>(stamp: &Stamp, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(stamp)
}

/// On whose behalf something is done: what its record needs beside what was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behalf {
    /// The grant that allowed it, as it was written.
    pub grant: Text,
    /// From where.
    pub source: Source,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, JsonSchema)]
#[cbor(map)]
#[schemars(rename = "AuditEvent")]
pub struct Event {
    /// When, by the clock of the node that took the request.
    #[n(0)]
    #[serde(serialize_with = "as_text")]
    #[schemars(with = "Stamp")]
    pub at: Stamp,
    /// Who; `-` where nobody is known.
    #[n(1)]
    pub principal: Text,
    /// What: `config.write`, `secret.reveal`, `account.create`, `token.issue`, ….
    #[n(2)]
    pub action: Text,
    /// On what: `web/dev/a`, a secret's name and version, an account's name.
    #[n(3)]
    pub target: Text,
    /// Whether it was allowed.
    #[n(4)]
    pub decision: Decision,
    /// What came of it: `done`, `refused: …`, `failed: …`.
    #[n(5)]
    pub outcome: Text,
    /// From where.
    #[n(6)]
    pub source: Source,
    /// How many alike events this one stands for.
    #[n(7)]
    pub count: u64,
    /// Where the quorum decided it: the log index, the same in every region.
    #[n(8)]
    pub index: Option<u64>,
}

impl Event {
    /// Whether nobody is known who did it.
    pub(crate) fn is_strangers(&self) -> bool {
        &*self.principal == "-"
    }
}
