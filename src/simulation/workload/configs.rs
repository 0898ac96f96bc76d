//! Clients that write, read and remove configurations without a session, and compare-and-set.

use futures_util::future::FutureExt as _;

use super::{CONFIG_TIMEOUT, Caller, How, Site};
use crate::model::RegionName;
use crate::simulation::history::{Outcome, Request};

pub(super) fn start(site: &Site, region: &RegionName) {
    let workload = site.workload();
    let rates = [
        (workload.config_writes, 0),
        (workload.config_reads, 1),
        (workload.config_removes, 2),
        (workload.cas, 3),
    ];
    site.spawn_each(region, rates, |caller, kind| step(caller, kind).boxed());
}

async fn step(caller: &mut Caller, kind: u32) {
    match kind {
        0 => write(caller).await,
        1 => drop(read(caller).await),
        2 => remove(caller).await,
        _ => compare_and_set(caller).await,
    }
}

pub(super) async fn write(caller: &mut Caller) {
    let document = caller.document();
    let count = caller.site.workload().keys_per_write.max(1);
    let mut entries: Vec<(String, String)> = Vec::new();
    for _ in 0..count {
        let key = caller.key();
        if !entries.iter().any(|(known, _)| *known == key) {
            entries.push((key, caller.value()));
        }
    }
    let ack = caller.site.workload().ack.clone();
    let request = Request::ConfigWrite { document, entries, expect_version: None, ack };
    caller.ask(request, How::default(), CONFIG_TIMEOUT).await;
}

pub(super) async fn read(caller: &mut Caller) -> (String, String, Outcome) {
    let (document, key) = (caller.document(), caller.key());
    let request = Request::ConfigRead { document: document.clone(), key: key.clone() };
    let outcome = caller.ask(request, How::default(), CONFIG_TIMEOUT).await;
    (document, key, outcome)
}

async fn remove(caller: &mut Caller) {
    let request = Request::ConfigRemove { document: caller.document(), key: caller.key() };
    caller.ask(request, How::default(), CONFIG_TIMEOUT).await;
}

async fn compare_and_set(caller: &mut Caller) {
    let (document, key, outcome) = read(caller).await;
    let Outcome::Row { siblings, .. } = outcome else { return };
    // A removed key counts as one that is not there.
    let winner = siblings.first().filter(|winner| winner.value.is_some());
    let expect_version = Some(winner.map_or(0, |winner| winner.version));
    let entries = vec![(key, caller.value())];
    let request = Request::ConfigWrite { document, entries, expect_version, ack: None };
    caller.ask(request, How::default(), CONFIG_TIMEOUT).await;
}
