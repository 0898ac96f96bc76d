//! `holm pki status`: which certificates the nodes show, and whom they trust.

use super::super::list::print;
use super::super::{Failure, Global, Terminal};
use crate::client::{ShownCertificate, ShownCertificates};

pub(super) async fn run(global: &Global, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    if global.json() {
        return terminal.say_json(&global.client()?.certificates_json().await?);
    }
    table(&global.client()?.certificates().await?, terminal)
}

/// One line a node.
pub(super) fn table(
    nodes: &[ShownCertificates],
    terminal: &mut Terminal<'_>,
) -> Result<(), Failure> {
    let rows: Vec<Vec<String>> = nodes.iter().map(row).collect();
    print(&["NODE", "UNTIL", "OF CA", "TRUSTS", "HTTPS UNTIL", "OF CA"], &rows, terminal)
}

fn row(node: &ShownCertificates) -> Vec<String> {
    let trusts: Vec<&str> = node.authorities.iter().map(|it| short(&it.fingerprint)).collect();
    let until = |it: &Option<ShownCertificate>| {
        it.as_ref().map_or_else(|| "-".to_owned(), |it| it.not_after.clone())
    };
    let of = |it: &Option<ShownCertificate>| match it {
        None => "-".to_owned(),
        Some(it) => it.authority.as_deref().map_or("another", short).to_owned(),
    };
    let first = match &node.unknown {
        Some(why) => format!("not known: {why}"),
        None => until(&node.certificate),
    };
    let (http_until, http_of) = (until(&node.http), of(&node.http));
    let trusts = if trusts.is_empty() { "-".to_owned() } else { trusts.join(" ") };
    vec![node.node.clone(), first, of(&node.certificate), trusts, http_until, http_of]
}

/// The start of a fingerprint, as the nodes' logs show it.
pub(super) fn short(fingerprint: &str) -> &str {
    fingerprint.get(..16).unwrap_or(fingerprint)
}
