use super::*;
use crate::env::Entropy;
use crate::gossip::message::Nodes;
use crate::model::Dot;

const MS: Duration = Duration::from_millis(1);
const GRACE: Duration = Duration::from_millis(100);
const RTT: Duration = Duration::from_millis(80);

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn vector(dots: &[(u8, u64)]) -> Arc<Vector> {
    let dots = dots.iter().map(|(origin, n)| Dot { origin: Origin([*origin; 8]), n: *n });
    Arc::new(dots.collect())
}

fn state() -> State {
    let mut state = State::new(&name("a"), Entropy::seeded(1).stream("test"), GRACE, 1000 * MS);
    state.add(&name("b"), RTT, Some(vec![name("a")]));
    state.add(&name("c"), 2 * RTT, Some(vec![name("a")]));
    state
}

fn hello(instance: u64, dots: &[(u8, u64)]) -> Hello {
    Hello {
        protocol: 1,
        protocol_min: 1,
        cluster: "test".into(),
        node: String::new(),
        region: String::new(),
        origin: Origin([2; 8]),
        instance,
        now: Stamp(0),
        vector: vector(dots).told(),
        announced: None,
        features: None,
        https: None,
    }
}

fn have(dots: &[(u8, u64)]) -> Have {
    Have { vector: vector(dots).told(), ..Have::default() }
}

#[tokio::test]
async fn what_a_hello_shows_to_be_missing_is_pulled_at_once_and_from_the_nearest() {
    let (mut state, now, mine) = (state(), Instant::now(), vector(&[(1, 5)]));
    assert_eq!(state.plan(&mine, now, |_| true), Plan::Idle);
    state.met(&name("c"), &hello(1, &[(1, 9)]), &mine, now);
    assert_eq!(state.plan(&mine, now, |_| true), Plan::Pull(name("c")));
    state.met(&name("b"), &hello(1, &[(1, 6)]), &mine, now);
    assert_eq!(state.plan(&mine, now, |_| true), Plan::Pull(name("b")));
    assert_eq!(state.plan(&mine, now, |node| *node == name("c")), Plan::Pull(name("c")));
    assert_eq!(state.plan(&mine, now, |_| false), Plan::Idle);
    assert_eq!(state.plan(&vector(&[(1, 9)]), now, |_| true), Plan::Idle);
}

#[tokio::test]
async fn what_may_have_been_pushed_gets_its_time_to_arrive() {
    let (mut state, now, mine) = (state(), Instant::now(), vector(&[(1, 5)]));
    state.met(&name("b"), &hello(1, &[]), &mine, now);
    assert!(state.heard(&name("b"), 1, &have(&[(1, 6)]), &mine, now));
    let Plan::Wait(due) = state.plan(&mine, now, |_| true) else { panic!("not waiting") };
    assert!(due >= now + GRACE + RTT && due <= now + GRACE + RTT + GRACE_JITTER);
    assert_eq!(state.plan(&mine, due, |_| true), Plan::Pull(name("b")));
    // It came, and the next change is on its way: that one has its own time.
    state.heard(&name("b"), 1, &have(&[(1, 7)]), &mine, due);
    let Plan::Wait(later) = state.plan(&vector(&[(1, 6)]), due, |_| true) else {
        panic!("not waiting")
    };
    assert!(later >= due + GRACE + RTT);
}

#[tokio::test]
async fn a_peer_whose_pulls_bring_nothing_is_paused_ever_longer() {
    let (mut state, mut now, mine) = (state(), Instant::now(), vector(&[]));
    state.met(&name("b"), &hello(1, &[(1, 1)]), &mine, now);
    for pause in [250, 500, 1000, 2000, 2000] {
        assert_eq!(state.plan(&mine, now, |_| true), Plan::Pull(name("b")));
        state.pulled(&name("b"), Pulled::Nothing, now);
        assert_eq!(state.plan(&mine, now, |_| true), Plan::Wait(now + pause * MS));
        now += pause * MS;
    }
    state.met(&name("c"), &hello(1, &[(1, 1)]), &mine, now);
    state.pulled(&name("b"), Pulled::Nothing, now);
    assert_eq!(state.plan(&mine, now, |_| true), Plan::Pull(name("c")));
    state.pulled(&name("c"), Pulled::Something { more: true }, now);
    assert_eq!(state.plan(&mine, now, |_| true), Plan::Pull(name("c")));
}

