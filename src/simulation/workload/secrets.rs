//! Clients of the quorum path: secrets and roles, written and read in every region.

use futures_util::future::FutureExt as _;
use rand::Rng as _;

use super::{Caller, How, QUORUM_TIMEOUT, Site};
use crate::model::RegionName;
use crate::simulation::history::{Outcome, Request};

/// Most tries of a write whose outcome is unknown.
const TRIES_MAX: u32 = 5;

pub(super) fn start(site: &Site, region: &RegionName) {
    let workload = site.workload();
    let rates = [
        (workload.secret_writes, 0),
        (workload.secret_reads, 1),
        (workload.secret_local_reads, 2),
        (workload.secret_removes, 3),
        (workload.role_writes, 4),
        (workload.role_reads, 5),
    ];
    site.spawn_each(region, rates, |caller, kind| step(caller, kind).boxed());
}

pub(super) async fn step(caller: &mut Caller, kind: u32) {
    let secret = caller.rng.random_range(0..caller.site.workload().secrets.max(1));
    let name = format!("secret-{secret}");
    let role = "team".to_owned();
    let request = match kind {
        0 => return write(caller, name).await,
        1 => Request::SecretRead { name, consistency: "linearizable".to_owned() },
        2 => Request::SecretRead { name, consistency: "local".to_owned() },
        3 => Request::SecretRemove { name },
        4 => Request::RoleWrite {
            name: role,
            value: format!("r{}", caller.site.0.recorder.next_value()),
        },
        _ => Request::RoleRead { name: role },
    };
    caller.ask(request, How::default(), QUORUM_TIMEOUT).await;
}

/// Writes a secret, and now and then tries again where it is not known what became of it: under the
/// same key, so that it is done once.
pub(super) async fn write(caller: &mut Caller, name: String) {
    let number = caller.site.0.recorder.next_value();
    let value = format!("{}{number}", caller.site.0.canary);
    let key = format!("write-{number}");
    let how = How { idempotency_key: Some(&key), ..How::default() };
    for _ in 0..TRIES_MAX {
        let request =
            Request::SecretWrite { name: name.clone(), value: value.clone(), expect_version: None };
        let outcome = caller.ask(request, how, QUORUM_TIMEOUT).await;
        let is_unknown = matches!(outcome, Outcome::Unknown { .. });
        if !is_unknown || !caller.rng.random_bool(caller.site.workload().retries.clamp(0.0, 1.0)) {
            return;
        }
        // Wherever it is asked again.
        caller.travel();
        caller.pause(2.0).await;
    }
}
