//! Clients of many regions, with a real DNS server (hickory's) and real processes that are killed: the
//! next request is answered within its deadline, watches and sessions go on, and the client comes back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use hickory_server::Server;
use hickory_server::proto::rr::rdata::{SOA, SRV};
use hickory_server::proto::rr::{LowerName, Name, RData, Record, RecordType, RrKey};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use holm::client::{Client, ClientSettings, Discover, Places, WatchEvent, WatchSettings, Write};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::{PATIENCE, document, eventually, json, key};
use crate::gate::Gate;
use crate::process::{HOLM, Process, Site, said};
use crate::tls;

/// A request's deadline.
const DEADLINE: Duration = Duration::from_secs(5);

/// A DNS server with the zone `test`.
struct Dns {
    zone: Arc<InMemoryZoneHandler>,
    serial: u32,
    addr: SocketAddr,
    _server: Server<Catalog>,
}

fn name(text: &str) -> Name {
    Name::from_utf8(text).unwrap()
}

impl Dns {
    async fn start() -> Self {
        let zone = InMemoryZoneHandler::empty(name("test."), ZoneType::Primary, AxfrPolicy::Deny);
        let zone = Arc::new(zone);
        let soa = SOA::new(name("ns.test."), name("me.test."), 1, 60, 60, 60, 1);
        zone.upsert(Record::from_rdata(name("test."), 60, RData::SOA(soa)), 1).await;
        let address = RData::from("127.0.0.1".parse::<std::net::IpAddr>().unwrap());
        zone.upsert(Record::from_rdata(name("here.test."), 1, address), 1).await;
        let mut catalog = Catalog::new();
        catalog.upsert(LowerName::from(name("test.")), vec![zone.clone()]);
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let addr = socket.local_addr().unwrap();
        let mut server = Server::new(catalog);
        server.register_socket(socket);
        Self { zone, serial: 1, addr, _server: server }
    }

    /// `_holm._tcp.holm.test` names these ports of this machine, and no others.
    async fn set(&mut self, ports: &[u16]) {
        self.serial += 1;
        let owner = name("_holm._tcp.holm.test.");
        let key = RrKey::new(LowerName::from(owner.clone()), RecordType::SRV);
        self.zone.records_mut().await.remove(&key);
        for port in ports {
            let srv = SRV::new(10, 10, *port, name("here.test."));
            let record = Record::from_rdata(owner.clone(), 1, RData::SRV(srv));
            self.zone.upsert(record, self.serial).await;
        }
    }

    /// Settings of a client that finds its regions there.
    fn client(&self, scheme: &str, token: &str) -> ClientSettings {
        let mut settings = ClientSettings::discover("holm.test", Some(token));
        let (name, servers) = (format!("{scheme}://holm.test"), vec![self.addr]);
        settings.places = Places::Dns(Discover { name, servers });
        settings.timeout = DEADLINE;
        (settings.measure_every, settings.return_after) =
            (Duration::from_millis(300), Duration::from_secs(2));
        settings
    }
}

/// The port of the region that is used.
fn used(client: &Client) -> Option<u16> {
    let regions = client.regions();
    let used = regions.iter().find(|region| region.is_used)?;
    used.url.rsplit(':').next()?.parse().ok()
}

async fn write(client: &Client, value: &str) {
    let write = Write::new(key("limit"), json(value));
    let written = client.write(&document("web/prod"), &[write], None).await.unwrap();
    assert!(written.acknowledged, "{written:?}");
}

async fn read(client: &Client) -> String {
    client.get(&document("web/prod"), &key("limit")).await.unwrap().value.to_string()
}

