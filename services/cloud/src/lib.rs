//! Input and output that services share: connections to Pub/Sub and Cloud Storage, credentials, probes, telemetry.
//!
//! Nothing here knows Kubernetes types, so the engine stays free of them.

pub mod clients;
pub mod controls;
pub mod credentials;
mod gateway;
pub mod key;
pub mod login;
pub mod outcomes;
pub mod probes;
pub mod proxy;
pub mod queue;
pub mod requests;
pub mod retries;
pub mod shutdown;
pub mod storage;
pub mod telemetry;
