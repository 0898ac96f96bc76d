//! One running node: what handlers call. Reads are answered from the published snapshot; writes
//! go to the store and are pushed to the peers.

pub mod feed;
pub mod receipts;
mod store;

pub use feed::{Feed, FeedEvent};
pub use receipts::{Ack, Receipts, RegionReceipt};
