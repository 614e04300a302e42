//! `[alerts]`: when Cloud Monitoring reports a business, and to whom.

use serde::Serialize;

use super::{
    read::{Reader, Section},
    value,
};

/// When Cloud Monitoring reports a business, and to whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alerts {
    /// Full names of notification channels.
    pub notification_channels: Vec<String>,
    /// Seconds for which a message may wait.
    pub oldest_message_secs: u32,
    /// Failed jobs that an hour may have.
    pub failures_per_hour: u32,
}

pub(super) fn read(reader: &Reader<'_>, section: Section<'_>, project: &str) -> Alerts {
    let prefix = format!("projects/{project}/notificationChannels/");
    let mut notification_channels = Vec::new();
    for channel in section.list("notification_channels").unwrap_or_default() {
        if channel.value.strip_prefix(&prefix).is_none_or(|id| id.is_empty() || id.contains('/')) {
            let message =
                format!("{:?} is listed, but a notification channel looks like \"{prefix}123\"", channel.value);
            reader.problem(&channel.place, message);
        }
        notification_channels.push(channel.value);
    }
    let oldest = section.parsed("oldest_message", |text| value::duration(text, 60, 7 * value::DAY));
    let alerts = Alerts {
        notification_channels,
        oldest_message_secs: oldest.map_or(600, |seconds| seconds.value),
        failures_per_hour: section.number("failures_per_hour", 0..=1_000_000, 10),
    };
    section.finish();
    alerts
}
