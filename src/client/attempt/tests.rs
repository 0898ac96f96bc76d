use std::net::SocketAddr;
use std::time::Duration;

use axum::http::StatusCode;
use tokio::time::{Instant, sleep, timeout};

use crate::client::gate::Gate;
use crate::client::stub::Stub;
use crate::client::{
    Client, ClientCredential, ClientError, ClientSettings, WatchEvent, WatchSettings, Write,
};
use crate::model::{AccountName, DocumentId, JsonText, Key};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn address(url: &str) -> SocketAddr {
    url.strip_prefix("http://").unwrap().parse().unwrap()
}

/// Two regions, the first near and the second far, and a client of both.
struct World {
    stubs: [Stub; 2],
    ways: [Gate; 2],
    client: Client,
}

const NEAR: usize = 0;
const FAR: usize = 1;

impl World {
    async fn new() -> Self {
        Self::with(|_| ()).await
    }

    async fn with(change: impl FnOnce(&mut ClientSettings)) -> Self {
        let stubs = [Stub::start().await, Stub::start().await];
        for stub in &stubs {
            let value = JsonText::parse("1").unwrap();
            let place = ("web/dev".to_owned(), "a".to_owned());
            stub.node().entries.insert(place, vec![Some(value)]);
        }
        let ways = [
            Gate::open(address(&stubs[NEAR].url), ms(0)).await,
            Gate::open(address(&stubs[FAR].url), ms(15)).await,
        ];
        // The far one first: it is not the order that counts.
        let urls = [ways[FAR].url(), ways[NEAR].url()];
        let mut settings = ClientSettings::regions(urls, Some("t"));
        (settings.timeout, settings.measure_every) = (Duration::from_secs(4), ms(100));
        settings.return_after = ms(400);
        change(&mut settings);
        let client = Client::with(settings).unwrap();
        Self { stubs, ways, client }
    }

    async fn get(&self) -> Result<(), ClientError> {
        let document = DocumentId::parse("web/dev").unwrap();
        self.client.get(&document, &Key::new("a").unwrap()).await.map(drop)
    }

    async fn write(&self) -> Result<(), ClientError> {
        let document = DocumentId::parse("web/dev").unwrap();
        let write = Write::new(Key::new("b").unwrap(), JsonText::parse("1").unwrap());
        self.client.write(&document, &[write], None).await.map(drop)
    }

    /// How many requests each region was asked since the last look.
    fn asked(&self) -> [usize; 2] {
        [self.stubs[NEAR].asked().len(), self.stubs[FAR].asked().len()]
    }

    /// Asks until the region that is used is this one.
    async fn comes_to(&self, region: usize) -> Duration {
        let begun = Instant::now();
        loop {
            self.get().await.unwrap();
            if self.client.regions.used().is_some_and(|it| it.url == self.ways[region].url()) {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "it does not come");
            sleep(ms(20)).await;
        }
    }

