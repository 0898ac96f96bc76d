//! Addresses of the topology, as this machine sees them: what their names resolve to, who answers,
//! and how far the clocks there are off ours.
//!
//! A QUIC port is asked with a version that does not exist (RFC 9000, 6.1): whoever speaks QUIC says
//! which it knows, without a handshake.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, UdpSocket, lookup_host};
use tokio::time::timeout;

use super::report::Report;
use crate::cli::{Failure, Global};
use crate::client::Client;
use crate::env::{SystemClock, WallClock as _};
use crate::model::NodeName;
use crate::topology::{Node, Topology};

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// What the `Date` of an answer leaves out.
const DATE_STEP: Duration = Duration::from_secs(1);

/// A client of this node itself.
pub(super) fn client(
    topology: &Topology,
    name: &NodeName,
    global: &Global,
) -> Result<Client, Failure> {
    let node = topology.node(name);
    let node = node.ok_or_else(|| Failure::usage(format!("there is no node {name}")))?;
    client_of(node, global)
}

fn client_of(node: &Node, global: &Global) -> Result<Client, Failure> {
    let scheme = if global.ca.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}", node.http);
    global.at(&url, global.timeout.min(PATIENCE * 3)).client()
}

/// Checks all nodes, and says whether our own one runs.
pub(super) async fn check(
    topology: &Topology,
    own: &NodeName,
    skew_max: Duration,
    global: &Global,
    report: &mut Report,
) -> bool {
    let mut is_running = false;
    for node in topology.nodes() {
        let is_own = node.name == *own;
        let http = resolve(node, "http", node.http.as_str(), report).await;
        let peer = resolve(node, "peer", node.peer.as_str(), report).await;
        let of = format!("{} http {}", node.name, node.http);
        let answers = match http {
            Some(addr) => connects(addr).await,
            None => Err("it has no address".to_owned()),
        };
        match answers {
            Ok(()) => {
                is_running |= is_own;
                report.ok("ports", of, "it is listened on");
                check_clock(node, is_own, skew_max, global, report).await;
            }
            Err(why) if is_own => {
                report.warn("ports", of, why, "the node does not run, or another address is its");
            }
            Err(why) => {
                let advice = "does it run, and does every firewall between let TCP through?";
                report.warn("ports", of, why, advice);
            }
        }
        let of = format!("{} peer {}", node.name, node.peer);
        let Some(addr) = peer else { continue };
        match speaks_quic(addr).await {
            Ok(()) => report.ok("ports", of, "it speaks QUIC"),
            Err(why) if is_own && !is_running => {
                report.warn("ports", of, why, "the node does not run, or another address is its");
            }
            Err(why) => {
                let advice = "does it run, and does every firewall between let UDP through?";
                report.warn("ports", of, why, advice);
            }
        }
    }
    is_running
}

async fn resolve(
    node: &Node,
    kind: &str,
    address: &str,
    report: &mut Report,
) -> Option<SocketAddr> {
    let of = format!("{} {kind} {address}", node.name);
    let advice = "does the name exist, and does this machine's resolver know it?";
    let found: Vec<SocketAddr> = match timeout(PATIENCE, lookup_host(address)).await {
        Err(_) => {
            report.fail("dns", of, "no answer in time", advice);
            return None;
        }
        Ok(Err(error)) => {
            report.fail("dns", of, error, advice);
            return None;
        }
        Ok(Ok(found)) => found.collect(),
    };
    let Some(first) = found.first().copied() else {
        report.fail("dns", of, "the name has no address", advice);
        return None;
    };
    if address.parse::<SocketAddr>().is_err() {
        let found: Vec<String> = found.iter().map(|it| it.ip().to_string()).collect();
        report.ok("dns", of, found.join(", "));
    }
    Some(first)
}

