//! Ids (RFC 9562): of accounts, credentials, roles and secrets. Drawn by the node that proposes a
//! thing, so that whoever applies the proposal needs no randomness.

use std::fmt;

use rand::RngCore;
use uuid::Uuid;

/// An id: a UUID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(Uuid);

impl Id {
    /// A new one (UUIDv4) from random bytes of `rng`.
    pub fn random(rng: &mut impl RngCore) -> Self {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    /// A fixed one, for what is built in.
    pub const fn from_u128(bits: u128) -> Self {
        Self(Uuid::from_u128(bits))
    }

    /// The same one wherever it is asked for (UUIDv5): what `name` is called within this id.
    pub fn within(&self, name: &[u8]) -> Self {
        Self(Uuid::new_v5(&self.0, name))
    }

    /// Reads the usual form, with or without hyphens.
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(Self)
    }

    /// One of these 16 bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Its 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl serde::Serialize for Id {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<C> minicbor::Encode<C> for Id {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(self.0.as_bytes())?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Id {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let id = Uuid::from_slice(d.bytes()?).map(Self);
        id.map_err(|_| minicbor::decode::Error::message("an id has 16 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cbor;

    #[test]
    fn an_id_reads_back_as_written() {
        let id = Id::from_u128(0x7d0f_5b0e_3f5a_4c0e_9c39_1c0a_4be2_86d1);
        assert_eq!(Id::parse(&id.to_string()), Some(id));
        assert_eq!(cbor::decode::<Id>(&cbor::encode(&id)).unwrap(), id);
        assert_eq!(Id::parse("7d0f"), None);
        assert!(cbor::decode::<Id>(&[0x41, 0]).is_err());
    }
}
