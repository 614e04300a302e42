//! What a smoke test may cost: an estimate from a small table of list prices.

use std::time::Duration;

/// The run ends after this time, whatever it has done; the removal comes after it.
pub(super) const LIMIT: Duration = Duration::from_secs(90 * 60);
/// How long the removal takes at most, as a rule.
const REMOVAL: Duration = Duration::from_secs(30 * 60);

/// The year of the list prices.
const PRICES_OF: u32 = 2025;
/// List prices in US dollars per hour in Iowa; other regions cost up to half more. The fee of the cluster is from
/// cloud.google.com/kubernetes-engine/pricing, machines and disks are from cloud.google.com/compute/all-pricing.
/// Storage, messages and builds of this size cost cents.
const PRICES: [(&str, f64); 3] = [
    ("cluster management fee", 0.10),
    ("2 nodes e2-standard-2", 2.0 * 0.067),
    ("2 balanced disks of 50 GB", 2.0 * 50.0 * 0.10 / 730.0),
];

/// What to show before the run.
pub(super) fn describe() -> String {
    let hourly: f64 = PRICES.iter().map(|(_, price)| price).sum();
    let hours = (LIMIT + REMOVAL).as_secs_f64() / 3600.0;
    let parts: Vec<&str> = PRICES.iter().map(|(name, _)| *name).collect();
    format!(
        "estimated cost (list prices of {PRICES_OF}; not an offer): ${hourly:.2} per hour ({}), at most ${:.2} for \
         the run, which is stopped after {} minutes",
        parts.join(", "),
        hourly * hours,
        LIMIT.as_secs() / 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_names_the_hour_and_the_limit() {
        let text = describe();
        assert!(text.contains("$0.25 per hour") && text.contains("at most $0.50"), "{text}");
    }
}
