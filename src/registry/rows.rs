//! The state as rows, on disk and in snapshots. A key is a kind and what tells things of this kind
//! apart, so that the order of keys is the order in which rows can be put in; a value is a version
//! byte and CBOR. Kinds and their keys:
//!
//! | kind | key | value |
//! |---|---|---|
//! | 1 | account's id | [`Account`] |
//! | 2 | role's id | [`Role`] |
//! | 3 | `service/environment/key` | the ids of the roles it is bound to |
//! | 4 | secret's id | its name and newest version |
//! | 5 | secret's id, version (4 bytes, big-endian) | [`SealedVersion`] |
//! | 6 | number (4 bytes, big-endian) | [`Generation`] |
//! | 7 | `kid` | [`SigningKey`] |
//! | 8 | nothing | the key of idempotency hashes |
//! | 9 | index of the log (8 bytes, big-endian) | a request that retries are recognised by |
//! | 10 | `service/environment` | [`EpochRoll`] of the document's newest epoch |
//! | 11 | nothing | the generation of the newest fold of origins |
//! | 20 | environment, or nothing for all others | [`HistoryPolicy`] |
//!
//! A row lives as long as its thing. Nothing here decides; what is damaged is refused by name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use minicbor::{Decode, Encode};

use super::command::{EpochRoll, Generation, SealedKey, SigningKey};
use super::state::{Remembered, Row, State};
use crate::access::account::{Account, Role};
use crate::config::HistoryPolicy;
use crate::model::{DocumentId, Environment, Id, Key, SecretName, Text, cbor};
use crate::secrets::{SealedVersion, Secret};

/// The version of values.
const VERSION: u8 = 1;

/// Why a row does not belong into a state. The state is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a row of the quorum's state is damaged: {0}")]
pub struct RowError(pub String);

/// Which thing a row is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Account(Id),
    Role(Id),
    Binding(DocumentId, Key),
    Secret(Id),
    Version(Id, u32),
    Generation(u32),
    Signing(Text),
    HashKey,
    Remembered(u64),
    HistoryPolicy(Option<Environment>),
    Epoch(DocumentId),
    Folded,
}

/// A secret without its versions.
#[derive(Encode, Decode)]
#[cbor(map)]
struct SecretHead {
    #[n(0)]
    name: SecretName,
    #[n(1)]
    version: u32,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Bound {
    #[n(0)]
    roles: BTreeSet<Id>,
}

impl Which {
    fn key(&self) -> Vec<u8> {
        let (kind, rest): (u8, Vec<u8>) = match self {
            Self::Account(id) => (1, id.as_bytes().to_vec()),
            Self::Role(id) => (2, id.as_bytes().to_vec()),
            Self::Binding(document, key) => (3, format!("{document}/{key}").into_bytes()),
            Self::Secret(id) => (4, id.as_bytes().to_vec()),
            Self::Version(id, version) => {
                (5, [&id.as_bytes()[..], &version.to_be_bytes()].concat())
            }
            Self::Generation(number) => (6, number.to_be_bytes().to_vec()),
            Self::Signing(kid) => (7, kid.as_bytes().to_vec()),
            Self::HashKey => (8, Vec::new()),
            Self::Remembered(index) => (9, index.to_be_bytes().to_vec()),
            Self::HistoryPolicy(of) => {
                (20, of.as_ref().map_or_else(Vec::new, |of| of.as_str().as_bytes().to_vec()))
            }
            Self::Epoch(document) => (10, document.to_string().into_bytes()),
            Self::Folded => (11, Vec::new()),
        };
        [&[kind][..], &rest].concat()
    }

    fn parse(key: &[u8]) -> Option<Self> {
        let id = |bytes: &[u8]| bytes.try_into().ok().map(Id::from_bytes);
        let number = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_be_bytes);
        let (kind, rest) = key.split_first()?;
        Some(match kind {
            1 => Self::Account(id(rest)?),
            2 => Self::Role(id(rest)?),
            3 => {
                let (document, key) = std::str::from_utf8(rest).ok()?.rsplit_once('/')?;
                Self::Binding(DocumentId::parse(document).ok()?, Key::new(key).ok()?)
            }
            4 => Self::Secret(id(rest)?),
            5 => {
                let (secret, version) = rest.split_at_checked(16)?;
                Self::Version(id(secret)?, number(version)?)
            }
            6 => Self::Generation(number(rest)?),
            7 => Self::Signing(std::str::from_utf8(rest).ok()?.into()),
            8 => rest.is_empty().then_some(Self::HashKey)?,
            9 => Self::Remembered(u64::from_be_bytes(rest.try_into().ok()?)),
            20 if rest.is_empty() => Self::HistoryPolicy(None),
            20 => {
                let of = Environment::new(std::str::from_utf8(rest).ok()?).ok()?;
                Self::HistoryPolicy(Some(of))
            }
            10 => Self::Epoch(DocumentId::parse(std::str::from_utf8(rest).ok()?).ok()?),
            11 => rest.is_empty().then_some(Self::Folded)?,
            _ => return None,
        })
    }

