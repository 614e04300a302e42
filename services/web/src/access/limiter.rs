//! Slows down who guesses tokens.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Wrong tokens an address may present in [`WINDOW`].
const PER_ADDRESS: u32 = 10;
/// Wrong tokens all addresses together may.
const TOGETHER: u32 = 200;
/// After which wrong tokens are forgotten.
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are remembered; more count as one.
const ADDRESSES: usize = 10_000;

/// Counts wrong tokens by address.
#[derive(Debug, Default)]
pub struct Limiter {
    failures: Mutex<HashMap<Option<IpAddr>, (Instant, u32)>>,
}

impl Limiter {
    /// How long this address must wait until it may try again; `None` when it may try now.
    pub fn wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|_, (since, _)| now.duration_since(*since) < WINDOW);
        let limits = [(Some(address), PER_ADDRESS), (None, TOGETHER)];
        limits.into_iter().find_map(|(who, most)| {
            let (since, count) = failures.get(&who)?;
            (*count >= most).then(|| WINDOW.saturating_sub(now.duration_since(*since)))
        })
    }

    /// This address presented a wrong token.
    pub fn failed(&self, address: IpAddr, now: Instant) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        for who in [Some(address), None] {
            if who.is_none() || failures.contains_key(&who) || failures.len() < ADDRESSES {
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
        for _ in 0..PER_ADDRESS {
            assert_eq!(limiter.wait(bad, now), None);
            limiter.failed(bad, now);
        }
        assert!(limiter.wait(bad, now).is_some() && limiter.wait(good, now).is_none());
        assert_eq!(limiter.wait(bad, now + WINDOW), None);
    }
}
