//! The laptop cloud: the parts of Google Cloud and Kubernetes that Deskgrid uses, in one process on loopback.

pub mod clock;
pub mod controllers;
pub mod kubernetes;
pub mod node;
pub mod serve;
