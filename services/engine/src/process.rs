//! What the engine asks of and tells about its own process.

use std::{fs::OpenOptions, path::Path};

use nix::sys::{
    resource::{UsageWho, getrusage},
    signal::{Signal, raise},
};

use crate::{
    config::{Step, Stop},
    failure::termination,
};

/// CPU time of this process and of the programs it ran, user and system, in seconds.
pub fn cpu_seconds() -> f64 {
    let of = |who| {
        getrusage(who).map_or(0.0, |usage| {
            let (user, system) = (usage.user_time(), usage.system_time());
            let micros = user.tv_usec() + system.tv_usec();
            (user.tv_sec() + system.tv_sec()) as f64 + micros as f64 * 1e-6
        })
    };
    of(UsageWho::RUSAGE_SELF) + of(UsageWho::RUSAGE_CHILDREN)
}

/// Tells Kubernetes how it ended.
pub fn write_termination(path: Option<&Path>, code: &str, message: &str) {
    let Some(path) = path else { return };
    if let Err(error) = std::fs::write(path, termination(code, message, cpu_seconds())) {
        tracing::warn!("failed to write the termination message to {}: {error}", path.display());
    }
}

/// Kills this process if a test wants that at this step and it did not happen yet.
pub fn stop_if_asked(stop: Option<&Stop>, step: Step) {
    let Some(stop) = stop.filter(|stop| stop.at == step) else { return };
    if OpenOptions::new().write(true).create_new(true).open(&stop.once).is_ok() {
        tracing::warn!(?step, "killing myself, as a test asked");
        // Nothing can be done about a failure; the test will notice that the engine went on.
        let _ = raise(Signal::SIGKILL);
    }
}
