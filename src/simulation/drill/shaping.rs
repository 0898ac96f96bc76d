//! What becomes of a packet on one way of a link: when it arrives, whether it arrives at all, whether
//! it comes twice. Pure: the time, the chance and the packet's length come in as arguments. It moves
//! no packet and keeps none.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::Rng;

use crate::simulation::scenario::LinkQuality;

/// Most bytes that one way holds; a packet beyond is lost, as a full router loses it.
/// 100 ms at 80 MB/s, as `env::Links` has it.
pub(crate) const WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Longest queue before a narrow link: a packet that would wait longer is lost.
pub(crate) const QUEUE_TIME_MAX: Duration = Duration::from_secs(1);

/// Names the fault that a change is of, so that the end of one leaves the others alone.
pub type FaultId = u32;

/// Why a packet is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Nothing passes.
    Cut,
    /// By chance.
    Chance,
    /// It is larger than the link takes.
    TooLarge,
    /// The link holds as much as it can.
    Full,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It does not arrive.
    Lost(Loss),
    /// It waits until the link lets go of it.
    Held,
    /// It arrives, maybe twice. Times are on the clock that `now` is on.
    Arrives {
        /// When.
        at: Duration,
        /// And when once more.
        again: Option<Duration>,
    },
}

/// What a way has done since the start. Bytes are those of datagrams, without IP and UDP headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WayCounts {
    /// Datagrams that were sent into it.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Datagrams that came out of it, duplicates among them.
    pub arrived: u64,
    /// Lost because nothing passed.
    pub lost_cut: u64,
    /// Lost by chance.
    pub lost_chance: u64,
    /// Lost because they were too large.
    pub lost_too_large: u64,
    /// Lost because the way was full.
    pub lost_full: u64,
}

impl WayCounts {
    /// Datagrams that were lost, for whatever reason.
    pub fn lost(&self) -> u64 {
        self.lost_cut + self.lost_chance + self.lost_too_large + self.lost_full
    }
}

impl std::ops::Add for WayCounts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            sent_bytes: self.sent_bytes + other.sent_bytes,
            arrived: self.arrived + other.arrived,
            lost_cut: self.lost_cut + other.lost_cut,
            lost_chance: self.lost_chance + other.lost_chance,
            lost_too_large: self.lost_too_large + other.lost_too_large,
            lost_full: self.lost_full + other.lost_full,
        }
    }
}

/// One direction between two nodes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Way {
    delay: Duration,
    cuts: BTreeSet<FaultId>,
    holds: BTreeSet<FaultId>,
    qualities: BTreeMap<FaultId, LinkQuality>,
    /// Until when the narrow part of the link is taken.
    free_at: Duration,
    waiting_bytes: usize,
    counts: WayCounts,
}

impl Way {
    /// A whole one: `delay` is the distance, one way.
    pub(crate) fn new(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }

    /// Nothing passes as long as `fault` lasts.
    pub(crate) fn cut(&mut self, fault: FaultId) {
        self.cuts.insert(fault);
    }

    /// Everything is held back as long as `fault` lasts.
    pub(crate) fn hold(&mut self, fault: FaultId) {
        self.holds.insert(fault);
    }

    /// It is as `quality` says as long as `fault` lasts. Where two faults say something of the same
    /// quality, the one with the higher number is right.
    pub(crate) fn worsen(&mut self, fault: FaultId, quality: LinkQuality) {
        self.qualities.insert(fault, quality);
    }

    /// `fault` is over. Says whether what was held is free now.
    pub(crate) fn end(&mut self, fault: FaultId) -> bool {
        self.cuts.remove(&fault);
        self.qualities.remove(&fault);
        self.holds.remove(&fault) && self.holds.is_empty()
    }

    /// All faults are over. Says whether what was held is free now.
    pub(crate) fn end_all(&mut self) -> bool {
        self.cuts.clear();
        self.qualities.clear();
        !std::mem::take(&mut self.holds).is_empty()
    }

    /// What it has done so far.
    pub(crate) fn counts(&self) -> WayCounts {
        self.counts
    }

