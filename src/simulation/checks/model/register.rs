//! What a quorum decides: one secret with versions, and whether an account is disabled. A log that
//! every node applies sooner or later, and a leader for each term.

use std::collections::{BTreeMap, BTreeSet};

use super::{Bug, World};

/// The state after an entry of the log.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State {
    pub(crate) value: String,
    pub(crate) version: u64,
    pub(crate) is_disabled: bool,
    /// What each Idempotency-Key came to.
    remembered: BTreeMap<String, u64>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Register {
    log: Vec<State>,
    term: u64,
    /// Which node last led in which term.
    led: BTreeMap<usize, u64>,
    leader: Option<usize>,
}

impl Register {
    pub(crate) fn at(&self, applied: usize) -> State {
        applied.checked_sub(1).map(|index| self.log[index].clone()).unwrap_or_default()
    }

    pub(crate) fn last(&self) -> State {
        self.at(self.log.len())
    }

    pub(crate) fn hash(&self, applied: usize) -> String {
        format!("{:?}", self.at(applied))
    }

    /// What the node says of itself: an old leader that is cut off does not know.
    pub(crate) fn stands(&self, node: usize) -> (&'static str, u64) {
        match self.led.get(&node) {
            Some(term) => ("leader", *term),
            None => ("follower", self.term),
        }
    }

    pub(crate) fn put(&mut self, value: &str, key: Option<&str>, bug: Option<Bug>) -> u64 {
        let mut next = self.last();
        let known = key.and_then(|key| next.remembered.get(key));
        if let Some(version) = known.filter(|_| bug != Some(Bug::Reapply)) {
            return *version;
        }
        next.version += 1;
        next.value = value.to_owned();
        let version = next.version;
        if let Some(key) = key {
            next.remembered.insert(key.to_owned(), version);
        }
        self.log.push(next);
        version
    }

    pub(crate) fn remove(&mut self) {
        self.log.push(State { value: String::new(), version: 0, ..self.last() });
    }

    pub(crate) fn set_disabled(&mut self, is_disabled: bool) {
        self.log.push(State { is_disabled, ..self.last() });
    }
}

/// The majority has a leader, and whoever reaches it applies what was decided.
pub(crate) fn sync(world: &mut World) {
    let Some(node) = (0..world.nodes.len()).find(|node| world.has_majority(*node)) else { return };
    let group: BTreeSet<usize> = world.group(node).into_iter().collect();
    let register = &mut world.register;
    if register.leader.is_none_or(|leader| !group.contains(&leader)) {
        register.term += 1;
        let place = world.chance.below(group.len() as u64) as usize;
        register.leader = group.iter().nth(place).copied();
    }
    let (leader, term) = (register.leader, register.term);
    register.led.retain(|node, _| !group.contains(node));
    register.led.extend(leader.map(|leader| (leader, term)));
    let length = register.log.len();
    for node in group {
        world.nodes[node].applied = length;
    }
    // A node that is down leads nobody.
    let down = |node: &usize| !world.nodes[*node].up;
    world.register.led.retain(|node, _| !down(node));
}
