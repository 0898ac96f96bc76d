//! Calls and their answers, put together, and sorted by what an operator would call them. It does not
//! say whether an answer was right.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::simulation::history::{AtUs, Call, Event, Outcome, Record, Request};

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A configuration key read.
    ConfigRead,
    /// Configuration keys written or removed.
    ConfigWrite,
    /// A watch opened.
    ConfigWatch,
    /// A secret read, linearizable.
    SecretRead,
    /// A secret read from the node's own copy.
    SecretLocalRead,
    /// A secret written or removed.
    SecretWrite,
    /// A role read.
    RuleRead,
    /// A role written, an account disabled or enabled.
    RuleWrite,
    /// A token asked for.
    TokenIssue,
}

impl Kind {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::ConfigRead => "read config",
            Self::ConfigWrite => "write config",
            Self::ConfigWatch => "watch config",
            Self::SecretRead => "read secret",
            Self::SecretLocalRead => "read secret copy",
            Self::SecretWrite => "write secret",
            Self::RuleRead => "read role",
            Self::RuleWrite => "change rights",
            Self::TokenIssue => "get token",
        }
    }

    /// Whether a region does it alone, or needs a quorum for it.
    pub fn is_config(self) -> bool {
        matches!(self, Self::ConfigRead | Self::ConfigWrite | Self::ConfigWatch)
    }

    /// Whether it changes something.
    pub fn is_write(self) -> bool {
        matches!(self, Self::ConfigWrite | Self::SecretWrite | Self::RuleWrite)
    }

    fn of(request: &Request) -> Option<Self> {
        Some(match request {
            Request::ConfigWrite { .. } | Request::ConfigRemove { .. } => Self::ConfigWrite,
            Request::ConfigRead { .. } => Self::ConfigRead,
            Request::ConfigWatch { .. } => Self::ConfigWatch,
            Request::SecretWrite { .. } | Request::SecretRemove { .. } => Self::SecretWrite,
            Request::SecretRead { consistency, .. } if consistency == "local" => {
                Self::SecretLocalRead
            }
            Request::SecretRead { .. } => Self::SecretRead,
            Request::RoleWrite { .. }
            | Request::AccountDisable { .. }
            | Request::AccountEnable { .. } => Self::RuleWrite,
            Request::RoleRead { .. } => Self::RuleRead,
            Request::TokenIssue { .. } => Self::TokenIssue,
            // The simulator's own doing is no client's.
            Request::Operate { .. } => return None,
        })
    }
}

/// What came of a request, for whoever counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Done.
    Succeeded,
    /// The node works, and says no by the rules: another version, no right, a revoked token.
    Declined,
    /// The node could not do it now: no quorum, a full disk, a session it has not reached.
    Refused,
    /// The client does not know.
    Unknown,
}

impl Class {
    fn of(outcome: Option<&Outcome>) -> Self {
        match outcome {
            None | Some(Outcome::Unknown { .. }) => Self::Unknown,
            Some(Outcome::Refused { status, error }) => {
                let too_many = *status == 429;
                if *status >= 500 || too_many || error == "SessionNotReached" {
                    Self::Refused
                } else {
                    Self::Declined
                }
            }
            Some(_) => Self::Succeeded,
        }
    }
}

/// A request and what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Operation<'a> {
    /// As it was sent.
    pub(crate) call: &'a Call,
    /// When.
    pub(crate) at_us: AtUs,
    /// When the client had an answer or gave up, or the run ended.
    pub(crate) over_us: AtUs,
    /// The answer.
    pub(crate) outcome: Option<&'a Outcome>,
    /// None for what the simulator does itself.
    pub(crate) kind: Option<Kind>,
    /// What came of it.
    pub(crate) class: Class,
}

impl Operation<'_> {
    /// Whether the service did its work, be it by saying no.
    pub(crate) fn works(&self) -> bool {
        matches!(self.class, Class::Succeeded | Class::Declined)
    }

    /// Whether it was written, but not in as many regions as asked.
    pub(crate) fn is_behind(&self) -> bool {
        matches!(self.outcome, Some(Outcome::Wrote { acknowledged: false, .. }))
    }
}

