//! Frames, of which journals are made: what is in one, behind a header that says what it is, how long, and
//! the sum of it all. A frame begins at the beginning of a page, so that writing one never touches another.
//! What it means, and which one comes behind which, is its journal's business.
//!
//! | bytes | what |
//! |---|---|
//! | 0..4 | what journal it is of |
//! | 4..8 | the format |
//! | 8..8+n | fields of the journal's own |
//! | then 4 | how many bytes are in it |
//! | then 32 | SHA-256 of a secret, where there is one, what is before, and what is behind |
//! | then | what is in it; zeros up to the end of the page |
//!
//! Integers are big-endian.

use sha2::{Digest as _, Sha256};

/// Where frames begin, and a disk writes as one, it is hoped.
pub(crate) const PAGE: usize = 4_096;
/// What is before the fields.
const KIND: usize = 8;
const LEN: usize = 4;
const SUM: usize = 32;

/// What tells the frames of one journal from others, and how long their fields are.
pub(crate) struct Shape {
    pub(crate) magic: [u8; 4],
    pub(crate) format: u32,
    pub(crate) fields: usize,
}

/// A frame that is whole.
pub(crate) struct Whole<'a> {
    pub(crate) fields: &'a [u8],
    pub(crate) body: &'a [u8],
    /// How many bytes it takes, in whole pages.
    pub(crate) len: usize,
}

impl Shape {
    /// How long the header is.
    pub(crate) const fn header(&self) -> usize {
        KIND + self.fields + LEN + SUM
    }

    /// A frame with these fields, which together are as long as they have to be; `put` writes what is in
    /// it, some `expected` bytes. One that is longer than can be said finds no room in any journal.
    pub(crate) fn write(
        &self,
        secret: &[u8],
        fields: &[&[u8]],
        expected: usize,
        put: impl FnOnce(&mut Vec<u8>),
    ) -> Vec<u8> {
        let header = self.header();
        let mut frame = Vec::with_capacity((header + expected).next_multiple_of(PAGE));
        frame.extend(self.magic);
        frame.extend(self.format.to_be_bytes());
        fields.iter().for_each(|field| frame.extend(*field));
        debug_assert_eq!(frame.len(), KIND + self.fields);
        frame.resize(header, 0);
        put(&mut frame);
        let len = u32::try_from(frame.len() - header).unwrap_or(u32::MAX);
        let at = header - SUM;
        frame[at - LEN..at].copy_from_slice(&len.to_be_bytes());
        let sum = sum(secret, &frame[..at], &frame[header..]);
        frame[at..header].copy_from_slice(&sum);
        frame.resize(frame.len().next_multiple_of(PAGE), 0);
        frame
    }

    /// The frame that `bytes` begin with, if it is whole.
    pub(crate) fn read<'a>(&self, secret: &[u8], bytes: &'a [u8]) -> Option<Whole<'a>> {
        let (header, rest) = bytes.split_at_checked(self.header())?;
        let (said, stored) = header.split_at_checked(header.len() - SUM)?;
        let (kind, fields) = said.split_at_checked(KIND)?;
        let (fields, len) = fields.split_at_checked(self.fields)?;
        if kind[..4] != self.magic || u32_of(&kind[4..])? != self.format {
            return None;
        }
        let body = rest.get(..u32_of(len)? as usize)?;
        if stored != sum(secret, said, body) {
            return None;
        }
        let len = (header.len() + body.len()).next_multiple_of(PAGE);
        Some(Whole { fields, body, len })
    }
}

impl Whole<'_> {
    /// The number of 8 bytes at this place among the fields.
    pub(crate) fn u64_at(&self, at: usize) -> Option<u64> {
        Some(u64::from_be_bytes(self.fields.get(at..at + 8)?.try_into().ok()?))
    }

    /// The number of 4 bytes there.
    pub(crate) fn u32_at(&self, at: usize) -> Option<u32> {
        u32_of(self.fields.get(at..at + 4)?)
    }
}

fn u32_of(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// What the header of a frame says of it: of a secret, what is before the sum, and what is behind it.
pub(crate) fn sum(secret: &[u8], said: &[u8], body: &[u8]) -> [u8; SUM] {
    Sha256::new().chain_update(secret).chain_update(said).chain_update(body).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { magic: *b"TEST", format: 3, fields: 12 };
    const BODY: &[u8] = b"what is in it";

    fn frame() -> Vec<u8> {
        let fields = [&7_u64.to_be_bytes()[..], &8_u32.to_be_bytes()];
        SHAPE.write(b"secret", &fields, 0, |frame| frame.extend(BODY))
    }

    #[test]
    fn a_frame_reads_back_as_written_in_whole_pages() {
        let bytes = frame();
        assert_eq!((bytes.len(), SHAPE.header()), (PAGE, 56));
        let whole = SHAPE.read(b"secret", &bytes).unwrap();
        assert_eq!((whole.u64_at(0), whole.u32_at(8), whole.u32_at(9)), (Some(7), Some(8), None));
        assert_eq!((whole.body, whole.len), (BODY, PAGE));
        let long = SHAPE.write(b"", &[&[0; 12]], PAGE, |frame| frame.resize(PAGE + 1, 1));
        assert_eq!(long.len(), 2 * PAGE);
        assert_eq!(SHAPE.read(b"", &long).unwrap().len, 2 * PAGE);
    }

    #[test]
    fn a_frame_that_is_cut_changed_or_of_another_secret_or_shape_is_none() {
        let bytes = frame();
        let end = SHAPE.header() + BODY.len();
        for at in 0..end {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(SHAPE.read(b"secret", &changed).is_none(), "{at}");
            assert!(SHAPE.read(b"secret", &bytes[..at]).is_none(), "{at}");
        }
        assert!(SHAPE.read(b"secret", &bytes[..end]).is_some(), "zeros behind it say nothing");
        assert!(SHAPE.read(b"another", &bytes).is_none());
        for other in [
            Shape { magic: *b"TESS", ..SHAPE },
            Shape { format: 4, ..SHAPE },
            Shape { fields: 11, ..SHAPE },
        ] {
            assert!(other.read(b"secret", &bytes).is_none());
        }
    }
}
