//! What breaks in the world beside whole nodes: links, disks, clocks, certificates.

use std::sync::Arc;
use std::time::Duration;

use super::{CaStep, Certificate, World, WorldError, start_clock};
use crate::env::MemoryDisk;
use crate::model::{NodeName, RegionName, Stamp};
use crate::simulation::clock::EPOCH_US;
use crate::simulation::fabric::LinkCounts;
use crate::simulation::scenario::LinkQuality;
use crate::transport::pki::NODE_VALID;
use crate::transport::{Authority, Identity};

/// Links, by pairs of regions in one direction.
impl World {
    /// Nothing passes any more.
    pub(crate) fn cut(&mut self, from: &RegionName, to: &RegionName) {
        self.note("cut", &format!("{from} {to}"));
        self.links(from, to).for_each(|(from, to)| self.fabric.cut(from, to));
    }

    /// Takes back one [`World::cut`].
    pub(crate) fn mend(&mut self, from: &RegionName, to: &RegionName) {
        self.note("mend", &format!("{from} {to}"));
        self.links(from, to).for_each(|(from, to)| self.fabric.mend(from, to));
    }

    /// Whether nothing passes.
    #[cfg(test)]
    pub(crate) fn is_cut(&self, from: &RegionName, to: &RegionName) -> bool {
        self.links(from, to).any(|(from, to)| self.fabric.is_cut(from, to))
    }

    /// How the links are from now on; the default is as the topology says.
    pub(crate) fn set_link(&mut self, from: &RegionName, to: &RegionName, quality: LinkQuality) {
        self.note("link", &format!("{from} {to} {quality:?}"));
        self.links(from, to).for_each(|(from, to)| self.fabric.set_quality(from, to, quality));
    }

    /// From now on datagrams wait.
    pub(crate) fn hold(&mut self, from: &RegionName, to: &RegionName) {
        self.note("hold", &format!("{from} {to}"));
        self.links(from, to).for_each(|(from, to)| self.fabric.hold(from, to));
    }

    /// Takes back one [`World::hold`]; with the last one, all that waits leaves at once.
    pub(crate) fn release(&mut self, from: &RegionName, to: &RegionName) {
        self.note("release", &format!("{from} {to}"));
        self.links(from, to).for_each(|(from, to)| self.fabric.release(from, to, self.now_us));
    }

    /// What was sent from one region to the other since the start, and lost on the way.
    pub(crate) fn counts(&self, from: &RegionName, to: &RegionName) -> LinkCounts {
        self.sum_of(self.links(from, to))
    }

    /// The same of one node.
    pub(crate) fn counts_of(&self, from: &NodeName, to: &RegionName) -> LinkCounts {
        let Some(number) = self.number(from) else { return LinkCounts::default() };
        let region = self.members[number].region.clone();
        self.sum_of(self.links(&region, to).filter(|(from, _)| *from == number))
    }

    fn sum_of(&self, links: impl Iterator<Item = (usize, usize)>) -> LinkCounts {
        let mut sum = LinkCounts::default();
        for (from, to) in links {
            let counts = self.fabric.counts(from, to);
            sum.sent += counts.sent;
            sum.bytes += counts.bytes;
            sum.lost += counts.lost;
        }
        sum
    }

    /// Bytes on their way between nodes, held ones among them.
    #[cfg(test)]
    pub(crate) fn in_flight_bytes(&self) -> usize {
        self.fabric.in_flight_bytes()
    }

    fn links(&self, from: &RegionName, to: &RegionName) -> impl Iterator<Item = (usize, usize)> {
        let within = |region: &RegionName| {
            let all = self.members.iter().enumerate();
            let within = all.filter(|(_, member)| member.region == *region);
            within.map(|(number, _)| number).collect::<Vec<usize>>()
        };
        let (senders, receivers) = (within(from), within(to));
        senders.into_iter().flat_map(move |from| {
            let others = receivers.clone().into_iter().filter(move |to| *to != from);
            others.map(move |to| (from, to))
        })
    }
}

/// Disks, clocks, certificates.
impl World {
    /// The node's disk as it is now. A crash gives the node another one: ask again after it.
    pub(crate) fn disk(&self, node: &NodeName) -> Option<&MemoryDisk> {
        Some(&self.member(node)?.disk)
    }

    /// Gives a node that is down another disk: an old copy, or an empty one. False where it is not
    /// down.
    pub(crate) fn replace_disk(&mut self, node: &NodeName, disk: MemoryDisk) -> bool {
        let Some(number) = self.number(node) else { return false };
        if self.members[number].running.is_some() {
            return false;
        }
        self.note_on(number, "disk");
        self.members[number].disk = disk;
        true
    }

    /// The node's wall clock jumps by so many microseconds.
    pub(crate) fn step_clock(&mut self, node: &NodeName, by_us: i64) {
        let Some(number) = self.number(node) else { return };
        self.note_on(number, &format!("clock {by_us}"));
        self.members[number].clock.step(by_us);
    }

    /// The node's wall clock runs so many millionths too fast from now on; 0 is right.
    pub(crate) fn drift_clock(&mut self, node: &NodeName, ppm: i32) {
        let Some(number) = self.number(node) else { return };
        self.note_on(number, &format!("drift {ppm}"));
        self.members[number].clock.drift(ppm);
    }

    /// The certificate that the node has from its next start on.
    pub(crate) fn set_certificate(
        &mut self,
        node: &NodeName,
        certificate: Certificate,
    ) -> Result<(), WorldError> {
        let Some(number) = self.number(node) else { return Ok(()) };
        self.note_on(number, &format!("certificate {certificate:?}"));
        let clock = start_clock();
        if certificate == Certificate::Expired {
            let before = NODE_VALID + Duration::from_secs(24 * 3600);
            clock.set(Stamp(EPOCH_US - before.as_micros() as u64));
        }
        let member = &mut self.members[number];
        member.identity = Arc::new(self.authority.issue(&member.name, &self.entropy, &clock)?);
        Ok(())
    }

    /// One step to another certificate authority, at every node; those that are down have it from
    /// their next start on.
    pub(crate) fn rotate_ca(&mut self, step: CaStep) -> Result<(), WorldError> {
        self.note("authority", &format!("{step:?}"));
        let next = match self.next_authority.take() {
            Some(next) => next,
            None => Authority::create(&self.entropy, &start_clock())?,
        };
        let (old, new) = (self.authority.certificate().clone(), next.certificate().clone());
        for member in &mut self.members {
            let identity = match step {
                CaStep::Issue => next.issue(&member.name, &self.entropy, &start_clock())?,
                CaStep::Begin | CaStep::Finish => copy_of(&member.identity),
            };
            let authorities = match step {
                CaStep::Begin | CaStep::Issue => vec![old.clone(), new.clone()],
                CaStep::Finish => vec![new.clone()],
            };
            let identity = Arc::new(Identity { authorities, ..identity });
            member.identity = identity.clone();
            let told = member.running.as_ref().and_then(|running| {
                running.look(&member.timeline, |server| server.node().replace_identity(&identity))
            });
            if let Some(Err(error)) = told {
                return Err(WorldError::Runtime(std::io::Error::other(error.to_string())));
            }
        }
        if step == CaStep::Finish {
            self.authority = next;
        } else {
            self.next_authority = Some(next);
        }
        Ok(())
    }
}

fn copy_of(identity: &Identity) -> Identity {
    Identity {
        authorities: identity.authorities.clone(),
        chain: identity.chain.clone(),
        key: identity.key.clone_key(),
    }
}
