//! A business for tests.

use common::config::{Business, Config};

/// One that runs the built-in kernel.
pub(crate) fn business(name: &str) -> Business {
    let text = serde_json::json!({
        "schema": 1, "environment": "e", "project": "p", "location": "l", "bucket": "p-bucket",
        "businesses": {name: {
            "name": name, "bucket": "p-bucket", "namespace": name,
            "topic": format!("projects/p/topics/p-{name}-topic"),
            "subscription": format!("projects/p/subscriptions/p-{name}-subscription"),
            "events_topic": format!("projects/p/topics/p-{name}-events-topic"),
            "max_active_jobs": 4, "dispatch": "job", "submit_on_upload": false,
            "retention": {"finished_jobs_secs": 3600, "output_days": 30, "outcome_days": 90},
            "engine": {"image": "engine@sha256:0", "cpu": "1", "memory": "512Mi", "retries": 3, "timeout_secs": 3600,
                       "spot": false},
        }},
    });
    Config::parse(&text.to_string()).unwrap().businesses.remove(name).unwrap()
}
