//! Whether there is an outcome of a message's work, asked for many messages at once.
//!
//! Every message is looked up before its Job is created, at whatever age it comes: a Job that was deleted by hand leaves
//! an outcome and no Job. One look each would cost as much as the create. So those that come while looks are under way
//! wait for the next one and share it; the first of them waits for nobody, and no answer is older than its question.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use cloud::storage::Store;
use contract::message::Work;
use tokio::sync::{Semaphore, oneshot};

use crate::accept::Obstacle;

/// Looks that are under way at once. More of them would each be for fewer messages.
const AT_ONCE: usize = 2;

type Answer = Result<bool, Obstacle>;

/// The questions that wait, by session: outcomes of one session lie beside each other, so one listing finds them.
#[derive(Debug)]
pub(crate) struct Looks {
    asked: Mutex<BTreeMap<String, Vec<Asked>>>,
    turns: Semaphore,
}

#[derive(Debug)]
struct Asked {
    object: String,
    told: oneshot::Sender<Answer>,
}

impl Default for Looks {
    fn default() -> Self {
        Self { asked: Mutex::default(), turns: Semaphore::new(AT_ONCE) }
    }
}

impl Looks {
    /// Whether there is an outcome of this work. The look begins after the call.
    ///
    /// # Errors
    /// When Cloud Storage cannot tell.
    pub(crate) async fn is_settled(&self, store: &Store, work: &Work) -> Answer {
        let object = work.outcome();
        // On the heap, since only one of many that wait together looks.
        let look = |objects| Box::pin(store.present(&work.identity.bucket, objects));
        self.ask(&work.session, object, look).await
    }

    async fn ask<F>(&self, session: &str, object: String, look: impl FnOnce(BTreeSet<String>) -> F) -> Answer
    where
        F: Future<Output = anyhow::Result<BTreeSet<String>>>,
    {
        let (told, mut answer) = oneshot::channel();
        self.asked().entry(session.to_owned()).or_default().push(Asked { object, told });
        let turn = tokio::select! {
            biased;
            answer = &mut answer => return answer.unwrap_or(Err(Obstacle::Stopping)),
            turn = self.turns.acquire() => turn.map_err(|error| Obstacle::Stuck(error.to_string()))?,
        };
        // Without this question, when another one took it along and is still looking.
        let together = self.asked().remove(session).unwrap_or_default();
        if !together.is_empty() {
            let looked = look(together.iter().map(|asked| asked.object.clone()).collect()).await;
            let looked = looked.map_err(Obstacle::from);
            for Asked { object, told } in together {
                // Whoever asked may have given up.
                let _ = told.send(looked.as_ref().map(|found| found.contains(&object)).map_err(Clone::clone));
            }
        }
        drop(turn);
        answer.await.unwrap_or(Err(Obstacle::Stopping))
    }

    fn asked(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Asked>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::{sync::mpsc, task::JoinSet};

    use super::*;

    /// A look that is held: what it is for, and where to send what it finds.
    type Look = (BTreeSet<String>, oneshot::Sender<anyhow::Result<BTreeSet<String>>>);

    /// Asks for each of these objects of a session, in this order; looks come out of the channel and are held.
    fn ask(
        looks: &Arc<Looks>,
        session: &'static str,
        objects: &[&str],
    ) -> (JoinSet<(String, Answer)>, mpsc::UnboundedReceiver<Look>) {
        let (sender, held) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        for object in objects {
            let (looks, sender, object) = (looks.clone(), sender.clone(), (*object).to_owned());
            tasks.spawn(async move {
                let look = |objects| async move {
                    let (found, answer) = oneshot::channel();
                    sender.send((objects, found)).unwrap();
                    answer.await.unwrap()
                };
                (object.clone(), looks.ask(session, object, look).await)
            });
        }
        (tasks, held)
    }

    #[tokio::test]
    async fn questions_that_come_during_looks_share_the_next_one() {
        let looks = Arc::new(Looks::default());
        let (mut tasks, mut held) = ask(&looks, "s", &["a", "b", "c", "d", "e"]);
        let mut sizes = Vec::new();
        let mut under_way = Vec::new();
        for _ in 0..AT_ONCE {
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
        assert_eq!(sizes.iter().sum::<usize>(), 5, "each is looked for once");
        assert_eq!(sizes.len(), 3, "{sizes:?}: two at once, and one for all that came meanwhile");
        let settled: Vec<_> = answers.iter().filter(|(_, settled)| **settled).map(|(object, _)| &**object).collect();
        assert_eq!(settled, ["a", "c", "d"]);
        assert!(looks.asked().is_empty());
    }

    #[tokio::test]
    async fn a_look_that_fails_tells_everybody_and_the_next_one_is_made() {
        let looks = Arc::new(Looks::default());
        let (mut tasks, mut held) = ask(&looks, "s", &["a", "b", "c", "d"]);
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
                    Err(Obstacle::Passing { why, .. }) if why == "no answer" => failed += 1,
                    other => panic!("{other:?}"),
                },
            }
        }
        assert!(failed >= 1 && settled >= 1, "{failed} failed, {settled} settled");
    }

    #[tokio::test]
    async fn sessions_are_looked_at_apart() {
        let looks = Arc::new(Looks::default());
        let (mut one, mut held_one) = ask(&looks, "one", &["a"]);
        let (mut two, mut held_two) = ask(&looks, "two", &["b"]);
        let (first, second) = (held_one.recv().await.unwrap(), held_two.recv().await.unwrap());
        assert_eq!((first.0.len(), second.0.len()), (1, 1));
        first.1.send(Ok(BTreeSet::new())).unwrap();
        second.1.send(Ok(second.0)).unwrap();
        assert!(!one.join_next().await.unwrap().unwrap().1.unwrap());
        assert!(two.join_next().await.unwrap().unwrap().1.unwrap());
    }
}
