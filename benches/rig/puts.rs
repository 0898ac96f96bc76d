//! Durable writes of 256-byte values to the same keys of Holm and of etcd, closed loops. A write is
//! answered when it is on disk, on both sides.

use std::net::SocketAddr;
use std::time::Duration;

use crate::rig::load::{self, Client, Template};
use crate::rig::measure::Round;
use crate::rig::{etcd, http};

/// Services, each with one environment; then keys in each.
pub(crate) const DOCUMENTS: u64 = 16;
pub(crate) const KEYS: u64 = 625;
/// What a value holds beside the 20 digits that differ from write to write: 256 bytes in all.
const FILLER_LEN: usize = 236;

/// Which document and key a client's n-th write goes to, and what makes its value differ. Both
/// sides get the same.
fn numbers(client: usize, clients: usize, n: u64) -> [u64; 3] {
    let i = n * clients as u64 + client as u64;
    [i % DOCUMENTS, i / DOCUMENTS % KEYS, i]
}

/// A value, with a place for the 20 digits.
pub(crate) fn value() -> String {
    format!("####################{}", "x".repeat(FILLER_LEN))
}

/// Holm's, each client on a connection of its own.
pub(crate) fn holm(addr: SocketAddr, token: &str, clients: usize, time: Duration) -> Round {
    let body = format!("\"{}\"", value());
    let request = http::request("PUT", "/config/service-##/prod/key.####", token, "", &body);
    load::run(clients, |client| {
        let template = Template::new(request.clone());
        let numbers = move |n| numbers(client, clients, n);
        load::closed(addr, Client { template, numbers }, time, usize::MAX)
    })
}

/// etcd's, the clients spread over so many connections.
pub(crate) fn etcd(addr: SocketAddr, clients: usize, connections: usize, time: Duration) -> Round {
    load::run(connections, |client| {
        let call = etcd::put("service-##/prod/key.####", &value());
        let numbers = move |n| numbers(client, connections, n);
        etcd::closed(addr, clients / connections, call, numbers, time, u64::MAX)
    })
}
