//! What is asked of the nodes before a run and after it.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use super::ROLE_VALUE;
use crate::config::HistoryPolicy;
use crate::model::NodeName;
use crate::simulation::clients::Clients;
use crate::simulation::history::{Event, Finding};
use crate::simulation::http::{HttpClient, request};
use crate::simulation::recorder::Recorder;
use crate::simulation::workload::Account;
use crate::simulation::{last, wire};

/// How often is asked again, half a second later, what was not done.
const TRIES_MAX: usize = 20;

/// Makes the role and the accounts that clients use, and says how much of histories is kept.
pub(crate) async fn make(
    http: &mut HttpClient,
    node: &NodeName,
    token: &str,
    accounts: usize,
    history: Option<HistoryPolicy>,
) -> Result<Vec<Account>, String> {
    let post = Method::POST;
    let role = json!({ "name": "team", "grants": [wire::grant(ROLE_VALUE)] });
    ask(http, node, token, (&post, "/roles"), &role).await?;
    if let Some(HistoryPolicy { versions, age_s }) = history {
        let policy = json!({ "versions": versions, "age_s": age_s });
        ask(http, node, token, (&Method::PUT, "/cluster/history"), &policy).await?;
    }
    let mut made = Vec::new();
    for number in 0..accounts {
        let name = format!("account-{number}");
        let asked = json!({ "name": name, "roles": ["developer"], "credential": true });
        let body = ask(http, node, token, (&post, "/accounts"), &asked).await?;
        let client_secret = body["client_secret"].as_str().unwrap_or_default().to_owned();
        made.push(Account { name, client_secret });
    }
    Ok(made)
}

async fn ask(
    http: &mut HttpClient,
    node: &NodeName,
    token: &str,
    (method, path): (&Method, &str),
    body: &Value,
) -> Result<Value, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{path} at {node}: {error}");
    let mut last = String::new();
    for _ in 0..TRIES_MAX {
        let asked = request(method.clone(), path, token, Some(body.to_string()));
        let asked = asked.map_err(|e| failed(&e))?;
        match http.send(node, asked, Duration::from_secs(10)).await {
            Ok(answer) if answer.status.is_success() => {
                return Ok(serde_json::from_slice(&answer.body).unwrap_or_default());
            }
            Ok(answer) => last = failed(&String::from_utf8_lossy(&answer.body)),
            Err(error) => last = failed(&error),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Err(last)
}

/// Asks these nodes for everything they show, and records it.
pub(crate) async fn lasts(
    clients: Clients,
    asked: Vec<NodeName>,
    token: String,
    recorder: Recorder,
) {
    let mut http = HttpClient::new(&clients, u32::MAX - 1);
    for node in asked {
        let event = match last::last(&mut http, &node, &token).await {
            Ok(last) => Event::Final(last),
            Err(error) => Event::Finding(Finding {
                kind: "silent".to_owned(),
                node: node.to_string(),
                what: format!("at the end it does not say what it has: {error}"),
                expected: false,
            }),
        };
        recorder.add(clients.now_us(), event);
    }
}
