//! What the web apps share: settings, access, protection, pages, live updates and the server itself.
//!
//! An app hands over its pages as a [`Router`](axum::Router) and its templates; what this crate puts around them holds
//! for every answer: nothing is shown without access, nothing is changed without a token that other sites cannot know,
//! every text is escaped, and every error is a page that says what to do. It is a library like `common`: it knows
//! neither Kubernetes nor any app.

pub mod access;
mod assets;
mod attachment;
mod form;
mod guard;
mod headers;
mod limits;
pub mod live;
mod metrics;
mod page;
mod problem;
mod query;
mod serve;
mod settings;
mod site;

pub use access::{Businesses, Visitor};
pub use assets::Asset;
pub use attachment::attachment;
pub use form::Form;
pub use limits::{Limits, MAX_FORM_BYTES};
pub use page::{NavItem, Page, Viewer};
pub use problem::Problem;
pub use query::{Query, encode};
pub use serve::{Peer, listen, serve};
pub use settings::{AccessSettings, IapSettings, Settings};
pub use site::{App, Routes, Site};

#[cfg(test)]
mod tests;
