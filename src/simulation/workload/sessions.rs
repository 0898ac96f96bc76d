//! Clients that carry a session and move between regions: what they have seen and written has to be
//! there wherever they go.

use rand::Rng as _;

use super::{CONFIG_TIMEOUT, How, Site};
use crate::model::RegionName;
use crate::simulation::history::Request;

pub(super) fn start(site: &Site) {
    let regions: Vec<RegionName> = site.0.regions.keys().cloned().collect();
    let rate = site.workload().session_rate;
    for number in 0..site.workload().session_clients as usize {
        let region = &regions[number % regions.len()];
        site.spawn(region, |mut caller| async move {
            let how = How { with_session: true, ..How::default() };
            loop {
                caller.pause(rate).await;
                if caller.rng.random_bool(caller.site.workload().session_moves.clamp(0.0, 1.0)) {
                    caller.travel();
                }
                let (document, key) = (caller.document(), caller.key());
                let request = if caller.rng.random() {
                    let entries = vec![(key, caller.value())];
                    Request::ConfigWrite { document, entries, expect_version: None, ack: None }
                } else {
                    Request::ConfigRead { document, key }
                };
                caller.ask(request, how, CONFIG_TIMEOUT).await;
            }
        });
    }
}
