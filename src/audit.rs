//! The audit log: what was done, by whom, from where, who allowed it and what came of it. Records
//! are chained by hash, one chain a store; whoever changes or cuts one is found. Nothing here reads
//! or writes a disk.

pub mod chain;
pub mod event;
pub mod reader;

pub use chain::{ChainError, ChainHash, Head, Record};
pub use event::{Behalf, Decision, Event, Source};
pub use reader::{ChainReader, Unreadable};