/// Waits for a value in a watch, and gives what else it said until then.
async fn sees(watch: &mut holm::client::Watch, value: &str) -> Vec<WatchEvent> {
    let mut others = Vec::new();
    loop {
        match timeout(PATIENCE, watch.next()).await.expect("the watch says something").unwrap() {
            WatchEvent::Put(item) if item.value.as_str() == value => return others,
            WatchEvent::Put(item) => panic!("{} was seen before, or is not yet", item.value),
            other => others.push(other),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_region_is_left_within_the_deadline_and_returned_to_with_the_session() {
    let site = Site::with("", "config:* cluster:read");
    let mut processes: Vec<Option<Process>> =
        (0..3).map(|which| Some(site.serve_logged(which))).collect();
    for which in 0..3 {
        eventually("ready", async || {
            site.client(which).cluster().await.is_ok_and(|status| status["ready"] == true)
        })
        .await;
    }
    // The first region is here, the others are 30 ms away.
    let far = Duration::from_millis(15);
    let addr = |which: usize| SocketAddr::from(([127, 0, 0, 1], site.http[which]));
    let ways = [Gate::open(addr(1), far).await, Gate::open(addr(2), far * 2).await];
    let ports = [site.http[0], ways[0].addr.port(), ways[1].addr.port()];
    let mut dns = Dns::start().await;
    dns.set(&ports).await;
    let mut settings = dns.client("http", &site.token);
    settings.ack = Some("majority".to_owned());
    let client = Client::with(settings).unwrap();
    write(&client, "1").await;
    assert_eq!(used(&client), Some(ports[0]), "{:?}", client.regions());
    let mut watch = client.watch(&document("web/prod"), WatchSettings::default());
    assert_eq!(sees(&mut watch, "1").await, []);

    // Killed: the next read is answered, and has what was written.
    drop(processes[0].take());
    let begun = Instant::now();
    assert_eq!(read(&client).await, "1");
    let took = begun.elapsed();
    assert!(took < DEADLINE / 2, "{took:?}");
    assert_eq!(used(&client), Some(ports[1]), "{:?}", client.regions());
    write(&client, "2").await;
    let others = sees(&mut watch, "2").await;
    assert!(others.iter().any(|it| matches!(it, WatchEvent::Lost { .. })), "{others:?}");

    // DNS empties, and what it said goes on.
    dns.set(&[]).await;
    sleep(Duration::from_millis(5_500)).await;
    for _ in 0..5 {
        assert_eq!(read(&client).await, "2");
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(client.regions().len(), 3);
    dns.set(&ports).await;

    // It is back, and catches up: the client returns, and sees nothing older.
    processes[0] = Some(site.serve_logged(0));
    eventually("the client is back", async || {
        assert_eq!(read(&client).await, "2");
        used(&client) == Some(ports[0])
    })
    .await;
    write(&client, "3").await;
    assert_eq!(read(&client).await, "3");
    // The watch goes back by itself, before or after it has seen that.
    let mut others = sees(&mut watch, "3").await;
    let home = format!("http://holm.test:{}", ports[0]);
    let is_home = |it: &WatchEvent| matches!(it, WatchEvent::Moved { url } if *url == home);
    while !others.iter().any(is_home) {
        others.push(timeout(PATIENCE, watch.next()).await.unwrap().unwrap());
    }
    write(&client, "4").await;
    let others = sees(&mut watch, "4").await;
    assert!(others.iter().all(|it| *it == WatchEvent::Ready), "{others:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_takes_lists_and_names_and_shows_what_it_uses() {
    let site = Site::with("", "config:* cluster:read");
    let _processes: Vec<Process> = (0..3).map(|which| site.serve_logged(which)).collect();
    for which in 0..3 {
        eventually("ready", async || {
            site.client(which).cluster().await.is_ok_and(|status| status["ready"] == true)
        })
        .await;
    }
    let holm = |line: &[&str], environment: &[(&str, &str)]| {
        let mut command = Command::new(HOLM);
        command.args(line).env("HOLM_TOKEN", &site.token).current_dir(site.dir.path());
        for (name, value) in environment {
            command.env(name, value);
        }
        let output = command.output().unwrap();
        (output.status.code(), said(&output))
    };
    let urls: Vec<String> =
        site.http.iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
    // Nobody is at the first.
    let nobody = "http://127.0.0.1:1";
    let list = [nobody, &urls[0], &urls[1]].join(",");
    let (code, said) = holm(&["set", "web/prod", "limit=1"], &[("HOLM_URL", &list)]);
    assert_eq!(code, Some(0), "{said}");
    // Two commands have no session in common: the second may ask a region that the write is on its way to.
    for url in &urls[..2] {
        let get = ["get", "web/prod", "limit", "--url", url];
        eventually("both have it", async || holm(&get, &[]).0 == Some(0)).await;
    }
    let (code, said) = holm(&["get", "web/prod", "limit", "--url", &list], &[]);
    assert_eq!((code, said.trim()), (Some(0), "1"));
    let mut dns = Dns::start().await;
    dns.set(&site.http[..2]).await;
    let server = dns.addr.to_string();
    let discover = [("HOLM_DISCOVER", "http://holm.test"), ("HOLM_DNS", &server)];
    let (code, said) = holm(&["get", "web/prod", "limit"], &discover);
    assert_eq!((code, said.trim()), (Some(0), "1"));
    let (code, said) = holm(&["regions", "--output", "json"], &discover);
    assert_eq!(code, Some(0), "{said}");
    let shown: serde_json::Value = serde_json::from_str(&said).unwrap();
    let shown: BTreeMap<&str, &serde_json::Value> = shown["regions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["url"].as_str().unwrap(), it))
        .collect();
    let of = |which: usize| shown[format!("http://holm.test:{}", site.http[which]).as_str()];
    assert_eq!((of(0)["region"].as_str(), of(1)["region"].as_str()), (Some("a"), Some("b")));
    assert!(of(0)["healthy"] == true && of(1)["rtt_ms"].as_f64().is_some(), "{said}");
    assert_eq!([of(0), of(1)].iter().filter(|it| it["used"] == true).count(), 1);
    let (code, said) = holm(&["regions", "--url", &list], &[]);
    assert!(code == Some(0) && said.contains("Connection refused"), "{said}");
    // Errors name every place, and DNS by name.
    let both = format!("{nobody},http://127.0.0.1:2");
    let (code, said) = holm(&["get", "web/prod", "--url", &both], &[]);
    let names = said.contains("http://127.0.0.1:1: ") && said.contains("http://127.0.0.1:2: ");
    assert!(code == Some(1) && names, "{said}");
    let (code, said) = holm(&["get", "web/prod", "--discover", "gone.test", "--dns", &server], &[]);
    let says = "DNS for gone.test: _holm._tcp.gone.test: there is no such name";
    assert!(code == Some(1) && said.contains(says), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_clusters_certificate_is_named_and_others_are_tried() {
    let (own, other) = (tls::Site::new(&["a"], ""), tls::Site::new(&["a"], ""));
    let _processes = [own.serve("a-1"), other.serve("a-1")];
    let ca = std::fs::read(own.path("pki/ca.pem")).unwrap();
    let (own_url, other_url) = (own.url("a-1"), other.url("a-1"));
    let mut settings = ClientSettings::regions([&other_url, &own_url], Some(&own.token));
    (settings.timeout, settings.ca_pem) = (DEADLINE, Some(ca.clone()));
    let client = Client::with(settings.clone()).unwrap();
    client.list(&document("web/prod"), None).await.unwrap();
    // It went on when the first had answered; now both have.
    client.measure().await.unwrap();
    let why = |client: &Client, url: &str| {
        let regions = client.regions();
        regions.iter().find(|region| region.url == url).unwrap().why.clone()
    };
    let says = "signed by nobody who is trusted here: is it of another cluster?";
    assert!(why(&client, &other_url).contains(says), "{}", why(&client, &other_url));
    settings.places = Places::Urls(vec![other_url.clone(), "https://127.0.0.1:1".to_owned()]);
    let alone = Client::with(settings).unwrap();
    let error = alone.list(&document("web/prod"), None).await.unwrap_err().to_string();
    assert!(error.contains(&format!("{other_url}: its certificate")), "{error}");
    assert!(error.contains("https://127.0.0.1:1: "), "{error}");
    // By DNS: the certificate is for the name that was asked for.
    let mut dns = Dns::start().await;
    dns.set(&[other.nodes[0].1, own.nodes[0].1]).await;
    let mut settings = dns.client("https", &own.token);
    settings.ca_pem = Some(ca);
    let client = Client::with(settings.clone()).unwrap();
    client.list(&document("web/prod"), None).await.unwrap();
    client.measure().await.unwrap();
    assert_eq!(used(&client), Some(own.nodes[0].1));
    let other_url = format!("https://holm.test:{}", other.nodes[0].1);
    assert!(why(&client, &other_url).contains(says), "{}", why(&client, &other_url));
}