/// All requests, in the order in which they were sent. A second answer (the end of a watch) is not
/// one to the request.
pub(crate) fn operations(records: &[Record]) -> Vec<Operation<'_>> {
    let end_us = records.last().map_or(0, |record| record.at_us);
    let mut operations: Vec<Operation<'_>> = Vec::new();
    let mut index: BTreeMap<u64, usize> = BTreeMap::new();
    for record in records {
        match &record.event {
            Event::Call(call) => {
                index.insert(call.op, operations.len());
                operations.push(Operation {
                    call,
                    at_us: record.at_us,
                    over_us: end_us,
                    outcome: None,
                    kind: Kind::of(&call.request),
                    class: Class::Unknown,
                });
            }
            Event::Answer(answer) => {
                let known = index.get(&answer.op).and_then(|i| operations.get_mut(*i));
                if let Some(operation) = known.filter(|o| o.outcome.is_none()) {
                    operation.over_us = record.at_us;
                    operation.outcome = Some(&answer.outcome);
                    operation.class = Class::of(Some(&answer.outcome));
                }
            }
            _ => {}
        }
    }
    operations
}

/// What a request is about: `document/key`, `secret x`, `role x`, `account x`.
pub(crate) fn subjects(request: &Request) -> BTreeSet<String> {
    let one = |text: String| BTreeSet::from([text]);
    match request {
        Request::ConfigWrite { document, entries, .. } => {
            entries.iter().map(|(key, _)| format!("{document}/{key}")).collect()
        }
        Request::ConfigRemove { document, key } | Request::ConfigRead { document, key } => {
            one(format!("{document}/{key}"))
        }
        Request::ConfigWatch { document, .. } => one(document.clone()),
        Request::SecretWrite { name, .. }
        | Request::SecretRead { name, .. }
        | Request::SecretRemove { name } => one(format!("secret {name}")),
        Request::RoleWrite { name, .. } | Request::RoleRead { name } => one(format!("role {name}")),
        Request::AccountDisable { name }
        | Request::AccountEnable { name }
        | Request::TokenIssue { name } => one(format!("account {name}")),
        Request::Operate { .. } => BTreeSet::new(),
    }
}

/// A request in a few words.
pub(crate) fn asked(request: &Request) -> String {
    match request {
        Request::ConfigWrite { document, entries, expect_version, ack } => {
            let set: Vec<String> = entries.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let version = expect_version.map_or(String::new(), |v| format!(" if version {v}"));
            let ack = ack.as_ref().map_or(String::new(), |ack| format!(" ack {ack}"));
            format!("set {document} {}{version}{ack}", set.join(" "))
        }
        Request::ConfigRemove { document, key } => format!("remove {document} {key}"),
        Request::ConfigRead { document, key } => format!("get {document} {key}"),
        Request::ConfigWatch { document, resumed: true } => format!("resume watch {document}"),
        Request::ConfigWatch { document, .. } => format!("watch {document}"),
        Request::SecretWrite { name, value, expect_version } => {
            let version = expect_version.map_or(String::new(), |v| format!(" if version {v}"));
            format!("put secret {name}={value}{version}")
        }
        Request::SecretRead { name, consistency } if consistency == "local" => {
            format!("get copy of secret {name}")
        }
        Request::SecretRead { name, .. } => format!("get secret {name}"),
        Request::SecretRemove { name } => format!("remove secret {name}"),
        Request::RoleWrite { name, value } => format!("put role {name}={value}"),
        Request::RoleRead { name } => format!("get role {name}"),
        Request::AccountDisable { name } => format!("disable account {name}"),
        Request::AccountEnable { name } => format!("enable account {name}"),
        Request::TokenIssue { name } => format!("token for {name}"),
        Request::Operate { what } => what.clone(),
    }
}

/// An answer in a few words.
pub(crate) fn answered(outcome: Option<&Outcome>) -> String {
    match outcome {
        None => "no answer before the end".into(),
        Some(Outcome::Wrote { entries, acknowledged, .. }) => {
            let versions: Vec<String> =
                entries.iter().map(|(_, s)| format!("v{}", s.version)).collect();
            let late = if *acknowledged { "" } else { ", not yet in as many regions as asked" };
            format!("wrote {}{late}", versions.join(" "))
        }
        Some(Outcome::Row { siblings, inconsistent }) => {
            let shown: Vec<String> = siblings
                .iter()
                .map(|s| format!("{} v{}", s.value.as_deref().unwrap_or("removed"), s.version))
                .collect();
            let shown = if shown.is_empty() { "nothing".to_owned() } else { shown.join(" | ") };
            if *inconsistent { format!("{shown}, without the session") } else { shown }
        }
        Some(Outcome::Opened) => "open".into(),
        Some(Outcome::Value { value, version, .. }) => match value {
            Some(value) => format!("{value} v{version}"),
            None => "nothing".into(),
        },
        Some(Outcome::Done) => "done".into(),
        Some(Outcome::Refused { status, error }) => format!("refused: {status} {error}"),
        Some(Outcome::Unknown { why }) => format!("unknown: {why}"),
    }
}
