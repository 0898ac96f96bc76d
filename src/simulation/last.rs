//! What a node shows at the end, asked for over HTTP as any client would: all rows, all versions, the
//! quorum path's copy, the audit chains.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::Method;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::history::{Final, Sibling};
use super::http::{HttpClient, HttpError, request};
use super::probe::hex;
use super::wire;
use crate::model::NodeName;

/// How long each answer may take.
const WITHIN: Duration = Duration::from_secs(5);

/// Why a node could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LastError {
    /// It does not answer.
    #[error("{path}: {error}")]
    Http {
        /// What was asked for.
        path: String,
        /// Why there is no answer.
        error: HttpError,
    },
    /// It answers something else.
    #[error("{path}: status {status}")]
    Status {
        /// What was asked for.
        path: String,
        /// What came.
        status: u16,
    },
}

/// One node being asked.
struct Asking<'a> {
    http: &'a mut HttpClient,
    node: &'a NodeName,
    token: &'a str,
}

/// Asks `node` for everything.
pub(crate) async fn last(
    http: &mut HttpClient,
    node: &NodeName,
    token: &str,
) -> Result<Final, LastError> {
    let mut asking = Asking { http, node, token };
    let mut last = Final { node: node.to_string(), ..Final::default() };
    let mut rows = Sha256::new();
    for document in asking.pages("/config").await? {
        let name = format!("{}/{}", text(&document["service"]), text(&document["environment"]));
        asking.document(&name, &mut last).await?;
    }
    for (key, siblings) in &last.rows {
        rows.update(format!("{key} {siblings:?}\n"));
    }
    last.view_hash = hex(&rows.finalize());
    let cluster = asking.get("/cluster").await?;
    let vector = cluster["vector"].as_object().into_iter().flatten();
    last.vector = vector.filter_map(|(origin, n)| Some((origin.clone(), n.as_u64()?))).collect();
    // A document's heads follow from the changes in it, and these are the vector's.
    last.heads_hash = hex(&Sha256::digest(format!("{:?}", last.vector)));
    last.quorum_applied = cluster["quorum"]["applied"].as_u64().unwrap_or(0);
    let mut quorum = Sha256::new();
    for path in
        ["/secrets?consistency=local", "/roles?consistency=local", "/accounts?consistency=local"]
    {
        for item in asking.pages(path).await? {
            quorum.update(item.to_string());
        }
    }
    last.quorum_hash = hex(&quorum.finalize());
    let audit = asking.get("/audit/verify").await?;
    for store in audit["stores"].as_array().into_iter().flatten() {
        let findings: Vec<String> =
            store["findings"].as_array().into_iter().flatten().map(text).collect();
        let wrong = (!findings.is_empty()).then(|| findings.join("; "));
        last.audit.insert(text(&store["store"]), wrong);
    }
    Ok(last)
}

impl Asking<'_> {
    async fn get(&mut self, path: &str) -> Result<Value, LastError> {
        let failed = |error| LastError::Http { path: path.to_owned(), error };
        let asked = request(Method::GET, path, self.token, None).map_err(failed)?;
        let answer = self.http.send(self.node, asked, WITHIN).await.map_err(failed)?;
        if !answer.status.is_success() {
            return Err(LastError::Status {
                path: path.to_owned(),
                status: answer.status.as_u16(),
            });
        }
        Ok(serde_json::from_slice(&answer.body).unwrap_or_default())
    }

    /// The items of all pages.
    async fn pages(&mut self, path: &str) -> Result<Vec<Value>, LastError> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let sign = if path.contains('?') { '&' } else { '?' };
            let next = cursor.map_or(String::new(), |cursor| format!("&cursor={cursor}"));
            let mut page = self.get(&format!("{path}{sign}size=1000{next}")).await?;
            if let Value::Array(more) = page["items"].take() {
                items.extend(more);
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => return Ok(items),
            }
        }
    }

    async fn document(&mut self, name: &str, last: &mut Final) -> Result<(), LastError> {
        let mut live: BTreeMap<String, Vec<Sibling>> = BTreeMap::new();
        for item in self.pages(&format!("/config/{name}")).await? {
            live.insert(text(&item["key"]), wire::row(&item));
        }
        // Removed keys are not listed: they are asked for by the names that clients use.
        let mut keys: Vec<String> = live.keys().cloned().collect();
        for number in 0.. {
            let key = format!("key-{number}");
            if live.contains_key(&key) {
                continue;
            }
            let path = format!("/config/{name}/{key}/versions?size=1");
            match self.get(&path).await {
                Ok(_) => keys.push(key),
                // Keys are first used in no order; a long gap is the end.
                Err(LastError::Status { status: 404, .. }) if number < KEYS_LOOKED_FOR => {}
                Err(LastError::Status { status: 404, .. }) => break,
                Err(error) => return Err(error),
            }
        }
        for key in keys {
            let versions = self.pages(&format!("/config/{name}/{key}/versions")).await?;
            let place = format!("{name}/{key}");
            let row = match live.remove(&key) {
                Some(row) => row,
                None => self.removed(name, &key).await?,
            };
            last.rows.insert(place.clone(), row);
            last.history.insert(place, versions.iter().map(wire::sibling).collect());
        }
        Ok(())
    }

    /// A removed key's row: what its answer says is gone.
    async fn removed(&mut self, name: &str, key: &str) -> Result<Vec<Sibling>, LastError> {
        let path = format!("/config/{name}/{key}");
        let failed = |error| LastError::Http { path: path.clone(), error };
        let asked = request(Method::GET, &path, self.token, None).map_err(failed)?;
        let answer = self.http.send(self.node, asked, WITHIN).await.map_err(failed)?;
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        Ok(wire::gone(&body))
    }
}

/// Keys are looked for up to this number at least, once listed ones are passed.
const KEYS_LOOKED_FOR: u32 = 64;

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
