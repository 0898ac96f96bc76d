use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;

const A: PlaceId = PlaceId(1);
const B: PlaceId = PlaceId(2);
const C: PlaceId = PlaceId(3);
const LISTED: Rank = Rank { priority: 0, weight: None };

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A choice, and the time that its test has come to.
struct World {
    choice: Choice,
    now: Instant,
    random: StdRng,
}

impl World {
    /// Returns after 15 s, measures every 10.
    fn new(places: &[(PlaceId, Rank)]) -> Self {
        let now = Instant::now();
        let mut choice = Choice::new(Duration::from_secs(15), Duration::from_secs(10));
        assert!(choice.set(places, now).is_empty());
        Self { choice, now, random: StdRng::seed_from_u64(1) }
    }

    fn listed() -> Self {
        Self::new(&[(A, LISTED), (B, LISTED), (C, LISTED)])
    }

    fn measured(&mut self, rtts: &[(PlaceId, u64)]) -> Option<PlaceId> {
        for (id, rtt) in rtts {
            self.choice.measured(*id, ms(*rtt), self.now);
        }
        self.settle()
    }

    fn failed(&mut self, id: PlaceId) -> Option<PlaceId> {
        self.choice.failed(id, "gone".to_owned(), self.now);
        self.settle()
    }

    fn settle(&mut self) -> Option<PlaceId> {
        self.choice.settle(self.now, &mut self.random);
        self.choice.used()
    }

    /// Lets time pass, and decides each second.
    fn pass(&mut self, seconds: u64) -> Option<PlaceId> {
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            self.settle();
        }
        self.choice.used()
    }
}

#[tokio::test(start_paused = true)]
async fn the_nearest_healthy_place_is_used_and_the_others_follow_by_nearness() {
    let mut world = World::listed();
    assert_eq!(world.settle(), None);
    assert_eq!(world.choice.order(world.now), [A, B, C], "as they are listed, while none is known");
    assert_eq!(world.measured(&[(A, 90), (B, 20), (C, 50)]), Some(B));
    assert_eq!(world.choice.order(world.now), [B, C, A]);
    assert_eq!(world.failed(B), Some(C));
    assert_eq!(world.choice.order(world.now), [C, A, B], "who failed is asked last, not never");
    assert_eq!(world.choice.why(B), Why::Failed("gone".to_owned()));
    assert_eq!(world.choice.why(C), Why::Nearest);
    assert_eq!(world.choice.why(A), Why::Farther);
}

#[tokio::test(start_paused = true)]
async fn of_places_about_as_near_the_first_listed_is_used() {
    let mut world = World::listed();
    assert_eq!(world.measured(&[(A, 12), (B, 9), (C, 8)]), Some(A));
    assert_eq!(world.pass(100), Some(A), "a little nearer is no reason to go");
}

#[tokio::test(start_paused = true)]
async fn a_nearer_place_is_used_again_when_it_has_been_well_for_a_while() {
    let mut world = World::listed();
    world.measured(&[(A, 1), (B, 40), (C, 80)]);
    assert_eq!(world.failed(A), Some(B));
    world.pass(20);
    world.measured(&[(A, 1)]);
    assert!(matches!(world.choice.why(A), Why::Proving { .. }));
    assert_eq!(world.choice.why(B), Why::Kept { nearer: A });
    assert_eq!(world.pass(14), Some(B));
    assert_eq!(world.pass(1), Some(A));
    // What fails in the middle of it begins anew.
    world.pass(200);
    assert_eq!(world.failed(A), Some(B));
    world.measured(&[(A, 1)]);
    world.pass(14);
    world.failed(A);
    world.measured(&[(A, 1)]);
    assert_eq!(world.pass(14), Some(B));
    assert_eq!(world.pass(1), Some(A));
}

#[tokio::test(start_paused = true)]
async fn a_place_that_fails_again_and_again_is_returned_to_ever_later_and_not_for_ever() {
    let mut world = World::listed();
    world.measured(&[(A, 1), (B, 40), (C, 80)]);
    world.failed(A);
    for wait in [15, 30, 60, 120, 240, 480, 480] {
        world.measured(&[(A, 1)]);
        assert_eq!(world.pass(wait - 1), Some(B), "{wait}");
        assert_eq!(world.pass(1), Some(A), "{wait}");
        world.pass(5);
        assert_eq!(world.failed(A), Some(B));
    }
    world.measured(&[(A, 1)]);
    world.pass(480);
    // Used for ten times as long as it had to prove itself, it is as good as new.
    world.pass(150);
    assert_eq!(world.failed(A), Some(B));
    world.measured(&[(A, 1)]);
    assert_eq!(world.pass(15), Some(A));
}

#[tokio::test(start_paused = true)]
async fn one_slow_measurement_moves_nobody_and_many_do() {
    let mut world = World::listed();
    world.measured(&[(A, 10), (B, 40)]);
    world.measured(&[(A, 100)]);
    assert_eq!(world.pass(100), Some(A));
    assert!(world.choice.standing(A).unwrap().rtt.unwrap() < ms(40));
    for _ in 0..10 {
        world.measured(&[(A, 100)]);
    }
    assert_eq!(world.pass(14), Some(A));
    assert_eq!(world.pass(2), Some(B));
}

