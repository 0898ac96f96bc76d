//! What was refused, cut or given up so that a node stays within its limits.

use metrics::{Counter, Label};

use super::metrics::{Metrics, Registrar};

/// Why something was not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// A client asked too often for reads.
    RateReads,
    /// A client asked too often for changes.
    RateWrites,
    /// An address asked too often without a good token.
    RateStrangers,
    /// Too many requests were under way for a read.
    LoadReads,
    /// Too many requests were under way, or too much waited for the store, for a change.
    LoadWrites,
    /// Bodies that are read took too much memory.
    BodyBytes,
    /// Answers that are sent took too much memory.
    AnswerBytes,
    /// A client took too long to read a large answer.
    SlowAnswer,
    /// The node had as many watches as it may have.
    WatchesOfNode,
    /// A client had as many watches as it may have.
    WatchesOfClient,
    /// A watch's client took too long to read one state.
    SlowWatch,
    /// An address had as many connections as it may have.
    ConnectionsOfAddress,
    /// A client took too long to send a request's headers.
    SlowHeaders,
    /// A client took too long to send a request's body.
    SlowBody,
    /// A connection gave up far more requests than it took answers of.
    ResetStreams,
}

impl Shed {
    const ALL: [Self; 15] = [
        Self::RateReads,
        Self::RateWrites,
        Self::RateStrangers,
        Self::LoadReads,
        Self::LoadWrites,
        Self::BodyBytes,
        Self::AnswerBytes,
        Self::SlowAnswer,
        Self::WatchesOfNode,
        Self::WatchesOfClient,
        Self::SlowWatch,
        Self::ConnectionsOfAddress,
        Self::SlowHeaders,
        Self::SlowBody,
        Self::ResetStreams,
    ];

    /// The label's value.
    fn reason(self) -> &'static str {
        match self {
            Self::RateReads => "rate_reads",
            Self::RateWrites => "rate_writes",
            Self::RateStrangers => "rate_strangers",
            Self::LoadReads => "load_reads",
            Self::LoadWrites => "load_writes",
            Self::BodyBytes => "body_bytes",
            Self::AnswerBytes => "answer_bytes",
            Self::SlowAnswer => "slow_answer",
            Self::WatchesOfNode => "watches_of_node",
            Self::WatchesOfClient => "watches_of_client",
            Self::SlowWatch => "slow_watch",
            Self::ConnectionsOfAddress => "connections_of_address",
            Self::SlowHeaders => "slow_headers",
            Self::SlowBody => "slow_body",
            Self::ResetStreams => "reset_streams",
        }
    }
}

/// Handles of these metrics.
pub(super) struct LimitMetrics {
    /// In the order of [`Shed::ALL`], which is that of the variants. All from the start, so that a
    /// rule sees the first one.
    shed: [Counter; Shed::ALL.len()],
}

impl LimitMetrics {
    pub(super) fn new(it: &Registrar<'_>) -> Self {
        let shed = Shed::ALL.map(|shed| {
            let what = "What was refused, cut or given up to stay within limits, by the limit.";
            it.counter("holm_shed_total", what, vec![Label::new("reason", shed.reason())])
        });
        Self { shed }
    }
}

impl Metrics {
    /// Something was not served.
    pub fn shed(&self, shed: Shed) {
        self.limits.shed[shed as usize].increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter_of_its_own() {
        let metrics = Metrics::new().unwrap();
        for (i, shed) in Shed::ALL.into_iter().enumerate() {
            (0..=i).for_each(|_| metrics.shed(shed));
        }
        let text = metrics.render();
        for (i, shed) in Shed::ALL.into_iter().enumerate() {
            let line = format!("holm_shed_total{{reason=\"{}\"}} {}\n", shed.reason(), i + 1);
            assert!(text.contains(&line), "{line} {text}");
        }
    }
}
