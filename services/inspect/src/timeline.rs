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
    let mut moments: Vec<(&'static str, Timestamp)> =
        known.into_iter().filter_map(|(what, time)| Some((what, time?))).collect();
    // Kubernetes has whole seconds, so a step may seem to come before the previous one. A step that is less than a
    // second early gets the time of the step before it.
    for index in 1..moments.len() {
        let before = moments[index - 1].1;
        let early = before.duration_since(moments[index].1);
        if early.is_positive() && early.as_millis() < 1000 {
            moments[index].1 = before;
        }
    }
    moments.sort_by_key(|(_, time)| *time);
    let mut before: Option<Timestamp> = None;
    moments
        .into_iter()
        .map(|(what, time)| {
            let since = before.map(|before| format!("+{}", text::duration(time.duration_since(before))));
            before = Some(time);
            Moment { what, time, since }
        })
        .collect()
}

/// The moments as lines of text.
pub fn lines(moments: &[Moment]) -> Vec<String> {
    moments
        .iter()
        .map(|moment| {
            let time = moment.time.strftime("%Y-%m-%d %H:%M:%S%.3fZ");
            format!("{:<10} {time}  {}", moment.what, moment.since.as_deref().unwrap_or_default()).trim_end().to_owned()
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
                "created    2026-01-01 00:00:00.270Z  +0ms",
                "finished   2026-01-01 00:01:05.000Z  +1m04s",
            ]
        );
        assert!(moments(&Timestamps::default()).is_empty());
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
