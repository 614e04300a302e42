//! Slows down guesses of tokens.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Wrong tokens that one address may present in a window.
const MAX_PER_ADDRESS: u32 = 10;
/// Wrong tokens that all addresses together may present in a window.
const MAX_TOTAL: u32 = 200;
/// Time after which wrong tokens no longer count.
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are counted one by one.
const MAX_ADDRESSES: usize = 10_000;

/// Counts wrong tokens by address.
#[derive(Debug, Default)]
pub struct Limiter {
    failures: Mutex<HashMap<Option<IpAddr>, (Instant, u32)>>,
}

impl Limiter {
    /// How long this address must wait before it may try again; `None` when it may try now.
    pub fn wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|_, (since, _)| now.duration_since(*since) < WINDOW);
        let limits = [(Some(address), MAX_PER_ADDRESS), (None, MAX_TOTAL)];
        limits.into_iter().find_map(|(who, limit)| {
            let (since, count) = failures.get(&who)?;
            (*count >= limit).then(|| WINDOW.saturating_sub(now.duration_since(*since)))
        })
    }

    /// Records that this address presented a wrong token.
    pub fn record_failure(&self, address: IpAddr, now: Instant) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        for who in [Some(address), None] {
            if who.is_none() || failures.contains_key(&who) || failures.len() < MAX_ADDRESSES {
                let (_, count) = failures.entry(who).or_insert((now, 0));
                *count = count.saturating_add(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_guesses_waits_and_others_do_not() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        let [bad, good] = ["10.0.0.1", "10.0.0.2"].map(|address| address.parse().unwrap());
        for _ in 0..MAX_PER_ADDRESS {
            assert_eq!(limiter.wait(bad, now), None);
            limiter.record_failure(bad, now);
        }
        assert!(limiter.wait(bad, now).is_some() && limiter.wait(good, now).is_none());
        assert_eq!(limiter.wait(bad, now + WINDOW), None);
    }
}
