//! What is seen from outside: metrics and logs. A leaf that shells use; the cores return numbers
//! and never count. No recorder and no subscriber is global here, apart from the one that `main`
//! installs for logs. Neither metrics nor logs ever carry a token, a value or a raw path.

mod limits;
pub mod logs;
mod metrics;
mod quorum;
mod routes;

pub use limits::Shed;
pub use metrics::{Metrics, Watching};
pub use routes::RouteMetrics;