#[tokio::test]
async fn a_restarted_peer_is_believed_to_have_less_and_its_old_words_are_not() {
    let (mut state, now, mine) = (state(), Instant::now(), vector(&[(1, 5)]));
    state.met(&name("b"), &hello(1, &[(1, 5)]), &mine, now);
    state.met(&name("b"), &hello(2, &[(1, 2)]), &mine, now);
    assert!(!state.heard(&name("b"), 1, &have(&[(1, 5)]), &mine, now));
    assert_eq!(state.seen(&name("b")).unwrap().vector, vector(&[(1, 2)]));
    // A second connection of the same start doesn't take anything back.
    state.met(&name("b"), &hello(2, &[(1, 1)]), &mine, now);
    assert_eq!(state.seen(&name("b")).unwrap().vector, vector(&[(1, 2)]));
}

#[tokio::test]
async fn lag_counts_from_the_oldest_change_that_a_peer_lacks() {
    let (mut state, start) = (state(), Instant::now());
    let lag = |state: &State| state.seen(&name("b")).unwrap().lag_since;
    state.met(&name("b"), &hello(1, &[(1, 5)]), &vector(&[(1, 5)]), start);
    assert_eq!(lag(&state), None);
    state.advanced(&vector(&[(1, 6)]), start + MS);
    state.advanced(&vector(&[(1, 9)]), start + 5 * MS);
    assert_eq!(lag(&state), Some(start + MS));
    state.heard(&name("b"), 1, &have(&[(1, 6)]), &vector(&[(1, 9)]), start + 6 * MS);
    assert_eq!(lag(&state), Some(start + 6 * MS));
    state.heard(&name("b"), 1, &have(&[(1, 9)]), &vector(&[(1, 9)]), start + 7 * MS);
    assert_eq!(lag(&state), None);
}

#[tokio::test]
async fn who_is_not_heard_is_known_through_who_hears_it() {
    let (mut state, now, mine) = (state(), Instant::now(), vector(&[(1, 5)]));
    state.met(&name("b"), &hello(1, &[]), &mine, now);
    state.met(&name("c"), &hello(1, &[]), &mine, now);
    let told = Have {
        hears: Some(Nodes(vec!["a".into(), "No Name".into()])),
        others: Others(vec![("c".into(), vector(&[(1, 4)]).told())]),
        ..have(&[])
    };
    // c speaks for itself.
    state.heard(&name("b"), 1, &told, &mine, now);
    assert_eq!(state.seen(&name("c")).unwrap().vector, vector(&[]));
    assert_eq!(state.seen(&name("b")).unwrap().hears, BTreeSet::from([name("a")]));
    // b doesn't hear c, which this node does.
    assert_eq!(state.others_for(&name("b"), now).0.len(), 1);
    let later = now + HEARD + MS;
    assert!(state.heard(&name("b"), 1, &told, &mine, later));
    assert_eq!(state.seen(&name("c")).unwrap().vector, vector(&[(1, 4)]));
    assert_eq!(state.heard_nodes(later), BTreeSet::from([name("b")]));
    assert_eq!(state.others_for(&name("b"), later).0.len(), 0);
}

#[tokio::test]
async fn a_clock_is_off_when_most_others_say_so() {
    let (mut state, now) = (state(), Instant::now());
    assert_eq!(state.clock_offset(now), None);
    let at = Stamp(1_000_000_000);
    let ahead = |micros: u64| Stamp(at.0 + micros);
    let hear = |state: &mut State, peer: &str, theirs: Stamp| {
        state.heard_clock(&name(peer), theirs, at, RTT, now);
        state.alive(&name(peer), now);
    };
    // One peer is far ahead (by its half round trip, too): one against one.
    hear(&mut state, "b", ahead(5_000_000));
    assert_eq!(state.seen(&name("b")).unwrap().offset, Some(5_040_000));
    assert_eq!(state.clock_offset(now), Some(0));
    // The third agrees with it.
    hear(&mut state, "c", ahead(4_000_000));
    assert_eq!(state.clock_offset(now), Some(4_040_000));
    // A message that was held up changes nothing.
    hear(&mut state, "c", ahead(1_000_000));
    assert_eq!(state.clock_offset(now), Some(4_040_000));
    assert_eq!(state.clock_offset(now + CLOCK_FRESH + MS), None);
}

#[tokio::test]
async fn a_peer_that_names_ever_new_origins_takes_no_more_memory() {
    let (mut state, now, mine) = (state(), Instant::now(), vector(&[]));
    state.met(&name("b"), &hello(1, &[]), &mine, now);
    for batch in 0..5_u64 {
        let origins = (0..1_500).map(|n| Origin((batch * 1_500 + n).to_be_bytes()));
        let have = Have {
            vector: origins.map(|origin| Dot { origin, n: 1 }).collect(),
            ..Have::default()
        };
        state.heard(&name("b"), 1, &have, &mine, now);
        assert!(state.seen(&name("b")).unwrap().vector.len() <= VECTOR_ORIGINS_MAX);
    }
}
