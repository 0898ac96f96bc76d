//! Documents in memory, for writes and merges: those that were used last, within a budget in bytes.
//!
//! A group works on them in place, so that none of them may go while it runs: what they hold may not
//! be on disk yet. It is between two groups ([`Documents::settle`]) that what was used is measured
//! again and the oldest go. What a group needs beyond the budget is there until its end; and the
//! document that was used last stays however large it is, since it would be loaded anew each time.

use std::collections::BTreeSet;

use lru::LruCache;

use crate::config::document::Document;
use crate::model::DocumentId;

/// The documents in memory.
pub(super) struct Documents {
    known: LruCache<DocumentId, Held>,
    /// What all of them come to, as they were measured last.
    bytes: usize,
    bytes_max: usize,
    /// What was given out to be changed since they were measured.
    used: BTreeSet<DocumentId>,
    evicted: u64,
}

struct Held {
    document: Document,
    /// As it was measured last.
    bytes: usize,
}

impl Documents {
    /// None yet, and room for this many bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        let known = LruCache::unbounded();
        Self { known, bytes: 0, bytes_max, used: BTreeSet::new(), evicted: 0 }
    }

    /// What they come to, in bytes, as of the last group.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many had to go since the start, to make room.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    pub(super) fn contains(&self, id: &DocumentId) -> bool {
        self.known.contains(id)
    }

    /// Takes a document in that was loaded, whatever its size: it is about to be used.
    pub(super) fn put(&mut self, id: DocumentId, document: Document) {
        let bytes = document.bytes();
        self.bytes += bytes;
        if let Some(old) = self.known.put(id, Held { document, bytes }) {
            self.bytes -= old.bytes;
        }
    }

    /// The document, to be changed; it counts as used now.
    pub(super) fn get_mut(&mut self, id: &DocumentId) -> Option<&mut Document> {
        let held = self.known.get_mut(id)?;
        if !self.used.contains(id) {
            self.used.insert(id.clone());
        }
        Some(&mut held.document)
    }

    /// The document as it is.
    pub(super) fn peek(&self, id: &DocumentId) -> Option<&Document> {
        self.known.peek(id).map(|held| &held.document)
    }

    /// The document, for what does not make it one that was used.
    pub(super) fn peek_mut(&mut self, id: &DocumentId) -> Option<&mut Document> {
        let held = self.known.peek_mut(id)?;
        self.used.insert(id.clone());
        Some(&mut held.document)
    }

    /// Nothing is being worked on: measures what was used, and lets the oldest go until the rest
    /// is within the budget.
    pub(super) fn settle(&mut self) {
        for id in std::mem::take(&mut self.used) {
            let Some(held) = self.known.peek_mut(&id) else { continue };
            let bytes = held.document.bytes();
            self.bytes = self.bytes - held.bytes + bytes;
            held.bytes = bytes;
        }
        while self.bytes > self.bytes_max && self.known.len() > 1 {
            let Some((_, oldest)) = self.known.pop_lru() else { break };
            self.bytes -= oldest.bytes;
            self.evicted += 1;
        }
    }

    /// All of them may hold what is not so: they are loaded again when needed.
    pub(super) fn clear(&mut self) {
        self.known.clear();
        self.used.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::document::testing::document_of;

    fn id(i: usize) -> DocumentId {
        DocumentId::parse(&format!("service/{i}")).unwrap()
    }

    fn sum(documents: &Documents) -> usize {
        documents.known.iter().map(|(_, held)| held.document.bytes()).sum()
    }

    #[test]
    fn the_oldest_go_until_the_rest_is_within_the_budget() {
        let each = document_of(10, 100).bytes();
        let mut documents = Documents::new(3 * each);
        for i in 0..5 {
            documents.put(id(i), document_of(10, 100));
            assert!(documents.get_mut(&id(i)).is_some());
        }
        assert_eq!(documents.bytes(), 5 * each, "none goes while a group runs");
        assert!(documents.get_mut(&id(0)).is_some(), "used again, it is the newest");
        documents.settle();
        let there: Vec<bool> = (0..5).map(|i| documents.contains(&id(i))).collect();
        assert_eq!(there, [true, false, false, true, true]);
        assert_eq!((documents.bytes(), documents.evicted()), (3 * each, 2));
        assert_eq!(documents.bytes(), sum(&documents));
    }

    #[test]
    fn a_document_that_grew_is_measured_again() {
        let mut documents = Documents::new(usize::MAX);
        documents.put(id(0), document_of(1, 10));
        documents.put(id(1), document_of(1, 10));
        let small = documents.bytes();
        *documents.get_mut(&id(1)).unwrap() = document_of(50, 1_000);
        documents.settle();
        assert!(documents.bytes() > small + 50_000, "{}", documents.bytes());
        assert_eq!(documents.bytes(), sum(&documents));
    }

    #[test]
    fn the_one_used_last_stays_however_large_it_is() {
        let mut documents = Documents::new(1);
        for i in 0..3 {
            documents.put(id(i), document_of(10, 100));
            documents.settle();
            assert!(documents.contains(&id(i)));
        }
        assert_eq!(documents.known.len(), 1);
        documents.clear();
        assert_eq!(documents.bytes(), 0);
    }
}
