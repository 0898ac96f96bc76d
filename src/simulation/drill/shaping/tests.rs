use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn rng() -> StdRng {
    StdRng::seed_from_u64(1)
}

fn way(quality: LinkQuality) -> Way {
    let mut way = Way::new(40 * MS);
    way.worsen(1, quality);
    way
}

fn at(fate: Fate) -> Duration {
    match fate {
        Fate::Arrives { at, .. } => at,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_whole_way_takes_its_distance_and_keeps_the_order() {
    let (mut way, mut rng) = (Way::new(40 * MS), rng());
    for sent in 0..100 {
        let fate = way.goes_in(sent * MS, 1_200, &mut rng);
        assert_eq!(fate, Fate::Arrives { at: sent * MS + 40 * MS, again: None });
        assert!(way.comes_out(1_200));
    }
    assert_eq!((way.counts().sent, way.counts().arrived), (100, 100));
    assert_eq!(way.counts().sent_bytes, 120_000);
}

#[test]
fn a_cut_loses_what_is_sent_and_what_is_under_way() {
    let (mut way, mut rng) = (Way::new(40 * MS), rng());
    at(way.goes_in(Duration::ZERO, 100, &mut rng));
    way.cut(7);
    assert!(!way.comes_out(100), "it was under way");
    assert_eq!(way.goes_in(MS, 100, &mut rng), Fate::Lost(Loss::Cut));
    assert_eq!((way.counts().arrived, way.counts().lost_cut), (0, 2));
}

#[test]
fn the_end_of_one_fault_leaves_another_ones_cut() {
    let (mut way, mut rng) = (Way::new(MS), rng());
    way.cut(1);
    way.cut(2);
    way.end(1);
    assert_eq!(way.goes_in(MS, 1, &mut rng), Fate::Lost(Loss::Cut));
    way.end(2);
    assert_eq!(at(way.goes_in(MS, 1, &mut rng)), 2 * MS);
}

#[test]
fn a_quality_is_added_by_its_fault_and_taken_by_its_end() {
    let (mut way, mut rng) = (Way::new(40 * MS), rng());
    way.worsen(1, LinkQuality { extra: Some(10 * MS), ..LinkQuality::default() });
    way.worsen(2, LinkQuality { mtu: Some(1_200), ..LinkQuality::default() });
    assert_eq!(way.goes_in(MS, 1_201, &mut rng), Fate::Lost(Loss::TooLarge));
    assert_eq!(at(way.goes_in(MS, 1_200, &mut rng)), 51 * MS);
    way.end(2);
    assert_eq!(at(way.goes_in(MS, 1_201, &mut rng)), 51 * MS);
    way.end(1);
    assert_eq!(at(way.goes_in(MS, 1_201, &mut rng)), 41 * MS);
}

#[test]
fn jitter_stays_within_its_bound_and_uses_it() {
    let mut way = way(LinkQuality { jitter: Some(10 * MS), ..LinkQuality::default() });
    let mut rng = rng();
    let times: Vec<Duration> =
        (0..1_000).map(|_| at(way.goes_in(Duration::ZERO, 1, &mut rng))).collect();
    let (min, max) = (times.iter().min().unwrap(), times.iter().max().unwrap());
    assert!(*min >= 30 * MS && *min < 31 * MS, "{min:?}");
    assert!(*max <= 50 * MS && *max > 49 * MS, "{max:?}");
}

#[test]
fn jitter_beyond_the_distance_never_arrives_before_it_was_sent() {
    let mut way = way(LinkQuality { jitter: Some(500 * MS), ..LinkQuality::default() });
    let mut rng = rng();
    for _ in 0..1_000 {
        assert!(at(way.goes_in(7 * MS, 1, &mut rng)) >= 7 * MS);
        way.comes_out(1);
    }
}

#[test]
fn loss_and_duplication_come_as_often_as_they_are_said_to() {
    let quality = LinkQuality { loss: Some(0.2), duplicate: Some(0.1), ..LinkQuality::default() };
    let (mut way, mut rng) = (way(quality), rng());
    let (mut lost, mut twice) = (0, 0);
    for _ in 0..10_000 {
        match way.goes_in(Duration::ZERO, 1, &mut rng) {
            Fate::Lost(Loss::Chance) => lost += 1,
            Fate::Arrives { again: Some(_), .. } => twice += 1,
            Fate::Arrives { again: None, .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!((1_850..2_150).contains(&lost), "{lost}");
    assert!((700..900).contains(&twice), "{twice}: a tenth of the 8,000 that were not lost");
    assert_eq!(way.counts().lost_chance, lost);
}

#[test]
fn reordered_ones_overtake_those_before_them() {
    let mut way = way(LinkQuality { reorder: Some(1.0), ..LinkQuality::default() });
    let mut rng = rng();
    let overtaking = at(way.goes_in(10 * MS, 1, &mut rng));
    way.end(1);
    let before = at(way.goes_in(Duration::ZERO, 1, &mut rng));
    assert!(overtaking < before, "{overtaking:?} {before:?}");
}

#[test]
fn a_narrow_link_sends_one_after_the_other_and_bounds_its_queue() {
    // 1,000 bytes take 10 ms.
    let mut way = way(LinkQuality { bandwidth: Some(100_000), ..LinkQuality::default() });
    let mut rng = rng();
    assert_eq!(at(way.goes_in(Duration::ZERO, 1_000, &mut rng)), 50 * MS);
    assert_eq!(at(way.goes_in(Duration::ZERO, 1_000, &mut rng)), 60 * MS);
    assert_eq!(at(way.goes_in(500 * MS, 1_000, &mut rng)), 550 * MS, "it was idle between");
    let fates: Vec<Fate> =
        (0..200).map(|_| way.goes_in(Duration::from_secs(1), 1_000, &mut rng)).collect();
    assert_eq!(fates.iter().filter(|fate| **fate == Fate::Lost(Loss::Full)).count(), 99);
    assert_eq!(at(fates[100]), Duration::from_millis(1_000 + 1_010 + 40));
}

#[test]
fn held_ones_are_free_when_the_last_hold_ends_and_are_bounded() {
    let (mut way, mut rng) = (Way::new(MS), rng());
    way.hold(1);
    way.hold(2);
    let mut held = 0;
    while way.goes_in(MS, 60_000, &mut rng) == Fate::Held {
        held += 1;
        assert!(held < 1_000);
    }
    assert_eq!(held, WAITING_BYTES_MAX / 60_000);
    assert_eq!(way.counts().lost_full, 1);
    assert!(!way.end(1));
    assert!(way.end(2));
    assert!(!way.end(2), "it has ended");
    for _ in 0..held {
        assert!(way.comes_out(60_000));
    }
    assert_eq!(at(way.goes_in(MS, 60_000, &mut rng)), 2 * MS, "there is room again");
}
