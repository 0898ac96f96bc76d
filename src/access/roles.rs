//! What a role in a token stands for: the built-in roles, and those of the settings.

use std::collections::BTreeMap;

use super::scope::Grant;

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

/// Every role's grants, by name.
#[derive(Clone, Debug, Default)]
pub struct Roles(BTreeMap<String, Vec<Grant>>);

impl Roles {
    /// The built-in roles, and these; `Err` names a scope that would grant nothing.
    pub fn new(settings: &BTreeMap<String, Vec<String>>) -> Result<Self, String> {
        let mut roles = BTreeMap::new();
        for (name, scopes) in BUILT_IN {
            roles.insert(name.to_owned(), read_all(name, scopes.iter().copied())?);
        }
        for (name, scopes) in settings {
            roles.insert(name.clone(), read_all(name, scopes.iter().map(String::as_str))?);
        }
        Ok(Self(roles))
    }

    /// What the role stands for; an unknown role stands for nothing.
    pub fn grants(&self, name: &str) -> &[Grant] {
        self.0.get(name).map_or(&[], Vec::as_slice)
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
    fn a_role_of_the_settings_replaces_the_built_in_of_its_name() {
        let none = Roles::new(&BTreeMap::new()).unwrap();
        assert_eq!(none.grants("developer").len(), 3);
        assert!(none.grants("nobody").is_empty());
        let own = BTreeMap::from([("developer".to_owned(), vec!["config:read".to_owned()])]);
        assert_eq!(Roles::new(&own).unwrap().grants("developer").len(), 1);
    }

    #[test]
    fn a_role_with_a_scope_that_grants_nothing_is_an_error() {
        let own = BTreeMap::from([("team".to_owned(), vec!["config:reed".to_owned()])]);
        assert!(Roles::new(&own).unwrap_err().contains("config:reed"));
    }
}
