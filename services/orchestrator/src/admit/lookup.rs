//! Outcome lookup: whether a message's work has an outcome, for many messages with one request.
//!
//! The lookup precedes every create, whatever the age of the message: a Job that a person deleted has an outcome and no
//! Job. A request for each message would cost as much as the create. So messages that arrive while lookups run wait for
//! the next lookup and share it. The first one does not wait, and no lookup begins before the messages that share it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::Context as _;
use cloud::storage::Store;
use contract::message::Work;
use tokio::sync::{Semaphore, oneshot};

use crate::admit::error::AdmitError;

/// Lookups that run at the same time. With more, each would be for fewer messages.
const CONCURRENCY: usize = 2;

type Answer = Result<bool, AdmitError>;
/// The name of an outcome, and the one that requests it.
type Request = (String, oneshot::Sender<Answer>);

/// The requests that wait, by session: outcomes of one session have a common prefix, so one listing finds them.
#[derive(Debug)]
pub(crate) struct OutcomeLookup {
    waiting: Mutex<BTreeMap<String, Vec<Request>>>,
    turns: Semaphore,
}

impl Default for OutcomeLookup {
    fn default() -> Self {
        Self { waiting: Mutex::default(), turns: Semaphore::new(CONCURRENCY) }
    }
}

impl OutcomeLookup {
    /// Whether this work has an outcome. The lookup begins after the call.
    ///
    /// # Errors
    /// When Cloud Storage does not answer.
    pub(crate) async fn is_settled(&self, store: &Store, work: &Work) -> Answer {
        let object = work.outcome();
        // Boxed, since only one of the many callers that wait runs it.
        let lookup = |objects| Box::pin(store.present(&work.identity.bucket, objects));
        self.request(&work.session, object, lookup).await
    }

    async fn request<F>(&self, session: &str, object: String, lookup: impl FnOnce(BTreeSet<String>) -> F) -> Answer
    where
        F: Future<Output = anyhow::Result<BTreeSet<String>>>,
    {
        let (reply, mut answer) = oneshot::channel();
        self.waiting().entry(session.to_owned()).or_default().push((object, reply));
        let turn = tokio::select! {
            biased;
            answer = &mut answer => return answer.unwrap_or(Err(AdmitError::Stopping)),
            turn = self.turns.acquire() => turn.context("wait for other lookups")?,
        };
        // Without this request, when another caller took it along and its lookup still runs.
        let requests = self.waiting().remove(session).unwrap_or_default();
        if !requests.is_empty() {
            let found = lookup(requests.iter().map(|(object, _)| object.clone()).collect()).await;
            let found = found.map_err(AdmitError::from);
            for (object, reply) in requests {
                // The caller may be gone.
                let _ = reply.send(found.as_ref().map(|found| found.contains(&object)).map_err(Clone::clone));
            }
        }
        drop(turn);
        answer.await.unwrap_or(Err(AdmitError::Stopping))
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Request>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::{sync::mpsc, task::JoinSet};

    use super::*;

    /// A lookup that is held: its objects, and where to send the result.
    type Lookup = (BTreeSet<String>, oneshot::Sender<anyhow::Result<BTreeSet<String>>>);

    /// Requests each of these objects of a session, in this order; lookups arrive on the channel and are held.
    fn request(
        lookups: &Arc<OutcomeLookup>,
        session: &'static str,
        objects: &[&str],
    ) -> (JoinSet<(String, Answer)>, mpsc::UnboundedReceiver<Lookup>) {
        let (sender, held) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        for object in objects {
            let (lookups, sender, object) = (lookups.clone(), sender.clone(), (*object).to_owned());
            tasks.spawn(async move {
                let lookup = |objects| async move {
                    let (found, answer) = oneshot::channel();
                    sender.send((objects, found)).unwrap();
                    answer.await.unwrap()
                };
                (object.clone(), lookups.request(session, object, lookup).await)
            });
        }
        (tasks, held)
    }

    #[tokio::test]
    async fn requests_during_lookups_share_the_next_one() {
        let lookups = Arc::new(OutcomeLookup::default());
        let (mut tasks, mut held) = request(&lookups, "s", &["a", "b", "c", "d", "e"]);
        let mut sizes = Vec::new();
        let mut under_way = Vec::new();
        for _ in 0..CONCURRENCY {
            let (objects, found) = held.recv().await.unwrap();
            sizes.push(objects.len());
            under_way.push((objects, found));
        }
        for (objects, found) in under_way {
            found.send(Ok(objects.into_iter().filter(|name| name != "b").collect())).unwrap();
        }
        let mut answers = BTreeMap::new();
        while answers.len() < 5 {
            tokio::select! {
                Some((objects, found)) = held.recv() => {
                    sizes.push(objects.len());
                    found.send(Ok(objects.into_iter().filter(|name| name != "e").collect())).unwrap();
                }
                Some(done) = tasks.join_next() => {
                    let (object, answer) = done.unwrap();
                    answers.insert(object, answer.unwrap());
                }
            }
        }
        assert_eq!(sizes.iter().sum::<usize>(), 5, "each object is in one lookup");
        assert_eq!(sizes.len(), 3, "{sizes:?}: two at the same time, and one for all requests that arrived meanwhile");
        let settled: Vec<_> = answers.iter().filter(|(_, settled)| **settled).map(|(object, _)| &**object).collect();
        assert_eq!(settled, ["a", "c", "d"]);
        assert!(lookups.waiting().is_empty());
    }

    #[tokio::test]
    async fn a_lookup_that_fails_fails_its_requests_and_the_next_one_runs() {
        let lookups = Arc::new(OutcomeLookup::default());
        let (mut tasks, mut held) = request(&lookups, "s", &["a", "b", "c", "d"]);
        let (mut failed, mut settled) = (0, 0);
        let mut first = true;
        while failed + settled < 4 {
            tokio::select! {
                Some((objects, found)) = held.recv() => {
                    let answer = if std::mem::take(&mut first) { Err(anyhow::anyhow!("no answer")) } else { Ok(objects) };
                    found.send(answer).unwrap();
                }
                Some(done) = tasks.join_next() => match done.unwrap().1 {
                    Ok(true) => settled += 1,
                    Err(AdmitError::Transient { why, .. }) if why == "no answer" => failed += 1,
                    other => panic!("{other:?}"),
                },
            }
        }
        assert!(failed >= 1 && settled >= 1, "{failed} failed, {settled} settled");
    }

    #[tokio::test]
    async fn each_session_has_its_own_lookup() {
        let lookups = Arc::new(OutcomeLookup::default());
        let (mut one, mut held_one) = request(&lookups, "one", &["a"]);
        let (mut two, mut held_two) = request(&lookups, "two", &["b"]);
        let (first, second) = (held_one.recv().await.unwrap(), held_two.recv().await.unwrap());
        assert_eq!((first.0.len(), second.0.len()), (1, 1));
        first.1.send(Ok(BTreeSet::new())).unwrap();
        second.1.send(Ok(second.0)).unwrap();
        assert!(!one.join_next().await.unwrap().unwrap().1.unwrap());
        assert!(two.join_next().await.unwrap().unwrap().1.unwrap());
    }
}
