//! What a role in a token stands for: the built-in roles, and those of the settings.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use super::account::Role;
use super::scope::Grant;
use crate::model::{Id, RoleName, Stamp};

/// The roles that are there without a setting. An admin may do everything; a developer sees every
/// configuration and changes those of the `dev` environment; an operator sees everything.
pub const BUILT_IN: [(&str, &[&str]); 3] = [
    (
        "admin",
        &[
            "config:*",
            "secrets:read",
            "secrets:write",
            "secrets:delete",
            "access:read",
            "access:manage",
            "audit:read",
            "cluster:read",
            "cluster:manage",
        ],
    ),
    ("developer", &["config:read", "config:write:*/dev", "secrets:read", "cluster:read"]),
    ("operator", &["config:read", "secrets:read", "secrets:reveal", "cluster:read"]),
];

/// The built-in roles as they stand before the cluster is founded, and has them as its own.
static UNFOUNDED: LazyLock<BTreeMap<RoleName, Arc<Role>>> = LazyLock::new(|| {
    let role = |(at, (name, scopes)): (u128, (&str, &[&str]))| {
        let name = RoleName::new(name).ok()?;
        let grants = scopes.iter().filter_map(|scope| Grant::parse(scope)).collect();
        let (id, zero) = (Id::from_u128(at + 1), Stamp(0));
        let role =
            Role { id, name: name.clone(), grants, version: 0, created_at: zero, updated_at: zero };
        Some((name, Arc::new(role)))
    };
    (0..).zip(BUILT_IN).filter_map(role).collect()
});

/// A built-in role, for rules that have none of their own yet.
pub(super) fn built_in(name: &RoleName) -> Option<&'static Arc<Role>> {
    UNFOUNDED.get(name)
}

/// The grants of the settings' roles, by name.
#[derive(Clone, Debug, Default)]
pub struct Roles(BTreeMap<String, Vec<Grant>>);

impl Roles {
    /// These; `Err` names a scope that would grant nothing.
    pub fn new(settings: &BTreeMap<String, Vec<String>>) -> Result<Self, String> {
        let mut roles = BTreeMap::new();
        for (name, scopes) in settings {
            roles.insert(name.clone(), read_all(name, scopes.iter().map(String::as_str))?);
        }
        Ok(Self(roles))
    }

    /// What the role stands for, if the settings name it.
    pub fn grants(&self, name: &str) -> Option<&[Grant]> {
        self.0.get(name).map(Vec::as_slice)
    }
}

fn read_all<'a>(role: &str, scopes: impl Iterator<Item = &'a str>) -> Result<Vec<Grant>, String> {
    scopes
        .map(|scope| Grant::parse(scope).ok_or_else(|| format!("role {role}: no scope: {scope:?}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_roles_are_there_and_no_others() {
        let own = BTreeMap::from([("developer".to_owned(), vec!["config:read".to_owned()])]);
        let roles = Roles::new(&own).unwrap();
        assert_eq!(roles.grants("developer").unwrap().len(), 1);
        assert_eq!(roles.grants("admin"), None);
    }

    #[test]
    fn every_built_in_role_is_there_with_all_its_grants() {
        for (name, scopes) in BUILT_IN {
            let role = built_in(&RoleName::new(name).unwrap()).unwrap();
            let texts: Vec<&str> = role.grants.iter().map(|grant| &**grant.text()).collect();
            assert_eq!(texts, scopes, "{name}");
        }
    }

    #[test]
    fn a_role_with_a_scope_that_grants_nothing_is_an_error() {
        let own = BTreeMap::from([("team".to_owned(), vec!["config:reed".to_owned()])]);
        assert!(Roles::new(&own).unwrap_err().contains("config:reed"));
    }
}
