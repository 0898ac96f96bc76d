//! A cluster's first entry: the built-in roles, the first administrator, the first keys.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::account::check_credential;
use super::{Work, exists, invalid};
use crate::access::Grant;
use crate::access::account::Role;
use crate::access::roles::BUILT_IN;
use crate::model::RoleName;
use crate::registry::command::{Founding, Outcome, Refusal};
use crate::registry::rows::Which;
use crate::registry::state::built_in_role;

/// The role of a cluster's first account.
const FIRST_ROLE: &str = "admin";

impl Work {
    pub(super) fn found(&mut self, founding: &Founding) -> Result<Outcome, Refusal> {
        if self.state.is_founded() {
            return Err(exists("the cluster".to_owned()));
        }
        if founding.generation.number != 1 {
            return Err(invalid("a cluster starts with generation 1"));
        }
        check_credential(&founding.credential)?;
        for (name, grants) in BUILT_IN {
            self.put_built_in(name, grants)?;
        }
        self.add_generation(founding.generation)?;
        self.add_signing_key(&founding.signing)?;
        self.check_sealed_key(&founding.hash_key)?;
        self.state.hash_key = Some(founding.hash_key.clone());
        self.changed.push(Which::HashKey);
        let first = RoleName::new(FIRST_ROLE).map_err(|e| invalid(&e.to_string()))?;
        let roles = BTreeSet::from([first]);
        self.create_account(founding.account, &founding.name, &roles, Some(&founding.credential))
    }

    fn put_built_in(&mut self, name: &str, grants: &[&str]) -> Result<(), Refusal> {
        let id = built_in_role(name);
        let name = RoleName::new(name).map_err(|e| invalid(&e.to_string()))?;
        let role = Role {
            id,
            name: name.clone(),
            grants: grants.iter().filter_map(|text| Grant::parse(text)).collect(),
            version: 1,
            created_at: self.at,
            updated_at: self.at,
        };
        self.state.rules.role_ids.insert(name, id);
        self.state.rules.roles.insert(id, Arc::new(role));
        self.changed.push(Which::Role(id));
        Ok(())
    }
}
