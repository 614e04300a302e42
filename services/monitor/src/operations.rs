//! Actions in progress, and those that ended a moment ago, for the pages of the visitors who started them.
//!
//! An action goes on when its request ends: thousands of Jobs take longer than a request may.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio_util::task::TaskTracker;
use web::{Problem, Visitor};

/// How long pages show the result of an action.
const SHOWN_FOR: Duration = Duration::from_secs(20);
/// How long the same request is not sent again: by then the bucket shows the new attempt.
const SENT_FOR: Duration = Duration::from_secs(60);

/// How far an action is.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    total: AtomicUsize,
    done: AtomicUsize,
}

impl Progress {
    /// Adds to what is to be done.
    pub(crate) fn expect(&self, count: usize) {
        self.total.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts one as done.
    pub(crate) fn step(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

/// An action of a visitor.
#[derive(Debug)]
struct Operation {
    csrf: String,
    /// What it does, until it is done.
    verb: &'static str,
    progress: Arc<Progress>,
    ended: Option<(Instant, Result<String, Problem>)>,
}

/// One action in a sentence.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    class: &'static str,
    text: String,
}

/// All actions in progress.
#[derive(Debug, Default)]
pub(crate) struct Operations {
    by_id: Mutex<BTreeMap<u64, Operation>>,
    pub(crate) tasks: TaskTracker,
    /// Attempts and messages that were requested a moment ago, by the outcome or the input that they follow.
    sent: Mutex<HashMap<String, Instant>>,
}

impl Operations {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Operation>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the beginning of an action; its results before are not shown any more.
    pub(crate) fn begin(&self, visitor: &Visitor, verb: &'static str) -> (u64, Arc<Progress>) {
        let (mut by_id, progress) = (self.lock(), Arc::new(Progress::default()));
        by_id.retain(|_, other| match &other.ended {
            None => true,
            Some((at, _)) => other.csrf != visitor.csrf && at.elapsed() < SHOWN_FOR,
        });
        let id = by_id.last_key_value().map_or(0, |(id, _)| id + 1);
        by_id.insert(id, Operation { csrf: visitor.csrf.clone(), verb, progress: progress.clone(), ended: None });
        (id, progress)
    }

    /// Records the end of an action.
    pub(crate) fn end(&self, id: u64, result: Result<String, Problem>) {
        if let Some(operation) = self.lock().get_mut(&id) {
            operation.ended = Some((Instant::now(), result));
        }
    }

    /// Whether nobody requested this a moment ago: two clicks, or two people, send one message.
    pub(crate) fn claim(&self, name: &str) -> bool {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.retain(|_, since| since.elapsed() < SENT_FOR);
        sent.insert(name.to_owned(), Instant::now()).is_none()
    }

    /// Allows the request again: it failed.
    pub(crate) fn release(&self, name: &str) {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// The actions of a visitor as lines of a page.
    pub(crate) fn lines(&self, visitor: &Visitor) -> Vec<Line> {
        let by_id = self.lock();
        by_id
            .values()
            .filter(|operation| !visitor.is_program && operation.csrf == visitor.csrf)
            .filter_map(Operation::line)
            .collect()
    }

    /// Waits until all have ended.
    pub(crate) async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Operation {
    fn line(&self) -> Option<Line> {
        let (class, text) = match &self.ended {
            None => {
                let (total, done) = (&self.progress.total, &self.progress.done);
                let (total, done) = (total.load(Ordering::Relaxed), done.load(Ordering::Relaxed));
                let verb = self.verb;
                let text = match (total, done) {
                    (0, _) => format!("{verb}…"),
                    (total, 0) => format!("{verb} {total}…"),
                    (total, done) => format!("{verb} {total}… {done} done"),
                };
                ("", text)
            }
            Some((at, _)) if at.elapsed() > SHOWN_FOR => return None,
            Some((_, Ok(message))) => ("good", message.clone()),
            Some((_, Err(problem))) => {
                let why = problem.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
                ("bad", format!("{}{why}.", problem.what))
            }
        };
        Some(Line { class, text })
    }
}
