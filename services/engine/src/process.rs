//! The engine's own process: CPU time, termination message, and a kill on request of a test.

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
    let usage = |who| {
        getrusage(who).map_or(0.0, |usage| {
            let (user, system) = (usage.user_time(), usage.system_time());
            let micros = user.tv_usec() + system.tv_usec();
            (user.tv_sec() + system.tv_sec()) as f64 + micros as f64 * 1e-6
        })
    };
    usage(UsageWho::RUSAGE_SELF) + usage(UsageWho::RUSAGE_CHILDREN)
}

/// Writes the termination message, from which Kubernetes learns how the engine ended.
pub fn write_termination(path: Option<&Path>, code: &str, message: &str) {
    let Some(path) = path else { return };
    if let Err(error) = std::fs::write(path, termination(code, message, cpu_seconds())) {
        tracing::warn!("failed to write the termination message to {}: {error}", path.display());
    }
}

/// Kills this process if a test requests it at this step and it has not happened yet.
pub fn kill_if_requested(stop: Option<&Stop>, step: Step) {
    let Some(stop) = stop.filter(|stop| stop.at == step) else { return };
    if OpenOptions::new().write(true).create_new(true).open(&stop.once).is_ok() {
        tracing::warn!(?step, "killing this process, as a test requests");
        // The test notices if this fails.
        let _ = raise(Signal::SIGKILL);
    }
}
