//! One direction between two nodes: what becomes of a datagram that is sent there. It decides from
//! the time, the length and its own random stream, and carries nothing itself.

use rand::Rng as _;

use crate::env::Stream;
use crate::simulation::scenario::LinkQuality;

/// Most bytes on their way on one link; what is more is dropped, as by a router.
pub(super) const IN_FLIGHT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most bytes that wait for a link of limited bandwidth.
const QUEUE_BYTES_MAX: u64 = 256 * 1024;
/// Largest datagram where nothing else is said: Ethernet's 1,500 bytes without IP and UDP headers.
const MTU_DEFAULT: usize = 1_472;

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It arrives then; and a second time, where it was doubled.
    Arrives {
        due_us: u64,
        again_us: Option<u64>,
    },
    /// It waits until the link is released.
    Held,
    Lost(Cause),
}

/// Why a datagram did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The link is cut.
    Cut,
    /// By chance.
    Chance,
    /// It was larger than the link takes.
    TooLarge,
    /// A queue was full.
    Full,
    /// Nobody has this address.
    Nobody,
}

/// What passed on a link since the start of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LinkCounts {
    /// Datagrams sent, lost ones among them.
    pub(crate) sent: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Datagrams that did not arrive.
    pub(crate) lost: u64,
}

/// One direction between two nodes.
pub(super) struct Link {
    /// The distance.
    pub(super) delay_us: u64,
    pub(super) quality: LinkQuality,
    /// How many cuts it has: cuts of several faults may overlap.
    pub(super) cuts: u32,
    /// How many faults hold it.
    pub(super) holds: u32,
    /// Bytes on their way, held ones among them.
    pub(super) in_flight_bytes: usize,
    /// When the queue before it will be empty.
    free_at_us: u64,
    pub(super) counts: LinkCounts,
    rng: Stream,
}

impl Link {
    pub(super) fn new(delay_us: u64, rng: Stream) -> Self {
        Self {
            delay_us,
            quality: LinkQuality::default(),
            cuts: 0,
            holds: 0,
            in_flight_bytes: 0,
            free_at_us: 0,
            counts: LinkCounts::default(),
            rng,
        }
    }

    /// Decides on a datagram of `len` bytes, and counts it.
    pub(super) fn send(&mut self, now_us: u64, len: usize) -> Fate {
        self.counts.sent += 1;
        self.counts.bytes += len as u64;
        let fate = self.decide(now_us, len);
        match fate {
            Fate::Lost(_) => self.counts.lost += 1,
            Fate::Held => self.in_flight_bytes += len,
            Fate::Arrives { again_us, .. } => {
                self.in_flight_bytes += len * (1 + usize::from(again_us.is_some()));
            }
        }
        fate
    }

    fn decide(&mut self, now_us: u64, len: usize) -> Fate {
        let quality = self.quality;
        if self.cuts > 0 {
            return Fate::Lost(Cause::Cut);
        }
        if len > quality.mtu.map_or(MTU_DEFAULT, usize::from) {
            return Fate::Lost(Cause::TooLarge);
        }
        if self.in_flight_bytes + len > IN_FLIGHT_BYTES_MAX {
            return Fate::Lost(Cause::Full);
        }
        if self.happens(quality.loss) {
            return Fate::Lost(Cause::Chance);
        }
        if self.holds > 0 {
            return Fate::Held;
        }
        let Some(leaves_us) = self.queue(now_us, len) else { return Fate::Lost(Cause::Full) };
        let due_us = leaves_us + self.travel_us();
        let again_us = self.happens(quality.duplicate).then(|| leaves_us + self.travel_us());
        Fate::Arrives { due_us, again_us }
    }

    /// When the last bit of it has left; none where the queue is full.
    fn queue(&mut self, now_us: u64, len: usize) -> Option<u64> {
        let Some(bandwidth) = self.quality.bandwidth.filter(|bandwidth| *bandwidth > 0) else {
            return Some(now_us);
        };
        let begins_us = self.free_at_us.max(now_us);
        let queued = u128::from(begins_us - now_us) * u128::from(bandwidth) / 1_000_000;
        if queued > u128::from(QUEUE_BYTES_MAX) {
            return None;
        }
        self.free_at_us = begins_us + (len as u64 * 1_000_000).div_ceil(bandwidth);
        Some(self.free_at_us)
    }

