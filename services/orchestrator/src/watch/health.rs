//! The health of the watch: whether it is lost, and when to list all Jobs once more. Pure.
//!
//! A recovered watch shows it only by the next change, which may never come while intake has stopped. So a listing
//! follows a failed watch, and the watch counts as working when it has not failed for a moment after that.

use std::time::Duration;

use tokio::time::Instant;

/// Seconds that the watch may fail before intake stops.
const LOST_AFTER: u32 = 30;
/// Seconds after a listing in which the watch must not have failed to count as working.
const SOUND_AFTER: u32 = 10;
/// Seconds that a watch that failed may be silent.
const QUIET_AFTER_FAILURE: u32 = 15;
/// Seconds that a created Job may be missing in the watch.
const UNSEEN_FOR: u32 = 30;
/// Seconds that a page of a listing may take.
const PAGE_TIMEOUT: u32 = 65;
/// Seconds that a watch may be silent; then a listing follows, in case it is broken without an error.
const SILENT_FOR: u32 = 600;

/// The health of the watch.
#[derive(Debug)]
pub(super) struct WatchHealth {
    /// What counts as a second; tests are in a hurry.
    second: Duration,
    last_heard: Instant,
    listing: bool,
    failing: Option<Failing>,
}

#[derive(Clone, Copy, Debug)]
struct Failing {
    since: Instant,
    /// When a listing was complete, if that was after the last failure.
    listed: Option<Instant>,
}

impl WatchHealth {
    pub(super) fn new(second: Duration, now: Instant) -> Self {
        Self { second, last_heard: now, listing: true, failing: None }
    }

    /// Whether so many seconds have passed.
    fn is_over(&self, since: Instant, seconds: u32, now: Instant) -> bool {
        now.saturating_duration_since(since) >= self.second * seconds
    }

    /// Records that a listing begins.
    pub(super) fn start_listing(&mut self, now: Instant) {
        self.last_heard = now;
        self.listing = true;
    }

    /// Records an answer of a listing.
    pub(super) fn record_page(&mut self, now: Instant) {
        self.last_heard = now;
    }

    /// Records that a listing is complete.
    pub(super) fn finish_listing(&mut self, now: Instant) {
        self.last_heard = now;
        self.listing = false;
        if let Some(failing) = &mut self.failing {
            failing.listed = Some(now);
        }
    }

    /// Records a change in the watch.
    pub(super) fn record_change(&mut self, now: Instant) {
        self.last_heard = now;
        self.failing = None;
    }

    /// Records a failure of a listing or of the watch.
    pub(super) fn record_failure(&mut self, now: Instant) {
        self.last_heard = now;
        self.listing = false;
        self.failing.get_or_insert(Failing { since: now, listed: None }).listed = None;
    }

    /// Whether it has failed for so long that the number of active Jobs is unknown.
    pub(super) fn is_lost(&mut self, now: Instant) -> bool {
        let is_sound = |at: Instant| self.is_over(at, SOUND_AFTER, now);
        self.failing = self.failing.filter(|failing| !failing.listed.is_some_and(is_sound));
        self.failing.is_some_and(|failing| self.is_over(failing.since, LOST_AFTER, now))
    }

    /// Whether to list all Jobs once more. `awaited` is since when the watch should have shown a created Job.
    pub(super) fn needs_listing(&self, awaited: Option<Instant>, now: Instant) -> bool {
        let is_quiet = |seconds| self.is_over(self.last_heard, seconds, now);
        let failed = self.failing.is_some_and(|failing| failing.listed.is_none());
        match self.listing {
            true => is_quiet(PAGE_TIMEOUT),
            // While it fails the watcher retries by itself, less and less often.
            false if failed => is_quiet(QUIET_AFTER_FAILURE),
            false => awaited.is_some_and(|since| self.is_over(since, UNSEEN_FOR, now)) || is_quiet(SILENT_FOR),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant) -> impl Fn(u64) -> Instant {
        move |secs| start + Duration::from_secs(secs)
    }

    fn watching(now: Instant) -> WatchHealth {
        let mut watch_health = WatchHealth::new(Duration::from_secs(1), now);
        watch_health.finish_listing(now);
        watch_health
    }

    #[test]
    fn a_watch_that_keeps_failing_is_lost_until_it_shows_a_change() {
        let at = at(Instant::now());
        let mut watch_health = watching(at(0));
        for secs in (1..=30).step_by(5) {
            watch_health.record_failure(at(secs));
            assert!(!watch_health.is_lost(at(secs)));
        }
        assert!(watch_health.is_lost(at(31)));
        // May list, and not watch: each listing is good, and the watch fails at once after it.
        for secs in [40, 60, 80] {
            watch_health.finish_listing(at(secs));
            watch_health.record_failure(at(secs));
            assert!(watch_health.is_lost(at(secs)) && watch_health.is_lost(at(secs + 19)));
        }
        watch_health.record_change(at(100));
        assert!(!watch_health.is_lost(at(100)) && !watch_health.is_lost(at(1000)));
    }

    #[test]
    fn a_listing_follows_a_watch_that_failed_and_is_silent() {
        let at = at(Instant::now());
        let mut watch_health = watching(at(0));
        watch_health.record_failure(at(5));
        assert!(!watch_health.needs_listing(None, at(19)) && watch_health.needs_listing(None, at(20)));
        watch_health.start_listing(at(20));
        assert!(
            !watch_health.needs_listing(None, at(80)) && watch_health.needs_listing(None, at(85)),
            "a listing that hangs"
        );
        watch_health.finish_listing(at(86));
        assert!(watch_health.is_lost(at(95)) && !watch_health.is_lost(at(96)));
        assert!(!watch_health.needs_listing(None, at(600)) && watch_health.needs_listing(None, at(686)));
    }

    #[test]
    fn a_listing_follows_a_created_job_that_the_watch_does_not_show() {
        let at = at(Instant::now());
        let mut watch_health = watching(at(0));
        // The watch shows other Jobs.
        watch_health.record_change(at(40));
        let awaited = Some(at(10));
        assert!(!watch_health.needs_listing(awaited, at(39)) && watch_health.needs_listing(awaited, at(40)));
        watch_health.start_listing(at(40));
        assert!(!watch_health.needs_listing(awaited, at(100)), "it is under way");
    }
}
