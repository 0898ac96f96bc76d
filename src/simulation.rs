//! The partition simulator: the real node (QUIC, redb, Automerge, consensus, the HTTP router) in virtual
//! time, with faults, from a seed. What happened is a [`history`]; what was promised is checked on that
//! alone, so that a history of real processes can be checked the same way.

pub mod checks;
pub(crate) mod clients;
pub(crate) mod clock;
pub mod drill;
pub(crate) mod events;
pub(crate) mod fabric;
pub mod history;
pub(crate) mod http;
pub(crate) mod injector;
pub(crate) mod last;
pub(crate) mod needles;
pub(crate) mod network;
pub(crate) mod pipe;
pub mod plan;
pub(crate) mod probe;
pub(crate) mod recorder;
pub mod report;
pub mod run;
pub mod scenario;
pub(crate) mod schedule;
pub(crate) mod script;
pub(crate) mod trace;
pub(crate) mod twin;
pub(crate) mod wire;
pub(crate) mod workload;
pub(crate) mod world;
