//! Views that are refreshed while somebody watches them, once for all viewers.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long a view is refreshed after its last request.
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

    /// The latest view; the default one before the first refresh has ended.
    pub(crate) fn latest(&self) -> Arc<T> {
        let mut latest = self.lock();
        latest.1 = Instant::now();
        latest.0.clone()
    }

    /// As [`Seen::latest`], for the refresher: it does not count as a request.
    pub(crate) fn peek(&self) -> Arc<T> {
        self.lock().0.clone()
    }

    /// Notifies of changes.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// The first view, or the default one when it takes too long.
    pub(crate) async fn first(&self, within: Duration) -> Arc<T> {
        let mut changes = self.changes();
        let _ = tokio::time::timeout(within, changes.wait_for(|version| *version > 0)).await;
        self.latest()
    }

    /// Sets the view, and notifies of it if it differs.
    pub(crate) fn set(&self, view: T) {
        let mut latest = self.lock();
        let is_first = *self.version.borrow() == 0;
        if is_first || *latest.0 != view {
            latest.0 = Arc::new(view);
            self.version.send_modify(|version| *version += 1);
        }
    }

    /// Whether somebody watches it.
    fn is_watched(&self, kept: Duration) -> bool {
        self.version.receiver_count() > 0 || self.lock().1.elapsed() < kept
    }
}

/// The views of one kind.
#[derive(Debug)]
pub(crate) struct Watches<K, T> {
    all: Arc<Mutex<HashMap<K, Arc<Seen<T>>>>>,
    limit: usize,
    kept: Duration,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl<K, T> Watches<K, T>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Default + PartialEq + Send + Sync + 'static,
{
    /// At most `limit` views at the same time.
    pub(crate) fn new(limit: usize, tasks: TaskTracker, stop: CancellationToken) -> Self {
        Self { all: Arc::default(), limit, kept: KEPT, tasks, stop }
    }

    /// The view of `key`. Unless it is refreshed already, the refresher of `begin` starts: it refreshes once and
    /// returns how long to wait until the next time. `None` when there are too many views.
    pub(crate) fn open<R>(&self, key: K, begin: impl FnOnce(Arc<Seen<T>>) -> R) -> Option<Arc<Seen<T>>>
    where
        R: Refresh + Send + 'static,
    {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = all.get(&key) {
            return Some(seen.clone());
        }
        if all.len() >= self.limit {
            return None;
        }
        let seen = Arc::new(Seen::new());
        all.insert(key.clone(), seen.clone());
        let (mut refresher, of, map) = (begin(seen.clone()), seen.clone(), self.all.clone());
        let (stop, kept) = (self.stop.clone(), self.kept);
        self.tasks.spawn(async move {
            loop {
                let pause = tokio::select! {
                    pause = refresher.refresh() => pause,
                    () = stop.cancelled() => break,
                };
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.cancelled() => break,
                }
                // Under the lock, so that nobody opens it meanwhile.
                let mut all = map.lock().unwrap_or_else(PoisonError::into_inner);
                if !of.is_watched(kept) {
                    all.remove(&key);
                    break;
                }
            }
        });
        Some(seen)
    }
}

/// Refreshes one view.
pub(crate) trait Refresh {
    /// Refreshes once, and returns how long to wait until the next time.
    fn refresh(&mut self) -> impl Future<Output = Duration> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Count(Arc<Seen<u32>>, Arc<Mutex<u32>>);

    impl Refresh for Count {
        async fn refresh(&mut self) -> Duration {
            let mut count = self.1.lock().unwrap();
            *count += 1;
            self.0.set(*count / 2);
            Duration::from_millis(1)
        }
    }

    #[tokio::test]
    async fn a_view_is_refreshed_once_for_all_and_only_while_it_is_watched() {
        let mut watches: Watches<&str, u32> = Watches::new(1, TaskTracker::new(), CancellationToken::new());
        watches.kept = Duration::ZERO;
        let refreshes = Arc::new(Mutex::new(0));
        let open = |key| watches.open(key, |seen| Count(seen, refreshes.clone()));
        let first = open("a").unwrap();
        let mut changes = first.changes();
        assert!(Arc::ptr_eq(&first, &open("a").unwrap()), "it is one view");
        assert!(open("b").is_none(), "no more than allowed");
        changes.wait_for(|version| *version > 2).await.unwrap();
        let (seen, version) = (*first.latest(), *changes.borrow_and_update());
        assert!(seen >= 1 && version <= u64::from(seen) + 2, "an equal view is no change: {seen} {version}");
        drop(changes);
        let patience = tokio::time::timeout(Duration::from_secs(60), async {
            while open("b").is_none() {
                tokio::task::yield_now().await;
            }
        });
        patience.await.expect("nobody watches the first view, so there is room");
    }
}
