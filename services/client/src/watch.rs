//! Things that are looked at again and again while somebody wants to see them, once for all who do.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long something is looked at after the last one who asked.
const KEPT: Duration = Duration::from_secs(60);

/// The latest view of one thing, and when it changed.
#[derive(Debug)]
pub(crate) struct Seen<T> {
    version: watch::Sender<u64>,
    latest: Mutex<(Arc<T>, Instant)>,
}

impl<T: Default + PartialEq> Seen<T> {
    fn new() -> Self {
        Self { version: watch::Sender::new(0), latest: Mutex::new((Arc::default(), Instant::now())) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Arc<T>, Instant)> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The latest view; the default one before the first look has ended.
    pub(crate) fn latest(&self) -> Arc<T> {
        let mut latest = self.lock();
        latest.1 = Instant::now();
        latest.0.clone()
    }

    /// As [`Seen::latest`], for who looks and does not show.
    pub(crate) fn peek(&self) -> Arc<T> {
        self.lock().0.clone()
    }

    /// Tells of changes.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// The first view, or the default one when it takes too long.
    pub(crate) async fn first(&self, within: Duration) -> Arc<T> {
        let mut changes = self.changes();
        let _ = tokio::time::timeout(within, changes.wait_for(|version| *version > 0)).await;
        self.latest()
    }

    /// Takes note of how it looks now, and tells of it if that is new.
    pub(crate) fn set(&self, view: T) {
        let mut latest = self.lock();
        let is_first = *self.version.borrow() == 0;
        if is_first || *latest.0 != view {
            latest.0 = Arc::new(view);
            self.version.send_modify(|version| *version += 1);
        }
    }

    /// Whether anybody wants to see it.
    fn is_wanted(&self, kept: Duration) -> bool {
        self.version.receiver_count() > 0 || self.lock().1.elapsed() < kept
    }
}

/// The things of one kind that are looked at.
#[derive(Debug)]
pub(crate) struct Watches<K, T> {
    all: Arc<Mutex<HashMap<K, Arc<Seen<T>>>>>,
    most: usize,
    kept: Duration,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl<K, T> Watches<K, T>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Default + PartialEq + Send + Sync + 'static,
{
    /// At most so many at once.
    pub(crate) fn new(most: usize, tasks: TaskTracker, stop: CancellationToken) -> Self {
        Self { all: Arc::default(), most, kept: KEPT, tasks, stop }
    }

    /// The thing called `key`. Unless it is looked at already, `look` begins to: it looks once and says how long to wait
    /// before it is called again. `None` when too many things are looked at.
    pub(crate) fn open<L>(&self, key: K, begin: impl FnOnce(Arc<Seen<T>>) -> L) -> Option<Arc<Seen<T>>>
    where
        L: AsyncLook + Send + 'static,
    {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = all.get(&key) {
            return Some(seen.clone());
        }
        if all.len() >= self.most {
            return None;
        }
        let seen = Arc::new(Seen::new());
        all.insert(key.clone(), seen.clone());
        let (mut look, of, map) = (begin(seen.clone()), seen.clone(), self.all.clone());
        let (stop, kept) = (self.stop.clone(), self.kept);
        self.tasks.spawn(async move {
            loop {
                let again = tokio::select! {
                    pause = look.look() => pause,
                    () = stop.cancelled() => break,
                };
                tokio::select! {
                    () = tokio::time::sleep(again) => {}
                    () = stop.cancelled() => break,
                }
                // Under the lock, so that nobody takes it just now.
                let mut all = map.lock().unwrap_or_else(PoisonError::into_inner);
                if !of.is_wanted(kept) {
                    all.remove(&key);
                    break;
                }
            }
        });
        Some(seen)
    }
}

/// Looks at one thing.
pub(crate) trait AsyncLook {
    /// Looks once, and says how long to wait until the next look.
    fn look(&mut self) -> impl Future<Output = Duration> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Count(Arc<Seen<u32>>, Arc<Mutex<u32>>);

    impl AsyncLook for Count {
        async fn look(&mut self) -> Duration {
            let mut count = self.1.lock().unwrap();
            *count += 1;
            self.0.set(*count / 2);
            Duration::from_millis(1)
        }
    }

    #[tokio::test]
    async fn a_thing_is_looked_at_once_for_all_and_no_longer_than_somebody_wants_it() {
        let mut watches: Watches<&str, u32> = Watches::new(1, TaskTracker::new(), CancellationToken::new());
        watches.kept = Duration::ZERO;
        let looks = Arc::new(Mutex::new(0));
        let open = |key| watches.open(key, |seen| Count(seen, looks.clone()));
        let first = open("a").unwrap();
        let mut changes = first.changes();
        assert!(Arc::ptr_eq(&first, &open("a").unwrap()), "it is one thing");
        assert!(open("b").is_none(), "no more than allowed");
        changes.wait_for(|version| *version > 2).await.unwrap();
        let (seen, version) = (*first.latest(), *changes.borrow_and_update());
        assert!(seen >= 1 && version <= u64::from(seen) + 2, "what looks the same is not told: {seen} {version}");
        drop(changes);
        let patience = tokio::time::timeout(Duration::from_secs(60), async {
            while open("b").is_none() {
                tokio::task::yield_now().await;
            }
        });
        patience.await.expect("nobody wants to see the first one, so there is room");
    }
}
