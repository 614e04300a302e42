//! The laptop cloud: the parts of Google Cloud and Kubernetes that Deskgrid uses, in one process on loopback.

pub mod artifactregistry;
pub mod clock;
pub mod cloud;
pub mod cloudbuild;
pub mod container;
pub mod controllers;
pub mod faults;
mod files;
pub mod google;
pub mod identity;
pub mod kubernetes;
pub mod monitoring;
pub mod node;
pub mod pubsub;
pub mod serve;
pub mod storage;
