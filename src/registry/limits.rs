//! How much of everything the state takes. What is past a limit is refused, and the refusal names
//! it: the state lies in the memory of every node.

use crate::model::vector::VECTOR_ORIGINS_MAX;

/// Most accounts.
pub const ACCOUNTS_MAX: usize = 10_000;
/// Most roles, the built-in ones among them.
pub const ROLES_MAX: usize = 10_000;
/// Most configurations that are bound to roles.
pub const BINDINGS_MAX: usize = 100_000;
/// Most roles that one configuration is bound to.
pub const BINDING_ROLES_MAX: usize = 64;
/// Most secrets.
pub const SECRETS_MAX: usize = 100_000;
/// Most generations of the master key at once.
pub const GENERATIONS_MAX: usize = 64;
/// Most keys that sign or verify tokens at once.
pub const SIGNING_KEYS_MAX: usize = 16;
/// Most environments that have a policy for their histories.
pub const HISTORY_POLICIES_MAX: usize = 1_000;
/// Most keys in one re-wrapping.
pub const REWRAPPED_MAX: usize = 1_024;
/// Most documents that are past their first epoch.
pub const EPOCHS_MAX: usize = 100_000;
/// Most origins that the floor of an epoch names: no more than are read of any vector.
pub const FLOOR_ORIGINS_MAX: usize = VECTOR_ORIGINS_MAX;
/// Most requests that retries are recognised by; the oldest go first, by the index of the log.
pub const REMEMBERED_MAX: usize = 10_000;

/// Longest hash of a credential, in bytes.
pub(super) const HASH_LEN_MAX: usize = 512;
/// Longest name of a signing key, in bytes.
pub(super) const KID_LEN_MAX: usize = 64;
/// Longest nonce or wrapped key, in bytes.
pub(super) const WRAPPED_LEN_MAX: usize = 512;
/// Longest name of whoever wrote a secret, in bytes.
pub(super) const AUTHOR_LEN_MAX: usize = 512;
