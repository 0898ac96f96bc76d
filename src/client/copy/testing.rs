//! States for tests, made of keys and values.

use std::sync::Arc;

use super::state::{CopyState, Pending};
use crate::client::{Item, WatchEvent};
use crate::http::item;
use crate::model::{DocumentId, JsonText, Key};

pub(crate) fn document() -> DocumentId {
    DocumentId::parse("web/dev").unwrap()
}

/// A key as a node would tell it.
pub(crate) fn item(key: &str, value: &str, version: u64) -> Item {
    let key = Key::new(key).unwrap();
    Item {
        id: item::id(&document(), &key).to_string(),
        key,
        value: JsonText::parse(value).unwrap(),
        version,
        service: document().service,
        environment: document().environment,
        updated_at: "2026-01-01T00:00:00Z".to_owned(),
        updated_by: "ann".to_owned(),
        message: None,
        region: "eu".to_owned(),
        origin: "01".to_owned(),
        conflicts: Vec::new(),
    }
}

/// A state of these keys, as of the session `s1`.
pub(crate) fn state(keys: &[(&str, &str)]) -> CopyState {
    let mut pending = Pending::default();
    for (key, value) in keys {
        pending.take(&document(), WatchEvent::Put(item(key, value, 1)), None);
    }
    pending.take(&document(), WatchEvent::Ready, Some("s1"));
    pending.state(1)
}

/// Its keys and values, for comparing.
pub(crate) fn shown(state: &Arc<CopyState>) -> Vec<String> {
    state.items().values().map(|item| format!("{}={}", item.key, item.value.as_str())).collect()
}