    /// The row that says how this thing is in `state`: removed, where it is not there.
    pub(super) fn row(&self, state: &State) -> Row {
        let value = match self {
            Self::Account(id) => state.rules.accounts.get(id).map(|it| value(&**it)),
            Self::Role(id) => state.rules.roles.get(id).map(|it| value(&**it)),
            Self::Binding(document, key) => {
                let bound = state.rules.bindings.get(&(document.clone(), key.clone()));
                bound.map(|roles| value(&Bound { roles: roles.clone() }))
            }
            Self::Secret(id) => state.secrets.get(id).map(|it| value(&SecretHead::of(it))),
            Self::Version(id, version) => {
                let sealed = state.secrets.get(id).and_then(|it| it.versions.get(version));
                sealed.map(|it| value(&**it))
            }
            Self::Generation(number) => state.generations.get(number).map(value),
            Self::Signing(kid) => state.signing.get(kid).map(|it| value(&**it)),
            Self::HashKey => state.hash_key.as_ref().map(value),
            Self::Remembered(index) => state.remembered.get(index).map(|it| value(&**it)),
            Self::HistoryPolicy(of) => state.history.set.get(of).map(value),
            Self::Epoch(document) => state.epochs.get(document).map(|it| value(&**it)),
            Self::Folded => (state.folded > 0).then(|| value(&state.folded)),
        };
        Row { key: self.key(), value }
    }
}

impl SecretHead {
    fn of(secret: &Secret) -> Self {
        Self { name: secret.name.clone(), version: secret.version }
    }
}

fn value<T: Encode<()>>(thing: &T) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bytes.extend(cbor::encode(thing));
    bytes
}

fn read<T: for<'b> Decode<'b, ()>>(bytes: &[u8]) -> Result<T, RowError> {
    match bytes.split_first() {
        Some((&VERSION, body)) => cbor::decode(body).map_err(|e| RowError(e.to_string())),
        Some((version, _)) => {
            Err(RowError(format!("format {version}; this program knows format {VERSION}")))
        }
        None => Err(RowError("no bytes".to_owned())),
    }
}

fn refuse(wrong: bool, why: &str) -> Result<(), RowError> {
    if wrong { Err(RowError(why.to_owned())) } else { Ok(()) }
}

