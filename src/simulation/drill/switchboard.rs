//! All links of a drill and the packets in them: takes packets in, gives them out when their time
//! has come. Pure, like [`super::shaping`]: it opens nothing and reads no clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::env::Stream;
use crate::simulation::needles::Needles;
use crate::simulation::scenario::LinkQuality;

use super::shaping::{Fate, FaultId, Way, WayCounts};

/// Bytes before a datagram's own: IPv4 without options, and UDP.
const HEADERS: usize = 28;

/// From which node to which, by their places in the topology.
pub(crate) type Pair = (usize, usize);

struct Flight {
    pair: Pair,
    packet: Vec<u8>,
}

/// All links and what is in them.
pub(crate) struct Switchboard {
    ways: BTreeMap<Pair, Way>,
    /// By the time they arrive; those of one time in the order they were sent.
    flights: BTreeMap<(Duration, u64), Flight>,
    flights_so_far: u64,
    held: BTreeMap<Pair, VecDeque<Vec<u8>>>,
    strays: u64,
    /// What nobody may send, and who did.
    needles: Needles,
    senders_of_it: BTreeSet<usize>,
    rng: Stream,
}

impl Switchboard {
    /// Whole links of these one-way delays. Whatever else is sent is nobody's.
    pub(crate) fn new(delays: impl IntoIterator<Item = (Pair, Duration)>, rng: Stream) -> Self {
        let ways = delays.into_iter().map(|(pair, delay)| (pair, Way::new(delay))).collect();
        Self {
            ways,
            flights: BTreeMap::new(),
            flights_so_far: 0,
            held: BTreeMap::new(),
            strays: 0,
            needles: Needles::default(),
            senders_of_it: BTreeSet::new(),
            rng,
        }
    }

    /// Changes one way; nothing where there is none.
    fn way(&mut self, pair: Pair, change: impl FnOnce(&mut Way)) {
        if let Some(way) = self.ways.get_mut(&pair) {
            change(way);
        }
    }

    /// Nothing passes as long as `fault` lasts.
    pub(crate) fn cut(&mut self, fault: FaultId, pair: Pair) {
        self.way(pair, |way| way.cut(fault));
    }

    /// Packets are held back as long as `fault` lasts.
    pub(crate) fn hold(&mut self, fault: FaultId, pair: Pair) {
        self.way(pair, |way| way.hold(fault));
    }

    /// It is as `quality` says as long as `fault` lasts.
    pub(crate) fn worsen(&mut self, fault: FaultId, pair: Pair, quality: LinkQuality) {
        self.way(pair, |way| way.worsen(fault, quality));
    }

    /// `fault` is over; what only it held arrives at once.
    pub(crate) fn end(&mut self, fault: FaultId, now: Duration) {
        self.end_where(now, |way| way.end(fault));
    }

    /// All faults are over.
    pub(crate) fn end_all(&mut self, now: Duration) {
        self.end_where(now, Way::end_all);
    }

    fn end_where(&mut self, now: Duration, end: impl Fn(&mut Way) -> bool) {
        let free: Vec<Pair> =
            self.ways.iter_mut().filter_map(|(pair, way)| end(way).then_some(*pair)).collect();
        for pair in free {
            for packet in self.held.remove(&pair).unwrap_or_default() {
                self.fly(now, pair, packet);
            }
        }
    }

    /// What each way has done.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (Pair, WayCounts)> + '_ {
        self.ways.iter().map(|(pair, way)| (*pair, way.counts()))
    }

    /// Packets that were for no node, or no IPv4.
    pub(crate) fn strays(&self) -> u64 {
        self.strays
    }

    /// From now on senders of these bytes are noticed.
    pub(crate) fn look_for(&mut self, bytes: &[u8]) {
        self.needles.add(bytes);
    }

    /// The nodes that have sent what is looked for.
    pub(crate) fn senders_of_it(&self) -> &BTreeSet<usize> {
        &self.senders_of_it
    }

    /// A node's packet; `node_of` knows whose an address is.
    pub(crate) fn goes_in(
        &mut self,
        now: Duration,
        from: usize,
        packet: &[u8],
        node_of: impl Fn(Ipv4Addr) -> Option<usize>,
    ) {
        if self.needles.find(packet).is_some() {
            self.senders_of_it.insert(from);
        }
        let to = destination(packet).and_then(node_of);
        let Some((pair, way)) =
            to.and_then(|to| self.ways.get_mut(&(from, to)).map(|way| ((from, to), way)))
        else {
            self.strays += 1;
            return;
        };
        match way.goes_in(now, payload(packet), &mut self.rng) {
            Fate::Lost(_) => {}
            Fate::Held => self.held.entry(pair).or_default().push_back(packet.to_vec()),
            Fate::Arrives { at, again } => {
                self.fly(at, pair, packet.to_vec());
                if let Some(again) = again {
                    self.fly(again, pair, packet.to_vec());
                }
            }
        }
    }

    fn fly(&mut self, at: Duration, pair: Pair, packet: Vec<u8>) {
        self.flights.insert((at, self.flights_so_far), Flight { pair, packet });
        self.flights_so_far += 1;
    }

    /// When the next packet arrives.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.flights.keys().next().map(|(at, _)| *at)
    }

    /// The next packet whose time has come, and whom it is for.
    pub(crate) fn comes_out(&mut self, now: Duration) -> Option<(usize, Vec<u8>)> {
        while let Some(first) = self.flights.first_entry() {
            if first.key().0 > now {
                return None;
            }
            let Flight { pair, packet } = first.remove();
            let way = self.ways.get_mut(&pair)?;
            if way.comes_out(payload(&packet)) {
                return Some((pair.1, packet));
            }
        }
        None
    }
}

