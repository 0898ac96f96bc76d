//! Accounts and their credentials.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Work, check, exists, invalid, limit, not_found};
use crate::access::account::{ACCOUNT_ROLES_MAX, Account, CREDENTIALS_MAX, Credential, Role};
use crate::access::{ClusterAction, Rules};
use crate::model::{AccountName, Id, RoleName, Stamp};
use crate::registry::command::{Expect, Outcome, Refusal};
use crate::registry::limits::{ACCOUNTS_MAX, HASH_LEN_MAX};
use crate::registry::rows::Which;

impl Work {
    pub(super) fn create_account(
        &mut self,
        id: Id,
        name: &AccountName,
        roles: &BTreeSet<RoleName>,
        credential: Option<&Credential>,
    ) -> Result<Outcome, Refusal> {
        let rules = &self.state.rules;
        if rules.account_ids.contains_key(name) || rules.accounts.contains_key(&id) {
            return Err(exists(format!("the account {name}")));
        }
        limit(rules.accounts.len() + 1, ACCOUNTS_MAX, "accounts")?;
        credential.map(check_credential).transpose()?;
        let account = Account {
            id,
            name: name.clone(),
            enabled: true,
            roles: self.role_ids(roles)?,
            credentials: credential.map(|it| (it.id, it.clone())).into_iter().collect(),
            version: 1,
            created_at: self.at,
            updated_at: self.at,
        };
        self.state.rules.account_ids.insert(name.clone(), id);
        self.state.rules.accounts.insert(id, Arc::new(account));
        self.changed.push(Which::Account(id));
        Ok(Outcome::Put(id, 1, true))
    }

    pub(super) fn update_account(
        &mut self,
        before: &Rules,
        id: Id,
        expect: Expect,
        enabled: Option<bool>,
        roles: Option<&BTreeSet<RoleName>>,
    ) -> Result<Outcome, Refusal> {
        let account = self.account(&id)?;
        check(expect, account.version)?;
        let roles = roles.map(|roles| self.role_ids(roles)).transpose()?;
        let mut next = Account::clone(&account);
        next.enabled = enabled.unwrap_or(next.enabled);
        next.roles = roles.unwrap_or(next.roles);
        if next == *account {
            return Ok(Outcome::Put(id, account.version, false));
        }
        let version = self.put_account(next);
        self.keep_an_administrator(before, manages(&account, before))?;
        Ok(Outcome::Put(id, version, false))
    }

    pub(super) fn delete_account(
        &mut self,
        before: &Rules,
        id: Id,
        expect: Expect,
    ) -> Result<Outcome, Refusal> {
        let account = self.account(&id)?;
        check(expect, account.version)?;
        self.state.rules.accounts.remove(&id);
        self.state.rules.account_ids.remove(&account.name);
        self.changed.push(Which::Account(id));
        self.keep_an_administrator(before, manages(&account, before))?;
        Ok(Outcome::Deleted(id))
    }

    pub(super) fn add_credential(
        &mut self,
        id: Id,
        credential: &Credential,
    ) -> Result<Outcome, Refusal> {
        let account = self.account(&id)?;
        check_credential(credential)?;
        if account.credentials.contains_key(&credential.id) {
            return Err(exists(format!("the credential {}", credential.id)));
        }
        let of_one = format!("credentials of one account: revoke one of {} first", account.name);
        limit(account.credentials.len() + 1, CREDENTIALS_MAX, &of_one)?;
        let mut next = Account::clone(&account);
        next.credentials.insert(credential.id, credential.clone());
        let version = self.put_account(next);
        Ok(Outcome::Put(credential.id, version, true))
    }

    pub(super) fn revoke_credential(
        &mut self,
        before: &Rules,
        id: Id,
        credential: Id,
    ) -> Result<Outcome, Refusal> {
        let account = self.account(&id)?;
        let mut next = Account::clone(&account);
        if next.credentials.remove(&credential).is_none() {
            return Err(not_found(format!("the credential {credential}")));
        }
        self.put_account(next);
        self.keep_an_administrator(before, manages(&account, before))?;
        Ok(Outcome::Deleted(credential))
    }

    pub(super) fn account(&self, id: &Id) -> Result<Arc<Account>, Refusal> {
        let account = self.state.rules.accounts.get(id).cloned();
        account.ok_or_else(|| not_found(format!("the account {id}")))
    }

    /// Puts a changed account in; its new version.
    pub(super) fn put_account(&mut self, mut account: Account) -> u64 {
        account.version = account.version.saturating_add(1);
        // Requests come in through many nodes, whose clocks differ.
        account.updated_at = account.updated_at.max(self.at);
        let (id, version) = (account.id, account.version);
        self.state.rules.accounts.insert(id, Arc::new(account));
        self.changed.push(Which::Account(id));
        version
    }

    fn role_ids(&self, names: &BTreeSet<RoleName>) -> Result<BTreeSet<Id>, Refusal> {
        limit(names.len(), ACCOUNT_ROLES_MAX, "roles of one account")?;
        let id = |name: &RoleName| self.state.rules.role_ids.get(name).copied();
        let id = |name| id(name).ok_or_else(|| not_found(format!("the role {name}")));
        names.iter().map(id).collect()
    }

    /// Refuses what would leave nobody who can manage access, or nobody who can ask for a token to
    /// do so. Looked up only where what changed had to do with an administrator.
    pub(super) fn keep_an_administrator(
        &self,
        before: &Rules,
        had_to_do: bool,
    ) -> Result<(), Refusal> {
        if !had_to_do {
            return Ok(());
        }
        let (was, is) =
            (Administrators::of(before, self.at), Administrators::of(&self.state.rules, self.at));
        if was.is_one && !is.is_one {
            return Err(invalid("the cluster would be without an administrator"));
        }
        if was.is_one_with_credential && !is.is_one_with_credential {
            return Err(invalid(
                "the cluster would be without an administrator who can ask for a token",
            ));
        }
        Ok(())
    }
}

/// Who is left to manage access.
struct Administrators {
    is_one: bool,
    is_one_with_credential: bool,
}

impl Administrators {
    fn of(rules: &Rules, at: Stamp) -> Self {
        let mut found = Self { is_one: false, is_one_with_credential: false };
        let enabled = rules.accounts.values().filter(|account| account.enabled);
        for account in enabled.filter(|account| manages(account, rules)) {
            found.is_one = true;
            if has_credential(&account.credentials, at) {
                found.is_one_with_credential = true;
                break;
            }
        }
        found
    }
}

fn has_credential(credentials: &BTreeMap<Id, Credential>, at: Stamp) -> bool {
    credentials.values().any(|it| it.expires_at.is_none_or(|expires_at| expires_at > at))
}

fn manages(account: &Account, rules: &Rules) -> bool {
    account.roles.iter().filter_map(|id| rules.roles.get(id)).any(|role| is_administrative(role))
}

/// Whether the role lets its holders manage access.
pub(super) fn is_administrative(role: &Role) -> bool {
    role.grants.iter().any(|grant| grant.allows_cluster(ClusterAction::ManageAccess))
}

pub(super) fn check_credential(credential: &Credential) -> Result<(), Refusal> {
    limit(credential.hash.len(), HASH_LEN_MAX, "bytes in the hash of a credential")
}
