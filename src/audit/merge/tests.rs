//! Whatever the nodes' clocks say and wherever pages are cut: every record is shown, none twice.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use proptest::prelude::*;

use super::*;
use crate::audit::page::{Filter, slice};
use crate::audit::verify::{Witness, verify};
use crate::audit::{ChainReader, Decision, Head, Source as From, Unreadable};
use crate::model::{Stamp, cbor};

#[derive(Clone, Default)]
struct Memory {
    head: Head,
    records: Vec<Vec<u8>>,
}

impl ChainReader for Memory {
    fn head(&self) -> Result<Head, Unreadable> {
        Ok(self.head)
    }

    fn walk(
        &self,
        from: u64,
        visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), Unreadable> {
        let _ = self.records.iter().skip(from as usize - 1).try_for_each(|record| visit(record));
        Ok(())
    }
}

impl Memory {
    fn add(&mut self, event: Event) {
        let record = self.head.append(event);
        self.records.push(record);
    }
}

fn event(at: u64, target: &str, index: Option<u64>) -> Event {
    Event {
        at: Stamp(at),
        principal: "ada".into(),
        action: "config.write".into(),
        target: target.into(),
        decision: Decision::Allowed("config:*".into()),
        outcome: "done".into(),
        source: From { node: "n".into(), address: None, request: "r".into() },
        count: 1,
        index,
    }
}

/// A config and a quorum chain of each node.
type Nodes = BTreeMap<String, (Memory, Memory)>;

fn slices(nodes: &Nodes, place: &Place, filter: &Filter, size: usize) -> Vec<(String, [Slice; 3])> {
    let part = |chain: &Memory, stream, at: u64| {
        slice(chain, stream, filter, place.way, at, size).unwrap()
    };
    let of = |(name, (config, quorum)): (&String, &(Memory, Memory))| {
        let at = place.of(name);
        let slices = [
            part(config, Stream::Config, at[0]),
            part(quorum, Stream::Quorum, at[1]),
            part(quorum, Stream::Decided, at[2]),
        ];
        (name.clone(), slices)
    };
    nodes.iter().map(of).collect()
}

fn read_on(nodes: &Nodes, mut place: Place, filter: &Filter, size: usize) -> (Vec<Item>, Place) {
    let mut items = Vec::new();
    for _ in 0..1_000 {
        let page = merge(&place, slices(nodes, &place, filter, size), size);
        assert!(page.items.len() <= size);
        items.extend(page.items);
        // As a cursor carries it.
        place = cbor::decode(&cbor::encode(&page.next)).unwrap();
        if page.ended {
            return (items, place);
        }
    }
    panic!("the pages do not end");
}

fn targets(items: &[Item]) -> Vec<String> {
    items.iter().map(|item| item.event.target.to_string()).collect()
}

/// What happens at a node: its own event on either chain, or the next decision of the quorum's
/// reaches it.
fn steps() -> impl Strategy<Value = Vec<(usize, u8, u64)>> {
    proptest::collection::vec((0..3_usize, 0..4_u8, 0..100_u64), 0..60)
}

fn play(nodes: &mut Nodes, steps: &[(usize, u8, u64)], round: &str) {
    let names: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
    for name in &names {
        nodes.entry(name.clone()).or_default();
    }
    for (i, (node, kind, skew)) in steps.iter().enumerate() {
        let at = 1_000 + 10 * i as u64 + skew;
        let (config, quorum) = nodes.get_mut(&names[*node]).unwrap();
        let target = format!("{round}{i}");
        match kind {
            0 => config.add(event(at, &target, None)),
            1 => quorum.add(event(at, &target, None)),
            _ => {
                let applied =
                    quorum.records.iter().filter_map(|it| Record::decode(it).unwrap().event.index);
                let index = applied.max().unwrap_or(0) + 1;
                // The same on every node, by the proposer's clock.
                let at = 1_000 + (index * 7_919) % 600;
                quorum.add(event(at, &format!("#{index}"), Some(index)));
            }
        }
    }
}

fn all(nodes: &Nodes) -> BTreeSet<String> {
    let chains = nodes.values().flat_map(|(config, quorum)| [config, quorum]);
    let records = chains.flat_map(|chain| &chain.records);
    records.map(|record| Record::decode(record).unwrap().event.target.to_string()).collect()
}

