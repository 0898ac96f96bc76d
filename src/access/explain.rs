//! Why an account may or may not: the decision itself is asked, and then which of the account's
//! roles has the grant that it names.

use schemars::JsonSchema;
use serde::Serialize;

use super::account::Account;
use super::caller::{Caller, Identity};
use super::decide::{self, Denied};
use super::rules::Rules;
use super::scope::{ClusterAction, SecretAction, Wish};
use super::standing::Memo;
use crate::model::{DocumentId, Key, SecretName, Stamp, Text};

/// What somebody may want to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Something with one key, or with a whole document.
    Config(Wish, DocumentId, Option<Key>),
    /// Something with a secret.
    Secret(SecretAction, SecretName),
    /// Something with the cluster.
    Cluster(ClusterAction),
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Explanation {
    /// Whether it may.
    pub allowed: bool,
    /// The grant that decides, as it was written.
    pub grant: Option<Text>,
    /// The account's role that has it.
    pub role: Option<String>,
    /// In words.
    pub why: String,
    /// All roles of the account.
    pub roles: Vec<String>,
    /// The roles that the configuration is bound to, where it is.
    pub bound_to: Vec<String>,
}

impl Wanted {
    /// Reads an action, as scopes write it, and what it is to be done to: `config:write` and
    /// `web/dev/a` or `web/dev`, `secrets:reveal` and a secret's name, `access:manage` and nothing.
    /// The error says what is wrong with which of the two.
    pub fn parse(action: &str, resource: &str) -> Result<Self, (&'static str, String)> {
        if let Some(action) = ClusterAction::ALL.into_iter().find(|it| it.name() == action) {
            return match resource {
                "" | "*" => Ok(Self::Cluster(action)),
                _ => Err(("resource", format!("{} is for the cluster as a whole", action.name()))),
            };
        }
        let of_secret = action.strip_prefix("secrets:");
        let of_secret =
            of_secret.and_then(|name| SecretAction::ALL.into_iter().find(|it| it.name() == name));
        if let Some(action) = of_secret {
            let name = SecretName::new(resource).map_err(|e| ("resource", e.to_string()))?;
            return Ok(Self::Secret(action, name));
        }
        let wish = match action {
            "config:read" => Wish::Read,
            "config:write" => Wish::Write,
            _ => {
                let known = "has to be config:read, config:write, secrets:read, secrets:reveal, \
                             secrets:write, secrets:delete, access:read, access:manage, \
                             cluster:read, cluster:manage, cluster:backup or audit:read";
                return Err(("action", known.to_owned()));
            }
        };
        let mut parts = resource.splitn(3, '/');
        let document = [parts.next(), parts.next()].map(Option::unwrap_or_default).join("/");
        let document = DocumentId::parse(&document).map_err(|e| ("resource", e.to_string()))?;
        let key = parts.next().map(Key::new).transpose();
        Ok(Self::Config(wish, document, key.map_err(|e| ("resource", e.to_string()))?))
    }
}

/// Whether the account may, with a token that narrows nothing, and by which grant of which role;
/// or why not.
pub fn explain(account: &Account, rules: &Rules, wanted: &Wanted) -> Explanation {
    let caller = Caller {
        principal: account.name.as_str().into(),
        identity: Identity::Account(account.id, None),
        granted: Vec::new(),
        narrowed: None,
        issued_at: Stamp(0),
        from: Stamp(0),
        until: Stamp(u64::MAX),
        memo: Memo::default(),
    };
    let of_account = account.roles.iter().filter_map(|id| rules.roles.get(id));
    let decided = decided(&caller, rules, wanted);
    let (allowed, grant, why) = match decided {
        Ok(grant) => (true, Some(grant), None),
        Err(Denied { why }) => (false, None, Some(why)),
    };
    // A permit for some keys of a document can name several grants; the first one stands for them.
    let has = |grant: &Text| {
        let first = grant.split(' ').next().unwrap_or_default();
        of_account.clone().find(|role| role.grants.iter().any(|it| &**it.text() == first))
    };
    let role = grant.as_ref().and_then(has).map(|role| role.name.to_string());
    let why = match (&grant, &role, why) {
        (Some(grant), Some(role), _) => format!("the role {role} grants {grant}"),
        _ if !account.enabled => format!("the account {} is disabled", account.name),
        (_, _, why) => {
            let own = of_account.clone().count();
            format!("{} ({own} roles were looked at)", why.unwrap_or_default())
        }
    };
    Explanation {
        allowed,
        grant,
        role,
        why,
        roles: of_account.map(|role| role.name.to_string()).collect(),
        bound_to: bound_to(rules, wanted),
    }
}

fn decided(caller: &Caller, rules: &Rules, wanted: &Wanted) -> Result<Text, Denied> {
    Ok(match wanted {
        Wanted::Config(Wish::Read, document, Some(key)) => {
            decide::read_key(caller, rules, document, key)?.grant().clone()
        }
        Wanted::Config(Wish::Read, document, None) => {
            decide::read_document(caller, rules, document)?.grant().clone()
        }
        Wanted::Config(Wish::Write, document, Some(key)) => {
            decide::write_keys(caller, rules, document, [key])?.grant().clone()
        }
        Wanted::Config(Wish::Write, document, None) => {
            decide::write_document(caller, rules, document)?.grant().clone()
        }
        Wanted::Secret(action, name) => {
            decide::secret(caller, rules, *action, name)?.grant().clone()
        }
        Wanted::Cluster(action) => decide::cluster(caller, rules, *action)?.grant().clone(),
    })
}

fn bound_to(rules: &Rules, wanted: &Wanted) -> Vec<String> {
    let Wanted::Config(_, document, Some(key)) = wanted else { return Vec::new() };
    let bound = rules.bindings.get(&(document.clone(), key.clone()));
    let roles = bound.into_iter().flatten().filter_map(|id| rules.roles.get(id));
    roles.map(|role| role.name.to_string()).collect()
}
