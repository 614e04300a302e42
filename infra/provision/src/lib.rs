//! Sets Deskgrid up on Google Cloud, or on the laptop cloud, and takes it down again.
//!
//! The live cloud is the state: what should exist is computed from the environment file, what exists is read, the plan
//! is a pure function of both, and carrying it out makes no choice that the plan did not show.

pub mod environment;

pub use environment::Environment;