proptest! {
    #[test]
    fn every_record_is_shown_once_on_the_way_back_and_on(
        before in steps(), after in steps(), size in 1..9_usize,
    ) {
        let mut nodes = Nodes::new();
        play(&mut nodes, &before, "x");
        let filter = Filter::default();
        let first = slices(&nodes, &Place::newest(), &filter, 1_000);
        let follow = Place::to_follow(&first);
        let (items, _) = read_on(&nodes, Place::newest(), &filter, size);
        let shown = targets(&items);
        let expected = all(&nodes);
        prop_assert_eq!(shown.len(), expected.len(), "{:?}", shown);
        prop_assert_eq!(&shown.into_iter().collect::<BTreeSet<_>>(), &expected);
        play(&mut nodes, &after, "y");
        let (items, place) = read_on(&nodes, follow, &filter, size);
        let shown = targets(&items);
        let new: BTreeSet<String> = all(&nodes).difference(&expected).cloned().collect();
        prop_assert_eq!(shown.len(), new.len(), "{:?} {:?}", shown, new);
        prop_assert_eq!(shown.into_iter().collect::<BTreeSet<_>>(), new);
        let (items, _) = read_on(&nodes, place, &filter, size);
        prop_assert!(items.is_empty());
    }
}

#[test]
fn pages_are_in_the_order_of_time_and_stay_as_they_are_while_records_come() {
    let mut nodes = Nodes::new();
    for i in 0..10 {
        let name = if i % 2 == 0 { "a" } else { "b" };
        nodes.entry(name.to_owned()).or_default().0.add(event(100 + i, &i.to_string(), None));
    }
    let filter = Filter::default();
    let newest = Place::newest();
    let first = merge(&newest, slices(&nodes, &newest, &filter, 3), 3);
    assert_eq!(targets(&first.items), ["9", "8", "7"]);
    nodes.entry("a".to_owned()).or_default().0.add(event(200, "late", None));
    let (rest, _) = read_on(&nodes, first.next, &filter, 4);
    assert_eq!(targets(&rest), ["6", "5", "4", "3", "2", "1", "0"]);
}

#[test]
fn filters_choose_and_a_long_way_without_a_find_goes_on_behind_an_empty_page() {
    let mut nodes = Nodes::new();
    let chain = &mut nodes.entry("a".to_owned()).or_default().0;
    for i in 0..50_000 {
        let target = if i == 3 { "wanted/x" } else { "other" };
        chain.add(event(1_000 + i, target, None));
    }
    let filter = Filter { target: Some("wanted/*".into()), ..Filter::default() };
    let newest = Place::newest();
    let page = merge(&newest, slices(&nodes, &newest, &filter, 10), 10);
    assert!(page.items.is_empty() && !page.ended);
    let (items, _) = read_on(&nodes, page.next, &filter, 10);
    assert_eq!(targets(&items), ["wanted/x"]);
    for (filter, count) in [
        (Filter { from: Some(Stamp(50_999)), ..Filter::default() }, 1),
        (Filter { to: Some(Stamp(1_003)), ..Filter::default() }, 3),
        (Filter { principal: Some("bob".into()), ..Filter::default() }, 0),
        (Filter { allowed: Some(false), ..Filter::default() }, 0),
        (Filter { node: Some("other".into()), ..Filter::default() }, 0),
        (Filter { action: Some("config.read".into()), ..Filter::default() }, 0),
    ] {
        let (items, _) = read_on(&nodes, Place::newest(), &filter, 10);
        assert_eq!(items.len(), count, "{filter:?}");
    }
}

#[test]
fn a_tail_that_was_cut_off_is_found_by_what_others_remember() {
    let mut chain = Memory::default();
    for i in 0..5 {
        chain.add(event(i, "x", None));
    }
    let whole = Witness { by: "there-1".into(), head: chain.head };
    let findings = |chain: &Memory, witnesses: &[Witness]| {
        verify("config", chain, witnesses).unwrap().findings
    };
    assert_eq!(findings(&chain, std::slice::from_ref(&whole)), [""; 0]);
    let mut cut = chain.clone();
    cut.records.pop();
    assert_eq!(findings(&cut, &[]), ["the chain ends with record 4; the store names 5"]);
    let mut cut = Memory::default();
    chain.records.iter().take(4).for_each(|_| cut.add(event(cut.head.seq, "x", None)));
    assert_eq!(findings(&cut, &[]), [""; 0], "by itself it is whole");
    let found = findings(&cut, std::slice::from_ref(&whole));
    assert!(found[0].starts_with("there-1 remembers record 5; the chain goes to 4"), "{found:?}");
    cut.add(event(99, "another", None));
    let found = findings(&cut, &[whole]);
    assert!(found[0].starts_with("record 5 is not the one that there-1 remembers"), "{found:?}");
}
