//! What goes over the wire, as types. Members that a later server adds are passed over; the ones
//! that only people read may be missing.

use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use crate::config::texts::Texts;
use crate::model::{Environment, JsonText, Key, Service, Text};

/// A key as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Item {
    /// The same in all regions: a UUIDv5 of service, environment and key.
    #[serde(default)]
    pub id: Uuid,
    /// The key.
    pub key: Key,
    /// Its value.
    pub value: JsonText,
    /// Grows by one with each write.
    pub version: u64,
    /// Whose configuration it is.
    pub service: Service,
    /// Where that service runs.
    pub environment: Environment,
    /// RFC 3339.
    #[serde(default)]
    pub updated_at: String,
    /// The subject of the token that wrote it.
    #[serde(default)]
    pub updated_by: Text,
    /// What the writer said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Text>,
    /// The region that took the write.
    #[serde(default)]
    pub region: Text,
    /// The store that made the change.
    #[serde(default)]
    pub origin: Text,
    /// What was written elsewhere at the same time and lost; the next write settles it.
    #[serde(default)]
    pub conflicts: Vec<Sibling>,
}

impl Item {
    /// Lets it share with others what is the same in many.
    pub(super) fn share(&mut self, texts: &mut Texts) {
        for text in [&mut self.updated_by, &mut self.region, &mut self.origin] {
            texts.share_text(text);
        }
    }
}

/// A page of the audit log.
#[derive(Clone, Debug, Deserialize)]
pub struct AuditPage {
    /// The records, as the node says them.
    pub items: Vec<serde_json::Value>,
    /// What is behind this page.
    #[serde(default)]
    pub next_cursor: Option<String>,
    /// What comes later.
    #[serde(default)]
    pub follow_cursor: Option<String>,
    /// Nodes that did not answer, whose records come from a copy of what they had when they drained.
    #[serde(default)]
    pub copied: Vec<String>,
    /// Nodes that did not answer, whose records are not shown, or not all.
    #[serde(default)]
    pub missing: Vec<String>,
    /// Nodes of whose records the oldest that were asked for are in archives alone.
    #[serde(default)]
    pub archived: Vec<String>,
}

/// What a node found out about its audit chains.
#[derive(Clone, Debug, Deserialize)]
pub struct AuditReports {
    /// The node.
    pub node: String,
    /// Its chains.
    pub stores: Vec<crate::audit::verify::Report>,
}

/// A concurrent write that is not the one shown.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Sibling {
    /// Its value; none where it is a removal.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub value: Option<JsonText>,
    /// Whether it is a removal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
    /// Its version, which may be the winner's.
    pub version: u64,
    /// RFC 3339.
    #[serde(default)]
    pub updated_at: String,
    /// Who wrote it.
    #[serde(default)]
    pub updated_by: String,
    /// The region that took it.
    #[serde(default)]
    pub region: String,
    /// The store that made the change.
    #[serde(default)]
    pub origin: String,
    /// What the writer said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// One entry of a key's history.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Version {
    /// The number, which two concurrent writes can share.
    pub version: u64,
    /// The value; none where it is a removal.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub value: Option<JsonText>,
    /// Whether it is a removal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
    /// RFC 3339.
    #[serde(default)]
    pub updated_at: String,
    /// Who wrote it.
    #[serde(default)]
    pub updated_by: String,
    /// What the writer said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The region that took it.
    #[serde(default)]
    pub region: String,
    /// The store that made the change; `version@origin` names this entry alone.
    #[serde(default)]
    pub origin: String,
    /// Whether it is what the key shows now.
    #[serde(default)]
    pub current: bool,
    /// Whether others of its number are not kept any more, or may not be, as the next number is not there:
    /// only `version@origin` names it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub others_gone: bool,
}

/// A `null` that is there is a value, unlike one that is missing.
fn present<'de, D: Deserializer<'de>>(d: D) -> Result<Option<JsonText>, D::Error> {
    JsonText::deserialize(d).map(Some)
}

/// One service in one environment.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct DocumentInfo {
    /// Whose configuration it is.
    pub service: Service,
    /// Where that service runs.
    pub environment: Environment,
    /// How many keys it has.
    #[serde(default)]
    pub keys: u64,
}

/// One key of a write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Write {
    /// The key.
    pub key: Key,
    /// Its new value.
    pub value: JsonText,
    /// Refuse the whole write where the key has another version; 0 is a key that is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect_version: Option<u64>,
}

/// What a write left.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Written {
    /// The keys as they are after it.
    #[serde(default)]
    pub items: Vec<Item>,
    /// Which regions have it on disk, where `Holm-Ack` asked for more than the one that took it.
    #[serde(default)]
    pub receipts: Vec<Receipt>,
    /// Whether as many regions have it as `Holm-Ack` asked for. Where not, it is still written.
    #[serde(skip)]
    pub acknowledged: bool,
}

/// Whether one region has a write.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Receipt {
    /// Which region.
    pub region: String,
    /// Whether it is known to have the write on disk.
    pub has: bool,
}

/// A removal.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Removed {
    /// The key that is no more.
    pub key: Key,
    /// The removal's version.
    pub version: u64,
    /// RFC 3339.
    #[serde(default)]
    pub updated_at: String,
    /// Who removed it.
    #[serde(default)]
    pub updated_by: String,
    /// The region that took the removal.
    #[serde(default)]
    pub region: String,
    /// The store that made the change.
    #[serde(default)]
    pub origin: String,
}

/// What to do to links of a development cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LinkChange {
    /// `cut`, `slow` or `heal`.
    pub action: &'static str,
    /// The region at one end; all where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The region at the other end; all where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Only what goes from `from` to `to`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub one_way: bool,
    /// Added each way, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
}
