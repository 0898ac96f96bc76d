//! What the quorum decides: accounts, roles, bindings, secrets (sealed), signing keys. A pure state
//! machine: a proposal in, an outcome, changed rows and an audit event out; the same in every
//! region, because it reads no clock, draws nothing and knows no node. It stores and sends nothing.

pub mod command;
pub mod signing;
pub mod state;

pub use command::{Command, Idempotency, Outcome, Proposal, Refusal};
pub use state::{Applied, Row, State};
