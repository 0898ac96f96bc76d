use std::net::Ipv4Addr;

use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;

use super::*;
use crate::client::gate::Gate;
use crate::client::stub::Stub;
use crate::client::{Client, ClientSettings, Places};
use crate::env::names::server::{Reply, Zone, listen};

const NAME: &str = "_holm._tcp.holm.test.";

async fn discover(zone: &Zone, name: &str) -> Discover {
    Discover { name: name.to_owned(), servers: vec![listen(zone.clone()).await.0] }
}

fn shown(found: &[Found]) -> Vec<String> {
    let one = |it: &Found| {
        let addresses: Vec<String> = it.addresses.iter().map(ToString::to_string).collect();
        let weight = it.rank.weight.unwrap();
        format!("{} {} {} {}/{weight}", it.url, it.label, addresses.join(","), it.rank.priority)
    };
    found.iter().map(one).collect()
}

#[tokio::test]
async fn srv_records_say_where_regions_are_and_certificates_are_for_the_name_asked_for() {
    let zone = Zone::default();
    zone.service(NAME, 60, &[(20, 0, 8102, "us.test."), (10, 5, 8101, "eu.test.")]);
    zone.address("eu.test.", 60, &["192.0.2.1", "2001:db8::1"]);
    zone.address("us.test.", 60, &["192.0.2.2"]);
    // What stands for the name itself is not asked for.
    zone.address("holm.test.", 60, &["192.0.2.9"]);
    let discovery = Discovery::new(&discover(&zone, "holm.test").await).unwrap();
    let found = discovery.look(false).await.unwrap();
    let eu = "https://holm.test:8101 eu.test 192.0.2.1:8101,[2001:db8::1]:8101 10/5";
    assert_eq!(shown(&found), [eu, "https://holm.test:8102 us.test 192.0.2.2:8102 20/0"]);
    assert!(discovery.is_https());
    // The records' own name is taken for the one below.
    let discovery = Discovery::new(&discover(&zone, "http://_holm._tcp.holm.test").await).unwrap();
    let found = discovery.look(false).await.unwrap();
    assert!(found[0].url == "http://holm.test:8101" && !discovery.is_https());
}

#[tokio::test]
async fn without_srv_records_each_address_is_a_place() {
    let zone = Zone::default();
    zone.address("holm.test.", 60, &["192.0.2.1", "2001:db8::1"]);
    let at = async |name: &str| {
        let discovery = Discovery::new(&discover(&zone, name).await).unwrap();
        shown(&discovery.look(false).await.unwrap())
    };
    let v4 = "http://holm.test:8101 192.0.2.1 192.0.2.1:8101 0/1";
    let v6 = "http://holm.test:8101 2001:db8::1 [2001:db8::1]:8101 0/1";
    assert_eq!(at("http://holm.test:8101").await, [v4, v6]);
    assert!(at("holm.test").await[0].starts_with("https://holm.test:443 192.0.2.1 "));
}

#[tokio::test]
async fn what_dns_says_instead_of_places_is_in_the_error() {
    let zone = Zone::default();
    zone.set("_holm._tcp.broken.test.", RecordType::SRV, Reply::Code(ResponseCode::ServFail));
    zone.set("_holm._tcp.silent.test.", RecordType::SRV, Reply::Silence);
    for (name, says) in [
        ("gone.test", "gone.test: there is no such name"),
        ("broken.test", "the DNS server answered Server Failure"),
        ("silent.test", "no DNS server gave an answer in time"),
    ] {
        let mut settings = ClientSettings::discover(name, None);
        settings.places = Places::Dns(discover(&zone, name).await);
        settings.ca_pem = None;
        let Places::Dns(discover) = &settings.places else { unreachable!() };
        let error = Discovery::new(discover).unwrap().look(false).await.unwrap_err().to_string();
        assert!(error.contains(says) && error.contains(name), "{error}");
    }
    for bad in ["", "192.0.2.1", "[::1]:80", "ftp://holm.test", "holm.test/config", "a b"] {
        let discover = Discover { name: bad.to_owned(), servers: Vec::new() };
        let error = Discovery::new(&discover).unwrap_err().to_string();
        assert!(error.contains("is no name to find regions by"), "{error}");
    }
}

