//! Durations and sizes as people read them.

use jiff::{SignedDuration, Timestamp};

/// A duration in at most two units: `12ms`, `3.2s`, `1m05s`, `2h10m`, `3d4h`.
pub fn duration(duration: SignedDuration) -> String {
    let millis = duration.as_millis().max(0);
    let seconds = millis / 1000;
    match seconds {
        0 => format!("{millis}ms"),
        1..60 => format!("{}.{}s", seconds, millis % 1000 / 100),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Time since `then`, in whole units; `-` when it is not known.
pub fn age(then: Option<Timestamp>, now: Timestamp) -> String {
    match then {
        Some(then) => match now.duration_since(then).as_secs().max(0) {
            seconds @ 0..60 => format!("{seconds}s"),
            seconds => duration(SignedDuration::from_secs(seconds)),
        },
        None => "-".to_owned(),
    }
}

/// A size: `512 B`, `1.5 KiB`.
pub fn bytes(size: u64) -> String {
    let mut value = size as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{size} B") } else { format!("{value:.1} {unit}") }
}
