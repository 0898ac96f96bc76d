//! How long consensus waits for what, derived from how far its voters are apart. It measures
//! nothing.

use std::time::Duration;

use openraft::{Config, SnapshotPolicy, StepDownPolicy};

use crate::model::RegionName;
use crate::settings::QuorumSettings;
use crate::topology::{Node, Topology};

/// The shortest time between two heartbeats.
const HEARTBEAT_MIN: Duration = Duration::from_millis(150);
/// The shortest time without a leader before a voter asks whether it should be the next.
const ELECTION_MIN: Duration = Duration::from_millis(500);
/// Regions that vote where more could: a majority of five is three.
const VOTERS_MAX: usize = 5;

/// Times of one node's consensus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    /// Between two heartbeats; also how long the answer to one may take.
    pub(crate) heartbeat: Duration,
    /// The shortest time without a leader before an election.
    pub(crate) election_min: Duration,
    /// The longest one; also how long a leader is believed to lead.
    pub(crate) election_max: Duration,
}

/// The nodes that vote from the cluster's first start on: the first one that the file names in each
/// region that votes.
/// Of four such regions three vote, and of six or more five: an even number, or more, would make
/// writes slower and tolerate no more.
pub(crate) fn first_voters(topology: &Topology) -> Vec<&Node> {
    let regions = topology.regions().iter().filter(|region| region.voters);
    let mut voters: Vec<&Node> =
        regions.filter_map(|region| named_of(topology, &region.name).next()).collect();
    voters.truncate(match voters.len() {
        0..=3 => voters.len(),
        4 => 3,
        _ => VOTERS_MAX,
    });
    voters
}

impl Times {
    /// For this topology. A heartbeat's answer has to be back before the next one is due, with
    /// room for a lost packet; else openraft takes it as lost.
    pub(crate) fn new(topology: &Topology, settings: &QuorumSettings) -> Self {
        let voters: Vec<&Node> =
            topology.named().filter(|node| is_voting(topology, node)).collect();
        let rtts = voters.iter().flat_map(|a| {
            let distance = |b: &&Node| topology.rtt_of_nodes(&a.name, &b.name);
            voters.iter().filter(|b| a.name != b.name).map(distance)
        });
        let rtt = rtts.max().unwrap_or_default();
        let heartbeat = settings.heartbeat.unwrap_or((rtt * 5 / 2).max(HEARTBEAT_MIN));
        let election_min = settings
            .election_timeout
            .unwrap_or((heartbeat * 3).max(ELECTION_MIN))
            .max(heartbeat * 2);
        Self { heartbeat, election_min, election_max: election_min * 3 / 2 }
    }

    /// How long it makes sense to wait for a leader, or for the answer of a majority: an election
    /// that fails once fits in.
    pub(crate) fn patience(&self) -> Duration {
        self.election_max * 4
    }

    /// A leader that no majority, and a follower that no leader has answered for this long, is cut
    /// off.
    pub(crate) fn cut_off_after(&self) -> Duration {
        self.election_max * 2
    }

    /// openraft's settings.
    pub(crate) fn config(&self, cluster: &str, settings: &QuorumSettings) -> Config {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Config {
            cluster_name: cluster.to_owned(),
            heartbeat_interval: ms(self.heartbeat),
            election_timeout_min: ms(self.election_min),
            election_timeout_max: ms(self.election_max).max(ms(self.election_min) + 1),
            install_snapshot_timeout: ms(self.patience()),
            snapshot_policy: SnapshotPolicy::LogsSinceLast(settings.snapshot_every),
            max_in_snapshot_log_to_keep: settings.log_keep,
            replication_lag_threshold: settings.snapshot_every * 2,
            removed_leader_step_down: StepDownPolicy::After(ms(self.heartbeat)),
            enable_pre_vote: Some(true),
            // A leader that comes back asks first: others may have decided meanwhile.
            enable_leader_restore: Some(false),
            // A disk that lied about what it had synced can lose what it acknowledged without a trace.
            // That it is sent again is all that is left to do; without this the leader would panic,
            // and a bad disk elsewhere would end a good node.
            allow_log_reversion: Some(true),
            backoff: "100ms 200ms ..500ms".to_owned(),
            ..Config::default()
        }
    }
}

fn named_of<'a>(topology: &'a Topology, region: &'a RegionName) -> impl Iterator<Item = &'a Node> {
    topology.nodes_of(region).filter(|node| !node.joined)
}

/// Whether this node may vote some day.
fn is_voting(topology: &Topology, node: &Node) -> bool {
    topology.regions().iter().any(|region| region.name == node.region && region.voters)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology(regions: &[&str], rtt_ms: u32) -> Topology {
        let mut text = format!("cluster = \"test\"\nrtt_ms_default = {rtt_ms}\n");
        for (i, region) in regions.iter().enumerate() {
            text += &format!(
                "[[regions]]\nname = \"{region}\"\nnodes = [{{ name = \"{region}-1\", peer = \
                 \"127.0.0.1:{}\", http = \"127.0.0.1:{}\" }}]\n",
                1000 + i,
                2000 + i
            );
        }
        Topology::parse("test", &text).unwrap()
    }

    #[test]
    fn an_odd_number_of_regions_votes() {
        let all = ["a", "b", "c", "d", "e", "f", "g"];
        for (regions, voters) in [(1, 1), (2, 2), (3, 3), (4, 3), (5, 5), (6, 5), (7, 5)] {
            assert_eq!(first_voters(&topology(&all[..regions], 10)).len(), voters);
        }
    }

    #[test]
    fn a_heartbeat_is_answered_in_time_and_elections_leave_room_for_it() {
        for rtt_ms in [0, 1, 40, 86, 200, 400] {
            let topology = topology(&["a", "b", "c"], rtt_ms);
            let settings = QuorumSettings::default();
            let times = Times::new(&topology, &settings);
            let rtt = Duration::from_millis(u64::from(rtt_ms));
            assert!(times.heartbeat >= rtt * 2 && times.election_min >= rtt * 5);
            assert!(times.election_min >= times.heartbeat * 2);
            assert!(times.config("test", &settings).validate().is_ok());
        }
        let far = Times::new(&topology(&["a", "b", "c"], 200), &QuorumSettings::default());
        assert!(far.election_max * 2 < Duration::from_secs(5), "failover takes some seconds");
    }
}
