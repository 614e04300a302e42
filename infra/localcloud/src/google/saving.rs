//! Saves what changed, now and then.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::persist;

/// How often changes are saved, when they are.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// Saves whenever something changed, until `stop` is cancelled.
pub(super) async fn keep_saved(store: persist::Store, stop: CancellationToken) {
    let mut saved = store.changes();
    loop {
        tokio::select! {
            () = tokio::time::sleep(SAVE_EVERY) => {}
            () = stop.cancelled() => return,
        }
        let now = store.changes();
        if now != saved {
            save(store.clone()).await;
            saved = now;
        }
    }
}

/// Saves; a failure is logged.
pub(super) async fn save(store: persist::Store) {
    let saved = tokio::task::spawn_blocking(move || store.save()).await;
    match saved {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!("failed to save: {error:#}"),
        Err(error) => tracing::error!("failed to save: {error}"),
    }
}
