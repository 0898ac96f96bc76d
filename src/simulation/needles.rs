//! Byte strings that must not be seen anywhere, looked for in much data at once. It finds them as
//! they are; it undoes no encoding.

use std::collections::BTreeMap;

/// Shorter ones are refused: random bytes would hold them.
const NEEDLE_LEN_MIN: usize = 8;

/// Many needles, found in one pass.
#[derive(Default)]
pub(crate) struct Needles {
    /// By their first bytes.
    by_start: BTreeMap<[u8; NEEDLE_LEN_MIN], Vec<Vec<u8>>>,
    /// Whether a needle begins with these two bytes: what lets most positions be passed over.
    starts: Vec<bool>,
}

impl Needles {
    /// One more; false where it is too short to mean anything.
    pub(crate) fn add(&mut self, needle: &[u8]) -> bool {
        let Some(start) = needle.first_chunk::<NEEDLE_LEN_MIN>() else { return false };
        let known = self.by_start.entry(*start).or_default();
        if !known.iter().any(|known| known == needle) {
            known.push(needle.to_vec());
        }
        self.starts.resize(1 << 16, false);
        self.starts[pair(start)] = true;
        true
    }

    /// The first needle that is in `hay`.
    pub(crate) fn find(&self, hay: &[u8]) -> Option<&[u8]> {
        if self.by_start.is_empty() {
            return None;
        }
        (0..hay.len().saturating_sub(NEEDLE_LEN_MIN - 1))
            .filter(|at| self.starts[pair(&hay[*at..])])
            .find_map(|at| {
                let known = self.by_start.get(hay[at..].first_chunk::<NEEDLE_LEN_MIN>()?)?;
                known.iter().find(|needle| hay[at..].starts_with(needle)).map(Vec::as_slice)
            })
    }
}

fn pair(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) << 8 | usize::from(bytes[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needles_are_found_anywhere_and_nothing_else_is() {
        let mut needles = Needles::default();
        assert_eq!(needles.find(b"anything at all"), None);
        assert!(!needles.add(b"short"));
        assert!(needles.add(b"secret-value-1"));
        assert!(needles.add(b"secret-value-2"));
        assert_eq!(needles.find(b"secret-value-2"), Some(&b"secret-value-2"[..]));
        assert_eq!(needles.find(b"xx secret-value-1"), Some(&b"secret-value-1"[..]));
        assert_eq!(needles.find(b"secret-value-3 secret-v"), None);
        assert_eq!(needles.find(b""), None);
    }
}
