use super::*;
use crate::env::{Network, SystemNetwork};

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

struct Pair {
    links: Links,
    a: Arc<dyn AsyncUdpSocket>,
    b: Arc<dyn AsyncUdpSocket>,
}

fn pair() -> Pair {
    let links = Links::new();
    let net = SystemNetwork::new(Some(links.clone()));
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let a = net.udp(&name("a"), any).unwrap();
    let b = net.udp(&name("b"), any).unwrap();
    Pair { links, a, b }
}

impl Pair {
    fn send(&self, contents: &[u8]) {
        let destination = self.b.local_addr().unwrap();
        let transmit =
            Transmit { destination, ecn: None, contents, segment_size: None, src_ip: None };
        self.a.try_send(&transmit).unwrap();
    }

    async fn receive(&self) -> Vec<Vec<u8>> {
        let mut buffer = vec![0; 65_536];
        let mut meta = [RecvMeta::default()];
        let receive = |cx: &mut Context<'_>| {
            self.b.poll_recv(cx, &mut [IoSliceMut::new(&mut buffer)], &mut meta)
        };
        poll_fn(receive).await.unwrap();
        let datagrams = buffer[..meta[0].len].chunks(meta[0].stride);
        datagrams.map(<[u8]>::to_vec).collect()
    }
}

#[tokio::test]
async fn a_datagram_never_arrives_before_its_delay() {
    let pair = pair();
    let delay = Duration::from_millis(30);
    pair.links.set_delay(&name("a"), &name("b"), delay);
    let sent_at = Instant::now();
    pair.send(b"one");
    assert_eq!(pair.receive().await, [b"one"]);
    assert!(sent_at.elapsed() >= delay);
    pair.links.slow(&name("a"), &name("b"), delay);
    let sent_at = Instant::now();
    pair.send(b"two");
    assert_eq!(pair.receive().await, [b"two"]);
    assert!(sent_at.elapsed() >= 2 * delay);
}

#[tokio::test]
async fn a_link_that_becomes_faster_keeps_the_order() {
    let pair = pair();
    pair.links.set_delay(&name("a"), &name("b"), Duration::from_millis(40));
    pair.send(&[0; 10]);
    pair.links.set_delay(&name("a"), &name("b"), Duration::ZERO);
    for i in 1..20 {
        pair.send(&[i; 10]);
    }
    let mut got = Vec::new();
    while got.len() < 20 {
        got.extend(pair.receive().await.into_iter().map(|datagram| datagram[0]));
    }
    assert_eq!(got, (0..20).collect::<Vec<u8>>());
}

#[tokio::test]
async fn a_cut_link_drops_also_what_is_on_its_way() {
    let pair = pair();
    pair.links.set_delay(&name("a"), &name("b"), Duration::from_millis(20));
    pair.send(b"on its way");
    pair.links.cut_one_way(&name("a"), &name("b"));
    pair.send(b"never");
    while pair.links.dropped() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    pair.links.heal_all();
    pair.send(b"after");
    assert_eq!(pair.receive().await, [b"after"]);
    let healed = Link { delay: Duration::from_millis(20), ..Link::default() };
    assert_eq!(pair.links.link(&name("a"), &name("b")), healed);
}

#[tokio::test]
async fn a_link_holds_a_bounded_number_of_bytes() {
    let pair = pair();
    pair.links.set_delay(&name("a"), &name("b"), Duration::from_secs(3600));
    let datagram = vec![7; 1_200];
    for _ in 0..HELD_BYTES_MAX / 1_200 + 5 {
        pair.send(&datagram);
    }
    assert_eq!(pair.links.dropped(), 5);
}
