//! Secrets and the master key's generations. Values come and go in memory that is overwritten, and
//! are not printed by accident.

use bytes::Bytes;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::{Client, ClientError, PAGE_SIZE, PAGES_MAX, path_of};
use crate::model::{DocumentId, Key, SecretName};
use crate::secrets::Plaintext;

/// A secret's columns.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SecretInfo {
    /// Never used again once the secret is removed.
    #[serde(default)]
    pub id: String,
    /// Its name.
    pub name: SecretName,
    /// The newest version.
    pub version: u64,
    /// What that is sealed with.
    #[serde(default)]
    pub algorithm: String,
    /// RFC 3339.
    #[serde(default)]
    pub created_at: String,
    /// RFC 3339.
    #[serde(default)]
    pub updated_at: String,
    /// Who wrote the newest version.
    #[serde(default)]
    pub updated_by: String,
    /// The newest first, as far as they are kept.
    #[serde(default)]
    pub versions: Vec<SecretVersion>,
}

/// One version's columns.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SecretVersion {
    /// Its number.
    pub version: u64,
    /// What it is sealed with.
    #[serde(default)]
    pub algorithm: String,
    /// RFC 3339.
    #[serde(default)]
    pub created_at: String,
    /// Who wrote it.
    #[serde(default)]
    pub created_by: String,
}

/// A step of a rotation.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct RotationStep {
    /// The generation that everything is to be wrapped by.
    pub to: u32,
    /// How many keys this step wrapped anew.
    pub rewrapped: u64,
    /// How many keys other generations still wrap.
    pub left: u64,
    /// What does not open, and so cannot be wrapped anew.
    #[serde(default)]
    pub damaged: Vec<DamagedKey>,
}

/// What does not open.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct DamagedKey {
    /// Which.
    pub what: String,
    /// Why.
    #[serde(default)]
    pub why: String,
}

/// The generations of the master key, as one node sees them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct MasterKeys {
    /// Those that the cluster uses.
    pub generations: Vec<MasterKey>,
    /// Those that the node holds and the cluster does not use yet.
    #[serde(default)]
    pub waiting: Vec<u32>,
}

/// One generation of the master key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct MasterKey {
    /// Its number.
    pub generation: u32,
    /// Whether new keys are wrapped by it.
    pub current: bool,
    /// Whether the node can use it: `yes`, `no`, `wrong key`.
    #[serde(default)]
    pub held: String,
    /// How many versions of secrets it wraps.
    #[serde(default)]
    pub versions: u64,
    /// How many keys that sign tokens.
    #[serde(default)]
    pub signing_keys: u64,
    /// Whether it wraps the key of idempotency hashes: 1 or 0.
    #[serde(default)]
    pub hash_keys: u64,
}