    /// A datagram of `len` bytes goes in at `now`. What is said to arrive or to be held has to be
    /// given to [`Way::comes_out`], once for each time it arrives.
    pub(crate) fn goes_in(&mut self, now: Duration, len: usize, rng: &mut impl Rng) -> Fate {
        self.counts.sent += 1;
        self.counts.sent_bytes += len as u64;
        let quality = self.quality();
        let fate = self.fate(&quality, now, len, rng);
        match fate {
            Fate::Lost(Loss::Cut) => self.counts.lost_cut += 1,
            Fate::Lost(Loss::Chance) => self.counts.lost_chance += 1,
            Fate::Lost(Loss::TooLarge) => self.counts.lost_too_large += 1,
            Fate::Lost(Loss::Full) => self.counts.lost_full += 1,
            Fate::Held | Fate::Arrives { again: None, .. } => self.waiting_bytes += len,
            Fate::Arrives { again: Some(_), .. } => self.waiting_bytes += 2 * len,
        }
        fate
    }

    /// A datagram's time has come. Says whether it really arrives: a link that was cut meanwhile has
    /// lost what was in it.
    pub(crate) fn comes_out(&mut self, len: usize) -> bool {
        self.waiting_bytes = self.waiting_bytes.saturating_sub(len);
        let arrives = self.cuts.is_empty();
        if arrives {
            self.counts.arrived += 1;
        } else {
            self.counts.lost_cut += 1;
        }
        arrives
    }

    fn quality(&self) -> LinkQuality {
        self.qualities.values().fold(LinkQuality::default(), |under, over| LinkQuality {
            extra: over.extra.or(under.extra),
            jitter: over.jitter.or(under.jitter),
            loss: over.loss.or(under.loss),
            duplicate: over.duplicate.or(under.duplicate),
            reorder: over.reorder.or(under.reorder),
            bandwidth: over.bandwidth.or(under.bandwidth),
            mtu: over.mtu.or(under.mtu),
        })
    }

    fn fate(
        &mut self,
        quality: &LinkQuality,
        now: Duration,
        len: usize,
        rng: &mut impl Rng,
    ) -> Fate {
        if !self.cuts.is_empty() {
            return Fate::Lost(Loss::Cut);
        }
        if quality.mtu.is_some_and(|mtu| len > usize::from(mtu)) {
            return Fate::Lost(Loss::TooLarge);
        }
        if happens(quality.loss, rng) {
            return Fate::Lost(Loss::Chance);
        }
        if self.waiting_bytes + len > WAITING_BYTES_MAX {
            return Fate::Lost(Loss::Full);
        }
        if !self.holds.is_empty() {
            return Fate::Held;
        }
        let Some(leaves) = self.through_the_narrow(quality.bandwidth, now, len) else {
            return Fate::Lost(Loss::Full);
        };
        let mut travel = self.delay + quality.extra.unwrap_or_default();
        if happens(quality.reorder, rng) {
            // Half the way: it overtakes what was sent in as much time before it.
            travel /= 2;
        }
        let again =
            happens(quality.duplicate, rng).then(|| leaves + jittered(travel, quality.jitter, rng));
        Fate::Arrives { at: leaves + jittered(travel, quality.jitter, rng), again }
    }

    /// When its last byte is in the link; none where it would have to wait too long.
    fn through_the_narrow(
        &mut self,
        bandwidth: Option<u64>,
        now: Duration,
        len: usize,
    ) -> Option<Duration> {
        let Some(bytes_per_second) = bandwidth else { return Some(now) };
        let begins = self.free_at.max(now);
        if begins - now > QUEUE_TIME_MAX {
            return None;
        }
        let nanos = (len as u64).saturating_mul(1_000_000_000) / bytes_per_second.max(1);
        self.free_at = begins + Duration::from_nanos(nanos);
        Some(self.free_at)
    }
}

/// Whether something of that likelihood happens. Draws nothing where there is none, so that a fault
/// does not move the chances of others.
fn happens(likelihood: Option<f64>, rng: &mut impl Rng) -> bool {
    likelihood.is_some_and(|likelihood| likelihood > 0.0 && rng.random::<f64>() < likelihood)
}

/// `travel`, at most `jitter` more or less, and never less than nothing.
fn jittered(travel: Duration, jitter: Option<Duration>, rng: &mut impl Rng) -> Duration {
    match jitter {
        Some(jitter) if !jitter.is_zero() => {
            let spread = jitter.as_secs_f64() * 2.0 * rng.random::<f64>();
            (travel + Duration::from_secs_f64(spread)).saturating_sub(jitter)
        }
        _ => travel,
    }
}

#[cfg(test)]
mod tests;
