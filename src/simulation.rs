//! The partition simulator: the real node (QUIC, redb, Automerge, consensus, the HTTP router) in virtual
//! time, with faults, from a seed. What happened is a [`history`]; what was promised is checked on that
//! alone, so that a history of real processes can be checked the same way.

pub mod drill;
pub mod history;
pub mod scenario;
