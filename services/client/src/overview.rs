//! The sessions of a business, looked at in the bucket.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use cloud::storage::Store;
use contract::config::Business;
use sessions::{Summary, jobs};
use tokio::time::Instant;

use crate::watch::{AsyncLook, Seen};

const EVERY: Duration = Duration::from_secs(2);
const AT_MOST: Duration = Duration::from_secs(60);
/// Most sessions that are shown: those that changed last.
const SHOWN: usize = 200;

/// The sessions of a business as they were last seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Overview {
    /// Those that changed last, the last one first.
    pub(crate) sessions: Vec<Summary>,
    /// How many there are beside those.
    pub(crate) more: usize,
    /// Why they could not be looked at; what is shown is older then.
    pub(crate) trouble: Option<String>,
}

/// Looks at the sessions of a business.
#[derive(Debug)]
pub(crate) struct Look {
    /// Where it tells what it saw.
    pub(crate) seen: Arc<Seen<Overview>>,
    /// Cloud Storage.
    pub(crate) store: Store,
    /// The business.
    pub(crate) business: Business,
}

impl AsyncLook for Look {
    async fn look(&mut self) -> Duration {
        let since = Instant::now();
        match jobs::list(&self.store, &self.business, None).await {
            Ok(objects) => {
                let jobs = jobs::merge(&self.business.name, None, &objects, &[]);
                let mut found = sessions::summaries(&self.business.name, jobs, &BTreeMap::new());
                let more = found.len().saturating_sub(SHOWN);
                found.truncate(SHOWN);
                self.seen.set(Overview { sessions: found, more, trouble: None });
                (since.elapsed() * 5).clamp(EVERY, AT_MOST)
            }
            Err(error) => {
                tracing::warn!(business = self.business.name, "failed to look at the sessions: {error:#}");
                let trouble = Some("Cloud Storage does not answer; what is shown may be old".to_owned());
                self.seen.set(Overview { trouble, ..(*self.seen.peek()).clone() });
                EVERY * 2
            }
        }
    }
}