impl Client {
    /// Writes a secret's next version, or its first.
    pub async fn put_secret(
        &self,
        name: &SecretName,
        value: &Plaintext,
        algorithm: Option<&str>,
        expect_version: Option<u64>,
    ) -> Result<SecretInfo, ClientError> {
        #[derive(Serialize)]
        struct Put<'a> {
            name: &'a SecretName,
            value: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            algorithm: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            expect_version: Option<u64>,
        }
        let no_text = || ClientError::Settings("the value is not UTF-8 text".to_owned());
        let text = value.expose_text().ok_or_else(no_text)?;
        // Of its whole length from the start: a vector that grows leaves what it had behind.
        let mut body = Zeroizing::new(Vec::with_capacity(6 * text.len() + 1024));
        let put = Put { name, value: text, algorithm, expect_version };
        serde_json::to_writer(&mut *body, &put)
            .map_err(|e| ClientError::Settings(e.to_string()))?;
        let request = self
            .write_request(Method::POST, "/secrets")
            .header("content-type", "application/json")
            .body(Bytes::from_owner(body));
        self.json(request).await
    }

    /// A secret's columns.
    pub async fn secret(&self, name: &SecretName) -> Result<SecretInfo, ClientError> {
        let path = format!("/secrets/{name}");
        self.json(self.request(Method::GET, &path).query(&[("reveal", "false")])).await
    }

    /// A secret's value: the newest, or that of a version.
    pub async fn reveal_secret(
        &self,
        name: &SecretName,
        version: Option<u64>,
    ) -> Result<Plaintext, ClientError> {
        #[derive(Deserialize)]
        struct Revealed {
            value: String,
        }
        let path = format!("/secrets/{name}");
        let mut request = self.request(Method::GET, &path).query(&[("reveal", "true")]);
        if let Some(version) = version {
            request = request.query(&[("version", version)]);
        }
        let bytes = Zeroizing::new(self.send(request).await?.1);
        // What a parser says of a text can repeat it.
        let revealed: Revealed = serde_json::from_slice(&bytes)
            .map_err(|_| ClientError::Answer("the answer has no value".to_owned()))?;
        Ok(Plaintext::new(revealed.value.into_bytes()))
    }

    /// All keys of a document that begin with `prefix`, with the secrets that their values refer to
    /// filled in (`?resolve=secrets`): each value is JSON.
    pub async fn list_filled(
        &self,
        document: &DocumentId,
        prefix: Option<&str>,
    ) -> Result<Vec<(Key, Plaintext)>, ClientError> {
        #[derive(Deserialize)]
        struct Page<'a> {
            #[serde(borrow)]
            items: Vec<Filled<'a>>,
            next_cursor: Option<String>,
        }
        #[derive(Deserialize)]
        struct Filled<'a> {
            key: Key,
            #[serde(borrow)]
            value: &'a RawValue,
        }
        let (mut items, mut cursor) = (Vec::new(), None::<String>);
        for _ in 0..PAGES_MAX {
            let mut query = vec![("resolve", "secrets"), ("size", PAGE_SIZE)];
            query.extend(prefix.map(|prefix| ("prefix", prefix)));
            query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let request = self.request(Method::GET, &path_of(document)).query(&query);
            let bytes = Zeroizing::new(self.send(request).await?.1);
            // What a parser says of a text can repeat it.
            let page: Page<'_> = serde_json::from_slice(&bytes)
                .map_err(|_| ClientError::Answer("the answer is no page of keys".to_owned()))?;
            let text = |json: &RawValue| Plaintext::new(json.get().as_bytes().to_vec());
            items.extend(page.items.into_iter().map(|item| (item.key, text(item.value))));
            match page.next_cursor {
                None => return Ok(items),
                again if again == cursor => break,
                next => cursor = next,
            }
        }
        Err(ClientError::Answer("the pages of the listing do not end".to_owned()))
    }

    /// The columns of all secrets that the token may see.
    pub async fn secrets(&self) -> Result<Vec<SecretInfo>, ClientError> {
        self.pages("/secrets", &[]).await
    }

    /// Removes a secret with all of its versions.
    pub async fn remove_secret(&self, name: &SecretName) -> Result<(), ClientError> {
        let path = format!("/secrets/{name}");
        self.send(self.write_request(Method::DELETE, &path)).await.map(drop)
    }

    /// The generations of the master key.
    pub async fn master_keys(&self) -> Result<MasterKeys, ClientError> {
        self.json(self.request(Method::GET, "/cluster/keys")).await
    }

    /// The next step of a rotation.
    pub async fn rotate_keys(&self, to: Option<u32>) -> Result<RotationStep, ClientError> {
        let request = self.request(Method::POST, "/cluster/keys/rotate");
        self.json(request.json(&json!({ "to": to }))).await
    }

    /// Forgets a generation that wraps nothing any more.
    pub async fn retire_key(&self, generation: u32) -> Result<(), ClientError> {
        let path = format!("/cluster/keys/{generation}");
        self.send(self.request(Method::DELETE, &path)).await.map(drop)
    }
}
