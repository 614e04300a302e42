//! The machine that was measured on.

use std::fmt;

use serde::Serialize;

/// Whether this program, and so what it measures, was built with the profile `optimized`.
pub(super) const IS_OPTIMIZED: bool = !cfg!(debug_assertions);

/// The machine that the figures are from.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    /// Operating system and architecture.
    system: String,
    /// Name of the processor, where the system reports it.
    processor: String,
    /// Cores that this process may use.
    cores: usize,
    /// How the programs were built.
    profile: &'static str,
}

/// Describes this machine.
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
        profile: if IS_OPTIMIZED { "optimized" } else { "dev" },
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cores of {}, {}, {} profile; laptop cloud", self.cores, self.processor, self.system, self.profile)
    }
}