impl State {
    /// All rows, in the order of their keys: what a snapshot sends.
    pub fn rows(&self) -> Box<dyn Iterator<Item = Row> + '_> {
        let accounts = self.rules.accounts.keys().map(|id| Which::Account(*id));
        let roles = self.rules.roles.keys().map(|id| Which::Role(*id));
        // Names are ordered by their parts in the map and as one text in the rows.
        let mut bindings: Vec<Which> = self.rules.bindings.keys().map(binding).collect();
        bindings.sort_by_cached_key(Which::key);
        let heads = self.secrets.keys().map(|id| Which::Secret(*id));
        let versions = self.secrets.iter().flat_map(|(id, secret)| {
            secret.versions.keys().map(move |version| Which::Version(*id, *version))
        });
        let generations = self.generations.keys().map(|number| Which::Generation(*number));
        let signing = self.signing.keys().map(|kid| Which::Signing(kid.clone()));
        let hash_key = self.hash_key.iter().map(|_| Which::HashKey);
        let remembered = self.remembered.keys().map(|index| Which::Remembered(*index));
        // As with bindings.
        let mut epochs: Vec<Which> = self.epochs.keys().cloned().map(Which::Epoch).collect();
        epochs.sort_by_cached_key(Which::key);
        let all = accounts.chain(roles).chain(bindings).chain(heads).chain(versions);
        let all =
            all.chain(generations).chain(signing).chain(hash_key).chain(remembered).chain(epochs);
        let history = self.history.set.keys().map(|of| Which::HistoryPolicy(of.clone()));
        let folded = (self.folded > 0).then_some(Which::Folded);
        let all = all.chain(folded).chain(history);
        Box::new(all.map(|which| which.row(self)))
    }

    /// Puts a stored or sent row in, or takes it out where it has no value. Rows come in the order
    /// of their keys, or in that in which [`State::apply`] gave them. [`State::index`] is the
    /// caller's to set.
    pub fn insert(&mut self, row: &Row) -> Result<(), RowError> {
        let which = Which::parse(&row.key)
            .ok_or_else(|| RowError(format!("the key {:02x?} is of no known kind", row.key)))?;
        match &row.value {
            Some(bytes) => self.put(which, bytes),
            None => {
                self.take(&which);
                Ok(())
            }
        }
    }

    fn put(&mut self, which: Which, bytes: &[u8]) -> Result<(), RowError> {
        match which {
            Which::Account(id) => {
                let account: Account = read(bytes)?;
                let holder = self.rules.account_ids.get(&account.name);
                let is_misplaced = account.id != id || holder.is_some_and(|it| *it != id);
                refuse(is_misplaced, "an account stands under another's id or name")?;
                self.take(&Which::Account(id));
                self.rules.account_ids.insert(account.name.clone(), id);
                self.rules.accounts.insert(id, Arc::new(account));
            }
            Which::Role(id) => {
                let role: Role = read(bytes)?;
                let holder = self.rules.role_ids.get(&role.name);
                let is_misplaced = role.id != id || holder.is_some_and(|it| *it != id);
                refuse(is_misplaced, "a role stands under another's id or name")?;
                self.take(&Which::Role(id));
                self.rules.role_ids.insert(role.name.clone(), id);
                self.rules.roles.insert(id, Arc::new(role));
            }
            Which::Binding(document, key) => {
                let bound: Bound = read(bytes)?;
                self.rules.bindings.insert((document, key), bound.roles);
            }
            Which::Secret(id) => self.put_secret(id, read(bytes)?)?,
            Which::Version(id, version) => {
                let sealed: SealedVersion = read(bytes)?;
                let secret = self.secrets.get_mut(&id);
                let secret = secret.ok_or_else(|| RowError("a version of no secret".to_owned()))?;
                Arc::make_mut(secret).versions.insert(version, Arc::new(sealed));
            }
            Which::Generation(number) => {
                let generation: Generation = read(bytes)?;
                refuse(generation.number != number, "a generation stands under another's number")?;
                self.generations.insert(number, generation);
            }
            Which::Signing(kid) => {
                let key: SigningKey = read(bytes)?;
                refuse(key.kid != kid, "a signing key stands under another's name")?;
                self.signing.insert(kid, Arc::new(key));
            }
            Which::HashKey => self.hash_key = Some(read::<SealedKey>(bytes)?),
            Which::Remembered(index) => {
                let remembered: Remembered = read(bytes)?;
                self.take(&Which::Remembered(index));
                self.remembered_at.insert(remembered.key, index);
                self.remembered.insert(index, Arc::new(remembered));
            }
            Which::HistoryPolicy(of) => {
                self.history.set.insert(of, read::<HistoryPolicy>(bytes)?);
            }
            Which::Epoch(document) => {
                let roll: EpochRoll = read(bytes)?;
                self.epochs.insert(document, Arc::new(roll));
            }
            Which::Folded => self.folded = read(bytes)?,
        }
        Ok(())
    }

    fn put_secret(&mut self, id: Id, head: SecretHead) -> Result<(), RowError> {
        let holder = self.secret_ids.get(&head.name);
        refuse(holder.is_some_and(|it| *it != id), "two secrets have one name")?;
        let old = self.secrets.get(&id);
        if let Some(old) = old {
            self.secret_ids.remove(&old.name);
        }
        let versions = old.map_or_else(BTreeMap::new, |old| old.versions.clone());
        self.secret_ids.insert(head.name.clone(), id);
        let secret = Secret { id, name: head.name, version: head.version, versions };
        self.secrets.insert(id, Arc::new(secret));
        Ok(())
    }

    /// Takes a thing out; where it is not there, nothing happens.
    fn take(&mut self, which: &Which) {
        match which {
            Which::Account(id) => {
                if let Some(account) = self.rules.accounts.remove(id) {
                    self.rules.account_ids.remove(&account.name);
                }
            }
            Which::Role(id) => {
                if let Some(role) = self.rules.roles.remove(id) {
                    self.rules.role_ids.remove(&role.name);
                }
            }
            Which::Binding(document, key) => {
                self.rules.bindings.remove(&(document.clone(), key.clone()));
            }
            Which::Secret(id) => {
                if let Some(secret) = self.secrets.remove(id) {
                    self.secret_ids.remove(&secret.name);
                }
            }
            Which::Version(id, version) => {
                if let Some(secret) = self.secrets.get_mut(id) {
                    Arc::make_mut(secret).versions.remove(version);
                }
            }
            Which::Generation(number) => {
                self.generations.remove(number);
            }
            Which::Signing(kid) => {
                self.signing.remove(kid);
            }
            Which::HashKey => self.hash_key = None,
            Which::Remembered(index) => {
                if let Some(remembered) = self.remembered.remove(index) {
                    self.remembered_at.remove(&remembered.key);
                }
            }
            Which::HistoryPolicy(of) => {
                self.history.set.remove(of);
            }
            Which::Epoch(document) => {
                self.epochs.remove(document);
            }
            Which::Folded => self.folded = 0,
        }
    }
}

fn binding((document, key): &(DocumentId, Key)) -> Which {
    Which::Binding(document.clone(), key.clone())
}
