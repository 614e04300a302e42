//! Sessions and Jobs for readers and clients: submit, state, results, retry, dead letters.
//!
//! A session is only its objects in the bucket. Callers pass in running Jobs as plain values.

mod causes;
mod close;
pub mod control;
pub mod dead_letters;
pub mod jobs;
mod progress;
mod ranges;
pub mod results;
mod retry;
mod state;
pub mod submit;
mod summary;
pub mod verify;
mod watch;

pub use causes::{Cause, causes};
pub use close::{Common, common_data, delete};
pub use progress::{Progress, Rate};
pub use ranges::Items;
pub use retry::{Chosen, Doing, Retried, Retrier, Selection};
pub use summary::{Counts, Summary, latest, summaries};
pub use watch::Watch;
