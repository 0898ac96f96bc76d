//! What is asked of the nodes before a run and after it.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use super::ROLE_VALUE;
use crate::model::NodeName;
use crate::simulation::clients::Clients;
use crate::simulation::history::{Event, Finding};
use crate::simulation::http::{HttpClient, request};
use crate::simulation::recorder::Recorder;
use crate::simulation::workload::Account;
use crate::simulation::{last, wire};

/// Makes the role and the accounts that clients use.
pub(crate) async fn make(
    http: &mut HttpClient,
    node: &NodeName,
    token: &str,
    accounts: usize,
) -> Result<Vec<Account>, String> {
    let role = json!({ "name": "team", "grants": [wire::grant(ROLE_VALUE)] });
    ask(http, node, token, "/roles", &role).await?;
    let mut made = Vec::new();
    for number in 0..accounts {
        let name = format!("account-{number}");
        let asked = json!({ "name": name, "roles": ["developer"], "credential": true });
        let body = ask(http, node, token, "/accounts", &asked).await?;
        let client_secret = body["client_secret"].as_str().unwrap_or_default().to_owned();
        made.push(Account { name, client_secret });
    }
    Ok(made)
}

async fn ask(
    http: &mut HttpClient,
    node: &NodeName,
    token: &str,
    path: &str,
    body: &Value,
) -> Result<Value, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{path} at {node}: {error}");
    let mut last = String::new();
    for _ in 0..5 {
        let asked = request(Method::POST, path, token, Some(body.to_string()));
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
