//! What a group puts on the audit chain: a record for each request that changed something, in the
//! row of its change, and those that were asked for by themselves. Numbered and hashed last, in the
//! order of the commit, so that numbers rise along the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::audit::{Decision, Event, Head};
use crate::config::record::Record;
use crate::config::{Action, WriteRequest};
use crate::model::{Dot, Key, Stamp};
use crate::storage::audit::{self, Span};
use crate::storage::journal;

/// How many keys a record names; of the rest it says how many they are.
const KEYS_NAMED_MAX: usize = 8;

/// Where the chain stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) head: Head,
    pub(super) spans: Arc<Vec<Span>>,
}

/// A group's part of the chain.
#[derive(Default)]
pub(super) struct Audited {
    of_changes: BTreeMap<Dot, Vec<Event>>,
    others: Vec<Event>,
    sealed: BTreeMap<Dot, Vec<u8>>,
    rows: Vec<(u64, Vec<u8>)>,
    /// Where the chain stood before, once it is sealed.
    before: Option<Head>,
}

impl Audited {
    /// A request was carried out, by change `dot`, and wrote `keys`.
    pub(super) fn wrote<'a>(
        &mut self,
        now: Stamp,
        request: &WriteRequest,
        dot: Dot,
        keys: impl ExactSizeIterator<Item = &'a Key>,
    ) {
        let Some(behalf) = &request.behalf else { return };
        let is_removal = |action: &Action| matches!(action, Action::Remove);
        let mut operations = request.operations.iter();
        let action = match request.remove_all {
            true => "config.remove_all",
            false if operations.all(|it| is_removal(&it.action)) => "config.remove",
            false => "config.write",
        };
        let event = Event {
            at: now,
            principal: request.author.clone(),
            action: action.into(),
            target: target(request, keys).as_str().into(),
            decision: Decision::Allowed(behalf.grant.clone()),
            outcome: "done".into(),
            source: behalf.source.clone(),
            count: 1,
            index: None,
        };
        self.of_changes.entry(dot).or_default().push(event);
    }

    /// Events that are no changes.
    pub(super) fn record(&mut self, events: &[Event]) {
        self.others.extend_from_slice(events);
    }

    /// Whether there is anything to write, once it is sealed.
    pub(super) fn has_rows(&self) -> bool {
        !self.rows.is_empty()
    }

    /// The records that stand beside the group's changes, once it is sealed.
    pub(super) fn sealed(&self) -> &BTreeMap<Dot, Vec<u8>> {
        &self.sealed
    }

    /// Numbers and chains the events, those of `changes` first, in their order.
    pub(super) fn seal(&mut self, chain: &mut Chain, changes: &[Record]) {
        self.before = Some(chain.head);
        for change in changes {
            let Some(events) = self.of_changes.remove(&change.dot) else { continue };
            let Dot { origin, n } = change.dot;
            if chain.spans.last().is_none_or(|span| span.origin != origin) {
                let seq = chain.head.seq + 1;
                Arc::make_mut(&mut chain.spans).push(Span { origin, n, seq });
            }
            let records: Vec<Vec<u8>> =
                events.into_iter().map(|event| chain.head.append(event)).collect();
            self.sealed.insert(change.dot, audit::encode_list(&records));
        }
        for event in self.others.drain(..) {
            let record = chain.head.append(event);
            self.rows.push((chain.head.seq, record));
        }
    }

    /// Adds to `group` what does not stand in the log, and where the chain then stands. `known` is how
    /// many spans are on disk already.
    pub(super) fn put(&self, group: &mut journal::Group, chain: &Chain, known: usize) {
        if self.sealed.is_empty() && self.rows.is_empty() {
            return;
        }
        group.audit = self.rows.iter().map(|(seq, row)| (*seq, row.clone().into())).collect();
        group.spans = (chain.spans.len() != known).then(|| chain.spans.to_vec());
        (group.chain_before, group.chain) = (self.before, Some(chain.head));
    }
}

/// What was written: a key, or the first of several and how many there are.
fn target<'a>(request: &WriteRequest, keys: impl ExactSizeIterator<Item = &'a Key>) -> String {
    let (document, count) = (&request.document, keys.len());
    let mut named = String::new();
    for key in keys.take(KEYS_NAMED_MAX) {
        if !named.is_empty() {
            named.push_str(", ");
        }
        named.push_str(key.as_str());
    }
    match count {
        1 => format!("{document}/{named}"),
        _ if count > KEYS_NAMED_MAX => format!("{document}: {count} keys: {named}, …"),
        _ => format!("{document}: {count} keys: {named}"),
    }
}
