//! A temporary environment with its own laptop cloud, for the demo and the bench.

use std::{
    path::{Path, PathBuf},
    process::Child,
};

use anyhow::Context as _;
use cli::Context;
use provision::{Environment, LocalState, environment};

use crate::{
    context,
    globals::Globals,
    laptop::{Laptop, Start},
    verbs::local,
};

pub mod leftovers;

/// A temporary environment. Dropping it stops the cloud and removes the folder.
pub struct Stage {
    environment: Environment,
    file: PathBuf,
    folder: PathBuf,
    laptop: Laptop,
    cloud: Option<(LocalState, Child)>,
    kept: bool,
}

impl Stage {
    /// Writes the environment file, under a unique name that begins with `prefix`.
    ///
    /// # Errors
    /// When the text is no environment, or the folder cannot be written to.
    pub fn make(prefix: &str, text: &str) -> anyhow::Result<Self> {
        let name = format!("{prefix}-{}", std::process::id());
        let folder = context::root().join(context::GENERATED).join(&name);
        let file = folder.join(format!("{name}.toml"));
        // A process of the same number may have left its folder behind when it was killed.
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).with_context(|| format!("make the folder {}", folder.display()))?;
        std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
        // No overrides from this shell: it is the same everywhere.
        let environment = environment::load(&file, &environment::Overrides::new())?;
        let laptop = Laptop::new(&environment);
        Ok(Self { environment, file, folder, laptop, cloud: None, kept: false })
    }

    /// The environment.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Its file.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// The folder that is removed with it.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Replaces the environment, after its file changed.
    pub(crate) fn set_environment(&mut self, environment: Environment) {
        self.environment = environment;
    }

    /// The generated configuration, once it is set up.
    pub fn config(&self) -> PathBuf {
        context::generated(&self.environment).join(context::CONFIG_FILE)
    }

    /// What other programs need in their environment to use its cloud, as `local env` prints it.
    pub fn variables(&self) -> Vec<(String, String)> {
        let state = self.cloud.as_ref().map(|(state, _)| state);
        state.map(|state| local::exports(&self.environment.name, state)).unwrap_or_default()
    }

    /// The folder of the images of its nodes.
    pub fn images(&self) -> PathBuf {
        self.laptop.images()
    }

    /// Clients for it, once it is set up.
    ///
    /// # Errors
    /// When it is not set up.
    pub async fn context(&self) -> anyhow::Result<Context> {
        context::open_generated(
            &self.environment,
            &context::generated(&self.environment),
            format!(" --env {}", self.file.display()),
            &Globals::default(),
        )
        .await
    }

    /// Starts the laptop cloud; with a leash it ends with this process, however that ends. One that is `far` answers
    /// late and takes few object writes.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_cloud(&mut self, leash: bool, far: bool) -> anyhow::Result<()> {
        self.cloud = Some(self.laptop.start(&Start { leash, far, ..Start::default() })?);
        Ok(())
    }

    /// Stops everything, removes the folder, and returns what is left nevertheless.
    ///
    /// # Errors
    /// When the cloud does not stop, or the folder cannot be removed.
    pub fn remove(mut self) -> anyhow::Result<Vec<String>> {
        self.stop()?;
        let state = self.cloud.take().map(|(state, _)| state);
        Ok(leftovers::find(&self.folder, state.as_ref()))
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        self.laptop.stop()?;
        if let Some((_, child)) = &mut self.cloud {
            child.wait().context("wait for the laptop cloud")?;
        }
        match std::fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", self.folder.display()))
            }
            _ => Ok(()),
        }
    }

    /// Leaves the cloud running.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }

    /// Commands that show the environment.
    pub(crate) fn example_commands(&self) -> anyhow::Result<String> {
        let (state, _) = self.cloud.as_ref().context("find the laptop cloud")?;
        let file = self.file.strip_prefix(context::root()).unwrap_or(&self.file);
        let mut lines = vec![String::new(), "the laptop cloud runs on:".to_owned()];
        for (api, address) in local::addresses(state)? {
            lines.push(format!("  {api:<22} {address}"));
        }
        let project = &self.environment.project;
        let bucket = &self.environment.bucket;
        lines.extend([
            "try these commands:".to_owned(),
            format!("  eval \"$(cargo xtask --env {} local env)\"", file.display()),
            "  cargo xtask status".to_owned(),
            "  cargo xtask jobs --business bu1".to_owned(),
            "  kubectl get jobs -l business=bu1".to_owned(),
            "  kubectl logs --selector=app=orchestrator --tail 100".to_owned(),
            format!("  gcloud pubsub topics publish {project}-bu1-topic --message=\"engine payload 1\""),
            format!("  gcloud storage ls --recursive gs://{bucket}/bu1"),
            "and stop it with:".to_owned(),
            "  cargo xtask local down".to_owned(),
        ]);
        Ok(lines.join("\n"))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = self.stop()
        {
            tracing::error!("failed to stop the laptop cloud: {error:#}");
        }
    }
}
