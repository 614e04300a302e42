//! The machine that was measured on.

use std::fmt;

use serde::Serialize;

/// What a figure cannot be read without.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    /// Operating system and architecture.
    system: String,
    /// Name of the processor, where the system tells it.
    processor: String,
    /// Cores that this process may use.
    cores: usize,
    /// How the programs were built.
    profile: &'static str,
}

/// Looks at this machine.
pub(super) fn describe() -> Machine {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or_else(|| "unknown processor".to_owned(), |name| name.trim_start_matches([' ', '\t', ':']).to_owned());
    Machine {
        system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        processor,
        cores: std::thread::available_parallelism().map_or(1, Into::into),
        profile: if cfg!(debug_assertions) { "dev" } else { "optimized" },
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cores of {}, {}, {} profile; laptop cloud", self.cores, self.processor, self.system, self.profile)
    }
}
