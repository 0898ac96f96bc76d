//! What is decided, claim by claim.

mod access;
mod epochs;
mod idempotency;
mod properties;
mod rows;
mod secrets;
