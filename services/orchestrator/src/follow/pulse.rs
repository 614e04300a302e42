//! How the watch does: whether something is heard of it, and when to list all Jobs anew. Pure.
//!
//! A watch that works again tells so only with the next change, which may never come while intake has stopped. So one
//! that failed is followed by a listing, and counts as working when it did not fail for a moment after that.

use std::time::Duration;

use tokio::time::Instant;

/// How long is waited for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Between two looks at how the watch does.
    pub(super) look_every: Duration,
    /// How long the watch may fail until intake stops.
    lost_after: Duration,
    /// How long after a listing the watch must not have failed to count as working.
    sound_after: Duration,
    /// How long nothing may be heard of a watch that failed.
    quiet_after_failure: Duration,
    /// How long a Job that was created may not be shown.
    unseen_for: Duration,
    /// How long a page of a listing may take.
    page_within: Duration,
    /// How long nothing may be heard at all: a listing now and then, should a watch be silent for no reason that shows.
    silent_for: Duration,
}

impl Patience {
    pub(super) const PRODUCTION: Self = Self::of(Duration::from_secs(1));

    /// As in production, where `unit` is a second.
    pub(super) const fn of(unit: Duration) -> Self {
        Self {
            look_every: unit,
            lost_after: unit.saturating_mul(30),
            sound_after: unit.saturating_mul(10),
            quiet_after_failure: unit.saturating_mul(15),
            unseen_for: unit.saturating_mul(30),
            page_within: unit.saturating_mul(65),
            silent_for: unit.saturating_mul(600),
        }
    }
}

/// How the watch does.
#[derive(Debug)]
pub(super) struct Pulse {
    patience: Patience,
    heard: Instant,
    listing: bool,
    failing: Option<Failing>,
}

#[derive(Clone, Copy, Debug)]
struct Failing {
    since: Instant,
    /// When a listing was complete, if that was after the last failure.
    listed: Option<Instant>,
}

impl Pulse {
    pub(super) fn new(patience: Patience, now: Instant) -> Self {
        Self { patience, heard: now, listing: true, failing: None }
    }

    /// A listing begins.
    pub(super) fn begun(&mut self, now: Instant) {
        self.heard = now;
        self.listing = true;
    }

    /// Something came of a listing.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// A listing is complete.
    pub(super) fn listed(&mut self, now: Instant) {
        self.heard = now;
        self.listing = false;
        if let Some(failing) = &mut self.failing {
            failing.listed = Some(now);
        }
    }

    /// The watch showed a change.
    pub(super) fn changed(&mut self, now: Instant) {
        self.heard = now;
        self.failing = None;
    }

    /// Listing or watching failed.
    pub(super) fn failed(&mut self, now: Instant) {
        self.heard = now;
        self.listing = false;
        self.failing.get_or_insert(Failing { since: now, listed: None }).listed = None;
    }

    /// Whether it has failed for so long that nobody knows how many Jobs are active.
    pub(super) fn is_lost(&mut self, now: Instant) -> bool {
        let Patience { sound_after, lost_after, .. } = self.patience;
        let is_sound = |at: Instant| now.saturating_duration_since(at) >= sound_after;
        self.failing = self.failing.filter(|failing| !failing.listed.is_some_and(is_sound));
        self.failing.is_some_and(|failing| now.saturating_duration_since(failing.since) >= lost_after)
    }

    /// Whether to list all Jobs anew. `awaited` is since when a Job that was created should have been shown.
    pub(super) fn wants_listing(&self, awaited: Option<Instant>, now: Instant) -> bool {
        let patience = &self.patience;
        let quiet = now.saturating_duration_since(self.heard);
        let failed = self.failing.is_some_and(|failing| failing.listed.is_none());
        let unseen = awaited.is_some_and(|since| now.saturating_duration_since(since) >= patience.unseen_for);
        match self.listing {
            true => quiet >= patience.page_within,
            // While it fails the watcher tries again by itself, less and less often.
            false if failed => quiet >= patience.quiet_after_failure,
            false => unseen || quiet >= patience.silent_for,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant) -> impl Fn(u64) -> Instant {
        move |secs| start + Duration::from_secs(secs)
    }

    fn watching(now: Instant) -> Pulse {
        let mut pulse = Pulse::new(Patience::PRODUCTION, now);
        pulse.listed(now);
        pulse
    }

    #[test]
    fn a_watch_that_fails_on_and_on_is_lost_until_it_shows_a_change() {
        let at = at(Instant::now());
        let mut pulse = watching(at(0));
        for secs in (1..=30).step_by(5) {
            pulse.failed(at(secs));
            assert!(!pulse.is_lost(at(secs)));
        }
        assert!(pulse.is_lost(at(31)));
        // May list, and not watch: each listing is good, and the watch fails at once after it.
        for secs in [40, 60, 80] {
            pulse.listed(at(secs));
            pulse.failed(at(secs));
            assert!(pulse.is_lost(at(secs)) && pulse.is_lost(at(secs + 19)));
        }
        pulse.changed(at(100));
        assert!(!pulse.is_lost(at(100)) && !pulse.is_lost(at(1000)));
    }

    #[test]
    fn a_watch_that_failed_and_is_quiet_is_made_sure_of_by_a_listing() {
        let at = at(Instant::now());
        let mut pulse = watching(at(0));
        pulse.failed(at(5));
        assert!(!pulse.wants_listing(None, at(19)) && pulse.wants_listing(None, at(20)));
        pulse.begun(at(20));
        assert!(!pulse.wants_listing(None, at(80)) && pulse.wants_listing(None, at(85)), "a listing that hangs");
        pulse.listed(at(86));
        assert!(pulse.is_lost(at(95)) && !pulse.is_lost(at(96)));
        assert!(!pulse.wants_listing(None, at(600)) && pulse.wants_listing(None, at(686)));
    }

    #[test]
    fn a_job_that_is_not_shown_is_looked_for_by_a_listing_once_in_a_while() {
        let at = at(Instant::now());
        let mut pulse = watching(at(0));
        // Others are shown all the time.
        pulse.changed(at(40));
        let awaited = Some(at(10));
        assert!(!pulse.wants_listing(awaited, at(39)) && pulse.wants_listing(awaited, at(40)));
        pulse.begun(at(40));
        assert!(!pulse.wants_listing(awaited, at(100)), "it is under way");
    }
}