/// Whom an IPv4 packet is for.
fn destination(packet: &[u8]) -> Option<Ipv4Addr> {
    let is_v4 = packet.first().is_some_and(|byte| byte >> 4 == 4);
    let bytes: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    (is_v4 && packet.len() >= 20).then(|| bytes.into())
}

/// How long the datagram in it is.
fn payload(packet: &[u8]) -> usize {
    packet.len().saturating_sub(HEADERS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Entropy;

    const MS: Duration = Duration::from_millis(1);

    fn packet(to: u8, len: usize, mark: u8) -> Vec<u8> {
        let mut packet = vec![0; len];
        packet[0] = 0x45;
        packet[16..20].copy_from_slice(&[10, 0, 0, to]);
        packet[len - 1] = mark;
        packet
    }

    fn node_of(addr: Ipv4Addr) -> Option<usize> {
        (addr.octets()[..3] == [10, 0, 0]).then(|| usize::from(addr.octets()[3]))
    }

    fn three() -> Switchboard {
        let pairs = [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)];
        let delays = pairs.map(|(a, b)| ((a, b), MS * (10 * (a + b)) as u32));
        Switchboard::new(delays, Entropy::seeded(1).stream("drill"))
    }

    /// Whom packets came for until `now`, with their marks.
    fn out(board: &mut Switchboard, now: Duration) -> Vec<(usize, u8)> {
        std::iter::from_fn(|| board.comes_out(now)).map(|(to, it)| (to, it[it.len() - 1])).collect()
    }

    #[test]
    fn packets_come_out_where_and_when_they_should() {
        let mut board = three();
        board.goes_in(Duration::ZERO, 1, &packet(2, 100, 1), node_of);
        board.goes_in(Duration::ZERO, 0, &packet(1, 100, 2), node_of);
        board.goes_in(Duration::ZERO, 0, &packet(1, 100, 3), node_of);
        assert_eq!(board.next(), Some(10 * MS));
        assert_eq!(out(&mut board, 9 * MS), []);
        assert_eq!(out(&mut board, 10 * MS), [(1, 2), (1, 3)]);
        assert_eq!(out(&mut board, 30 * MS), [(2, 1)]);
        assert_eq!(board.next(), None);
    }

    #[test]
    fn what_is_for_nobody_is_counted_and_dropped() {
        let mut board = three();
        let mut v6 = packet(1, 100, 0);
        v6[0] = 0x60;
        for stray in [&v6[..], &packet(9, 100, 0), &packet(0, 100, 0), &[0x45, 0], &[]] {
            board.goes_in(Duration::ZERO, 0, stray, node_of);
        }
        assert_eq!((board.strays(), board.next()), (5, None));
    }

    #[test]
    fn a_cut_is_of_one_way_and_a_hold_lets_go_in_order() {
        let mut board = three();
        board.cut(1, (0, 1));
        board.hold(2, (1, 0));
        for mark in 0..3 {
            board.goes_in(Duration::ZERO, 0, &packet(1, 100, mark), node_of);
            board.goes_in(Duration::ZERO, 1, &packet(0, 100, mark), node_of);
        }
        board.goes_in(Duration::ZERO, 0, &packet(2, 100, 9), node_of);
        assert_eq!(out(&mut board, 100 * MS), [(2, 9)]);
        board.end(1, 100 * MS);
        assert_eq!(out(&mut board, 100 * MS), [], "what a cut lost is lost");
        board.end(2, 100 * MS);
        assert_eq!(out(&mut board, 100 * MS), [(0, 0), (0, 1), (0, 2)]);
        board.goes_in(100 * MS, 0, &packet(1, 100, 7), node_of);
        assert_eq!(out(&mut board, 110 * MS), [(1, 7)]);
    }

    #[test]
    fn a_larger_datagram_than_the_link_takes_is_lost_without_its_headers_counted() {
        let mut board = three();
        board.worsen(1, (0, 1), LinkQuality { mtu: Some(1_200), ..LinkQuality::default() });
        board.goes_in(Duration::ZERO, 0, &packet(1, 1_228, 1), node_of);
        board.goes_in(Duration::ZERO, 0, &packet(1, 1_229, 2), node_of);
        assert_eq!(out(&mut board, 10 * MS), [(1, 1)]);
        board.end_all(10 * MS);
        board.goes_in(10 * MS, 0, &packet(1, 1_229, 3), node_of);
        assert_eq!(out(&mut board, 20 * MS), [(1, 3)]);
    }
}
