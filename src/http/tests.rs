//! The routes over a real store in memory, one request at a time.

mod access;
mod accounts;
mod audit;
mod bad_input;
mod catch_up;
mod connections;
pub(super) mod harness;
mod history;
mod keys;
mod limits;
mod lists;
mod logs;
mod metrics;
mod oauth;
mod policy;
mod resolve;
mod routes;
mod secrets;
mod sessions;
mod streams;
mod tls;
mod values;
