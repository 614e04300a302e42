//! How to deploy, and which part of an environment.

use std::{path::PathBuf, time::Duration};

use super::{Foreign, LIMIT, Patience};
use crate::manifests::{Extras, Images};

/// How to deploy.
#[derive(Clone, Debug)]
pub struct Options {
    /// Images to run.
    pub images: Images,
    /// What is deployed beside the businesses, where it can be.
    pub extras: Extras,
    /// Folder that what was rendered is written to.
    pub folder: PathBuf,
    /// Only this part; what is written down is still everything.
    pub only: Only,
    /// Namespaces of our names that somebody else made.
    pub foreign: Foreign,
    /// Take over fields that others own.
    pub force_conflicts: bool,
    /// Roll back when an object is refused or a rollout fails.
    pub rollback: bool,
    /// How long a rollout may take; a safety net.
    pub limit: Duration,
    /// How long each kind of problem may last before it counts as a failure.
    pub patience: Patience,
}

impl Options {
    /// Deploys everything, refuses what somebody else owns, and does not roll back.
    pub fn new(images: Images, folder: PathBuf) -> Self {
        Self {
            images,
            extras: Extras::default(),
            folder,
            only: Only::Everything,
            foreign: Foreign::Refuse,
            force_conflicts: false,
            rollback: false,
            limit: LIMIT,
            patience: Patience::GOOGLE,
        }
    }

    pub(super) fn includes(&self, business: &str) -> bool {
        match &self.only {
            Only::Everything => true,
            Only::Business(only) => only == business,
            Only::Web => false,
        }
    }
}

/// What of an environment is deployed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Only {
    /// All of it; what is not wanted any more is taken away.
    #[default]
    Everything,
    /// One business, and the web apps, whose configuration names it.
    Business(String),
    /// The web apps, after a business was removed.
    Web,
}
