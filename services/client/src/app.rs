//! The shared state of the app: connections, and the sessions that pages watch.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::http::StatusCode;
use cloud::{clients::Connection, queue::Intake, storage::Store};
use contract::{config::Business, names};
use sessions::{Retrier, submit::Submitter};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use web::{Problem, Query, Site, Visitor};

use crate::{
    check::MAX_CHECKED,
    overview::{self, Overview},
    session::{self, Session},
    settings::Uploads,
    watch::{Seen, Watches},
};

/// How long a failing call is retried while a page waits for it.
const PAGE_PATIENCE: Duration = Duration::from_secs(8);
/// How long a page waits for its first view; later views arrive as live parts.
pub(crate) const FIRST_VIEW: Duration = Duration::from_secs(6);
/// Sessions that are watched at the same time.
const MAX_SESSIONS: usize = 200;
/// Businesses whose sessions are watched at the same time.
const MAX_OVERVIEWS: usize = 200;

/// Connections to the services.
#[derive(Debug)]
pub struct Clients {
    /// For pages, which give up soon.
    pub quick: Store,
    /// For uploads, which retry longer.
    pub patient: Store,
    /// Whether messages reach an orchestrator.
    pub(crate) intake: Intake,
    submitters: BTreeMap<String, Submitter>,
    retriers: BTreeMap<String, Retrier>,
}

impl Clients {
    /// Builds the clients; nothing is sent yet.
    ///
    /// # Errors
    /// When a client cannot be built.
    pub async fn connect<'a>(
        connection: &Connection,
        businesses: impl IntoIterator<Item = &'a Business>,
    ) -> anyhow::Result<Self> {
        let patient = Store::connect(connection).await?;
        let publisher = connection.base_publisher().await?;
        let submitter = |business: &Business| {
            (business.name.clone(), Submitter::new(patient.clone(), &publisher, business.clone()))
        };
        let retrier =
            |business: &Business| (business.name.clone(), Retrier::new(patient.clone(), &publisher, business.clone()));
        let (submitters, retriers) = businesses.into_iter().map(|of| (submitter(of), retrier(of))).unzip();
        let quick = Store::connect_for(connection, PAGE_PATIENCE).await?;
        Ok(Self { quick, patient, intake: Intake::new(connection.clone()), submitters, retriers })
    }
}

/// The shared state of the app.
#[derive(Debug)]
pub struct Client {
    /// The frame of its pages.
    pub site: Arc<Site>,
    /// How much may be uploaded.
    pub uploads: Uploads,
    pub(crate) clients: Clients,
    pub(crate) uploading: Semaphore,
    pub(crate) checking: Semaphore,
    sessions: Watches<(String, String), Session>,
    overviews: Watches<String, Overview>,
}

impl Client {
    /// The state of an app. `tasks` refresh what pages watch; they end when the site stops.
    pub fn new(site: Arc<Site>, clients: Clients, uploads: Uploads, tasks: &TaskTracker) -> Self {
        let stop = &site.stop;
        Self {
            uploads,
            clients,
            uploading: Semaphore::new(uploads.at_once),
            // Reading a text takes many times its size, so it is bytes that are limited.
            checking: Semaphore::new(MAX_CHECKED),
            sessions: Watches::new(MAX_SESSIONS, tasks.clone(), stop.clone()),
            overviews: Watches::new(MAX_OVERVIEWS, tasks.clone(), stop.clone()),
            site,
        }
    }

    /// The business that a request is about: the one named, or the only one that the visitor may use.
    ///
    /// # Errors
    /// When there is none: for a business that is not theirs the answer is that it does not exist.
    pub(crate) fn business(&self, visitor: &Visitor, query: &Query) -> Result<&Business, Problem> {
        let theirs = visitor.businesses_of(&self.site.config);
        match (query.get("business"), &theirs[..]) {
            (Some(name), theirs) => theirs.iter().find(|business| business.name == name).copied().ok_or_else(|| {
                Problem::not_found(format!("There is no business {name:?} for you"))
                    .next("Choose one of those on the first page.")
            }),
            (None, [only]) => Ok(only),
            (None, []) => Err(Problem::new(StatusCode::FORBIDDEN, "no-business", "There is no business for you")
                .next("Ask the operator of Deskgrid for a token of your business.")),
            (None, _) => Err(Problem::bad_request("Which business?").next("Name it with `?business=NAME`.")),
        }
    }

    /// The session that a request is about.
    ///
    /// # Errors
    /// When the query has none, or the name is not valid.
    pub(crate) fn session<'q>(&self, query: &'q Query) -> Result<&'q str, Problem> {
        let session = query.get("session").ok_or_else(|| Problem::bad_request("Which session?"))?;
        check_session(session)?;
        Ok(session)
    }

    pub(crate) fn submitter(&self, business: &Business) -> Result<&Submitter, Problem> {
        let found = self.clients.submitters.get(&business.name);
        found.ok_or_else(|| Problem::internal(anyhow::anyhow!("find the submitter of {}", business.name)))
    }

    pub(crate) fn retrier(&self, business: &Business) -> Result<&Retrier, Problem> {
        let found = self.clients.retriers.get(&business.name);
        found.ok_or_else(|| Problem::internal(anyhow::anyhow!("find the retrier of {}", business.name)))
    }

    /// A session, which is watched from now on.
    ///
    /// # Errors
    /// When too many are.
    pub(crate) fn watch(&self, business: &Business, session: &str) -> Result<Arc<Seen<Session>>, Problem> {
        let key = (business.name.clone(), session.to_owned());
        let (store, of, name) = (self.clients.quick.clone(), business.clone(), session.to_owned());
        let opened = self.sessions.open(key, |seen| session::Refresher::new(seen, store, of, name));
        opened.ok_or_else(too_many)
    }

    /// The sessions of a business, which are watched from now on.
    ///
    /// # Errors
    /// When too many are.
    pub(crate) fn overview(&self, business: &Business) -> Result<Arc<Seen<Overview>>, Problem> {
        let (store, of) = (self.clients.quick.clone(), business.clone());
        let opened =
            self.overviews.open(business.name.clone(), |seen| overview::Refresher { seen, store, business: of });
        opened.ok_or_else(too_many)
    }
}

fn too_many() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-sessions", "Too many sessions are open at once")
        .next("Close pages that you do not need, and try again in a minute.")
        .retry_after(30)
}

/// Checks the name of a session.
///
/// # Errors
/// Says which rule it breaks.
pub(crate) fn check_session(session: &str) -> Result<(), Problem> {
    names::check_session(session).map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, "bad-session", format!("{session:?} cannot be a session"))
            .why(error.to_string())
            .next("Choose another name.")
    })
}

/// Checks the name of an input.
///
/// # Errors
/// Says which rule it breaks.
pub(crate) fn check_job(job: &str) -> Result<(), Problem> {
    names::check_job(job).map_err(|error| {
        let shown: String = job.chars().take(80).collect();
        Problem::new(StatusCode::BAD_REQUEST, "bad-name", format!("{shown:?} cannot be the name of an input"))
            .why(error.to_string())
            .next("Rename the file.")
    })
}
