//! Nodes: they take the pods that are bound to them and run their containers as local processes.

pub mod autoscaler;
mod container;
mod downward;
pub mod environment;
pub mod images;
pub mod logs;
mod pod;
pub mod pod_environment;
mod probes;
pub mod process;
pub mod reaper;
pub mod scheduler;
pub mod settings;
pub mod status;
mod volumes;
pub mod workers;

pub use workers::Workers;
