//! The set-up verbs against the laptop cloud: what they send, what becomes of it when they are stopped, how they wait
//! for what is late, and how many round trips they take.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "what was measured is said")]

mod alerts;
mod apply;
mod autopilot;
mod builds;
mod calls;
mod cluster_interruptions;
mod deleting;
mod desk;
mod discovery;
mod drift;
mod environments;
mod first_contact;
mod fixture;
mod golden;
mod interruptions;
mod lags;
mod landing_zone;
mod least_role;
mod logins;
mod many;
mod network;
mod pools;
mod preflight;
mod progress;
mod removal;
mod sample;
mod shapes;
mod waves;
mod wrong;
