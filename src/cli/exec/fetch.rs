//! Asks a node for what the program is to be given: the keys of one document, the secrets that they
//! refer to where that is wanted, and secrets by name. What may not be seen is the node's to say.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::given::{self, Given};
use super::names::{NamedSecret, Rule, Source};
use crate::cli::Failure;
use crate::client::{Client, ClientError, Item};
use crate::model::{DocumentId, Key, SecretName};
use crate::secrets::Plaintext;

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) document: DocumentId,
    /// Only keys that begin with this.
    pub(super) keys: Option<String>,
    pub(super) rule: Rule,
    /// Whether references in values are filled in.
    pub(super) fills: bool,
    pub(super) named: Vec<NamedSecret>,
}

/// What is there, before any secret's value is asked for.
pub(super) struct Found {
    items: Vec<Item>,
    /// Whose values are wanted: those that values refer to, and those asked for by name.
    pub(super) secrets: BTreeSet<SecretName>,
    /// Whether values refer to some.
    refers: bool,
}

impl Wanted {
    /// What becomes which variable. Asks for no secret's value.
    pub(super) async fn names(&self, client: &Client) -> Result<BTreeMap<String, Source>, Failure> {
        let keys = self.find(client).await?.items.into_iter().map(|item| item.key);
        self.rule.names(&self.document, keys, &self.named)
    }

    /// Variables and values. What cannot be given is refused before any secret's value is asked for.
    pub(super) async fn read(&self, client: &Client, found: Found) -> Result<Given, Failure> {
        let keys = found.items.iter().map(|item| item.key.clone());
        self.rule.names(&self.document, keys, &self.named)?;
        let mut values = self.values(client, found).await?;
        let keys = values.keys().cloned();
        let names = self.rule.names(&self.document, keys, &self.named)?;
        let mut variables = BTreeMap::new();
        for (name, source) in names {
            let value = match &source {
                Source::Key(_, key) => values.remove(key),
                Source::Secret(secret) => {
                    let value = client.reveal_secret(secret, None).await;
                    Some(value.map_err(|e| Failure::from(e).about(&source))?)
                }
            };
            variables.extend(value.map(|value| (name, value)));
        }
        Given::new(variables)
    }

    /// The keys, and the secrets that their values refer to.
    pub(super) async fn find(&self, client: &Client) -> Result<Found, Failure> {
        let about = |e: ClientError| Failure::from(e).about(&self.document);
        let items = match client.list(&self.document, self.keys.as_deref()).await {
            Err(e) if e.is_not_found() => Vec::new(),
            listed => listed.map_err(about)?,
        };
        if items.is_empty() && self.named.is_empty() {
            let which = self.keys.as_ref().map(|keys| format!(" that begin with `{keys}`"));
            let which = which.unwrap_or_default();
            return Err(Failure::not_found(format!("{} has no keys{which}", self.document)));
        }
        let mut secrets = BTreeSet::new();
        for item in &items {
            // An escape could spell the member's name, too.
            if !item.value.as_str().contains("$secret") && !item.value.as_str().contains("\\u") {
                continue;
            }
            let before = secrets.len();
            gather(&item.value.to_value(), &mut secrets);
            if secrets.len() > before && !self.fills {
                let why = format!("{}/{} refers to a secret", self.document, item.key);
                return Err(Failure::usage(why).hint(
                    "--secrets fills secrets in, by the right secrets:reveal; --keys takes other keys",
                ));
            }
        }
        let refers = !secrets.is_empty();
        secrets.extend(self.named.iter().map(|secret| secret.name.clone()));
        Ok(Found { items, secrets, refers })
    }

    async fn values(
        &self,
        client: &Client,
        found: Found,
    ) -> Result<BTreeMap<Key, Plaintext>, Failure> {
        if !found.refers {
            let value = |item: Item| Ok((item.key, given::value(item.value.as_str())?));
            return found.items.into_iter().map(value).collect();
        }
        let filled = client.list_filled(&self.document, self.keys.as_deref()).await;
        let filled = filled.map_err(|e| Failure::from(e).about(&self.document))?;
        let value = |(key, json): (Key, Plaintext)| {
            Ok((key, given::value(json.expose_text().unwrap_or_default())?))
        };
        filled.into_iter().map(value).collect()
    }
}

/// The secrets that a value refers to, at any depth, as `http::resolve` finds them.
fn gather(value: &Value, found: &mut BTreeSet<SecretName>) {
    match value {
        Value::Array(elements) => elements.iter().for_each(|element| gather(element, found)),
        Value::Object(members) => {
            let target = members.get("$secret").filter(|_| members.len() == 1);
            match target.and_then(Value::as_str).and_then(|name| SecretName::new(name).ok()) {
                Some(name) => drop(found.insert(name)),
                None => members.values().for_each(|member| gather(member, found)),
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_are_found_at_any_depth_and_nothing_else_is() {
        let value = json!({
            "url": "x", "auth": [{ "$secret": "a" }, { "deep": { "$secret": "b" } }],
            "not": { "$secret": "c", "and": 1 }, "nor": { "$secret": 7 }, "text": "$secret",
            "bad": { "$secret": "no name/" },
        });
        let mut found = BTreeSet::new();
        gather(&value, &mut found);
        let found: Vec<&str> = found.iter().map(SecretName::as_str).collect();
        assert_eq!(found, ["a", "b"]);
    }
}
