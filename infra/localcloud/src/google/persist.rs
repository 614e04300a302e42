//! Saving Google Cloud to a folder and bringing it back.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::{
    artifactregistry::{self, Registry},
    container::{self, Container},
    files,
    identity::{self, Identity},
    monitoring::{self, Monitoring},
    pubsub::{self, Pubsub},
    storage::{self, Storage},
};

/// Name of the file with everything but data.
const FILE: &str = "google.json";
/// Name of the folder with data.
const DATA: &str = "objects";

#[derive(Serialize, Deserialize)]
struct Saved {
    identity: identity::State,
    pubsub: pubsub::persist::Saved,
    storage: storage::persist::Saved,
    #[serde(default)]
    container: container::State,
    #[serde(default)]
    registry: artifactregistry::State,
    #[serde(default)]
    monitoring: monitoring::State,
}

/// Saves and loads.
#[derive(Clone, Debug)]
pub struct Store {
    /// The folder.
    pub folder: PathBuf,
    /// Identities.
    pub identity: Arc<Identity>,
    /// Pub/Sub.
    pub pubsub: Arc<Pubsub>,
    /// Cloud Storage.
    pub storage: Arc<Storage>,
    /// Kubernetes Engine.
    pub container: Arc<Container>,
    /// Artifact Registry.
    pub registry: Arc<Registry>,
    /// Monitoring.
    pub monitoring: Arc<Monitoring>,
}

impl Store {
    /// Counts changes: the same number twice means nothing changed between.
    pub fn changes(&self) -> u64 {
        self.identity.changes()
            + self.pubsub.changes()
            + self.storage.changes()
            + self.container.changes()
            + self.registry.changes()
            + self.monitoring.changes()
    }

    /// Loads what the folder has; an empty folder is fine.
    ///
    /// # Errors
    /// When what is there cannot be read.
    pub fn load(&self) -> anyhow::Result<()> {
        let path = self.folder.join(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        let mut saved: Saved = serde_json::from_slice(&text).with_context(|| format!("parse {}", path.display()))?;
        let (own, other) = (self.identity.project(), saved.identity.project());
        anyhow::ensure!(
            own == other,
            "the data in {} is that of project {other}; give the laptop cloud of project {own} another folder",
            self.folder.display()
        );
        saved.storage.read_data(&self.folder.join(DATA))?;
        self.identity.restore(saved.identity);
        self.storage.restore(saved.storage);
        self.container.restore(saved.container);
        self.registry.restore(saved.registry);
        self.monitoring.restore(saved.monitoring);
        self.pubsub.restore(saved.pubsub).map_err(|error| anyhow::anyhow!("restore Pub/Sub: {}", error.message()))
    }

    /// Saves everything: data first, then the file that names it, then what is no longer needed goes.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn save(&self) -> anyhow::Result<()> {
        let saved = Saved {
            identity: self.identity.snapshot(),
            pubsub: self.pubsub.snapshot(),
            storage: self.storage.snapshot(),
            container: self.container.snapshot(),
            registry: self.registry.snapshot(),
            monitoring: self.monitoring.snapshot(),
        };
        let data = self.folder.join(DATA);
        saved.storage.write_data(&data)?;
        let text = serde_json::to_vec(&saved).context("write the state as JSON")?;
        files::write(&self.folder.join(FILE), &text)?;
        saved.storage.remove_data(&data)
    }
}
