//! A Kubernetes API server for the laptop, with its controllers and nodes: real clients talk to it over TLS.

pub mod account_tokens;
mod age;
pub mod apply;
pub mod autopilot;
mod call;
pub mod certs;
pub mod cluster;
pub mod columns;
pub mod defaults;
pub mod delete;
pub mod discovery;
mod dns;
pub mod events;
pub mod failure;
pub mod fields;
pub mod key;
pub mod kinds;
pub mod lists;
mod logs;
mod managed;
pub mod names;
pub mod objects;
pub mod patch;
mod persist;
mod pod_security;
mod port_forward;
pub mod protobuf;
pub mod quantity;
pub mod quota;
pub mod rbac;
pub mod render;
pub mod request;
mod resource;
pub mod reviews;
pub mod scale;
pub mod select;
pub mod server;
pub mod signer;
mod start;
pub mod store;
pub mod table;
pub mod table_pod;
pub mod typed;
pub mod users;
pub mod validate;
pub mod validate_pod;
pub mod value;
pub mod watch;

pub use start::{Kubernetes, Options};

pub use crate::node::{
    autoscaler::Pool,
    images::Images,
    settings::{Metadata, MetadataRequest, NodeSettings},
};
