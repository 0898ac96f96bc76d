//! X25519 (RFC 7748) as a key exchange of TLS whose secrets come from a seed, because *ring* draws
//! its own and a simulation has to repeat. Never used by a node with real entropy.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use curve25519_dalek::MontgomeryPoint;
use rand::RngCore as _;
use rustls::crypto::{ActiveKeyExchange, SharedSecret, SupportedKxGroup};
use rustls::{Error, NamedGroup, PeerMisbehaved};

use crate::env::Stream;

/// The group, with secrets from one stream.
pub(super) struct SeededX25519(Mutex<Stream>);

impl SeededX25519 {
    pub(super) fn new(secrets: Stream) -> Self {
        Self(Mutex::new(secrets))
    }
}

impl fmt::Debug for SeededX25519 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeededX25519")
    }
}

impl SupportedKxGroup for SeededX25519 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut secret = [0; 32];
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut secret);
        let share = MontgomeryPoint::mul_base_clamped(secret).to_bytes();
        Ok(Box::new(Started { secret, share }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

struct Started {
    secret: [u8; 32],
    share: [u8; 32],
}

impl ActiveKeyExchange for Started {
    fn complete(self: Box<Self>, peers: &[u8]) -> Result<SharedSecret, Error> {
        let invalid = || Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare);
        let peers: [u8; 32] = peers.try_into().map_err(|_| invalid())?;
        let shared = MontgomeryPoint(peers).mul_clamped(self.secret).to_bytes();
        // A point of small order (RFC 8446, section 7.4.2).
        if shared == [0; 32] {
            return Err(invalid());
        }
        Ok(SharedSecret::from(&shared[..]))
    }

    fn pub_key(&self) -> &[u8] {
        &self.share
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;

    fn group(seed: u64) -> SeededX25519 {
        SeededX25519::new(Stream::seed_from_u64(seed))
    }

    #[test]
    fn it_agrees_with_rings_and_a_seed_gives_the_same_share() {
        let ring = rustls::crypto::ring::kx_group::X25519.start().unwrap();
        let ours = group(1).start().unwrap();
        assert_eq!(ours.pub_key(), group(1).start().unwrap().pub_key());
        assert_ne!(ours.pub_key(), group(2).start().unwrap().pub_key());
        let (ring_share, our_share) = (ring.pub_key().to_vec(), ours.pub_key().to_vec());
        let (a, b) = (ring.complete(&our_share).unwrap(), ours.complete(&ring_share).unwrap());
        assert_eq!(a.secret_bytes(), b.secret_bytes());
    }

    #[test]
    fn shares_that_give_nothing_away_are_refused() {
        for bad in [&[0; 32][..], &[1; 31][..], &[]] {
            assert!(group(1).start().unwrap().complete(bad).is_err(), "{bad:?}");
        }
    }
}