#[tokio::test(start_paused = true)]
async fn a_slow_request_does_not_make_a_place_look_far_and_a_quick_one_makes_it_near() {
    let mut world = World::listed();
    world.measured(&[(A, 10), (B, 40)]);
    for _ in 0..100 {
        world.choice.answered(A, Some(ms(500)));
    }
    assert_eq!(world.pass(100), Some(A));
    assert_eq!(world.choice.standing(A).unwrap().rtt, Some(ms(10)));
    assert!(world.choice.patience(A).unwrap() >= ms(500));
    world.choice.answered(A, Some(ms(4)));
    assert_eq!(world.choice.standing(A).unwrap().rtt, Some(ms(4)));
}

#[tokio::test(start_paused = true)]
async fn a_suspect_is_asked_last_until_it_was_measured_and_stays_the_one_used() {
    let mut world = World::listed();
    world.measured(&[(A, 1), (B, 40), (C, 80)]);
    assert!(world.choice.take_due(world.now, ms(100)).is_empty());
    world.choice.suspect(A, world.now);
    assert_eq!(world.choice.order(world.now), [B, C, A]);
    assert_eq!(world.choice.why(A), Why::Nearest, "it is not left because of one request");
    assert_eq!(world.choice.take_due(world.now, ms(100)), [A]);
    assert!(world.choice.take_due(world.now, ms(100)).is_empty(), "once");
    world.measured(&[(A, 1)]);
    assert_eq!(world.choice.order(world.now), [A, B, C]);
}

#[tokio::test(start_paused = true)]
async fn a_busy_place_is_passed_over_for_as_long_as_it_asked() {
    let mut world = World::listed();
    world.measured(&[(A, 1), (B, 40), (C, 80)]);
    world.choice.busy(A, world.now + ms(2_000));
    world.choice.busy(A, world.now + ms(1_000));
    assert_eq!(world.choice.order(world.now), [B, C, A]);
    assert_eq!(world.choice.busy_until(world.now), None, "others are not");
    for (id, until) in [(B, 3_000), (C, 1_500)] {
        world.choice.busy(id, world.now + ms(until));
    }
    assert_eq!(world.choice.busy_until(world.now), Some(world.now + ms(1_500)));
    assert_eq!(world.pass(4), Some(A));
    assert_eq!(world.choice.order(world.now), [A, B, C]);
}

#[tokio::test(start_paused = true)]
async fn measuring_is_seldom_and_of_who_failed_soon_and_then_ever_later() {
    let mut world = World::listed();
    assert_eq!(world.choice.take_due(world.now, ms(100)), [A, B, C]);
    world.measured(&[(A, 1), (B, 40)]);
    world.failed(C);
    let mut asked: BTreeMap<PlaceId, Vec<u64>> = BTreeMap::new();
    for second in 1..=30 {
        world.pass(1);
        for id in world.choice.take_due(world.now, ms(100)) {
            asked.entry(id).or_default().push(second);
            match id {
                C => drop(world.failed(C)),
                id => drop(world.measured(&[(id, 10)])),
            }
        }
    }
    assert_eq!(asked[&A], [10, 20, 30]);
    assert_eq!(asked[&C], [1, 3, 7, 15, 25]);
}

#[tokio::test(start_paused = true)]
async fn dns_priority_goes_before_nearness() {
    let rank = |priority| Rank { priority, weight: Some(1) };
    let mut world = World::new(&[(A, rank(20)), (B, rank(10))]);
    world.choice.measured(A, ms(1), world.now);
    assert!(!world.choice.is_decided(), "one that ranks before it may still answer");
    assert_eq!(world.measured(&[(B, 90)]), Some(B));
    assert!(world.choice.is_decided());
    assert_eq!(world.choice.why(A), Why::RankedLater);
    assert_eq!(world.pass(100), Some(B));
    assert_eq!(world.failed(B), Some(A));
    world.measured(&[(B, 90)]);
    assert_eq!(world.pass(14), Some(A));
    assert_eq!(world.pass(1), Some(B));
}

#[tokio::test(start_paused = true)]
async fn dns_weight_spreads_clients_over_places_about_as_near() {
    let rank = |weight| Rank { priority: 0, weight: Some(weight) };
    let mut counts: BTreeMap<PlaceId, u32> = BTreeMap::new();
    for seed in 0..1_000 {
        let mut world = World::new(&[(A, rank(30)), (B, rank(10)), (C, rank(60_000))]);
        world.random = StdRng::seed_from_u64(seed);
        let used = world.measured(&[(A, 9), (B, 10), (C, 80)]).unwrap();
        *counts.entry(used).or_default() += 1;
    }
    assert!((700..800).contains(&counts[&A]), "{counts:?}");
    assert!((200..300).contains(&counts[&B]), "{counts:?}");
    assert_eq!(counts.get(&C), None, "a weight makes nothing near");
}

#[tokio::test(start_paused = true)]
async fn what_is_named_no_more_is_used_until_something_named_is_healthy() {
    let mut world = World::listed();
    world.measured(&[(A, 1), (B, 40), (C, 80)]);
    // A lie: an address where nobody answers.
    let lie = PlaceId(9);
    assert!(world.choice.set(&[(lie, LISTED)], world.now).is_empty());
    assert_eq!(world.settle(), Some(A));
    assert_eq!(world.failed(lie), Some(A));
    assert_eq!(world.pass(100), Some(A));
    assert_eq!(world.choice.order(world.now).last(), Some(&lie));
    // The truth: B stays, A goes.
    assert_eq!(world.choice.set(&[(B, LISTED)], world.now), [A, C, lie]);
    assert_eq!(world.settle(), Some(B));
    assert_eq!(world.choice.order(world.now), [B]);
}
