//! Which permissions each request asks for, so that a table of calls can be compared with what is checked.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Router,
    extract::Request,
    middleware::{self, Next},
};

use super::principal::Principal;

tokio::task_local! {
    /// The request that is being answered, and where its questions are recorded.
    static REQUEST: (String, Asked);
}

/// A permission that somebody needed for a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    /// `METHOD /path`.
    pub request: String,
    /// Who needed it: the caller, or a service's agent.
    pub principal: String,
    /// The permission.
    pub permission: String,
}

/// A record of questions. Clones are the same record.
#[derive(Clone, Debug, Default)]
pub struct Asked(Arc<Mutex<Option<BTreeSet<Question>>>>);

impl Asked {
    /// Records every question from now on.
    pub fn record(&self) {
        *self.lock() = Some(BTreeSet::new());
    }

    /// What was recorded since [`Asked::record`]; ends that.
    pub fn take(&self) -> BTreeSet<Question> {
        self.lock().take().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Option<BTreeSet<Question>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records what is asked in a server.
    pub(crate) fn before(&self, router: Router) -> Router {
        let asked = self.clone();
        router.layer(middleware::from_fn(move |request: Request, next: Next| {
            let asked = asked.clone();
            async move {
                if asked.lock().is_none() {
                    return next.run(request).await;
                }
                let line = format!("{} {}", request.method(), request.uri().path());
                REQUEST.scope((line, asked), next.run(request)).await
            }
        }))
    }
}

/// Records a question of the request that is being answered.
pub(super) fn note(principal: &Principal, permission: &str) {
    let recorded = REQUEST.try_with(|(request, asked)| {
        if let Some(questions) = asked.lock().as_mut() {
            let (request, principal) = (request.clone(), principal.to_string());
            questions.insert(Question { request, principal, permission: permission.to_owned() });
        }
    });
    // Nobody records.
    recorded.unwrap_or_default();
}
