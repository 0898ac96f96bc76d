//! The config path's core: what an entry is, who wins, what a write decides, how changes are
//! numbered and chained. Plain code over values; storing, sending and waiting happen elsewhere.

pub mod decide;
pub mod document;
pub mod entry;
pub mod epochless;
pub mod record;
pub mod request;
pub mod retention;
pub mod roll;
pub mod texts;
pub mod view;
pub mod waiting;

pub use entry::{Entry, Idempotency};
pub use request::{Action, Check, Operation, WriteError, WriteRequest, Written, WrittenKey};
pub use retention::{HistoryPolicy, Policies};
pub use view::{DocumentView, Rolled, Row, Snapshot};