async fn connects(addr: SocketAddr) -> Result<(), String> {
    match timeout(PATIENCE, TcpStream::connect(addr)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

async fn speaks_quic(addr: SocketAddr) -> Result<(), String> {
    /// Shortest first datagram that is answered.
    const LEN: usize = 1_200;
    /// A long header; a version kept free for this (RFC 9000, 15).
    const HEAD: [u8; 5] = [0xc0, 0x1a, 0x2a, 0x3a, 0x4a];
    const ID: [u8; 9] = [8, b'h', b'o', b'l', b'm', b'p', b'i', b'n', b'g'];
    let words = |error: std::io::Error| error.to_string();
    let any: SocketAddr = match addr {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any).await.map_err(words)?;
    socket.connect(addr).await.map_err(words)?;
    let mut datagram = [HEAD.as_slice(), &ID, &ID].concat();
    datagram.resize(LEN, 0);
    let mut answer = [0; 2_048];
    // One may be lost.
    for _ in 0..3 {
        let asked = async {
            socket.send(&datagram).await?;
            socket.recv(&mut answer).await
        };
        match timeout(PATIENCE / 3, asked).await {
            // Version 0 says that versions follow.
            Ok(Ok(len)) if len > 5 && answer[1..5] == [0; 4] => return Ok(()),
            Ok(Ok(_)) => return Err("what answers speaks no QUIC".to_owned()),
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => {}
        }
    }
    Err("no answer in time".to_owned())
}

/// Compares the other clock, as an answer's `Date` tells it, with ours.
async fn check_clock(
    node: &Node,
    is_own: bool,
    skew_max: Duration,
    global: &Global,
    report: &mut Report,
) {
    let Ok(client) = client_of(node, global) else { return };
    let before = SystemClock.now().0;
    let date = client.date().await;
    let after = SystemClock.now().0;
    let of = node.name.as_str();
    let date = match date {
        Ok(Some(date)) => date,
        Ok(None) => return report.warn("clocks", of, "it does not tell the time", ""),
        Err(error) => return report.warn("http", of, error, "https takes --ca"),
    };
    let Some(off) = offset(&date, before, after) else {
        return report.warn("clocks", of, format!("it tells no time: {date:?}"), "");
    };
    let says = format!("{} ms off, give or take a second", off.as_millis());
    if off > skew_max && !is_own {
        let advice = "set one of the two clocks: is NTP running on both?";
        report.fail("clocks", of, says, advice);
    } else if !is_own {
        report.ok("clocks", of, "within a second of ours");
    }
}

/// How far a clock that says `date` is off, at least, where it said so between `before` and `after`
/// of ours, in microseconds. A date stands for the second that it begins.
fn offset(date: &str, before: u64, after: u64) -> Option<Duration> {
    let date = jiff::fmt::rfc2822::parse(date).ok()?.timestamp().as_microsecond();
    let date = u64::try_from(date).ok()?;
    let until = date + u64::try_from(DATE_STEP.as_micros()).ok()?;
    // Apart where even the nearest ends of the two spans are.
    let off = date.saturating_sub(after).max(before.saturating_sub(until));
    Some(Duration::from_micros(off))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_off_by_what_no_second_and_no_delay_explains() {
        let date = "Tue, 14 Nov 2023 22:13:20 GMT";
        let at = 1_700_000_000_000_000;
        let off = |before, after| offset(date, before, after).unwrap().as_millis();
        assert_eq!(off(at, at + 10), 0);
        assert_eq!(off(at + 999_000, at + 1_200_000), 0);
        assert_eq!(off(at - 3_000_000, at - 2_500_000), 2_500);
        assert_eq!(off(at + 3_000_000, at + 3_100_000), 2_000);
        assert_eq!(offset("yesterday", at, at), None);
    }

    #[tokio::test]
    async fn what_does_not_speak_quic_is_told_from_what_does() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let addr = socket.local_addr().unwrap();
        let echo = tokio::spawn(async move {
            let mut bytes = [0; 2_048];
            let (len, from) = socket.recv_from(&mut bytes).await.unwrap();
            socket.send_to(&bytes[..len], from).await.unwrap();
        });
        assert_eq!(speaks_quic(addr).await.unwrap_err(), "what answers speaks no QUIC");
        echo.await.unwrap();
        assert!(speaks_quic(addr).await.is_err(), "nobody is there any more");
    }
}
