//! What is seen from outside: metrics and logs. A leaf that shells use; the cores return numbers
//! and never count. No recorder and no subscriber is global here, apart from the one that `main`
//! installs for logs. Neither metrics nor logs ever carry a token, a value or a raw path.

mod audit;
mod catch_up;
mod disk;
mod ecs;
mod epochs;
mod limits;
pub mod logs;
mod metrics;
mod otlp;
mod peers;
mod process;
mod quorum;
mod routes;
mod standing;
mod trace;
mod upkeep;

pub(crate) use disk::STORES;
pub use ecs::Ecs;
pub use epochs::{EpochStanding, RollResult};
pub use limits::Shed;
pub use metrics::{Metrics, Watching};
pub use otlp::{Resource, Span, Spans, request as span_request};
pub use peers::PeerStanding;
pub use quorum::QuorumStanding;
pub use routes::RouteMetrics;
pub use standing::NodeStanding;
pub use trace::{TraceContext, TraceIds, write_hex};
