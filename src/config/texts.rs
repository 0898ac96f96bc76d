//! Texts that stand in many entries, each kept once: who wrote, and where. What is read from disk or
//! from a peer brings its own copy of them with each entry; a view of a million keys would hold a
//! million. Bounded: past that it starts over, which costs copies and nothing else.

use std::collections::BTreeSet;

use super::entry::Entry;
use crate::model::Text;

/// Most texts that are known at once.
const TEXTS_MAX: usize = 1_024;

/// Texts that were seen lately.
#[derive(Debug, Default)]
pub struct Texts(BTreeSet<Text>);

impl Texts {
    /// Lets an entry share its author and region with those before.
    pub fn share(&mut self, entry: &mut Entry) {
        self.share_text(&mut entry.author);
        self.share_text(&mut entry.region);
    }

    /// Lets a text be the one that is known already, if it is.
    pub fn share_text(&mut self, text: &mut Text) {
        if let Some(known) = self.0.get(&**text) {
            *text = known.clone();
            return;
        }
        if self.0.len() >= TEXTS_MAX {
            self.0.clear();
        }
        self.0.insert(text.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_is_kept_once_and_no_more_than_so_many_are() {
        let mut texts = Texts::default();
        let (mut one, mut same): (Text, Text) = ("ci".into(), "ci".into());
        texts.share_text(&mut one);
        texts.share_text(&mut same);
        assert!(std::ptr::eq(&raw const *one, &raw const *same));
        for i in 0..3 * TEXTS_MAX {
            let mut text: Text = format!("author {i}").as_str().into();
            texts.share_text(&mut text);
            assert_eq!(&*text, format!("author {i}"));
            assert!(texts.0.len() <= TEXTS_MAX);
        }
    }
}
