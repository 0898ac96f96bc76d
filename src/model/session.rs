//! The session token: what a client has seen, so that any region can promise not to show less.
//! Opaque to clients, versioned, and small: some 10 bytes an origin.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::vector::Told;

/// Longest session text that is looked at, in bytes: one of [`VECTOR_ORIGINS_MAX`] origins with
/// numbers of 64 bits.
///
/// [`VECTOR_ORIGINS_MAX`]: super::vector::VECTOR_ORIGINS_MAX
pub const SESSION_LEN_MAX: usize = 48 * 1024;

const VERSION: u8 = 1;

/// What one client has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Session {
    /// The config path's part: waited for by requests for configs alone.
    #[n(0)]
    pub config: Told,
    /// The quorum path's applied index: waited for by requests for secrets and access alone.
    #[n(1)]
    pub quorum: Option<u64>,
}

/// Why a text is not a session. Nothing was read or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// Longer than [`SESSION_LEN_MAX`].
    #[error("the session is longer than 48 KiB")]
    TooLong,
    /// Not base64url.
    #[error("the session is not base64url text")]
    NotBase64,
    /// Made by a program with another format.
    #[error("the session has format {0}; this node knows format 1")]
    Version(u8),
    /// The bytes do not decode.
    #[error("the session is damaged")]
    Damaged,
}

impl Session {
    /// A session of the config path alone.
    pub fn of(config: Told) -> Self {
        Self { config, quorum: None }
    }

    /// The text for the `Holm-Session` header and a watch event's `id:`.
    pub fn encode(&self) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend(super::cbor::encode(self));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads what [`Session::encode`] wrote.
    pub fn decode(text: &str) -> Result<Self, SessionError> {
        if text.len() > SESSION_LEN_MAX {
            return Err(SessionError::TooLong);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| SessionError::NotBase64)?;
        match bytes.split_first() {
            Some((&VERSION, body)) => minicbor::decode(body).map_err(|_| SessionError::Damaged),
            Some((&version, _)) => Err(SessionError::Version(version)),
            None => Err(SessionError::Damaged),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::vector::{Dot, Origin};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_session_reads_back_as_written(dots in proptest::collection::vec((any::<[u8; 8]>(), any::<u64>()), 0..20)) {
            let config = dots.into_iter().map(|(o, n)| Dot { origin: Origin(o), n }).collect();
            let session = Session::of(config);
            prop_assert_eq!(Session::decode(&session.encode()), Ok(session));
        }

        #[test]
        fn no_text_panics_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut framed = vec![VERSION];
            framed.extend(&bytes);
            let _ = Session::decode(&URL_SAFE_NO_PAD.encode(framed));
            let _ = Session::decode(&String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn the_longest_session_can_be_sent_back() {
        let origins = crate::model::vector::VECTOR_ORIGINS_MAX as u64;
        let dot = |i: u64| Dot { origin: Origin(i.to_be_bytes()), n: u64::MAX };
        let text = Session::of((0..origins).map(dot).collect()).encode();
        assert!(text.len() <= SESSION_LEN_MAX, "{}", text.len());
        assert!(Session::decode(&text).is_ok());
    }

    #[test]
    fn the_format_of_a_session_does_not_change() {
        let config = [Dot { origin: Origin([7; 8]), n: 300 }].into_iter().collect();
        assert_eq!(Session::of(config).encode(), "AaEAoUgHBwcHBwcHBxkBLA");
        assert_eq!(Session::decode("AqEA"), Err(SessionError::Version(2)));
        assert_eq!(Session::decode("????"), Err(SessionError::NotBase64));
        assert_eq!(Session::decode(""), Err(SessionError::Damaged));
    }

    #[test]
    fn fields_of_a_later_program_are_passed_over() {
        let mut bytes = vec![VERSION];
        let mut e = minicbor::Encoder::new(&mut bytes);
        e.map(2).unwrap().u8(0).unwrap().map(0).unwrap().u8(9).unwrap().str("later").unwrap();
        assert_eq!(Session::decode(&URL_SAFE_NO_PAD.encode(bytes)), Ok(Session::default()));
    }
}
