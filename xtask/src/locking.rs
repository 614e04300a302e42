//! The lock between operators: how the verbs take it, and the messages about it.

use std::{sync::Arc, time::Duration};

use cli::output::Output;
use jiff::Timestamp;
use provision::lock::{Event, Holder, Judgement, Notify, Record, Settings};

use crate::globals::Globals;

/// How long to wait for somebody else.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct LockArgs {
    /// Longest time to wait while somebody else works on the environment, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    lock_wait: u64,
}

impl LockArgs {
    /// How a verb takes the lock.
    pub(crate) fn settings(&self, globals: &Globals, verb: &str, output: &Output) -> Settings {
        let holder = holder(globals.impersonated());
        Settings::new(holder, verb, Duration::from_secs(self.lock_wait), notify(output))
    }
}

fn notify(output: &Output) -> Notify {
    let output = *output;
    Arc::new(move |event| match event {
        Event::Waiting(record) => {
            let whose = Record::describe(record, Timestamp::now());
            output.note(format_args!("  waiting: somebody else works on the environment: {whose}"));
        }
        Event::TakenOver(record, judgement) => {
            let why = match judgement {
                Judgement::Dead => "its process is gone",
                _ => "it was not renewed",
            };
            let whose = Record::describe(record, Timestamp::now());
            output.note(format_args!("  took the lock over, since {why}: {whose}"));
        }
        Event::Without => output.detail("there is no bucket to hold the lock; continuing without it"),
        Event::Kept(why) => output.warn(format_args!("the lock was not released ({why}); it expires by itself")),
    })
}

/// Who this process is to other operators.
fn holder(stands_for: Option<&str>) -> Holder {
    let variables = contract::config::variables();
    let named = |names: &[&str]| names.iter().find_map(|name| variables.get(*name).filter(|value| !value.is_empty()));
    let who = named(&["USER", "LOGNAME", "USERNAME"]).map_or("somebody", String::as_str);
    let read = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let host = read("/proc/sys/kernel/hostname").or_else(|| named(&["HOSTNAME", "HOST"]).cloned()).or_else(|| {
        let asked = std::process::Command::new("hostname").output().ok()?;
        Some(String::from_utf8_lossy(&asked.stdout).trim().to_owned())
    });
    let space = read("/proc/sys/kernel/random/boot_id").and_then(|boot| {
        let processes = std::fs::read_link("/proc/self/ns/pid").ok()?;
        Some(format!("{boot} {}", processes.display()))
    });
    Holder {
        who: stands_for.map_or_else(|| who.to_owned(), |account| format!("{who} as {account}")),
        host: host.filter(|host| !host.is_empty()).unwrap_or_else(|| "a machine without a name".to_owned()),
        process: std::process::id(),
        space,
    }
}
