//! Who may do what. A bearer token is verified against the keys that the settings trust, its
//! scopes and roles become grants, and a pure decision over them returns a *permit*: a value that
//! nothing else can make, that names the grant behind it, and that whoever acts asks for by type.
//!
//! Nothing here reads a clock, a file or the network, or keeps state apart from a cache of tokens
//! that were verified before. Later, accounts and grants come behind the same decision, and a
//! token's scopes then only narrow what they allow.
//!
//! # Scopes
//! `config:read:web/dev`, `config:write:web/*`, `config:write:web/dev/feature.*`, `config:*`,
//! `cluster:read`: an action, and globs on service, environment and key, in which `*` stands for
//! any characters. Without a key it is every key; without a target, everything. Writing does not
//! include reading, but a write is answered with what it made, conflicts included. A scope that is
//! not of this form grants nothing.

pub mod decide;
pub mod mint;
pub mod roles;
pub mod scope;
pub mod token;

pub use decide::{Caller, ClusterPermit, Denied, ReadPermit, WritePermit};
pub use mint::MintKey;
pub use token::{KeyError, TokenError, Verifier};