    fn refuse(&self, region: usize, status: u16, name: &str) {
        let status = StatusCode::from_u16(status).unwrap();
        let body = format!(r#"{{"error":"{name}","detail":"so"}}"#);
        self.stubs[region].node().next_answer = Some((status, body));
    }

    fn always_refuse(&self, region: usize, status: u16, name: &str) {
        self.refuse(region, status, name);
        let mut node = self.stubs[region].node();
        node.every_answer = node.next_answer.take();
    }
}

#[tokio::test]
async fn a_region_that_dies_is_left_within_the_request_and_returned_to_when_it_is_well() {
    let mut world = World::new().await;
    for _ in 0..5 {
        world.get().await.unwrap();
    }
    assert_eq!(world.asked(), [5, 0], "the nearer one is used");
    world.ways[NEAR].shut();
    let begun = Instant::now();
    world.get().await.unwrap();
    assert!(begun.elapsed() < ms(1_000), "{:?}", begun.elapsed());
    world.get().await.unwrap();
    assert_eq!(world.asked(), [0, 2]);
    world.ways[NEAR].open_again().await;
    let took = world.comes_to(NEAR).await;
    assert!(took >= ms(400), "not before it has been well for a while: {took:?}");
    world.asked();
    world.get().await.unwrap();
    assert_eq!(world.asked(), [1, 0]);
}

#[tokio::test]
async fn a_region_that_takes_connections_and_never_answers_does_not_eat_the_deadline() {
    let world = World::new().await;
    for _ in 0..5 {
        world.get().await.unwrap();
    }
    world.ways[NEAR].silence(true);
    let begun = Instant::now();
    world.get().await.unwrap();
    assert!(begun.elapsed() < ms(1_000), "{:?}", begun.elapsed());
    // Now it is under suspicion, and asked last.
    let begun = Instant::now();
    for _ in 0..3 {
        world.get().await.unwrap();
    }
    assert!(begun.elapsed() < ms(1_000), "{:?}", begun.elapsed());
    world.comes_to(FAR).await;
    let told = world.client.regions();
    let near = told.iter().find(|it| it.url == world.ways[NEAR].url()).unwrap();
    assert!(!near.is_healthy && near.why.contains("no answer within 2s"), "{near:?}");
}

#[tokio::test]
async fn a_write_that_is_not_answered_is_sent_elsewhere_under_the_same_key() {
    let world = World::new().await;
    world.get().await.unwrap();
    world.asked();
    world.refuse(NEAR, 503, "OutcomeUnknown");
    world.write().await.unwrap();
    let key = |stub: &Stub| {
        let node = stub.node();
        let key = node.requests[0].1.get("idempotency-key");
        key.unwrap().to_str().unwrap().to_owned()
    };
    assert_eq!(key(&world.stubs[NEAR]), key(&world.stubs[FAR]));
    let first = key(&world.stubs[NEAR]);
    world.asked();
    world.write().await.unwrap();
    assert_ne!(key(&world.stubs[NEAR]), first, "another write has another");
    world.asked();
    world.ways[NEAR].silence(true);
    let begun = Instant::now();
    world.write().await.unwrap();
    assert!(begun.elapsed() < ms(2_500), "{:?}", begun.elapsed());
    assert_eq!(world.asked()[FAR], 1);
}

#[tokio::test]
async fn what_nodes_do_not_recognise_is_sent_again_only_where_nothing_was_done() {
    let world = World::new().await;
    world.get().await.unwrap();
    world.asked();
    let ann = AccountName::new("ann").unwrap();
    for (status, name, elsewhere) in [
        (503, "OutcomeUnknown", 0),
        (504, "a proxy's", 0),
        (503, "QuorumUnavailable", 1),
        (503, "Overloaded", 1),
    ] {
        world.refuse(NEAR, status, name);
        let _ = world.client.delete_account(&ann).await;
        assert_eq!(world.asked(), [1, elsewhere], "{name}");
        world.comes_to(NEAR).await;
        sleep(ms(1_100)).await;
        world.asked();
    }
}

#[tokio::test]
async fn what_a_node_refuses_for_good_is_asked_of_nobody_else() {
    let world = World::new().await;
    world.get().await.unwrap();
    world.asked();
    for status in [400, 401, 403, 404, 409, 410, 412, 413, 422, 500] {
        world.refuse(NEAR, status, "No");
        let error = world.get().await.unwrap_err();
        assert_eq!(error.refusal().map(|it| it.status), Some(status));
        assert_eq!(world.asked(), [1, 0], "{status}");
    }
}

#[tokio::test]
async fn a_session_that_one_region_has_not_reached_is_answered_by_another_or_waited_for() {
    let world = World::new().await;
    world.get().await.unwrap();
    world.asked();
    world.refuse(NEAR, 412, "SessionNotReached");
    world.get().await.unwrap();
    assert_eq!(world.asked(), [1, 1]);
    for region in [NEAR, FAR] {
        world.always_refuse(region, 412, "SessionNotReached");
    }
    let later = async {
        sleep(ms(700)).await;
        world.stubs[FAR].node().every_answer = None;
    };
    let (done, ()) = tokio::join!(world.get(), later);
    done.unwrap();
    assert!(world.asked()[NEAR] >= 2, "it goes round until there is an answer");
}

#[tokio::test]
async fn an_error_names_every_place_that_was_tried() {
    let mut world = World::with(|settings| settings.timeout = ms(1_500)).await;
    world.get().await.unwrap();
    world.always_refuse(FAR, 503, "QuorumUnavailable");
    world.ways[NEAR].shut();
    let error = world.get().await.unwrap_err();
    let ClientError::Everywhere { tried } = &error else { panic!("{error:?}") };
    assert_eq!(tried.len(), 2);
    let text = error.to_string();
    assert!(text.contains(&world.ways[NEAR].url()), "{text}");
    let far = format!("{}: QuorumUnavailable: so (HTTP 503)", world.ways[FAR].url());
    assert!(text.contains(&far), "{text}");
    assert_eq!(error.refusal().map(|it| it.status), Some(503));
    assert!(error.is_transient());
    // With none that answers, the deadline is kept and told.
    world.ways[NEAR].open_again().await;
    for way in &world.ways {
        way.silence(true);
    }
    let begun = Instant::now();
    let error = world.get().await.unwrap_err().to_string();
    assert!((ms(1_400)..ms(2_000)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert!(world.ways.iter().all(|way| error.contains(&way.url())), "{error}");
}

#[tokio::test]
async fn a_client_that_starts_while_a_region_is_down_or_silent_uses_the_other() {
    for is_shut in [true, false] {
        let mut world = World::new().await;
        match is_shut {
            true => world.ways[NEAR].shut(),
            false => world.ways[NEAR].silence(true),
        }
        let begun = Instant::now();
        world.get().await.unwrap();
        assert!(begun.elapsed() < ms(1_000), "{:?}", begun.elapsed());
        assert_eq!(world.asked(), [0, 1]);
    }
}

#[tokio::test]
async fn a_slow_answer_is_asked_for_elsewhere_too_and_the_region_is_kept_to() {
    let world = World::new().await;
    for _ in 0..5 {
        world.get().await.unwrap();
    }
    world.asked();
    world.stubs[NEAR].node().takes = ms(1_000);
    let begun = Instant::now();
    world.get().await.unwrap();
    assert!(begun.elapsed() < ms(800), "{:?}", begun.elapsed());
    assert_eq!(world.asked()[FAR], 1);
    world.stubs[NEAR].node().takes = ms(0);
    sleep(ms(200)).await;
    world.get().await.unwrap();
    assert_eq!(world.asked()[FAR], 0, "its measurement was good");
}

#[tokio::test]
async fn retry_after_is_waited_for_where_there_is_time_and_not_begun_where_there_is_none() {
    let stub = Stub::start().await;
    let mut settings = ClientSettings { rounds: 2, ..ClientSettings::new(&stub.url, None) };
    settings.timeout = Duration::from_secs(3);
    let client = Client::with(settings.clone()).unwrap();
    let refuse = |seconds| {
        let mut node = stub.node();
        let body = r#"{"error":"TooManyRequests"}"#.to_owned();
        node.next_answer = Some((StatusCode::TOO_MANY_REQUESTS, body));
        node.retry_after_s = seconds;
    };
    refuse(1);
    let begun = Instant::now();
    client.documents().await.unwrap();
    assert!((ms(1_000)..ms(2_000)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    refuse(10);
    let begun = Instant::now();
    let error = client.documents().await.unwrap_err();
    assert_eq!(error.refusal().map(|it| it.status), Some(429));
    assert!(begun.elapsed() < ms(500));
    // One URL with the default settings: nobody is asked twice.
    let once = Client::with(ClientSettings { rounds: 1, ..settings }).unwrap();
    refuse(1);
    assert!(once.documents().await.is_err());
}

#[tokio::test]
async fn an_outage_is_not_made_worse() {
    let world = World::new().await;
    world.get().await.unwrap();
    world.asked();
    for region in [NEAR, FAR] {
        world.always_refuse(region, 503, "QuorumUnavailable");
    }
    for _ in 0..200 {
        assert!(world.get().await.is_err());
    }
    let [near, far] = world.asked();
    // One each, the burst of 20, one in ten, and what the time of the test gives.
    assert!((200..270).contains(&(near + far)), "{near} + {far}");
}

#[tokio::test]
async fn a_silent_region_keeps_no_one_from_a_token() {
    let world = World::with(|settings| {
        settings.token = None;
        let credential = ClientCredential { client_id: "ci".into(), secret: "s".into() };
        settings.credential = Some(credential);
    })
    .await;
    let token = r#"{"access_token":"fresh","token_type":"Bearer","expires_in":900}"#;
    world.stubs[FAR].node().next_answer = Some((StatusCode::OK, token.to_owned()));
    let _ = world.client.measure().await.unwrap();
    world.ways[NEAR].silence(true);
    timeout(Duration::from_secs(3), world.get()).await.unwrap().unwrap();
    let node = world.stubs[FAR].node();
    let (asked, headers, _) = node.requests.last().unwrap();
    assert_eq!(asked, "GET /config/web/dev/a");
    assert_eq!(headers["authorization"], "Bearer fresh");
}

#[tokio::test]
async fn a_watch_goes_on_in_the_next_region_and_comes_back() {
    let mut world = World::new().await;
    let put = |key: &str, id: &str| {
        format!(
            "event: put\nid: {id}\ndata: {{\"key\":\"{key}\",\"value\":1,\"version\":1,\
             \"service\":\"web\",\"environment\":\"dev\"}}\n\n"
        )
    };
    // The last one of a stub's watches stays open.
    world.stubs[NEAR].node().watches = [put("a", "s1")].into();
    world.stubs[FAR].node().watches = [put("b", "s2")].into();
    let document = DocumentId::parse("web/dev").unwrap();
    let mut watch = world.client.watch(&document, WatchSettings::default());
    let mut next = async || timeout(Duration::from_secs(10), watch.next()).await.unwrap().unwrap();
    assert!(matches!(next().await, WatchEvent::Put(item) if item.key.as_str() == "a"));
    world.ways[NEAR].shut();
    assert!(matches!(next().await, WatchEvent::Lost { .. }));
    assert!(matches!(next().await, WatchEvent::Put(item) if item.key.as_str() == "b"));
    world.stubs[NEAR].node().watches = [put("c", "s3")].into();
    world.ways[NEAR].open_again().await;
    let begun = Instant::now();
    let moved = WatchEvent::Moved { url: world.ways[NEAR].url() };
    assert_eq!(next().await, moved, "without being lost");
    assert!(begun.elapsed() >= ms(400));
    assert!(matches!(next().await, WatchEvent::Put(item) if item.key.as_str() == "c"));
    let since = |stub: &Stub| {
        let node = stub.node();
        let of = |(_, headers, _): &(_, axum::http::HeaderMap, _)| {
            headers.get("last-event-id").map(|id| id.to_str().unwrap().to_owned())
        };
        node.requests.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(since(&world.stubs[NEAR]), [None, Some("s2".to_owned())]);
    assert_eq!(since(&world.stubs[FAR]), [Some("s1".to_owned())]);
}

#[tokio::test]
async fn a_watch_leaves_a_region_that_has_fallen_silent() {
    // However long a nearer region would be waited for.
    let world = World::with(|settings| settings.return_after = Duration::from_secs(60)).await;
    let ready = "event: ready\nid: s1\ndata: {}\n\n".to_owned();
    for stub in &world.stubs {
        stub.node().watches = [ready.clone()].into();
    }
    let document = DocumentId::parse("web/dev").unwrap();
    let mut watch = world.client.watch(&document, WatchSettings::default());
    assert_eq!(watch.next().await.unwrap(), WatchEvent::Ready);
    world.ways[NEAR].silence(true);
    let moved = timeout(Duration::from_secs(8), watch.next()).await.unwrap().unwrap();
    assert_eq!(moved, WatchEvent::Moved { url: world.ways[FAR].url() });
}
