//! How nodes speak: QUIC with mutual TLS 1.3 under one certificate authority a cluster, frames of
//! a bounded length, and a hello before anything else. What is said is the business of `gossip`.

pub mod certificate;
mod congestion;
pub mod endpoint;
pub mod frame;
pub mod hello;
pub mod https;
mod key_share;
pub mod pem;
pub mod pki;
pub mod tls;

pub use certificate::Facts;
pub use endpoint::{Endpoint, EndpointError, endpoint};
pub use frame::{FRAME_LEN_MAX, FrameError, FrameReader};
pub use hello::{Hello, HelloError};
pub use pki::{Authority, Identity, IdentityFiles, NODE_VALID, PkiError};
