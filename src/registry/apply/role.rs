//! Roles, and the configurations that are bound to them.

use std::sync::Arc;

use super::account::is_administrative;
use super::{Work, check, exists, invalid, limit, not_found};
use crate::access::account::{Account, ROLE_GRANTS_MAX, Role};
use crate::access::roles::BUILT_IN;
use crate::access::scope::SCOPE_LEN_MAX;
use crate::access::{Grant, Rules};
use crate::model::{DocumentId, Id, Key, RoleName};
use crate::registry::command::{Expect, Outcome, Refusal};
use crate::registry::limits::{BINDING_ROLES_MAX, BINDINGS_MAX, ROLES_MAX};
use crate::registry::rows::Which;
use crate::registry::state::built_in_role;

impl Work {
    pub(super) fn create_role(
        &mut self,
        id: Id,
        name: &RoleName,
        grants: &[Grant],
    ) -> Result<Outcome, Refusal> {
        let rules = &self.state.rules;
        if rules.role_ids.contains_key(name) || rules.roles.contains_key(&id) {
            return Err(exists(format!("the role {name}")));
        }
        limit(rules.roles.len() + 1, ROLES_MAX, "roles")?;
        check_grants(grants)?;
        let role = Role {
            id,
            name: name.clone(),
            grants: grants.to_vec(),
            version: 1,
            created_at: self.at,
            updated_at: self.at,
        };
        self.state.rules.role_ids.insert(name.clone(), id);
        self.state.rules.roles.insert(id, Arc::new(role));
        self.changed.push(Which::Role(id));
        Ok(Outcome::Put(id, 1, true))
    }

    pub(super) fn update_role(
        &mut self,
        before: &Rules,
        id: Id,
        expect: Expect,
        grants: &[Grant],
    ) -> Result<Outcome, Refusal> {
        let role = self.own_role(&id)?;
        check(expect, role.version)?;
        check_grants(grants)?;
        if role.grants == grants {
            return Ok(Outcome::Put(id, role.version, false));
        }
        let next = Role {
            grants: grants.to_vec(),
            version: role.version.saturating_add(1),
            updated_at: role.updated_at.max(self.at),
            ..Role::clone(&role)
        };
        let version = next.version;
        self.state.rules.roles.insert(id, Arc::new(next));
        self.changed.push(Which::Role(id));
        self.keep_an_administrator(before, is_administrative(&role))?;
        Ok(Outcome::Put(id, version, false))
    }

    pub(super) fn delete_role(
        &mut self,
        before: &Rules,
        id: Id,
        expect: Expect,
    ) -> Result<Outcome, Refusal> {
        let role = self.own_role(&id)?;
        check(expect, role.version)?;
        let mut bound = self.state.rules.bindings.iter().filter(|(_, roles)| roles.contains(&id));
        if let Some(((document, key), _)) = bound.next() {
            let others = bound.count();
            let others = if others > 0 { format!(" and {others} more") } else { String::new() };
            return Err(invalid(&format!(
                "configurations are bound to the role {}: {document}/{key}{others}",
                role.name
            )));
        }
        let holders = self.state.rules.accounts.values().filter(|it| it.roles.contains(&id));
        let holders: Vec<Arc<Account>> = holders.cloned().collect();
        for holder in holders {
            let mut next = Account::clone(&holder);
            next.roles.remove(&id);
            self.put_account(next);
        }
        self.state.rules.roles.remove(&id);
        self.state.rules.role_ids.remove(&role.name);
        self.changed.push(Which::Role(id));
        self.keep_an_administrator(before, is_administrative(&role))?;
        Ok(Outcome::Deleted(id))
    }

    pub(super) fn bind(
        &mut self,
        document: &DocumentId,
        key: &Key,
        role: &RoleName,
    ) -> Result<Outcome, Refusal> {
        let id = self.role_id(role)?;
        let bindings = &mut self.state.rules.bindings;
        let place = (document.clone(), key.clone());
        let mut roles = bindings.get(&place).cloned().unwrap_or_default();
        if roles.is_empty() {
            limit(bindings.len() + 1, BINDINGS_MAX, "configurations that are bound to roles")?;
        }
        if !roles.insert(id) {
            return Ok(Outcome::Done);
        }
        limit(roles.len(), BINDING_ROLES_MAX, "roles that one configuration is bound to")?;
        bindings.insert(place, roles);
        self.changed.push(Which::Binding(document.clone(), key.clone()));
        Ok(Outcome::Done)
    }

    pub(super) fn unbind(
        &mut self,
        document: &DocumentId,
        key: &Key,
        role: &RoleName,
    ) -> Result<Outcome, Refusal> {
        let id = self.role_id(role)?;
        let bindings = &mut self.state.rules.bindings;
        let place = (document.clone(), key.clone());
        let mut roles = bindings.get(&place).cloned().unwrap_or_default();
        if !roles.remove(&id) {
            return Err(not_found(format!("a binding of {document}/{key} to {role}")));
        }
        if roles.is_empty() {
            bindings.remove(&place);
        } else {
            bindings.insert(place, roles);
        }
        self.changed.push(Which::Binding(document.clone(), key.clone()));
        Ok(Outcome::Done)
    }

    fn role_id(&self, name: &RoleName) -> Result<Id, Refusal> {
        let id = self.state.rules.role_ids.get(name).copied();
        id.ok_or_else(|| not_found(format!("the role {name}")))
    }

    /// A role that may be changed.
    fn own_role(&self, id: &Id) -> Result<Arc<Role>, Refusal> {
        let role = self.state.rules.roles.get(id).cloned();
        let role = role.ok_or_else(|| not_found(format!("the role {id}")))?;
        if BUILT_IN.iter().any(|(name, _)| built_in_role(name) == *id) {
            return Err(invalid(&format!("the role {} is built in: make another one", role.name)));
        }
        Ok(role)
    }
}

/// What a grant means is not asked here: a later program may know more of them, and all programs
/// of a cluster have to come to the same.
fn check_grants(grants: &[Grant]) -> Result<(), Refusal> {
    limit(grants.len(), ROLE_GRANTS_MAX, "grants in one role")?;
    let longest = grants.iter().map(|grant| grant.text().len()).max().unwrap_or_default();
    limit(longest, SCOPE_LEN_MAX, "bytes in one grant")
}
