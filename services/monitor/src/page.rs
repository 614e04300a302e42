//! Pages: which there are, what one consists of, and those that were rendered a moment ago.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;
use web::{Problem, Query, Visitor};

/// How long a rendered page is shared with others who open the same page.
const FRESH: Duration = Duration::from_secs(2);
/// Rendered pages that are kept.
const MAX_KEPT: usize = 256;

/// A page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Overview,
    Sessions,
    Session,
    Jobs,
    Job,
    Pubsub,
    Letters,
    Cluster,
    Audit,
}

impl Kind {
    pub(crate) const ALL: [Self; 9] = [
        Self::Overview,
        Self::Sessions,
        Self::Session,
        Self::Jobs,
        Self::Job,
        Self::Pubsub,
        Self::Letters,
        Self::Cluster,
        Self::Audit,
    ];

    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Overview => "/",
            Self::Sessions => "/sessions",
            Self::Session => "/session",
            Self::Jobs => "/jobs",
            Self::Job => "/job",
            Self::Pubsub => "/pubsub",
            Self::Letters => "/letters",
            Self::Cluster => "/cluster",
            Self::Audit => "/audit",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            _ => &self.path()[1..],
        }
    }

    pub(crate) fn nav(self) -> &'static str {
        match self {
            Self::Session => "/sessions",
            Self::Job => "/jobs",
            _ => self.path(),
        }
    }
}

/// A link to a page above this one.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Crumb {
    pub(crate) label: String,
    pub(crate) href: String,
}

/// A page before it is put in the frame.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    pub(crate) title: String,
    pub(crate) crumbs: Vec<Crumb>,
    /// Id and HTML of each part, in order.
    pub(crate) parts: Vec<(&'static str, String)>,
}

/// A page, its query, and the session that it is for.
type Key = (Kind, Query, String);
type Slot = Arc<tokio::sync::Mutex<Option<(u64, Instant, Arc<Shown>)>>>;

/// Pages that were rendered a moment ago: fifty viewers of a page cost as much as one.
#[derive(Debug, Default)]
pub(crate) struct Rendered(Mutex<HashMap<Key, Slot>>);

impl Rendered {
    /// The page of a version of the board, rendered now unless it was a moment ago.
    pub(crate) async fn get(
        &self,
        kind: Kind,
        query: &Query,
        visitor: &Visitor,
        version: u64,
        render: impl Future<Output = Result<Shown, Problem>>,
    ) -> Result<Arc<Shown>, Problem> {
        let slot = {
            let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if slots.len() >= MAX_KEPT {
                slots.retain(|_, slot| Arc::strong_count(slot) > 1);
            }
            slots.entry((kind, query.clone(), visitor.csrf.clone())).or_default().clone()
        };
        let mut slot = slot.lock().await;
        if let Some((made, at, shown)) = &*slot
            && *made >= version
            && at.elapsed() < FRESH
        {
            return Ok(shown.clone());
        }
        let made = Arc::new(render.await?);
        // A program has no session of its own to share a page in.
        if !visitor.csrf.is_empty() {
            *slot = Some((version, Instant::now(), made.clone()));
        }
        Ok(made)
    }
}
