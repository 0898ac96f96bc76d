use super::*;

const EVICT: Duration = Duration::from_secs(600);
const EVICT_NAMED: Duration = Duration::from_secs(7 * 24 * 3_600);
const BOUNDS: Bounds = Bounds { joined: EVICT, named: EVICT_NAMED };
const SECOND: Duration = Duration::from_secs(1);

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn file() -> Arc<Topology> {
    Arc::new(Topology::of_pairs(&[("a", "a-1"), ("b", "b-1")]))
}

fn joiner(text: &str, port: u16) -> Node {
    Node {
        name: name(text),
        region: RegionName::new("a").unwrap(),
        peer: Address::new(&format!("127.0.0.1:{port}")).unwrap(),
        http: Address::new(&format!("127.0.0.1:{}", port + 1)).unwrap(),
        joined: true,
    }
}

fn book(own: &str) -> Book {
    Book::new(file(), &name(own), 5, BOUNDS, Instant::now())
}

/// A book of a node that joined.
fn joined_book(own: &str, port: u16) -> Book {
    let topology = (*file()).clone().with_node(joiner(own, port));
    Book::new(Arc::new(topology), &name(own), 5, BOUNDS, Instant::now())
}

fn here(book: &Book) -> Vec<String> {
    book.topology().nodes().iter().map(|node| node.name.to_string()).collect()
}

#[tokio::test]
async fn who_joins_is_told_to_everybody() {
    let (mut one, mut other, now) = (book("a-1"), book("b-1"), Instant::now());
    assert_eq!((one.hash(now), one.words(now).0.len()), (0, 0), "nothing to tell");
    assert!(one.join(joiner("a-2", 9), 7, false, now).unwrap());
    assert!(!one.join(joiner("a-2", 9), 7, false, now).unwrap(), "no news");
    assert_eq!(here(&one), ["a-1", "b-1", "a-2"]);
    assert!(other.learn(&one.words(now), now));
    assert!(!other.learn(&one.words(now), now), "no news");
    assert_eq!(here(&other), ["a-1", "b-1", "a-2"]);
    assert_eq!(one.hash(now), other.hash(now));
    let mut third = joined_book("a-3", 11);
    assert!(third.learn(&other.words(now), now));
    assert_eq!(here(&third), ["a-1", "b-1", "a-3", "a-2"]);
}

#[tokio::test]
async fn who_leaves_is_forgotten_and_old_news_does_not_bring_it_back() {
    let (mut one, mut other, now) = (book("a-1"), book("b-1"), Instant::now());
    one.join(joiner("a-2", 9), 7, false, now).unwrap();
    let old = one.words(now);
    other.learn(&old, now);
    assert!(one.left(&name("a-2"), now) && !one.left(&name("a-2"), now));
    assert!(other.learn(&one.words(now), now));
    assert_eq!((here(&one), here(&other)), (here(&book("a-1")), here(&book("b-1"))));
    assert!(other.is_gone(&name("a-2")));
    assert!(!other.learn(&old, now + SECOND), "old news");
    // It comes back in person with a clock that was put back, and still counts.
    assert!(other.join(joiner("a-2", 9), 3, false, now).unwrap());
    assert!(one.learn(&other.words(now), now));
    assert_eq!(here(&one), ["a-1", "b-1", "a-2"]);
}

#[tokio::test]
async fn who_went_is_forgotten_by_all_although_each_does_so_in_its_own_time() {
    let (mut one, mut other, now) = (book("a-1"), book("b-1"), Instant::now());
    let heard = BTreeSet::from([name("a-3")]);
    one.join(joiner("a-3", 11), 7, false, now).unwrap();
    one.join(joiner("a-2", 9), 7, false, now).unwrap();
    other.learn(&one.words(now), now);
    one.left(&name("a-2"), now);
    other.learn(&one.words(now + SECOND), now + SECOND);
    let forgotten_at = now + 2 * EVICT;
    one.tend(&heard, forgotten_at);
    assert_eq!(one.others.len(), 1);
    // The other looks a moment later, and tells of it until then.
    assert_eq!(other.words(forgotten_at).0.len(), 2);
    assert!(!one.learn(&other.words(forgotten_at), forgotten_at), "it is not reminded");
    other.tend(&heard, forgotten_at + SECOND / 2);
    assert_eq!(other.hash(now), one.hash(now));
    // Whoever comes meanwhile hears of it in time, and forgets it with the others.
    let (mut third, mut late) = (book("a-1"), book("a-1"));
    other.left(&name("a-3"), now);
    third.learn(&other.words(now + EVICT - SECOND), now + EVICT - SECOND);
    late.learn(&other.words(now + EVICT), now + EVICT);
    assert_eq!((third.others.len(), late.others.len()), (1, 0));
    third.tend(&heard, now + 2 * EVICT);
    assert_eq!(third.others.len(), 0);
}

#[tokio::test]
async fn whom_nobody_hears_is_evicted_after_the_bound_and_joins_again() {
    let (mut one, now) = (book("a-1"), Instant::now());
    let mut own = joined_book("a-2", 9);
    one.learn(&own.words(now), now);
    let heard = BTreeSet::from([name("a-2")]);
    assert!(one.tend(&heard, now + EVICT).is_empty());
    assert!(one.tend(&BTreeSet::new(), now + 2 * EVICT - SECOND).is_empty());
    assert_eq!(one.tend(&BTreeSet::new(), now + 2 * EVICT), [name("a-2")]);
    assert_eq!(here(&one), ["a-1", "b-1"]);
    assert!(!one.learn(&own.words(now), now + 2 * EVICT), "others have not evicted it yet");
    assert!(one.words(now).0.is_empty(), "each sees for itself");
    // It was only cut off.
    assert!(one.join(joiner("a-2", 9), own.incarnation(), false, now + 2 * EVICT).unwrap());
    assert!(own.learn(&one.words(now), now));
    assert_eq!(one.hash(now), own.hash(now));
    one.left(&name("a-2"), now + 3 * EVICT);
    one.tend(&BTreeSet::new(), now + 5 * EVICT);
    assert_eq!(one.hash(now), 0, "who went long ago is forgotten");
}

