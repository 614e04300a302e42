//! The sessions of a business, read from the bucket.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use cloud::storage::Store;
use contract::config::Business;
use sessions::{Summary, jobs};
use tokio::time::Instant;

use crate::watch::{Refresh, Seen};

/// Shortest time between two listings.
const EVERY: Duration = Duration::from_secs(2);
/// Longest time between two listings.
const AT_LEAST_EVERY: Duration = Duration::from_secs(60);
/// Sessions that are shown: those that changed last.
const SHOWN: usize = 200;

/// The sessions of a business, as they were last listed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Overview {
    /// Those that changed last, the last one first.
    pub(crate) sessions: Vec<Summary>,
    /// Number of other sessions.
    pub(crate) more: usize,
    /// Why they could not be listed; the list may be old then.
    pub(crate) error: Option<String>,
}

/// Lists the sessions of a business.
#[derive(Debug)]
pub(crate) struct Refresher {
    /// Where it publishes the list.
    pub(crate) seen: Arc<Seen<Overview>>,
    /// Cloud Storage.
    pub(crate) store: Store,
    /// The business.
    pub(crate) business: Business,
}

impl Refresh for Refresher {
    async fn refresh(&mut self) -> Duration {
        let since = Instant::now();
        match jobs::list(&self.store, &self.business, None).await {
            Ok(objects) => {
                let jobs = jobs::merge(&self.business.name, None, &objects, &[]);
                let mut found = sessions::summaries(&self.business.name, jobs, &BTreeMap::new());
                let more = found.len().saturating_sub(SHOWN);
                found.truncate(SHOWN);
                self.seen.set(Overview { sessions: found, more, error: None });
                (since.elapsed() * 5).clamp(EVERY, AT_LEAST_EVERY)
            }
            Err(error) => {
                tracing::warn!(business = self.business.name, "failed to list the sessions: {error:#}");
                let shown = Some("Cloud Storage does not answer; the page may show old values".to_owned());
                self.seen.set(Overview { error: shown, ..(*self.seen.peek()).clone() });
                EVERY * 2
            }
        }
    }
}
