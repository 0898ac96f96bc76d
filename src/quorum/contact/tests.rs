use std::sync::Arc;

use tokio::time::advance;

use super::*;
use crate::env::{Blocking, Entropy, ManualClock, MemoryDisk};
use crate::model::Stamp;
use crate::quorum::store::{self, StoreSettings};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The contact of a node that has applied nothing.
pub(in crate::quorum) async fn contact() -> Contact {
    let entropy = Entropy::system().stream("raft-id");
    let settings = StoreSettings {
        cluster: "test".into(),
        node: crate::model::NodeName::new("eu-1").unwrap(),
        alone: false,
    };
    let disk = Arc::new(MemoryDisk::new());
    let clock = Arc::new(ManualClock::new(Stamp(1_000_000_000)));
    let opened = store::open(disk, entropy, Blocking::Inline, settings).await;
    Contact::new(opened.unwrap().2, clock, u64::MAX - 5)
}

#[tokio::test(start_paused = true)]
async fn ticks_come_back_as_their_moments_and_those_of_others_do_not() {
    let ticks = Ticks { first: u64::MAX - 5, from: Instant::now() };
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push((ticks.at(Instant::now()), Instant::now()));
        advance(Duration::from_micros(4)).await;
    }
    for (tick, at) in all {
        assert_eq!(ticks.when(tick, Instant::now()), Some(at));
    }
    // What is still to come, and what was before the process.
    assert_eq!(ticks.when(ticks.at(Instant::now()) + 1, Instant::now()), None);
    assert_eq!(ticks.when(ticks.first - 1, Instant::now()), None);
    assert_eq!(ticks.when(ticks.first ^ (1 << 63), Instant::now()), None);
}

#[tokio::test(start_paused = true)]
async fn a_copy_is_as_old_as_the_last_proof_and_not_as_the_last_sign() {
    let contact = contact().await;
    assert!(contact.age() > ms(1_000_000));
    contact.heard(Instant::now());
    assert_eq!(contact.age_since_start(), Some(Duration::ZERO));
    assert!(contact.age() > ms(1_000_000), "a sign is no proof");
    advance(ms(100)).await;
    contact.proven(Instant::now() - ms(80), 0);
    assert_eq!((contact.age(), contact.age_since_start()), (ms(80), Some(ms(100))));
    // An older one changes nothing, and one that tells of more than is applied waits for that.
    contact.proven(Instant::now() - ms(90), 0);
    contact.proven(Instant::now(), 1);
    advance(ms(5)).await;
    assert_eq!(contact.age(), ms(85));
}
