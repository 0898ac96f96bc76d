//! Who may do what. A bearer token is verified against the keys that the settings trust, its
//! scopes and roles become grants, and a pure decision over them returns a *permit*: a value that
//! nothing else can make, that names the grant behind it, and that whoever acts asks for by type.
//!
//! Nothing here reads a clock, a file or the network, or keeps state apart from a cache of tokens
//! that were verified before. The rules (accounts, roles, bindings) are an argument: the same
//! decision is taken where a request comes in and again where the quorum applies it.
//!
//! # Grants and scopes
//! `config:read:web/dev`, `config:write:web/*`, `config:write:web/dev/feature.*`, `config:*`: an
//! action, and globs on service, environment and key, in which `*` stands for any characters.
//! Without a key it is every key; without a target, everything. Writing does not include reading,
//! but a write is answered with what it made, conflicts included. `secrets:read` (never values),
//! `secrets:reveal`, `secrets:write`, `secrets:delete`, `secrets:*`, each with a glob on the name
//! or none: `secrets:reveal:prod-*`. `cluster:read`, `cluster:manage`,
//! `cluster:backup`, `access:read`, `access:manage`, `audit:read`. What is not of this form grants nothing.
//!
//! A role is a list of grants. A token's scopes narrow what its caller's roles grant; only an
//! issuer that the settings trust to do so grants by its scopes alone.

pub mod account;
pub mod caller;
pub mod credential;
pub mod decide;
pub mod explain;
pub mod issue;
pub mod mint;
mod patterns;
pub mod roles;
pub mod rules;
pub mod scope;
mod standing;
pub mod token;

pub use account::{Account, Credential, Role};
pub use caller::{Caller, Identity};
pub use decide::{ClusterPermit, Denied, ReadPermit, SecretListPermit, SecretPermit, WritePermit};
pub use mint::MintKey;
pub use rules::Rules;
pub use scope::{ClusterAction, Grant, SecretAction};
pub use token::{KeyError, TokenError, Verifier};
