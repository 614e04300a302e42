//! The timeline of a Job.

use contract::outcome::Timestamps;
use jiff::Timestamp;

use crate::text;

/// A step of a Job.
#[derive(Clone, Debug, PartialEq, Eq, schemars::JsonSchema, serde::Serialize)]
pub struct Moment {
    /// What happened.
    pub what: &'static str,
    /// When.
    pub time: Timestamp,
    /// Time since the moment before, for people; absent for the first.
    pub since: Option<String>,
}

/// The known steps of a Job, by time.
pub fn moments(times: &Timestamps) -> Vec<Moment> {
    let known = [
        ("published", times.published),
        ("received", times.received),
        ("created", times.created),
        ("scheduled", times.scheduled),
        ("started", times.started),
        ("finished", times.finished),
        ("settled", times.settled),
    ];
    let moments: Vec<(&'static str, Timestamp)> =
        known.into_iter().filter_map(|(what, time)| Some((what, time?))).collect();
    // Kubernetes has whole seconds, so a step may seem to come before the previous one. A step that is less than a
    // second early stays where it is.
    let mut order = Vec::new();
    for (_, time) in &moments {
        let early = order.last().map(|before: &Timestamp| before.duration_since(*time));
        let is_early = early.is_some_and(|early| early.is_positive() && early.as_millis() < 1000);
        order.push(order.last().filter(|_| is_early).copied().unwrap_or(*time));
    }
    let mut moments: Vec<_> = order.into_iter().zip(moments).collect();
    moments.sort_by_key(|(order, _)| *order);
    let mut before: Option<Timestamp> = None;
    moments
        .into_iter()
        .map(|(_, (what, time))| {
            let since = before.replace(time).map(|before| match elapsed(before, time) {
                short if short.starts_with('<') => short,
                elapsed => format!("+{elapsed}"),
            });
            Moment { what, time, since }
        })
        .collect()
}

/// A time of Kubernetes.
fn is_whole(time: Timestamp) -> bool {
    time.subsec_nanosecond() == 0
}

/// The time between two steps for people, as exactly as both are known.
pub fn elapsed(before: Timestamp, time: Timestamp) -> String {
    let elapsed = time.duration_since(before);
    match is_whole(before) || is_whole(time) {
        true if elapsed.as_secs() < 1 => "<1s".to_owned(),
        true => text::age(Some(before), time),
        false => text::duration(elapsed),
    }
}

/// The moments as lines of text.
pub fn lines(moments: &[Moment]) -> Vec<String> {
    moments
        .iter()
        .map(|moment| {
            let format = if is_whole(moment.time) { "%Y-%m-%d %H:%M:%SZ" } else { "%Y-%m-%d %H:%M:%S%.3fZ" };
            let time = moment.time.strftime(format).to_string();
            format!("{:<10} {time:<24}  {}", moment.what, moment.since.as_deref().unwrap_or_default())
                .trim_end()
                .to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Option<Timestamp> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn moments_have_the_time_between_them() {
        let times = Timestamps {
            published: time("2026-01-01T00:00:00.250Z"),
            received: time("2026-01-01T00:00:00.270Z"),
            created: time("2026-01-01T00:00:00Z"),
            finished: time("2026-01-01T00:01:05Z"),
            ..Timestamps::default()
        };
        assert_eq!(
            lines(&moments(&times)),
            [
                "published  2026-01-01 00:00:00.250Z",
                "received   2026-01-01 00:00:00.270Z  +20ms",
                "created    2026-01-01 00:00:00Z      <1s",
                "finished   2026-01-01 00:01:05Z      +1m05s",
            ]
        );
        assert!(moments(&Timestamps::default()).is_empty());
    }

    #[test]
    fn a_run_within_a_second_of_the_receipt_does_not_last_no_time() {
        let times = Timestamps {
            received: time("2026-01-01T00:00:00.900Z"),
            created: time("2026-01-01T00:00:00Z"),
            started: time("2026-01-01T00:00:00Z"),
            finished: time("2026-01-01T00:00:01Z"),
            settled: time("2026-01-01T00:00:01.400Z"),
            ..Timestamps::default()
        };
        assert_eq!(
            lines(&moments(&times)),
            [
                "received   2026-01-01 00:00:00.900Z",
                "created    2026-01-01 00:00:00Z      <1s",
                "started    2026-01-01 00:00:00Z      <1s",
                "finished   2026-01-01 00:00:01Z      +1s",
                "settled    2026-01-01 00:00:01.400Z  <1s",
            ]
        );
    }

    #[test]
    fn clocks_that_differ_much_are_not_hidden() {
        let times = Timestamps {
            published: time("2026-01-01T00:00:10Z"),
            received: time("2026-01-01T00:00:00Z"),
            ..Timestamps::default()
        };
        let order: Vec<_> = moments(&times).into_iter().map(|moment| moment.what).collect();
        assert_eq!(order, ["received", "published"]);
    }
}
