//! The rate of a session, and the time left. Pure.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::Counts;

/// Time over which the rate is measured.
const WINDOW: Duration = Duration::from_secs(60);
/// Minimum time for a rate.
const RATE_MIN: Duration = Duration::from_millis(500);

/// The progress of a session at one time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Progress {
    /// Its Jobs by state.
    #[serde(flatten)]
    pub counts: Counts,
    /// Jobs that ended per second, in the last minute.
    pub rate: Option<f64>,
    /// Seconds until the last Job ends at this rate.
    pub seconds_left: Option<f64>,
    /// No Job of it is started.
    pub paused: bool,
}

/// Measures the rate of a session from its counts.
#[derive(Clone, Debug, Default)]
pub struct Rate(VecDeque<(Instant, usize)>);

impl Rate {
    /// Adds the current counts, and returns the progress.
    pub fn add(&mut self, now: Instant, counts: Counts, paused: bool) -> Progress {
        // After a retry fewer Jobs are done: the rate starts again.
        if self.0.back().is_some_and(|(_, done)| *done > counts.done()) {
            self.0.clear();
        }
        self.0.push_back((now, counts.done()));
        while self.0.len() > 2 && self.0.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            self.0.pop_front();
        }
        let rate = self.0.front().and_then(|(since, before)| {
            let time = now.duration_since(*since);
            let ended = counts.done() - before;
            (time >= RATE_MIN && ended > 0).then(|| ended as f64 / time.as_secs_f64())
        });
        let seconds_left = rate.filter(|_| !paused).map(|rate| counts.pending() as f64 / rate);
        Progress { counts, rate, seconds_left, paused }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(waiting: usize, succeeded: usize) -> Counts {
        Counts { waiting, succeeded, ..Counts::default() }
    }

    #[test]
    fn the_rate_is_that_of_the_last_minute() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut rate = Rate::default();
        let first = rate.add(start, counts(1000, 0), false);
        assert_eq!((first.rate, first.seconds_left), (None, None));
        let second = rate.add(at(10), counts(900, 100), false);
        assert_eq!((second.rate, second.seconds_left), (Some(10.0), Some(90.0)));
        // It becomes slower; a minute later the quick start does not count.
        for second in 11..=200 {
            rate.add(at(second), counts(900 - second as usize, 100 + second as usize), false);
        }
        let later = rate.add(at(201), counts(699, 301), false);
        assert!((later.rate.unwrap() - 1.0).abs() < 0.05, "{later:?}");
        assert_eq!(rate.add(at(202), counts(698, 302), true).seconds_left, None);
        assert!(rate.0.len() < 100);
    }

    #[test]
    fn the_rate_starts_again_after_a_retry() {
        let start = Instant::now();
        let mut rate = Rate::default();
        rate.add(start, counts(0, 10), false);
        let progress = rate.add(start + Duration::from_secs(5), counts(10, 0), false);
        assert_eq!((progress.rate, progress.counts.pending()), (None, 10));
    }
}
