//! What the quorum decides: accounts, roles, bindings, secrets (sealed), signing keys. A pure state
//! machine: a proposal in, an outcome, changed rows and an audit event out; the same in every
//! region, because it reads no clock, draws nothing and knows no node. It stores and sends nothing.
//!
//! `command` says what can be proposed, `state` what there is, `apply` (with a file a family of
//! commands) how one changes the other, `rows` how the state lies on disk and in snapshots, and
//! `limits` how much of everything there may be.

mod apply;
pub mod command;
pub mod limits;
mod rows;
pub mod signing;
pub mod state;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

pub use command::{Command, Idempotency, Outcome, Proposal, Refusal};
pub use rows::RowError;
pub use state::{Applied, Row, State, built_in_role};
