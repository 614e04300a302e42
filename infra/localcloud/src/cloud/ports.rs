//! The ports of a laptop cloud, saved with its data, so that deployed services find its APIs after a restart.

use std::{
    io,
    net::{Ipv4Addr, TcpListener},
    ops::Range,
    path::Path,
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::{files, google};

/// The file in the folder of the data.
const FILE: &str = "ports.json";

/// Ports that are chosen to be saved. Systems give those from 16,000 on to connections of any program, which would be in
/// the way of a restart.
const CHOSEN: Range<u16> = 10_000..16_000;
const TRIES: usize = 1000;

/// Every port; 0 picks a free one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ports {
    pub(super) google: google::Ports,
    pub(super) kubernetes: u16,
}

impl Ports {
    /// The ports that are saved with the data, or chosen ones if there are none.
    pub(super) fn read(data: &Path) -> anyhow::Result<Self> {
        let path = data.join(FILE);
        let context = || format!("read the ports of the laptop cloud in {}", path.display());
        match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::choose()),
            Err(error) => Err(error).with_context(context),
            Ok(text) => serde_json::from_slice(&text).with_context(context),
        }
    }

    fn choose() -> Self {
        // Held until all are chosen, so that they differ.
        let mut held = Vec::new();
        let mut free = || {
            let bind = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, rand::random_range(CHOSEN))).ok();
            let Some(found) = (0..TRIES).find_map(bind) else { return 0 };
            let port = found.local_addr().map_or(0, |address| address.port());
            held.push(found);
            port
        };
        let google = google::Ports {
            identity: free(),
            pubsub: free(),
            storage: free(),
            storage_tls: free(),
            container: free(),
            artifactregistry: free(),
            cloudbuild: free(),
            monitoring: free(),
        };
        Self { google, kubernetes: free() }
    }

    /// Saves them with the data.
    pub(super) fn write(&self, data: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(data).with_context(|| format!("make the folder {}", data.display()))?;
        files::write(&data.join(FILE), &serde_json::to_vec_pretty(self)?)
    }
}

/// The error of a start; if another program uses a port that is saved with the data, it says what to do.
pub(super) fn explain_taken(error: anyhow::Error, data: Option<&Path>) -> anyhow::Error {
    let is_taken = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref().is_some_and(|error: &io::Error| error.kind() == io::ErrorKind::AddrInUse)
    };
    match data.filter(|_| error.chain().any(is_taken)) {
        Some(data) => error.context(format!(
            "listen on the port that is saved with the data: another program uses it; end that program (`ss -ltnp` \
             shows it), or delete {} to get new ports, and then run `cargo xtask deploy`",
            data.join(FILE).display()
        )),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn chosen_ports_differ_and_are_kept_from_connections() {
        let ports = serde_json::to_value(Ports::choose()).unwrap();
        let google = ports["google"].as_object().unwrap().values();
        let all: BTreeSet<u64> = google.chain([&ports["kubernetes"]]).map(|port| port.as_u64().unwrap()).collect();
        assert_eq!(all.len(), 9, "{ports}");
        assert!(all.iter().all(|port| CHOSEN.contains(&u16::try_from(*port).unwrap())), "{ports}");
    }
}
