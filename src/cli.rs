//! The command line.

pub mod formats;
