use super::server::{Reply, Zone, alias};
use super::*;

async fn names(zone: &Zone) -> Names {
    Names::fixed(server::start(zone.clone()).await.0, "")
}

fn addresses(found: &[SocketAddr]) -> Vec<String> {
    found.iter().map(ToString::to_string).collect()
}

async fn look(names: &Names, address: &str) -> Result<Vec<String>, String> {
    names.lookup(address).await.map(|found| addresses(&found)).map_err(|error| error.to_string())
}

async fn sleep(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

#[tokio::test]
async fn a_name_gives_its_addresses_of_both_families() {
    let zone = Zone::default();
    zone.address("holm.test.", 60, &["192.0.2.7", "2001:db8::7", "192.0.2.8"]);
    zone.address("only6.test.", 60, &["2001:db8::9"]);
    zone.set_both("alias.test.", &Reply::Records(60, vec![alias("holm.test.")]));
    let names = names(&zone).await;
    let both = ["192.0.2.7:9100", "192.0.2.8:9100", "[2001:db8::7]:9100"];
    assert_eq!(look(&names, "holm.test:9100").await.unwrap(), both);
    assert_eq!(look(&names, "only6.test:1").await.unwrap(), ["[2001:db8::9]:1"]);
    assert_eq!(look(&names, "alias.test:9100").await.unwrap(), both);
}

#[tokio::test]
async fn addresses_and_listed_names_ask_no_server() {
    let zone = Zone::default();
    let (config, _server) = server::start(zone.clone()).await;
    let names =
        Names::fixed(config, "192.0.2.1 db Db.example.org # no\n2001:db8::1 db\nbad line\n");
    assert_eq!(look(&names, "127.0.0.1:80").await.unwrap(), ["127.0.0.1:80"]);
    assert_eq!(look(&names, "[::1]:80").await.unwrap(), ["[::1]:80"]);
    assert_eq!(look(&names, "DB:80").await.unwrap(), ["192.0.2.1:80", "[2001:db8::1]:80"]);
    assert_eq!(look(&names, "db.example.org:80").await.unwrap(), ["192.0.2.1:80"]);
    assert_eq!(look(&names, "localhost:80").await.unwrap(), ["127.0.0.1:80", "[::1]:80"]);
    assert_eq!(zone.asked(), 0);
    for bad in ["holm", "holm:", "holm:x", ":80", "a..b:80", "holm:70000"] {
        let error = look(&names, bad).await.unwrap_err();
        assert!(error.contains("is no name that could be looked up"), "{bad}: {error}");
    }
}

#[tokio::test]
async fn a_changed_record_is_seen_after_its_time_to_live_and_not_before() {
    let zone = Zone::default();
    zone.address("holm.test.", 2, &["192.0.2.1", "2001:db8::1"]);
    let names = names(&zone).await;
    let before = ["192.0.2.1:1", "[2001:db8::1]:1"];
    assert_eq!(look(&names, "holm.test:1").await.unwrap(), before);
    let asked = zone.asked();
    zone.address("holm.test.", 2, &["192.0.2.2", "2001:db8::2"]);
    assert_eq!(look(&names, "holm.test:1").await.unwrap(), before);
    assert_eq!(zone.asked(), asked, "the answer still holds");
    sleep(2_300).await;
    let after = ["192.0.2.2:1", "[2001:db8::2]:1"];
    assert_eq!(look(&names, "holm.test:1").await.unwrap(), after);
}

#[tokio::test]
async fn a_service_gives_its_targets_in_their_order() {
    let zone = Zone::default();
    let targets = [
        (20, 0, 9103, "c.test."),
        (10, 5, 9102, "b.test."),
        (10, 50, 9101, "a.test."),
        (10, 7, 9104, "nowhere.test."),
        (10, 1, 0, "a.test."),
    ];
    zone.service("_holm._udp.test.", 60, &targets);
    zone.address("a.test.", 60, &["192.0.2.1", "2001:db8::1"]);
    zone.address("b.test.", 60, &["192.0.2.2"]);
    zone.address("c.test.", 60, &["192.0.2.3"]);
    let names = names(&zone).await;
    let services = names.services("_holm._udp.test").await.unwrap();
    let found: Vec<_> =
        services.iter().map(|s| (s.priority, s.weight, addresses(&s.addresses))).collect();
    let want = [
        (10, 50, vec!["192.0.2.1:9101".to_owned(), "[2001:db8::1]:9101".to_owned()]),
        (10, 5, vec!["192.0.2.2:9102".to_owned()]),
        (20, 0, vec!["192.0.2.3:9103".to_owned()]),
    ];
    assert_eq!(found, want);
}

#[tokio::test]
async fn a_service_without_targets_is_a_clear_error() {
    let zone = Zone::default();
    zone.service("_none._udp.test.", 60, &[(0, 0, 0, ".")]);
    zone.service("_lost._udp.test.", 60, &[(0, 0, 9100, "nowhere.test.")]);
    let names = names(&zone).await;
    for (service, says) in [
        ("_none._udp.test", "_none._udp.test: DNS has no service (SRV"),
        ("_lost._udp.test", "nowhere.test.: there is no such name (DNS says NXDOMAIN)"),
        ("_gone._udp.test", "_gone._udp.test: there is no such name"),
        ("a..b", "\"a..b\" is no name"),
    ] {
        let error = names.services(service).await.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[tokio::test]
async fn answers_are_bounded_in_number() {
    let zone = Zone::default();
    let many: Vec<String> = (0..70).map(|i| format!("192.0.2.{i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    zone.address("many.test.", 60, &many);
    zone.service("_many._udp.test.", 60, &[(1, 1, 1, "many.test."), (2, 1, 1, "many.test.")]);
    let names = names(&zone).await;
    assert_eq!(look(&names, "many.test:1").await.unwrap().len(), LOOKUP_ADDRESSES_MAX);
    let services = names.services("_many._udp.test").await.unwrap();
    assert_eq!(services.len(), 1, "the second has no room left");
}

#[tokio::test]
async fn a_server_that_lies_fails_or_is_silent_is_a_clear_error() {
    let zone = Zone::default();
    zone.set_both("empty.test.", &Reply::Records(60, Vec::new()));
    zone.set_both("refused.test.", &Reply::Code(ResponseCode::Refused));
    zone.set_both("broken.test.", &Reply::Code(ResponseCode::ServFail));
    zone.set_both("loop.test.", &Reply::Records(60, vec![alias("pool.test.")]));
    zone.set_both("pool.test.", &Reply::Records(60, vec![alias("loop.test.")]));
    zone.set_both("self.test.", &Reply::Records(60, vec![alias("self.test.")]));
    zone.set_both("silent.test.", &Reply::Silence);
    zone.set_both("garbage.test.", &Reply::Garbage);
    zone.set_both("half.test.", &Reply::Half);
    zone.set_both("cut.test.", &Reply::Cut);
    zone.set_both("other.test.", &Reply::Other);
    let names = names(&zone).await;
    let cases = [
        ("gone.test", "there is no such name (DNS says NXDOMAIN)"),
        ("empty.test", "DNS has no address (A or AAAA) for it"),
        ("refused.test", "the DNS server answered Query Refused"),
        ("broken.test", "the DNS server answered Server Failure"),
        ("loop.test", "DNS has no address (A or AAAA) for it"),
        ("self.test", "DNS has no address (A or AAAA) for it"),
        ("silent.test", "no DNS server gave an answer in time"),
        ("garbage.test", "no DNS server gave an answer in time"),
        ("half.test", "DNS failed: protocol error"),
        ("cut.test", "DNS failed: response was truncated"),
        ("other.test", "no DNS server gave an answer in time"),
    ];
    let started = Instant::now();
    let asking = cases.map(|(name, says)| {
        let names = &names;
        async move { (name, says, look(names, &format!("{name}:1")).await) }
    });
    for (name, says, found) in join_all(asking).await {
        let error = found.expect_err(name);
        assert!(error.starts_with(&format!("{name}: ")) && error.contains(says), "{error}");
    }
    assert!(started.elapsed() < LOOKUP_TIMEOUT + Duration::from_secs(1), "bounded in time");
}

#[tokio::test]
async fn what_was_known_is_used_while_dns_is_down_and_not_after_it_says_otherwise() {
    let zone = Zone::default();
    zone.address("holm.test.", 1, &["192.0.2.1"]);
    zone.service("_holm._udp.test.", 1, &[(1, 1, 9100, "holm.test.")]);
    let names = names(&zone).await;
    assert_eq!(names.services("_holm._udp.test").await.unwrap().len(), 1);
    assert_eq!(look(&names, "holm.test:1").await.unwrap(), ["192.0.2.1:1"]);
    sleep(1_300).await;
    for reply in [Reply::Silence, Reply::Code(ResponseCode::ServFail), Reply::Garbage] {
        zone.set_both("holm.test.", &reply);
        zone.set("_holm._udp.test.", RecordType::SRV, reply.clone());
        let started = Instant::now();
        assert_eq!(look(&names, "holm.test:1").await.unwrap(), ["192.0.2.1:1"], "{reply:?}");
        let services = names.services("_holm._udp.test").await.unwrap();
        assert_eq!(addresses(&services[0].addresses), ["192.0.2.1:9100"], "{reply:?}");
        assert!(started.elapsed() < Duration::from_secs(3), "a node does not wait long for it");
    }
    zone.set_both("holm.test.", &Reply::Code(ResponseCode::NXDomain));
    assert!(look(&names, "holm.test:1").await.unwrap_err().contains("NXDOMAIN"));
    zone.set_both("holm.test.", &Reply::Silence);
    sleep(NEGATIVE_TTL_MAX.as_millis() as u64 + 300).await;
    assert!(look(&names, "holm.test:1").await.unwrap_err().contains("in time"));
}

#[tokio::test]
async fn no_server_at_all_is_a_clear_error() {
    let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let names = Names::fixed(server::config(closed), "");
    let error = look(&names, "holm.test:1").await.unwrap_err();
    assert!(error.starts_with("holm.test: "), "{error}");
}
