//! Secrets: which version a sealed value becomes. Values stay sealed; nothing here could open them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Work, check, limit, not_found};
use crate::model::{Id, SecretName};
use crate::registry::command::{Expect, Outcome, Refusal};
use crate::registry::limits::{AUTHOR_LEN_MAX, SECRETS_MAX, WRAPPED_LEN_MAX};
use crate::registry::rows::Which;
use crate::secrets::sealed::{VALUE_LEN_MAX, VERSIONS_MAX};
use crate::secrets::{SealedVersion, Secret};

/// Longest authentication tag, in bytes.
const TAG_LEN_MAX: usize = 64;

impl Work {
    pub(super) fn put_secret(
        &mut self,
        id: Id,
        name: &SecretName,
        expect: Expect,
        version: u32,
        sealed: &SealedVersion,
    ) -> Result<Outcome, Refusal> {
        let known = self.state.secret_ids.get(name).and_then(|id| self.state.secrets.get(id));
        let known = known.cloned();
        check(expect, known.as_ref().map_or(0, |secret| u64::from(secret.version)))?;
        check_sealed(sealed)?;
        let becomes = known.as_ref().map_or(Some(1), |secret| secret.version.checked_add(1));
        let becomes =
            becomes.ok_or_else(|| Refusal::Limit("a secret has no more versions".into()))?;
        let becomes_id = match &known {
            Some(secret) => secret.id,
            None if version == 1 && !self.state.secrets.contains_key(&id) => id,
            // The secret that it was sealed for is gone. What was sealed for its id must not open
            // as this one's: it takes an id that nothing had, the same on every node.
            None => id.within(&self.index.to_be_bytes()),
        };
        // Where the generation that wraps its data key was retired meanwhile, it could not be
        // opened any more: that is sealed again, too.
        let opens = self.state.generations.contains_key(&sealed.generation);
        if (id, version) != (becomes_id, becomes) || !opens {
            return Err(Refusal::Moved(becomes_id, becomes));
        }
        let is_new = known.is_none();
        limit(self.state.secrets.len() + usize::from(is_new), SECRETS_MAX, "secrets")?;
        let mut secret = known.map_or_else(
            || Secret { id, name: name.clone(), version, versions: BTreeMap::new() },
            |known| Secret::clone(&known),
        );
        secret.version = version;
        secret.versions.insert(version, Arc::new(sealed.clone()));
        self.changed.extend([Which::Secret(id), Which::Version(id, version)]);
        while secret.versions.len() > VERSIONS_MAX
            && let Some((oldest, _)) = secret.versions.pop_first()
        {
            self.changed.push(Which::Version(id, oldest));
        }
        self.state.secret_ids.insert(name.clone(), id);
        self.state.secrets.insert(id, Arc::new(secret));
        Ok(Outcome::Put(id, u64::from(version), is_new))
    }

    pub(super) fn delete_secret(&mut self, id: Id, expect: Expect) -> Result<Outcome, Refusal> {
        let secret = self.state.secrets.get(&id).cloned();
        let secret = secret.ok_or_else(|| not_found(format!("the secret {id}")))?;
        check(expect, u64::from(secret.version))?;
        self.state.secrets.remove(&id);
        self.state.secret_ids.remove(&secret.name);
        self.changed.push(Which::Secret(id));
        self.changed.extend(secret.versions.keys().map(|version| Which::Version(id, *version)));
        Ok(Outcome::Deleted(id))
    }
}

fn check_sealed(sealed: &SealedVersion) -> Result<(), Refusal> {
    let (value, nonce) = (sealed.ciphertext.len(), sealed.nonce.len());
    limit(value, VALUE_LEN_MAX + TAG_LEN_MAX, "bytes in a sealed value")?;
    limit(nonce.max(sealed.wrapped.len()), WRAPPED_LEN_MAX, "bytes in a nonce or a wrapped key")?;
    limit(sealed.created_by.len(), AUTHOR_LEN_MAX, "bytes in an author's name")
}
