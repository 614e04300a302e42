//! Sets Deskgrid up on Google Cloud, or on the laptop cloud, and takes it down again.
//!
//! The live cloud is the state: what should exist is computed from the environment file, what exists is read, the plan
//! is a pure function of both, and carrying it out makes no choice that the plan did not show.

pub mod addition;
pub mod apply;
pub mod build;
pub mod cloud;
pub mod data;
pub mod deploy;
pub mod desired;
pub mod environment;
pub mod google;
pub mod guarded;
pub mod keys;
pub mod kubeconfig;
pub mod lock;
pub mod manifests;
pub mod notification;
pub mod observe;
pub mod operation;
pub mod plan;
pub mod policy;
pub mod preflight;
pub mod presence;
pub mod removal;
pub mod resource;
pub mod retire;
mod run;
pub mod saved;
pub mod show;
pub mod takedown;
pub mod trouble;
pub mod unsettled;
pub mod wire;

pub use cloud::{Cloud, LocalState};
pub use environment::Environment;
pub use run::{Report, carry_out, left, look, look_to_add, look_to_remove, run};