#[tokio::test]
async fn a_node_that_others_call_gone_says_that_it_is_not() {
    let (mut one, now) = (book("a-1"), Instant::now());
    let mut own = joined_book("a-2", 9);
    one.learn(&own.words(now), now);
    one.left(&name("a-2"), now);
    assert!(own.learn(&one.words(now), now));
    assert!(one.learn(&own.words(now), now), "and is believed");
    assert_eq!(here(&one), ["a-1", "b-1", "a-2"]);
}

#[tokio::test]
async fn a_second_node_under_a_name_is_refused_while_the_first_is_heard() {
    let (mut one, now) = (book("a-1"), Instant::now());
    one.join(joiner("a-2", 9), 7, false, now).unwrap();
    let error = one.join(joiner("a-2", 21), 8, true, now).unwrap_err().to_string();
    assert!(error.contains("127.0.0.1:9") && error.contains("127.0.0.1:21"), "{error}");
    assert!(one.join(joiner("a-2", 21), 8, false, now).unwrap(), "the first has gone");
    assert_eq!(one.topology().node(&name("a-2")).unwrap().peer.as_str(), "127.0.0.1:21");
}

#[tokio::test]
async fn the_file_stands_and_what_makes_no_sense_is_passed_over() {
    let (mut one, now) = (book("a-1"), Instant::now());
    let word = |node: &str, region: &str, peer: &str, left: bool| Word {
        node: node.into(),
        region: region.into(),
        peer: peer.into(),
        http: "127.0.0.1:2".into(),
        incarnation: u64::MAX,
        left,
        gone_ms: None,
    };
    let words = Words(vec![
        word("b-1", "a", "127.0.0.1:66", true),
        word("a-1", "a", "127.0.0.1:66", true),
        word("a-2", "elsewhere", "127.0.0.1:66", false),
        word("A 2", "a", "127.0.0.1:66", false),
        word("a-2", "a", "nowhere", false),
    ]);
    assert!(!one.learn(&words, now));
    assert!(!one.join(joiner("b-1", 66), 9, false, now).unwrap());
    assert!(!one.left(&name("b-1"), now));
    assert_eq!(one.topology(), *file());
    let mut own = joined_book("a-2", 9);
    own.learn(&Words(vec![word("a-2", "a", "127.0.0.1:66", true)]), now);
    assert_eq!(own.incarnation(), u64::MAX);
}

#[tokio::test]
async fn the_number_of_members_is_bounded() {
    let (mut one, now) = (book("a-1"), Instant::now());
    for i in 0..NODES_MAX - 2 {
        one.join(joiner(&format!("n-{i}"), 1000 + i as u16), 1, false, now).unwrap();
    }
    assert_eq!(one.join(joiner("more", 9), 1, false, now), Err(JoinError::Full));
    let many = Words(
        (0..WORDS_MAX + 1)
            .map(|i| Word {
                node: format!("m-{i}"),
                region: "a".into(),
                peer: "127.0.0.1:1".into(),
                http: "127.0.0.1:1".into(),
                incarnation: 1,
                left: i % 2 == 0,
                gone_ms: None,
            })
            .collect(),
    );
    one.learn(&many, now);
    assert_eq!(one.topology().nodes().len(), NODES_MAX);
    assert!(one.others.len() <= 2 * NODES_MAX);
    assert!(crate::model::cbor::decode::<Words>(&crate::model::cbor::encode(&many)).is_err());
    let words = one.words(now);
    assert_eq!(
        crate::model::cbor::decode::<Words>(&crate::model::cbor::encode(&words)).unwrap(),
        words
    );
}

#[tokio::test(start_paused = true)]
async fn who_the_file_names_is_evicted_after_days_of_silence_and_is_back_once_it_says_hello() {
    let (mut one, started) = (book("a-1"), Instant::now());
    let heard = BTreeSet::from([name("b-1")]);
    let later = started + SECOND;
    assert!(one.tend(&heard, later).is_empty());
    assert!(one.tend(&BTreeSet::new(), later + EVICT_NAMED - SECOND).is_empty());
    let evicted_at = later + EVICT_NAMED;
    assert_eq!(one.tend(&BTreeSet::new(), evicted_at), [name("b-1")]);
    assert!(one.tend(&BTreeSet::new(), evicted_at + EVICT_NAMED).is_empty(), "said once");
    assert!(one.is_gone(&name("b-1")) && one.evicted() == heard);
    assert!(one.topology().node(&name("b-1")).is_none(), "it holds nothing up");
    assert!(one.topology_with_evicted().node(&name("b-1")).is_some(), "and it may come back");
    assert!(one.topology().node(&name("a-1")).is_some(), "nobody evicts itself");
    assert_eq!(one.hash(evicted_at), 0, "each node sees it for itself");
    // That others hear it is not enough: this node has no link to it yet.
    assert!(one.tend(&heard, evicted_at + SECOND).is_empty() && one.is_gone(&name("b-1")));
    assert!(one.is_back(&name("b-1"), evicted_at + SECOND));
    assert!(!one.is_gone(&name("b-1")) && one.topology() == *file());
    assert!(!one.is_back(&name("b-1"), evicted_at + SECOND), "no news");
    assert!(one.tend(&BTreeSet::new(), evicted_at + EVICT_NAMED).is_empty(), "it counts anew");
}
