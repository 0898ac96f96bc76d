//! A client that operates the cluster, for faults that are no damage: the master key rotated, the
//! voters changed, an account disabled.

use std::time::Duration;

use super::{Caller, How, QUORUM_TIMEOUT, Site, access};
use crate::model::{NodeName, RegionName};
use crate::simulation::history::{Outcome, Request};
use crate::simulation::scenario::FaultKind;

/// How often something is asked for again, where it was not done.
const TRIES_MAX: u32 = 40;
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Does what `fault` asks for, if it is for an operator to do.
pub(crate) fn start(site: &Site, fault: &FaultKind) {
    let Some(region) = site.0.regions.keys().next().cloned() else { return };
    let fault = fault.clone();
    site.spawn(&region, |caller| operate(caller, fault));
}

async fn operate(mut caller: Caller, fault: FaultKind) {
    match fault {
        FaultKind::RotateMasterKey => {
            until_done(&mut caller, "POST /cluster/keys/rotate", |body| body["left"] == 0).await;
        }
        FaultKind::Voters { add, remove, transfer } => {
            for (what, node) in [("add", add), ("remove", remove), ("transfer", transfer)] {
                if let Some(node) = node {
                    change(&mut caller, what, &node).await;
                }
            }
        }
        FaultKind::Revoke => {
            if let Some(account) = caller.site.0.accounts.first().cloned() {
                access::disable_for_a_while(&mut caller, &account.name).await;
            }
        }
        _ => {}
    }
}

async fn change(caller: &mut Caller, what: &str, node: &NodeName) {
    let line = format!("POST /cluster/quorum/{what}/{node} (voters)");
    until_done(caller, &line, |_| true).await;
}

async fn until_done(caller: &mut Caller, what: &str, is_done: impl Fn(&serde_json::Value) -> bool) {
    for _ in 0..TRIES_MAX {
        caller.travel();
        let request = Request::Operate { what: what.to_owned() };
        let outcome = caller.ask(request, How::default(), QUORUM_TIMEOUT).await;
        if outcome == Outcome::Done && is_done(&caller.told) {
            return;
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// Light work in every region, of the kinds that the scenario has: whether everything works again.
pub(crate) fn start_wave(site: &Site, config_writes_for: Duration) {
    for region in site.0.regions.keys() {
        wave(site, region, config_writes_for);
    }
}

fn wave(site: &Site, region: &RegionName, config_writes_for: Duration) {
    let workload = site.workload();
    let has_configs = workload.config_writes > 0.0 || workload.session_clients > 0;
    let has_secrets = workload.secret_writes > 0.0;
    let has_roles = workload.role_writes > 0.0;
    if has_configs {
        site.spawn(region, |mut caller| async move {
            let until = tokio::time::Instant::now() + config_writes_for;
            loop {
                caller.pause(2.0).await;
                if tokio::time::Instant::now() < until {
                    super::configs::write(&mut caller).await;
                }
                super::configs::read(&mut caller).await;
            }
        });
    }
    for (is_wanted, kinds) in [(has_secrets, [0, 1]), (has_roles, [4, 5])] {
        if is_wanted {
            site.spawn(region, |mut caller| async move {
                loop {
                    for kind in kinds {
                        caller.pause(2.0).await;
                        super::secrets::step(&mut caller, kind).await;
                    }
                }
            });
        }
    }
}
