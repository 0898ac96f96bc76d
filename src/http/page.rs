//! Pages: how many items, and a cursor that says behind which one the next page starts. A cursor
//! is opaque, versioned, and bound to the listing it was made by; because it names an item's place
//! and not its number, pages stay stable while items come and go.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use minicbor::{Decode, Encode};
use schemars::JsonSchema;
use sha2::{Digest as _, Sha256};

use super::error::ApiError;
use super::query::{Query, encode};
use crate::model::cbor;
use crate::settings::Limits;

const VERSION: u8 = 1;
/// Longest cursor that is looked at, in bytes.
const CURSOR_LEN_MAX: usize = 8 * 1_024;
/// The same of a listing that names all of a cluster's nodes.
pub(super) const NODES_CURSOR_LEN_MAX: usize = 48 * 1_024;

/// How a page looks: for the description of the API.
#[derive(JsonSchema)]
#[schemars(rename = "PageOf{T}")]
#[expect(dead_code, reason = "a description, and never made")]
pub(super) struct Page<T> {
    items: Vec<T>,
    /// What is behind this page; none where nothing is.
    next_cursor: Option<String>,
}

/// Which listing a cursor belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listing([u8; 8]);

impl Listing {
    /// The listing at this path with this filter.
    pub(super) fn new(path: &str, filter: &str) -> Self {
        let hash = Sha256::new().chain_update(path).chain_update([0]).chain_update(filter);
        let mut short = [0; 8];
        short.copy_from_slice(&hash.finalize()[..8]);
        Self(short)
    }

    /// The cursor of what comes behind `place`.
    pub(super) fn cursor<P: Encode<()>>(self, place: &P) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend(self.0);
        bytes.extend(cbor::encode(place));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a cursor that [`Listing::cursor`] made.
    pub(super) fn place<P: for<'b> Decode<'b, ()>>(self, cursor: &str) -> Result<P, ApiError> {
        self.place_within(cursor, CURSOR_LEN_MAX)
    }

    /// The same for one of so many bytes.
    pub(super) fn place_within<P: for<'b> Decode<'b, ()>>(
        self,
        cursor: &str,
        len_max: usize,
    ) -> Result<P, ApiError> {
        if cursor.len() > len_max {
            return Err(ApiError::BadCursor("the cursor is too long"));
        }
        let damaged = ApiError::BadCursor("the cursor is damaged");
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(cursor) else { return Err(damaged) };
        let Some((&VERSION, bytes)) = bytes.split_first() else { return Err(damaged) };
        let Some((listing, place)) = bytes.split_at_checked(8) else { return Err(damaged) };
        if listing != self.0 {
            return Err(ApiError::BadCursor("the cursor belongs to another listing"));
        }
        cbor::decode(place).map_err(|_| damaged)
    }
}

/// How many items the request wants.
pub(super) fn size(query: &Query<'_>, limits: &Limits) -> Result<usize, ApiError> {
    let size = query.number("size", 1, limits.page_size_max as u64)?;
    Ok(size.map_or(limits.page_size_default, |size| {
        usize::try_from(size).unwrap_or(limits.page_size_max)
    }))
}

/// The `Link` header (RFC 8288) to the next page of `path`.
pub(super) fn next_link(path: &str, query: &Query<'_>, cursor: &str) -> String {
    let mut link = format!("<{path}?cursor={}", encode(cursor));
    for name in ["size", "prefix", "consistency", "max_staleness_ms", "resolve"] {
        if let Some(value) = query.get(name) {
            link.push_str(&format!("&{name}={}", encode(value)));
        }
    }
    link.push_str(">; rel=\"next\"");
    link
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cursor_is_taken_by_its_own_listing_alone() {
        let listing = Listing::new("/config/web/dev", "a");
        let cursor = listing.cursor(&"key".to_owned());
        assert_eq!(listing.place::<String>(&cursor), Ok("key".to_owned()));
        let other = ApiError::BadCursor("the cursor belongs to another listing");
        for (path, filter) in [("/config/web/prod", "a"), ("/config/web/dev", "b")] {
            assert_eq!(Listing::new(path, filter).place::<String>(&cursor), Err(other.clone()));
        }
        let damaged = Err(ApiError::BadCursor("the cursor is damaged"));
        assert_eq!(listing.place::<u64>(&cursor).map(|_| ()), damaged);
        let mut later = URL_SAFE_NO_PAD.decode(&cursor).unwrap();
        later[0] = 2;
        for bad in ["", "AQ", "%%%", &cursor[1..], &URL_SAFE_NO_PAD.encode(later)] {
            assert_eq!(listing.place::<String>(bad).map(|_| ()), damaged, "{bad}");
        }
        assert!(listing.place::<String>(&"A".repeat(9000)).is_err());
    }

    #[test]
    fn a_cursor_that_names_as_many_nodes_as_an_audit_page_shows_is_taken() {
        use crate::audit::merge::Place;
        let listing = Listing::new("/audit", "");
        let node = |i| format!("{:-<58}{i:05}", "eu-west-1-7d9f8b6c5d");
        let count = crate::topology::NODES_MAX + crate::node::audit::COPIES_MAX;
        let nodes = (0..count).map(|i| (node(i), [1 << 31; 3])).collect();
        let place = Place { nodes, ..Place::newest() };
        let cursor = listing.cursor(&place);
        assert_eq!(listing.place_within(&cursor, NODES_CURSOR_LEN_MAX), Ok(place));
        assert!(listing.place::<Place>(&cursor).is_err(), "it is longer than others");
        assert!(listing.place_within::<Place>(&"A".repeat(50_000), NODES_CURSOR_LEN_MAX).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let listing = Listing::new("/", "");
            let _ = listing.place::<(u64, crate::model::Dot)>(&String::from_utf8_lossy(&bytes));
            let framed = [&[VERSION][..], &listing.0, &bytes].concat();
            let _ = listing.place::<(u64, crate::model::Dot)>(&URL_SAFE_NO_PAD.encode(framed));
        }
    }
}
