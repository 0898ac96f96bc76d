//! The audit log: what was done, by whom, from where, who allowed it and what came of it. Records
//! are chained by hash, one chain a store; whoever changes or cuts one is found. Nothing here reads
//! or writes a disk.

pub mod archive;
pub mod chain;
pub mod event;
pub mod heads;
pub mod merge;
pub mod page;
pub mod reader;
pub mod summing;
pub mod verify;

pub use archive::Archived;
pub use chain::{ChainError, ChainHash, Head, Record};
pub use event::{Behalf, Decision, Event, Source};
pub use reader::{ChainReader, Unreadable};
