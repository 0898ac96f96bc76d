//! Who calls: what a verified token says, before any rule is looked at. It travels with a proposal,
//! so that whoever applies it decides again, by the rules of that moment.

use minicbor::{Decode, Encode};

use super::scope::Grant;
use super::standing::Memo;
use crate::model::{AccountName, Id, RoleName, Stamp, Text};

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Caller {
    /// The author of what it writes: an account's name, or an external token's subject.
    #[n(0)]
    pub(super) principal: Text,
    /// What the rules know it by.
    #[n(1)]
    pub(super) identity: Identity,
    /// What its issuer allows by itself, where the settings trust it to.
    #[n(2)]
    pub(super) granted: Vec<Grant>,
    /// What the token's scopes narrow everything to; absent where it has none.
    #[n(3)]
    pub(super) narrowed: Option<Vec<Grant>>,
    /// When the token was issued.
    #[n(4)]
    pub(super) issued_at: Stamp,
    /// From when on the token holds, leeway included.
    #[n(5)]
    pub(super) from: Stamp,
    /// Until when it holds, leeway included.
    #[n(6)]
    pub(super) until: Stamp,
    /// How it stands by the rules that were looked at last; no part of what it is.
    #[cbor(skip)]
    pub(super) memo: Memo,
}

/// What the rules know a caller by.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Identity {
    /// An account of this cluster; and the credential that its token was issued for.
    #[n(0)]
    Account(#[n(0)] Id, #[n(1)] Option<Id>),
    /// Somebody an external issuer vouches for: as an account of this cluster, where its claims
    /// name one; with these roles of the cluster besides.
    #[n(1)]
    External(#[n(0)] Option<AccountName>, #[n(1)] Vec<RoleName>),
}

impl Caller {
    /// The author of what it writes.
    pub fn principal(&self) -> &Text {
        &self.principal
    }

    /// What the rules know it by.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// When its token was issued.
    pub fn issued_at(&self) -> Stamp {
        self.issued_at
    }

    /// Until when the token holds, leeway included: a watch ends then.
    pub fn until(&self) -> Stamp {
        self.until
    }

    /// Whether the token holds at this time.
    pub(super) fn holds_at(&self, now: Stamp) -> bool {
        self.from <= now && now < self.until
    }

    /// One for tests, whose token holds up to `until`.
    #[cfg(test)]
    pub(crate) fn fixture(identity: Identity, granted: &[&str], until: Stamp) -> Self {
        let granted = granted.iter().map(|text| Grant::parse(text).unwrap()).collect();
        Self {
            principal: "ada".into(),
            identity,
            granted,
            narrowed: None,
            issued_at: Stamp(0),
            from: Stamp(0),
            until,
            memo: Memo::default(),
        }
    }

    /// The same one, narrowed to these scopes.
    #[cfg(test)]
    pub(crate) fn narrowed_to(mut self, scopes: &[&str]) -> Self {
        self.narrowed = Some(scopes.iter().map(|text| Grant::parse(text).unwrap()).collect());
        self
    }
}
