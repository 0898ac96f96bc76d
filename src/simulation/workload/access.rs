//! Accounts whose tokens are used everywhere, while somebody disables and enables them in turn.

use std::time::Duration;

use rand::Rng as _;
use rand::seq::IndexedRandom as _;

use super::{Account, CONFIG_TIMEOUT, Caller, How, QUORUM_TIMEOUT, Site};
use crate::model::RegionName;
use crate::simulation::history::{Outcome, Request};

/// How long an account stays disabled, at least and at most.
const DISABLED: std::ops::Range<u64> = 1_500..4_000;
/// How often enabling is tried again, where no quorum answers.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

pub(super) fn start(site: &Site, region: &RegionName) {
    let workload = site.workload();
    let rate = workload.account_requests / site.0.accounts.len().max(1) as f64;
    if workload.account_requests > 0.0 {
        for account in site.0.accounts.clone() {
            site.spawn(region, |caller| use_account(caller, account, rate));
        }
    }
    let rate = workload.revocations;
    if rate > 0.0 {
        site.spawn(region, |mut caller| async move {
            loop {
                caller.pause(rate).await;
                caller.travel();
                let Some(account) = caller.site.0.accounts.choose(&mut caller.rng).cloned() else {
                    return;
                };
                disable_for_a_while(&mut caller, &account.name).await;
            }
        });
    }
}

/// Asks for a token, and uses it in all regions until it is not taken any more.
async fn use_account(mut caller: Caller, account: Account, rate: f64) {
    caller.account = Some(account.name.clone());
    let mut has_token = false;
    loop {
        caller.pause(rate).await;
        caller.travel();
        if !has_token {
            let how = How { client_secret: &account.client_secret, ..How::default() };
            let request = Request::TokenIssue { name: account.name.clone() };
            has_token = caller.ask(request, how, QUORUM_TIMEOUT).await == Outcome::Done;
            continue;
        }
        let request = Request::ConfigRead { document: caller.document(), key: caller.key() };
        let outcome = caller.ask(request, How::default(), CONFIG_TIMEOUT).await;
        // Once it is refused it is kept for some more requests: to be refused elsewhere, too.
        if matches!(outcome, Outcome::Refused { status: 401, .. }) {
            has_token = caller.rng.random_bool(0.5);
        }
    }
}

/// Disables an account, and enables it again, however long that takes.
pub(super) async fn disable_for_a_while(caller: &mut Caller, name: &str) {
    let request = Request::AccountDisable { name: name.to_owned() };
    let outcome = caller.ask(request, How::default(), QUORUM_TIMEOUT).await;
    if matches!(outcome, Outcome::Refused { .. }) {
        return;
    }
    let pause = caller.rng.random_range(DISABLED);
    tokio::time::sleep(Duration::from_millis(pause)).await;
    loop {
        let request = Request::AccountEnable { name: name.to_owned() };
        if caller.ask(request, How::default(), QUORUM_TIMEOUT).await == Outcome::Done {
            return;
        }
        tokio::time::sleep(AGAIN_AFTER).await;
        caller.travel();
    }
}
