//! The quorum path's metrics.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Label};

use super::metrics::{Metrics, Registrar};

/// What can come of a proposal.
const OUTCOMES: [&str; 5] = ["done", "refused", "unavailable", "unknown", "failed"];
/// What a node can be.
const ROLES: [&str; 4] = ["leader", "follower", "candidate", "learner"];

/// How the quorum stands, as one node sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QuorumStanding {
    /// What the node is: `leader`, `follower`, `candidate`, `learner`; another word is none.
    pub role: String,
    /// Whether a leader is known that a majority has answered lately.
    pub is_available: bool,
    /// The quorum's term.
    pub term: u64,
    /// Up to which index of the log is applied here.
    pub applied: u64,
    /// Up to which index the log here reaches.
    pub last: u64,
    /// How long ago a leader with a majority was heard.
    pub contact_age: Duration,
    /// How many nodes vote.
    pub voters: usize,
}

/// Handles of the quorum path's metrics.
pub(super) struct QuorumMetrics {
    proposals: Vec<(&'static str, Counter)>,
    roles: Vec<(&'static str, Gauge)>,
    read_duration: Histogram,
    reads_failed: Counter,
    term: Gauge,
    applied: Gauge,
    lag: Gauge,
    contact_age: Gauge,
    available: Gauge,
    voters: Gauge,
}

impl QuorumMetrics {
    pub(super) fn new(it: &Registrar<'_>) -> Self {
        let gauge = |name, what| it.gauge(name, what, vec![]);
        let proposals = OUTCOMES.map(|outcome| {
            let labels = vec![Label::new("outcome", outcome)];
            let what = "Proposals to the quorum made at this node, by what came of them.";
            (outcome, it.counter("holm_quorum_proposals_total", what, labels))
        });
        let roles = ROLES.map(|role| {
            let labels = vec![Label::new("role", role)];
            (role, it.gauge("holm_quorum_role", "1 for what this node is in the quorum.", labels))
        });
        Self {
            proposals: proposals.into(),
            roles: roles.into(),
            read_duration: it.histogram(
                "holm_quorum_read_index_seconds",
                "Time a linearizable read took to be confirmed by a majority.",
                vec![],
            ),
            reads_failed: it.counter(
                "holm_quorum_reads_failed_total",
                "Linearizable reads that no majority confirmed.",
                vec![],
            ),
            // A change of the leader is a change of the term.
            term: gauge("holm_quorum_term", "The quorum's term: it grows with each election."),
            applied: gauge("holm_quorum_applied_index", "Up to where the log is applied here."),
            lag: gauge("holm_quorum_lag_entries", "Entries of the log here that are not applied."),
            contact_age: gauge(
                "holm_quorum_contact_age_seconds",
                "How long ago a leader with a majority was heard.",
            ),
            available: gauge(
                "holm_quorum_available",
                "1 where a leader is known that a majority has answered lately, else 0.",
            ),
            voters: gauge("holm_quorum_voters", "Nodes that vote."),
        }
    }
}

impl Metrics {
    /// A proposal came to this.
    pub fn proposed(&self, outcome: &'static str) {
        let known = self.quorum.proposals.iter().find(|(name, _)| *name == outcome);
        if let Some((_, counter)) = known {
            counter.increment(1);
        }
    }

    /// A linearizable read was confirmed, or was not, in this time.
    pub fn read_index_done(&self, took: Duration, confirmed: bool) {
        if confirmed {
            self.quorum.read_duration.record(took.as_secs_f64());
        } else {
            self.quorum.reads_failed.increment(1);
        }
    }

    /// How the quorum stands, as this node sees it.
    pub fn set_quorum(&self, quorum: &QuorumStanding) {
        let it = &self.quorum;
        for (name, gauge) in &it.roles {
            gauge.set(f64::from(u8::from(*name == quorum.role)));
        }
        it.term.set(quorum.term as f64);
        it.applied.set(quorum.applied as f64);
        it.lag.set(quorum.last.saturating_sub(quorum.applied) as f64);
        it.contact_age.set(quorum.contact_age.as_secs_f64());
        it.available.set(f64::from(u8::from(quorum.is_available)));
        it.voters.set(quorum.voters as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quorums_state_and_outcomes_are_rendered() {
        let metrics = Metrics::new().unwrap();
        metrics.proposed("unknown");
        metrics.read_index_done(Duration::from_millis(40), true);
        metrics.set_quorum(&QuorumStanding {
            role: "follower".to_owned(),
            is_available: true,
            term: 7,
            applied: 90,
            last: 95,
            contact_age: Duration::from_millis(1_500),
            voters: 3,
        });
        let text = metrics.render();
        for line in [
            "holm_quorum_proposals_total{outcome=\"unknown\"} 1",
            "holm_quorum_read_index_seconds_count 1",
            "holm_quorum_role{role=\"follower\"} 1",
            "holm_quorum_role{role=\"leader\"} 0",
            "holm_quorum_term 7",
            "holm_quorum_lag_entries 5",
            "holm_quorum_available 1",
            "holm_quorum_voters 3",
            "holm_quorum_contact_age_seconds 1.5",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in {text}");
        }
    }
}
