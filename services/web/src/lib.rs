//! What the web apps share: settings, access, protection, pages, live updates and the server itself.
//!
//! An app provides its pages as a [`Router`](axum::Router), and its templates. This crate guarantees for every answer:
//! nothing is shown without access, nothing is changed without a proof that other sites cannot have, every text is
//! escaped, and every error is a page with the next step. The crate depends on neither Kubernetes nor any app.

pub mod access;
mod assets;
mod attachment;
mod base_path;
mod form;
mod guard;
mod headers;
mod limits;
pub mod live;
mod login;
mod metrics;
mod page;
mod problem;
mod query;
mod router;
mod serve;
mod settings;
mod shared;
mod site;

pub use access::{Businesses, Visitor};
pub use assets::Asset;
pub use attachment::attachment;
pub use form::Form;
pub use limits::{Limits, MAX_FORM_BYTES};
pub use page::{NavItem, Page, Viewer};
pub use problem::{Problem, check_intake};
pub use query::{Query, encode, path_of_ours};
pub use router::Routes;
pub use serve::{Peer, listen, serve};
pub use settings::{AccessSettings, IapSettings, Settings};
pub use site::{App, Site};

#[cfg(test)]
mod tests;
