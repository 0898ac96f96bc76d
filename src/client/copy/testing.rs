//! States for tests, made of keys and values; what a node says of them, and what a copy stands on.

use std::sync::Arc;
use std::time::Duration;

use super::state::{CopyState, Pending};
use super::{CopyEnv, CopySettings};
use crate::client::{Item, WatchEvent};
use crate::env::{Blocking, Disk, MemoryDisk, WallClock};
use crate::http::item;
use crate::model::{DocumentId, JsonText, Key};

pub(crate) fn document() -> DocumentId {
    DocumentId::parse("web/dev").unwrap()
}

/// A key as a node would tell it.
pub(crate) fn item(key: &str, value: &str, version: u64) -> Item {
    let key = Key::new(key).unwrap();
    Item {
        id: item::id(&document(), &key),
        key,
        value: JsonText::parse(value).unwrap(),
        version,
        service: document().service,
        environment: document().environment,
        updated_at: "2026-01-01T00:00:00Z".to_owned(),
        updated_by: "ann".into(),
        message: None,
        region: "eu".into(),
        origin: "01".into(),
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

/// What a node says of a key; with an `id` the change ends there.
pub(crate) fn put(item: &Item, id: Option<&str>) -> String {
    let data = serde_json::to_string(item).unwrap();
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    format!("event: put\ndata: {data}\n{id}\n")
}

/// What a node says when the state at the beginning is complete.
pub(crate) fn ready(id: &str) -> String {
    format!("event: ready\ndata: {{}}\nid: {id}\n\n")
}

/// A copy's settings that a test has the time for, with a file.
pub(crate) fn settings() -> CopySettings {
    CopySettings {
        file: Some("/data/web.copy".into()),
        start_within: Duration::from_millis(700),
        fresh_within: Duration::from_millis(400),
        save_pause: Duration::from_millis(1),
        ..CopySettings::default()
    }
}

/// What a copy takes from outside: files in memory, and this time of day.
pub(crate) fn env(disk: &MemoryDisk, clock: impl WallClock) -> CopyEnv {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    CopyEnv { clock: Arc::new(clock), blocking: Blocking::Inline, disk: Some(disk) }
}

/// Waits for what tasks bring about.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not in time: {what}");
}
