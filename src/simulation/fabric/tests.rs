use std::io::IoSliceMut;

use futures_util::future::poll_fn;
use quinn::udp::{RecvMeta, Transmit};
use tokio::runtime::Runtime;
use tokio::time::Instant;

use super::*;

/// Two nodes, 10 ms apart, on one runtime.
fn pair() -> (Runtime, Fabric, [Arc<dyn AsyncUdpSocket>; 2], Trace) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().unwrap();
    let timeline = Timeline::default();
    {
        let _entered = runtime.enter();
        timeline.enter(Instant::now(), 0);
    }
    let trace = Trace::default();
    let entropy = Entropy::seeded(1);
    let fabric = Fabric::new(&[timeline.clone(), timeline], |_, _| 10_000, &entropy, trace.clone());
    let sockets = [fabric.bind(0), fabric.bind(1)];
    fabric.open_window(0, 1_000_000);
    (runtime, fabric, sockets, trace)
}

fn send(socket: &Arc<dyn AsyncUdpSocket>, to: SocketAddr, contents: &[u8]) {
    let transmit =
        Transmit { destination: to, ecn: None, contents, segment_size: None, src_ip: None };
    socket.try_send(&transmit).unwrap();
}

async fn receive(socket: &Arc<dyn AsyncUdpSocket>) -> (SocketAddr, Vec<u8>) {
    let (mut buf, mut meta) = ([0; 2_000], [RecvMeta::default()]);
    poll_fn(|cx| socket.poll_recv(cx, &mut [IoSliceMut::new(&mut buf)], &mut meta)).await.unwrap();
    (meta[0].addr, buf[..meta[0].len].to_vec())
}

#[test]
fn a_datagram_arrives_after_its_links_delay() {
    let (runtime, fabric, [a, b], _) = pair();
    runtime.block_on(async {
        send(&a, address(1), b"hello");
        let sent_at = Instant::now();
        assert_eq!(receive(&b).await, (address(0), b"hello".to_vec()));
        assert_eq!(sent_at.elapsed().as_millis(), 10);
        send(&b, address(0), b"back");
        assert_eq!(receive(&a).await.1, b"back");
    });
    assert_eq!(fabric.counts(0, 1), LinkCounts { sent: 1, bytes: 5, lost: 0 });
    assert_eq!(fabric.in_flight_bytes(), 0);
}

#[test]
fn a_cut_also_stops_what_is_on_its_way_and_counts_it_as_lost() {
    let (runtime, fabric, [a, b], _) = pair();
    runtime.block_on(async {
        send(&a, address(1), b"on its way");
        fabric.cut(0, 1);
        fabric.cut(0, 1);
        let arrived = tokio::time::timeout(std::time::Duration::from_millis(50), receive(&b));
        assert!(arrived.await.is_err());
        fabric.mend(0, 1);
        assert!(fabric.is_cut(0, 1) && !fabric.is_cut(1, 0));
        fabric.mend(0, 1);
        send(&a, address(1), b"mended");
        assert_eq!(receive(&b).await.1, b"mended");
    });
    assert_eq!(fabric.counts(0, 1), LinkCounts { sent: 2, bytes: 16, lost: 1 });
}

#[test]
fn a_new_socket_takes_the_old_ones_place_and_nobody_gets_what_nobody_waits_for() {
    let (runtime, fabric, [a, old], _) = pair();
    runtime.block_on(async {
        send(&a, address(1), b"for whoever is there");
        fabric.unbind(1);
        send(&old, address(0), b"from nobody");
        let new = fabric.bind(1);
        assert_eq!(receive(&new).await.1, b"for whoever is there");
        send(&a, address(1), b"for nobody");
        fabric.unbind(1);
        fabric.open_window(500_000, 600_000);
    });
    assert_eq!(fabric.counts(0, 1).lost, 1);
    assert_eq!(fabric.counts(1, 0).sent, 0);
    let _entered = runtime.enter();
    send(&a, "192.0.2.1:9".parse().unwrap(), b"to no node");
    send(&a, address(7), b"to no node");
}

#[test]
fn what_must_not_be_there_is_seen_and_every_datagram_is_in_the_trace() {
    let (runtime, fabric, [a, _b], trace) = pair();
    let _entered = runtime.enter();
    assert!(fabric.look_for(b"a secret value"));
    let before = trace.so_far();
    send(&a, address(1), b"sealed");
    assert_ne!(trace.so_far(), before);
    assert_eq!(fabric.take_seen(), []);
    send(&a, address(1), b"here is a secret value in plain");
    let seen = Seen { at_us: 0, from: 0, needle: b"a secret value".to_vec() };
    assert_eq!(fabric.take_seen(), [seen]);
}
