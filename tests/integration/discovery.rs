//! Nodes found by DNS, with real processes and a real DNS server: `holm serve` looks names up as the
//! machine's `/etc/resolv.conf` says, which is another file here, in a mount namespace of its own.

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use crate::cluster::{eventually, free_ports};
use crate::members::{client, is_ready, shown};
use crate::process::{HOLM, Process, Site, holm};

/// Where the DNS server is: the port is the one that `resolv.conf` can't change.
const DNS: &str = "127.77.0.53";
const SERVICE: &str = "_holm._udp.d.test.";
const TTL: u32 = 1;

/// The service's targets and ports, or that the server does not answer.
type Zone = Arc<Mutex<Option<BTreeMap<String, u16>>>>;

fn answer(zone: &Zone, question: &Message) -> Option<Vec<u8>> {
    let query = question.queries[0].clone();
    let (name, kind) = (query.name().clone(), query.query_type());
    let targets = zone.lock().unwrap().clone()?;
    let text = name.to_utf8().to_lowercase();
    let mut message = Message::response(question.metadata.id, question.metadata.op_code);
    message.add_query(query);
    let records: Vec<RData> = if text == SERVICE && kind == RecordType::SRV {
        let srv = |(target, port): (&String, &u16)| {
            RData::SRV(SRV::new(1, 1, *port, Name::from_utf8(target).unwrap()))
        };
        targets.iter().map(srv).collect()
    } else if targets.contains_key(&text) && kind == RecordType::A {
        vec![RData::from(IpAddr::from([127, 0, 0, 1]))]
    } else {
        Vec::new()
    };
    if records.is_empty() && !targets.contains_key(&text) && text != SERVICE {
        message.metadata.response_code = ResponseCode::NXDomain;
    }
    message
        .add_answers(records.into_iter().map(|data| Record::from_rdata(name.clone(), TTL, data)));
    message.to_vec().ok()
}

fn serve_dns(socket: UdpSocket, zone: Zone) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let question = Message::from_vec(&buffer[..len]).unwrap();
            if let Some(answer) = answer(&zone, &question) {
                let _ = socket.send_to(&answer, from);
            }
        }
    });
}

/// `holm serve` with these arguments, where names are asked for at the test's server.
fn serve(site: &Site, node: &str, more: &[&str]) -> Process {
    let log = std::fs::File::create(site.dir.path().join(format!("{node}.log"))).unwrap();
    let script = "mount --bind resolv.conf /etc/resolv.conf && exec \"$@\"";
    let child = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh", HOLM, "serve", "--settings", "holm.toml"])
        .args(["--node", node, "--data", node])
        .args(more)
        .current_dir(site.dir.path())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    Process(child)
}

/// Whether all nodes of the file show these.
async fn all_show(site: &Site, wanted: &[&str]) -> bool {
    for port in &site.http {
        let Some((nodes, _)) = shown(site, *port).await else { return false };
        if nodes != wanted {
            return false;
        }
    }
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_found_by_dns_and_stay_while_it_is_down() {
    let namespace = Command::new("unshare").args(["-m", "true"]).status();
    let socket = UdpSocket::bind((DNS, 53));
    let (true, Ok(socket)) = (namespace.is_ok_and(|status| status.success()), socket) else {
        eprintln!("skipped: a mount namespace and port 53 take privileges");
        return;
    };
    let site = Site::with("", "config:* cluster:read");
    let path = site.dir.path();
    std::fs::write(path.join("resolv.conf"), format!("nameserver {DNS}\n")).unwrap();
    for node in ["d-1", "d-2"] {
        holm(path, &["pki", "issue", "--node", node]);
    }
    let region = "[[regions]]\nname = \"d\"\ndiscover = \"_holm._udp.d.test\"\n";
    let topology = std::fs::read_to_string(path.join("topology.toml")).unwrap() + region;
    std::fs::write(path.join("topology.toml"), &topology).unwrap();
    let checked = holm(path, &["topology", "check", "topology.toml"]);
    assert!(checked.contains("_holm._udp.d.test"), "{checked}");
    // The nodes of region d reach nobody by themselves: who is found is found by DNS.
    let mut lost = topology.clone();
    for line in topology.lines().filter(|line| line.starts_with("nodes")) {
        let (before, rest) = line.split_once("peer = \"127.0.0.1:").unwrap();
        let (_, after) = rest.split_once('"').unwrap();
        let (nowhere, _) = free_ports();
        let other = format!("{before}peer = \"127.0.0.1:{nowhere}\"{after}");
        lost = lost.replace(line, &other);
    }
    std::fs::write(path.join("lost.toml"), lost).unwrap();

    let zone = Zone::default();
    *zone.lock().unwrap() = Some(BTreeMap::new());
    serve_dns(socket, zone.clone());
    let file = ["--topology", "topology.toml"];
    let _named: Vec<Process> =
        ["a-1", "b-1", "c-1"].iter().map(|node| serve(&site, node, &file)).collect();
    for port in &site.http {
        eventually("the file's nodes are ready", async || is_ready(*port).await).await;
    }
    let mut joined = Vec::new();
    let mut wanted = vec!["a-1", "b-1", "c-1"];
    for node in ["d-1", "d-2"] {
        let (peer, http) = free_ports();
        let (at, web) = (format!("127.0.0.1:{peer}"), format!("127.0.0.1:{http}"));
        let more = ["--topology", "lost.toml", "--region", "d", "--peer", &at, "--http", &web];
        joined.push((serve(&site, node, &more), http));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(all_show(&site, &wanted).await, "nobody has told of it");
        let target = format!("{node}.d.test.");
        zone.lock().unwrap().as_mut().unwrap().insert(target, peer);
        wanted.push(node);
        eventually("all show whom DNS names", async || all_show(&site, &wanted).await).await;
        eventually("and it is ready", async || is_ready(http).await).await;
    }
    // DNS is down for longer than its answers hold, and then lies that nobody is there.
    *zone.lock().unwrap() = None;
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert!(all_show(&site, &wanted).await, "who is known stays known");
    *zone.lock().unwrap() = Some(BTreeMap::new());
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert!(all_show(&site, &wanted).await, "DNS only says where to ask");
    assert!(client(&site, joined[0].1).cluster().await.is_ok());
}
