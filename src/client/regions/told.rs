//! What a client tells of its regions, for people and for programs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Regions;
use super::choice::{Health, Why};

/// One place where a client may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionStatus {
    /// Its URL.
    pub url: String,
    /// What DNS named it by: the target of an SRV record, or an address.
    pub label: Option<String>,
    /// Its addresses, where DNS named it.
    pub addresses: Vec<SocketAddr>,
    /// How long a round trip takes; none where it was not measured.
    pub rtt: Option<Duration>,
    /// Whether it answers and is ready.
    pub is_healthy: bool,
    /// Whether requests go there first.
    pub is_used: bool,
    /// Why, or why not.
    pub why: String,
}

impl Regions {
    /// All places as they stand, in the order in which they would be asked.
    pub(in crate::client) fn told(self: &Arc<Self>) -> Vec<RegionStatus> {
        let order = self.order();
        let state = self.state();
        let now = Instant::now();
        let told = order.iter().map(|place| {
            let standing = state.choice.standing(place.id);
            let health = standing.map_or(&Health::Unknown, |it| &it.health);
            let name_of = |id| state.places.get(&id).map_or("another", |place| place.name.as_str());
            let why = match state.choice.why(place.id) {
                Why::Nearest => "the nearest that is healthy".to_owned(),
                Why::Kept { nearer } => {
                    format!("kept to until {} has proved itself", name_of(nearer))
                }
                Why::Farther => "not nearer".to_owned(),
                Why::RankedLater => "DNS ranks others before it".to_owned(),
                Why::Proving { until } => {
                    let left = until.saturating_duration_since(now).as_secs_f64();
                    format!("nearer; used when it has been healthy for {left:.0} s more")
                }
                Why::Suspected => "did not answer in time, and is being measured".to_owned(),
                Why::Failed(why) => why,
                Why::Unknown => "not measured yet".to_owned(),
            };
            RegionStatus {
                url: place.url.clone(),
                label: place.found.as_ref().map(|found| found.label.clone()),
                addresses: place.found.as_ref().map(|it| it.addresses.clone()).unwrap_or_default(),
                rtt: standing.and_then(|it| it.rtt),
                is_healthy: *health == Health::Healthy,
                is_used: state.choice.used() == Some(place.id),
                why,
            }
        });
        told.collect()
    }
}
