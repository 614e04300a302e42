//! The client web app: a person submits inputs without a command line, watches their session, and takes the results.
//!
//! It reads and writes the bucket and publishes to the topics of the businesses it serves, as a client of each; it does
//! not know Kubernetes. Access, protection and the frame of its pages are those of the crate `web`.

mod act;
mod api;
mod app;
mod batch;
mod chart;
mod check;
mod download;
mod form;
mod limited;
mod live;
mod overview;
mod pages;
mod part;
mod route;
mod run;
mod session;
mod settings;
mod upload;
mod view;
mod watch;

pub use app::{Client, Clients};
pub use route::{app, routes};
pub use run::run;
pub use settings::{UPLOAD_MAX, Uploads};
