//! `holm regions`: where requests can go, how near each place is, which one is used, and why.

use clap::Args;
use serde_json::json;

use super::list::print;
use super::{Failure, Global, Terminal};
use crate::client::{Client, RegionStatus};

/// Arguments of `holm regions`.
#[derive(Args, Debug)]
#[command(after_help = "\
Each place is looked up, measured (GET /readyz) and asked for its region, which takes a token
(cluster:read); without one the region is not shown. Exit code 1 where none is healthy.

Examples:
  holm regions --url https://eu.example.com,https://us.example.com
  holm regions --discover holm.example.com
  holm regions --discover http://holm.service.consul --dns 127.0.0.1:8600 --output json")]
pub struct Regions {}

impl Regions {
    pub(crate) async fn run(
        self,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        let client = global.client()?;
        let regions = client.measure().await?;
        if let Some(error) = client.lookup_error() {
            terminal.note(error.to_string())?;
        }
        let named = regions.iter().map(async |region| region_of(&client, region).await);
        let named = futures_util::future::join_all(named).await;
        let each = || regions.iter().zip(&named);
        if global.json() {
            let items: Vec<_> = each().map(|(region, named)| item(region, named)).collect();
            terminal.say_json(&json!({ "regions": items }))?;
        } else {
            let rows: Vec<_> = each().map(|(region, named)| row(region, named)).collect();
            print(&["", "ADDRESS", "REGION", "RTT", "WHY"], &rows, terminal)?;
        }
        if regions.iter().any(|region| region.is_healthy) {
            return Ok(());
        }
        Err(Failure::failed("no region is healthy"))
    }
}

/// What a place says of its region, if it says it to this caller.
async fn region_of(client: &Client, region: &RegionStatus) -> Option<String> {
    if !region.is_healthy {
        return None;
    }
    let cluster = client.only(region)?.cluster().await.ok()?;
    cluster["region"].as_str().map(str::to_owned)
}

fn row(region: &RegionStatus, named: &Option<String>) -> Vec<String> {
    let address = match &region.label {
        Some(label) => format!("{} ({label})", region.url),
        None => region.url.clone(),
    };
    let rtt = region.rtt.map_or("-".to_owned(), |rtt| format!("{:.1} ms", rtt.as_secs_f64() * 1e3));
    let used = if region.is_used { "*" } else { "" };
    let named = named.clone().unwrap_or_else(|| "-".to_owned());
    vec![used.to_owned(), address, named, rtt, region.why.clone()]
}

fn item(region: &RegionStatus, named: &Option<String>) -> serde_json::Value {
    json!({
        "url": region.url,
        "label": region.label,
        "addresses": region.addresses,
        "region": named,
        "rtt_ms": region.rtt.map(|rtt| rtt.as_secs_f64() * 1e3),
        "healthy": region.is_healthy,
        "used": region.is_used,
        "why": region.why,
    })
}
