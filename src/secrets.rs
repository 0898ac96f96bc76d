//! Secrets: their values are sealed before anybody proposes them, and opened for whoever holds a
//! permit. Envelope encryption: each version has its own data key (DEK), which a generation of the
//! cluster's master key (KEK) wraps. What is sealed is bound to the cluster, the secret, its name,
//! its version and the algorithm (AAD), so that ciphertext put elsewhere does not open.
//!
//! Nothing here stores, sends or decides.

pub mod hash;
pub mod keyring;
pub mod plaintext;
pub mod seal;
pub mod sealed;

pub use hash::HashKey;
pub use keyring::{Kek, KeyError, KeyProvider, Keyring};
pub use plaintext::Plaintext;
pub use seal::{OpenError, Place, Purpose, SealError};
pub use sealed::{Algorithm, SealedVersion, Secret};