    /// How long it is on its way.
    pub(super) fn travel_us(&mut self) -> u64 {
        let us = |duration: std::time::Duration| duration.as_micros() as u64;
        let quality = self.quality;
        let mut travel_us = self.delay_us + quality.extra.map_or(0, us);
        let jitter_us = quality.jitter.map_or(0, us);
        if jitter_us > 0 {
            let off_us = self.rng.random_range(0..=2 * jitter_us);
            travel_us = (travel_us + off_us).saturating_sub(jitter_us);
        }
        if self.happens(quality.reorder) {
            travel_us = self.rng.random_range(travel_us / 2..=travel_us);
        }
        travel_us
    }

    fn happens(&mut self, likely: Option<f64>) -> bool {
        likely.is_some_and(|likely| likely > 0.0 && self.rng.random::<f64>() < likely)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::SeedableRng as _;

    use super::*;

    fn link(quality: LinkQuality) -> Link {
        Link { quality, ..Link::new(10_000, Stream::seed_from_u64(1)) }
    }

    fn due(fate: Fate) -> u64 {
        match fate {
            Fate::Arrives { due_us, .. } => due_us,
            fate => panic!("{fate:?}"),
        }
    }

    #[test]
    fn a_good_link_takes_its_distance_and_a_cut_one_nothing() {
        let mut good = link(LinkQuality::default());
        assert_eq!(good.send(5, 100), Fate::Arrives { due_us: 10_005, again_us: None });
        good.cuts = 1;
        assert_eq!(good.send(6, 100), Fate::Lost(Cause::Cut));
        assert_eq!(good.send(6, 100), Fate::Lost(Cause::Cut));
        assert_eq!(good.counts, LinkCounts { sent: 3, bytes: 300, lost: 2 });
        assert_eq!(good.in_flight_bytes, 100);
    }

    #[test]
    fn loss_and_doubling_come_as_often_as_asked() {
        let quality =
            LinkQuality { loss: Some(0.25), duplicate: Some(0.5), ..LinkQuality::default() };
        let mut link = link(quality);
        let fates: Vec<Fate> = (0..10_000).map(|_| link.send(0, 1)).collect();
        let lost = fates.iter().filter(|fate| **fate == Fate::Lost(Cause::Chance)).count();
        let twice =
            fates.iter().filter(|fate| matches!(fate, Fate::Arrives { again_us: Some(_), .. }));
        assert!((2_300..2_700).contains(&lost), "{lost}");
        assert!((3_500..4_000).contains(&twice.count()));
        assert_eq!(link.counts.lost, lost as u64);
    }

    #[test]
    fn jitter_stays_within_its_bounds_and_reorders() {
        let jitter = Some(Duration::from_millis(4));
        let mut link = link(LinkQuality { jitter, ..LinkQuality::default() });
        let dues: Vec<u64> = (0..1_000).map(|_| due(link.send(0, 1))).collect();
        assert!(dues.iter().all(|due| (6_000..=14_000).contains(due)));
        assert!(dues.windows(2).any(|pair| pair[0] > pair[1]));
    }

    #[test]
    fn a_narrow_link_queues_and_then_drops() {
        let mut link = link(LinkQuality { bandwidth: Some(1_000_000), ..LinkQuality::default() });
        assert_eq!(due(link.send(0, 1_000)), 11_000);
        assert_eq!(due(link.send(0, 1_000)), 12_000);
        let fates: Vec<Fate> = (0..300).map(|_| link.send(0, 1_000)).collect();
        assert_eq!(fates.last(), Some(&Fate::Lost(Cause::Full)));
        assert_eq!(due(link.send(2_000_000, 1_000)), 2_011_000);
    }

    #[test]
    fn what_is_too_large_is_lost_and_what_is_held_waits() {
        let mut link = link(LinkQuality { mtu: Some(1_200), ..LinkQuality::default() });
        assert_eq!(link.send(0, 1_201), Fate::Lost(Cause::TooLarge));
        link.holds = 1;
        assert_eq!(link.send(0, 1_200), Fate::Held);
    }

    #[test]
    fn a_link_holds_so_much_and_not_more() {
        let mut link = link(LinkQuality::default());
        link.holds = 1;
        let fates = (0..IN_FLIGHT_BYTES_MAX / 1_000 + 1).map(|_| link.send(0, 1_000));
        assert_eq!(fates.last(), Some(Fate::Lost(Cause::Full)));
        assert!(link.in_flight_bytes <= IN_FLIGHT_BYTES_MAX);
    }
}
