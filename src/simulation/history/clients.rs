//! What clients asked, were answered and were sent, as they saw it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// A request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// The request's number: unique in the run. A retry is a call of its own.
    pub op: u64,
    /// Who asks. A client has one request at a time; watchers are clients of their own.
    pub client: u32,
    /// The node that is asked.
    pub node: String,
    /// Its region.
    pub region: String,
    /// Whether the request carries the client's session, which includes all of the client's answers
    /// before.
    pub has_session: bool,
    /// The token's account; none for the scenario's own administrator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The `Idempotency-Key`, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// What is asked for.
    pub request: Request,
}

/// What is asked for. Every written value is another one in the whole run (retries under the same
/// Idempotency-Key excepted).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Configuration keys set together.
    ConfigWrite {
        /// `service/environment`.
        document: String,
        /// Key and value.
        entries: Vec<(String, String)>,
        /// The version that each key (the only one) has to have.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expect_version: Option<u64>,
        /// How many regions have to have it: `local`, `2`, `majority`, `all`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ack: Option<String>,
    },
    /// A configuration key removed.
    ConfigRemove {
        /// `service/environment`.
        document: String,
        /// The key.
        key: String,
    },
    /// One key read.
    ConfigRead {
        /// `service/environment`.
        document: String,
        /// The key.
        key: String,
    },
    /// A watch opened. Answered when it is open; what it is sent are `Watched` records; a second
    /// answer under the same number says that it ended.
    ConfigWatch {
        /// `service/environment`.
        document: String,
        /// Whether it resumes from the client's session.
        resumed: bool,
    },
    /// A secret's next version.
    SecretWrite {
        /// The secret.
        name: String,
        /// The value.
        value: String,
        /// The version that it has to have.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expect_version: Option<u64>,
    },
    /// A secret's value.
    SecretRead {
        /// The secret.
        name: String,
        /// `linearizable`, or `local`.
        consistency: String,
    },
    /// A secret removed.
    SecretRemove {
        /// The secret.
        name: String,
    },
    /// A role's grants set; `value` is in a grant's text.
    RoleWrite {
        /// The role.
        name: String,
        /// What makes this write another than all others.
        value: String,
    },
    /// A role read.
    RoleRead {
        /// The role.
        name: String,
    },
    /// An account disabled: its tokens are to be refused from then on.
    AccountDisable {
        /// The account.
        name: String,
    },
    /// An account enabled.
    AccountEnable {
        /// The account.
        name: String,
    },
    /// A token asked for by an account.
    TokenIssue {
        /// The account.
        name: String,
    },
    /// A request that the simulator makes for a fault of its own: rotating keys, changing voters.
    Operate {
        /// In words.
        what: String,
    },
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Whose answer.
    pub op: u64,
    /// What it was.
    pub outcome: Outcome,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Config keys were written or removed; as they are after it.
    Wrote {
        /// The key, and what this write made of it.
        entries: Vec<(String, Sibling)>,
        /// Whether as many regions have it as `ack` asked for.
        acknowledged: bool,
        /// The regions that are known to have it.
        regions: BTreeSet<String>,
    },
    /// A config key as it is. No siblings: there is no such key.
    Row {
        /// The winner first. A removal can be among them.
        siblings: Vec<Sibling>,
        /// Whether the node said that the state does not include the session (`Holm-Inconsistent`).
        inconsistent: bool,
    },
    /// A watch is open.
    Opened,
    /// A secret or a role as it is; no value: there is none.
    Value {
        /// The value; for writes the one that was written.
        value: Option<String>,
        /// Its version; 0 where there is none.
        version: u64,
        /// How old it may be, where the answer says so.
        staleness_ms: Option<u64>,
    },
    /// Done; there is nothing more to say.
    Done,
    /// Refused: it was not done, and will not be.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The error's name.
        error: String,
    },
    /// No answer, or one that says so: it may have been done, may still be done, or never.
    Unknown {
        /// Why.
        why: String,
    },
}

/// One of the concurrent writes that a key has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sibling {
    /// The value; none for a removal.
    pub value: Option<String>,
    /// The version: one more than the highest that it replaced.
    pub version: u64,
    /// The store that made it, in hex.
    pub origin: String,
    /// RFC 3339, microseconds: what winners are decided by, before `origin`.
    pub updated_at: String,
}

/// What a watcher was sent at one go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Watched {
    /// The call that opened the watch.
    pub op: u64,
    /// The watcher.
    pub client: u32,
    /// Whether it is a new beginning: everything, not only what the session misses.
    pub reset: bool,
    /// Whether everything up to the state of the watch's opening has been sent now.
    pub ready: bool,
    /// Keys and what they have now, the winner first.
    pub rows: Vec<(String, Vec<Sibling>)>,
    /// Whether it carried a session to resume from: all that was sent since the last one counts as
    /// seen only now.
    pub has_session: bool,
}
