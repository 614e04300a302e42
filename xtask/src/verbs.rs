//! One file per verb.

pub(crate) mod add_business;
pub mod bench;
pub(crate) mod build;
pub(crate) mod clean;
pub(crate) mod demo;
pub(crate) mod deploy;
pub(crate) mod doctor;
pub(crate) mod local;
pub(crate) mod open;
pub(crate) mod provision;
pub(crate) mod remove_business;
pub(crate) mod render;
pub(crate) mod rotate_keys;
pub(crate) mod smoke;
pub(crate) mod teardown;
pub(crate) mod test;
