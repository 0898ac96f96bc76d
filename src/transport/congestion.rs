//! CUBIC (RFC 9438), which forgives what was lost before the peer ever answered: a node dials
//! through a cut until it heals, and the first packets of such a connection say nothing of what the
//! path can carry. Without this a connection that gets through after a cut starts without slow
//! start, and takes seconds for what should take one.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig};
use quinn_proto::RttEstimator;

/// Makes a controller a connection.
pub(super) struct ForgivingConfig(Arc<CubicConfig>);

impl ForgivingConfig {
    /// Sends `window_initial` bytes before the first acknowledgement.
    pub(super) fn new(window_initial: u64) -> Self {
        let mut cubic = CubicConfig::default();
        cubic.initial_window(window_initial);
        Self(Arc::new(cubic))
    }
}

impl ControllerFactory for ForgivingConfig {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(Forgiving { cubic: self.0.clone().build(now, mtu), answered_at: None })
    }
}

struct Forgiving {
    cubic: Box<dyn Controller>,
    /// When the first acknowledgement came.
    answered_at: Option<Instant>,
}

impl Controller for Forgiving {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.answered_at.get_or_insert(now);
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.cubic.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        if self.answered_at.is_some_and(|answered_at| sent >= answered_at) {
            self.cubic.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.cubic.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        self.cubic.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { cubic: self.cubic.clone_box(), answered_at: self.answered_at })
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn only_what_is_lost_after_the_first_answer_shrinks_the_window() {
        let start = tokio::time::Instant::now().into_std();
        let at = |ms| start + Duration::from_millis(ms);
        let config = Arc::new(ForgivingConfig::new(100_000));
        let mut before = config.clone().build(start, 1_200);
        before.on_congestion_event(at(300), at(0), true, 1_200);
        assert_eq!(before.window(), 100_000);
        let cubic = config.0.clone().build(start, 1_200);
        let mut after = Forgiving { cubic, answered_at: Some(at(980)) };
        // The answer to what was sent last shows that the first were lost.
        after.on_congestion_event(at(980), at(900), false, 1_200);
        assert_eq!(after.window(), 100_000);
        after.on_congestion_event(at(1_200), at(1_100), false, 1_200);
        assert!(after.window() < 100_000);
    }
}