/// Regions behind a name, and a client that finds them.
struct World {
    zone: Zone,
    stubs: [Stub; 2],
    ways: [Gate; 2],
    client: Client,
}

impl World {
    async fn new() -> Self {
        let zone = Zone::default();
        let stubs = [Stub::start().await, Stub::start().await];
        let to = |stub: &Stub| stub.url.strip_prefix("http://").unwrap().parse().unwrap();
        let delay = Duration::from_millis(15);
        let ways = [
            Gate::open(to(&stubs[0]), Duration::ZERO).await,
            Gate::open(to(&stubs[1]), delay).await,
        ];
        zone.address("here.test.", 60, &["127.0.0.1"]);
        let name = "http://holm.test";
        let mut settings = ClientSettings::discover(name, None);
        settings.places = Places::Dns(discover(&zone, name).await);
        (settings.timeout, settings.measure_every) =
            (Duration::from_secs(5), Duration::from_millis(100));
        settings.return_after = Duration::from_millis(300);
        let client = Client::with(settings).unwrap();
        let world = Self { zone, stubs, ways, client };
        world.name(&[0, 1]);
        world
    }

    /// DNS names these ways.
    fn name(&self, ways: &[usize]) {
        let ports: Vec<_> = ways.iter().map(|way| self.ways[*way].addr.port()).collect();
        let targets: Vec<_> = ports.iter().map(|port| (10, 10, *port, "here.test.")).collect();
        self.zone.service(NAME, 0, &targets);
    }

    /// Lets the client ask DNS again.
    async fn look(&self) -> Result<(), ClientError> {
        self.client.measure().await.map(drop)
    }

    async fn asked(&self) -> [usize; 2] {
        self.client.documents().await.unwrap();
        [self.stubs[0].asked().len(), self.stubs[1].asked().len()]
    }
}

#[tokio::test]
async fn regions_found_by_dns_are_measured_and_the_nearest_is_used() {
    let world = World::new().await;
    assert_eq!(world.asked().await, [1, 0]);
    let told = world.client.regions();
    assert_eq!(told.len(), 2);
    assert_eq!(told[0].url, format!("http://holm.test:{}", world.ways[0].addr.port()));
    assert_eq!(told[0].label.as_deref(), Some("here.test"));
    assert_eq!(told[0].addresses[0].ip(), Ipv4Addr::LOCALHOST);
    assert!(told[0].is_used && !told[1].is_used);
}

#[tokio::test]
async fn a_dns_that_lies_is_silent_or_knows_of_nothing_takes_no_region_away() {
    let world = World::new().await;
    assert_eq!(world.asked().await, [1, 0]);
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    // The name itself leads somewhere, too, which is no region.
    world.zone.address("holm.test.", 0, &["127.0.0.1"]);
    for lie in [
        Reply::Records(0, Vec::new()),
        Reply::Code(ResponseCode::NXDomain),
        Reply::Code(ResponseCode::ServFail),
        Reply::Silence,
        Reply::Garbage,
    ] {
        let said = format!("{lie:?}");
        world.zone.set(NAME, RecordType::SRV, lie);
        world.look().await.unwrap();
        assert_eq!(world.asked().await, [1, 0], "{said}");
        assert_eq!(world.client.regions().len(), 2, "{said}");
        // While no server answers, what it said last is as good as said now.
        let is_told = said.starts_with("Records") || said.contains("NXDomain");
        assert!(!is_told || world.client.lookup_error().is_some(), "{said}");
    }
    // A port where nobody is: what was known goes on, until something that is named answers.
    world.zone.service(NAME, 0, &[(10, 10, port, "here.test.")]);
    world.look().await.unwrap();
    assert_eq!(world.asked().await, [1, 0]);
    assert_eq!(world.client.regions().len(), 3);
    world.name(&[1]);
    world.look().await.unwrap();
    assert_eq!(world.asked().await, [0, 1]);
    assert_eq!(world.client.regions().len(), 1, "the lie is forgotten, and who is named no more");
}
