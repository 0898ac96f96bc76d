//! Accounts and roles, as they are stored and replicated.

use std::collections::{BTreeMap, BTreeSet};

use minicbor::{Decode, Encode};

use super::scope::Grant;
use crate::model::{AccountName, Id, RoleName, Stamp, Text};

/// Most roles of one account.
pub const ACCOUNT_ROLES_MAX: usize = 64;
/// Most credentials of one account.
pub const CREDENTIALS_MAX: usize = 8;
/// Most grants of one role.
pub const ROLE_GRANTS_MAX: usize = 256;

/// Somebody who may ask for tokens.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Account {
    /// Never used again once the account is deleted.
    #[n(0)]
    pub id: Id,
    /// Unique among the accounts that are there; also the OAuth2 `client_id`.
    #[n(1)]
    pub name: AccountName,
    /// Whether its tokens are taken.
    #[n(2)]
    pub enabled: bool,
    /// Its roles' ids.
    #[n(3)]
    pub roles: BTreeSet<Id>,
    /// What it can ask for tokens with, by id.
    #[n(4)]
    pub credentials: BTreeMap<Id, Credential>,
    /// Goes up with every change: what `If-Match` names.
    #[n(5)]
    pub version: u64,
    /// When it was made.
    #[n(6)]
    pub created_at: Stamp,
    /// When it was changed last.
    #[n(7)]
    pub updated_at: Stamp,
}

/// A client secret that was given out.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Credential {
    /// Stands in the tokens that were issued for it.
    #[n(0)]
    pub id: Id,
    /// The argon2id hash of the client secret, as a PHC string.
    #[n(1)]
    pub hash: Text,
    /// When it was given out.
    #[n(2)]
    pub created_at: Stamp,
    /// From when on it is not taken.
    #[n(3)]
    pub expires_at: Option<Stamp>,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A named set of grants.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Role {
    /// Never used again once the role is deleted.
    #[n(0)]
    pub id: Id,
    /// Unique among the roles that are there.
    #[n(1)]
    pub name: RoleName,
    /// What it allows.
    #[n(2)]
    pub grants: Vec<Grant>,
    /// Goes up with every change: what `If-Match` names.
    #[n(3)]
    pub version: u64,
    /// When it was made.
    #[n(4)]
    pub created_at: Stamp,
    /// When it was changed last.
    #[n(5)]
    pub updated_at: Stamp,
}
