//! The ports of a laptop cloud, saved with its data, so that deployed services find its APIs after a restart.

use std::{io, path::Path};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::{files, google};

/// The file in the folder of the data.
const FILE: &str = "ports.json";

/// Every port; 0 picks a free one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ports {
    pub(super) google: google::Ports,
    pub(super) kubernetes: u16,
}

impl Ports {
    /// The ports that are saved with the data, or free ones if there are none.
    pub(super) fn read(data: &Path) -> anyhow::Result<Self> {
        let path = data.join(FILE);
        let context = || format!("read the ports of the laptop cloud in {}", path.display());
        match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(context),
            Ok(text) => serde_json::from_slice(&text).with_context(context),
        }
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
