//! The routes over a real store in memory, one request at a time.

mod access;
mod accounts;
mod bad_input;
mod harness;
mod lists;
mod logs;
mod oauth;
mod policy;
mod routes;
mod sessions;
mod streams;
mod values;
