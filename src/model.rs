//! The words every other room speaks: names and their limits, vector clocks, stamps, sessions and
//! JSON values. Nothing here does I/O, reads a clock or draws randomness.

pub mod cbor;
pub mod feature;
pub mod id;
pub mod json;
pub mod name;
mod schema;
pub mod session;
pub mod stamp;
pub mod text;
pub mod vector;

pub use feature::{Feature, Features};
pub use id::Id;
pub use json::{JsonError, JsonText};
pub use name::{
    AccountName, DocumentId, Environment, Key, NameError, NodeName, RegionName, RoleName,
    SecretName, Service,
};
pub use session::{Session, SessionError};
pub use stamp::Stamp;
pub use text::Text;
pub use vector::{Dot, Folds, Origin, Told, Vector};
