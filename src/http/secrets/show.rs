//! How a secret looks in an answer: its columns, and its value only where it is handed in.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::model::{Id, SecretName, Stamp, Text};
use crate::secrets::{Algorithm, Plaintext, SealedVersion, Secret};

fn as_text<S: serde::Serializer>(stamp: &Stamp, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(stamp)
}

/// A secret: its columns, and its value only where that was asked for and allowed.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Secret")]
pub(in crate::http) struct Columns<'a> {
    id: Id,
    name: &'a SecretName,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    /// The version that the value is of, else the newest.
    version: u32,
    algorithm: &'static str,
    #[serde(serialize_with = "as_text")]
    #[schemars(with = "Stamp")]
    created_at: Stamp,
    #[serde(serialize_with = "as_text")]
    #[schemars(with = "Stamp")]
    updated_at: Stamp,
    updated_by: &'a Text,
    /// The newest first, as far as they are kept.
    versions: Vec<Version<'a>>,
}

/// One version of a secret.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SecretVersion")]
struct Version<'a> {
    version: u32,
    algorithm: &'static str,
    #[serde(serialize_with = "as_text")]
    #[schemars(with = "Stamp")]
    created_at: Stamp,
    created_by: &'a Text,
}

/// What is known of a write whose secret the node does not show (any more).
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "BareSecret")]
pub(in crate::http) struct Bare<'a> {
    id: Id,
    name: &'a SecretName,
    version: u64,
    algorithm: &'static str,
}

/// A secret that was written.
#[derive(JsonSchema)]
#[schemars(rename = "WrittenSecret", untagged)]
#[expect(dead_code, reason = "a description")]
pub(in crate::http) enum Put<'a> {
    Shown(Columns<'a>),
    Bare(Bare<'a>),
}

/// The columns.
pub(super) fn metadata(secret: &Secret) -> Bytes {
    Bytes::from(render(secret, secret.version, None))
}

/// The columns with the value of `version`, in memory that is overwritten once it was sent.
pub(super) fn with_value(secret: &Secret, version: u32, value: &Plaintext) -> Bytes {
    let value = value.expose_text().unwrap_or_default();
    Bytes::from_owner(Zeroizing::new(render(secret, version, Some(value))))
}

/// What is known of a write whose secret this node does not show (any more).
pub(super) fn bare(id: Id, name: &SecretName, version: u64, algorithm: Algorithm) -> Bytes {
    let bare = Bare { id, name, version, algorithm: algorithm.name() };
    // Texts and a number: there is nothing to fail.
    serde_json::to_vec(&bare).unwrap_or_default().into()
}

fn render(secret: &Secret, version: u32, value: Option<&str>) -> Vec<u8> {
    let versions: &BTreeMap<u32, Arc<SealedVersion>> = &secret.versions;
    let shown = versions.get(&version).or_else(|| secret.newest());
    let Some((shown, newest)) = shown.zip(secret.newest()) else { return b"{}".to_vec() };
    let first = versions.values().next().unwrap_or(newest);
    let columns = Columns {
        id: secret.id,
        name: &secret.name,
        value,
        version,
        algorithm: shown.algorithm.name(),
        created_at: first.created_at,
        updated_at: newest.created_at,
        updated_by: &newest.created_by,
        versions: versions
            .iter()
            .rev()
            .map(|(number, sealed)| Version {
                version: *number,
                algorithm: sealed.algorithm.name(),
                created_at: sealed.created_at,
                created_by: &sealed.created_by,
            })
            .collect(),
    };
    // Of its whole length from the start, so that no shorter copy of a value is left behind.
    let len = 1024 + value.map_or(0, |value| 6 * value.len()) + 1024 * versions.len();
    let mut bytes = Vec::with_capacity(len);
    // Columns of text and numbers: there is nothing to fail.
    let _ = serde_json::to_writer(&mut bytes, &columns);
    bytes
}
