//! The health of the watch: whether it is lost, and when to list all Jobs once more. Pure.
//!
//! A recovered watch shows it only by the next change, which may never come while intake has stopped. So a listing
//! follows a failed watch, and the watch counts as working when it has not failed for a moment after that.

use std::time::Duration;

use tokio::time::Instant;

/// The timeouts of the watch.
#[derive(Clone, Copy, Debug)]
pub(super) struct WatchTimeouts {
    /// Between two checks of the watch.
    pub(super) check_interval: Duration,
    /// How long the watch may fail before intake stops.
    lost_after: Duration,
    /// How long after a listing the watch must not have failed to count as working.
    sound_after: Duration,
    /// How long a watch that failed may be silent.
    quiet_after_failure: Duration,
    /// How long a created Job may be missing in the watch.
    unseen_for: Duration,
    /// How long a page of a listing may take.
    page_timeout: Duration,
    /// How long a watch may be silent; then a listing follows, in case it is broken without an error.
    silent_for: Duration,
}

impl WatchTimeouts {
    pub(super) const PRODUCTION: Self = Self::with_unit(Duration::from_secs(1));

    /// The values of production, where `unit` is a second.
    pub(super) const fn with_unit(unit: Duration) -> Self {
        Self {
            check_interval: unit,
            lost_after: unit.saturating_mul(30),
            sound_after: unit.saturating_mul(10),
            quiet_after_failure: unit.saturating_mul(15),
            unseen_for: unit.saturating_mul(30),
            page_timeout: unit.saturating_mul(65),
            silent_for: unit.saturating_mul(600),
        }
    }
}

/// The health of the watch.
#[derive(Debug)]
pub(super) struct WatchHealth {
    timeouts: WatchTimeouts,
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
    pub(super) fn new(timeouts: WatchTimeouts, now: Instant) -> Self {
        Self { timeouts, last_heard: now, listing: true, failing: None }
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
        let WatchTimeouts { sound_after, lost_after, .. } = self.timeouts;
        let is_sound = |at: Instant| now.saturating_duration_since(at) >= sound_after;
        self.failing = self.failing.filter(|failing| !failing.listed.is_some_and(is_sound));
        self.failing.is_some_and(|failing| now.saturating_duration_since(failing.since) >= lost_after)
    }

    /// Whether to list all Jobs once more. `awaited` is since when the watch should have shown a created Job.
    pub(super) fn needs_listing(&self, awaited: Option<Instant>, now: Instant) -> bool {
        let timeouts = &self.timeouts;
        let quiet = now.saturating_duration_since(self.last_heard);
        let failed = self.failing.is_some_and(|failing| failing.listed.is_none());
        let unseen = awaited.is_some_and(|since| now.saturating_duration_since(since) >= timeouts.unseen_for);
        match self.listing {
            true => quiet >= timeouts.page_timeout,
            // While it fails the watcher retries by itself, less and less often.
            false if failed => quiet >= timeouts.quiet_after_failure,
            false => unseen || quiet >= timeouts.silent_for,
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
        let mut watch_health = WatchHealth::new(WatchTimeouts::PRODUCTION, now);
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
