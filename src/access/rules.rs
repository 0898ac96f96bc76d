//! The rules that decisions are made by: accounts, roles and the configurations that are bound to
//! roles, as this node has applied them. Cheap to clone; never changed in place by readers.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::OrdMap;

use super::account::{Account, Role};
use super::roles;
use crate::model::{AccountName, DocumentId, Id, Key, RoleName};

/// All rules of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// By id.
    pub accounts: OrdMap<Id, Arc<Account>>,
    /// Ids by name.
    pub account_ids: OrdMap<AccountName, Id>,
    /// By id, the built-in ones among them.
    pub roles: OrdMap<Id, Arc<Role>>,
    /// Ids by name.
    pub role_ids: OrdMap<RoleName, Id>,
    /// Configurations that only these roles may change (ids).
    pub bindings: OrdMap<(DocumentId, Key), BTreeSet<Id>>,
}

impl Rules {
    /// The account of this name.
    pub fn account(&self, name: &AccountName) -> Option<&Arc<Account>> {
        self.accounts.get(self.account_ids.get(name)?)
    }

    /// The role of this name. Where nothing was decided yet, the built-in roles are there all the
    /// same: a region that starts alone knows what an issuer's `operator` is.
    pub fn role(&self, name: &RoleName) -> Option<&Arc<Role>> {
        match self.role_ids.get(name) {
            Some(id) => self.roles.get(id),
            None if self.roles.is_empty() => roles::built_in(name),
            None => None,
        }
    }
}
