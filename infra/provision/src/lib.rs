//! Sets Deskgrid up on Google Cloud, or on the laptop cloud, and takes it down again.
//!
//! The live cloud is the state: what should exist is computed from the environment file, what exists is read, the plan
//! is a pure function of both, and carrying it out makes no choice that the plan did not show.

pub mod addition;
pub mod apply;
pub mod build;
pub mod calls;
pub mod certificates;
mod change;
pub mod cloud;
pub mod data;
pub mod deploy;
pub mod desired;
pub mod drain;
pub mod environment;
pub mod failure;
pub mod finding;
pub mod google;
mod grants;
pub mod in_use;
pub mod keys;
pub mod kinds;
pub mod kubeconfig;
pub mod least_role;
pub mod lock;
pub mod locked;
pub mod manifests;
mod observation;
pub mod observe;
pub mod operation;
pub mod plan;
pub mod policy;
pub mod preflight;
pub mod presence;
mod prune;
pub mod removal;
pub mod resource;
mod run;
pub mod saved;
pub mod show;
pub mod teardown;
pub mod unsettled;

pub use cloud::{Cloud, LocalState};
pub use environment::Environment;
pub use failure::Failure;
pub use run::{Report, carry_out, leftovers, make_plan, plan_addition, plan_removal, run};
