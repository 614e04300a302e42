//! Another project, and the keys and service agents that services use.

use serde_json::Value;

use super::{Identity, Target, principal::Principal};
use crate::google::error::{Error, Result};

/// A project that somebody else looks after, and whose network and keys the cloud's own project may use.
#[derive(Clone, Debug, Default)]
pub struct Neighbour {
    /// Project id.
    pub project: String,
    /// Whether the cloud's own project is attached to it as its Shared VPC host.
    pub is_host: bool,
    /// Its network.
    pub network: String,
    /// Its subnetwork, `regions/REGION/subnetworks/NAME`.
    pub subnetwork: String,
    /// Names of the secondary ranges of the subnetwork.
    pub ranges: Vec<String>,
    /// Its grants: resource, role, member.
    pub grants: Vec<(String, String, String)>,
}

impl Identity {
    /// The other project, if that is its id.
    pub fn neighbour(&self, project: &str) -> Option<&Neighbour> {
        self.neighbour.as_ref().filter(|neighbour| neighbour.project == project)
    }

    /// The host project of the Shared VPC that the project is attached to.
    pub fn host(&self) -> Option<&Neighbour> {
        self.neighbour.as_ref().filter(|neighbour| neighbour.is_host)
    }

    /// A service agent of the project, `service-NUMBER@…`.
    pub fn agent(&self, of: &str) -> Principal {
        let email = format!("service-{}@{of}.iam.gserviceaccount.com", self.number());
        Principal::ServiceAccount { email, uid: None }
    }

    /// Makes a service agent, as Google does when somebody asks for it. Policies do not know it for a while.
    pub(super) fn make_agent(&self, of: &str) -> Principal {
        let agent = self.agent(of);
        let email = agent.to_string();
        if !self.read().accounts.has_agent(&email) {
            self.write().accounts.add_agent(&email);
            self.young.account(&email, self.clock.now());
        }
        agent
    }

    /// Google's agent that publishes bucket notifications; whoever asks for it makes it.
    pub fn storage_agent(&self) -> Principal {
        self.make_agent("gs-project-accounts")
    }

    /// Refuses a key, if one is named, that the agent of a service may not use for something in `location`: its role
    /// may be on the key, the key ring or the project of the key.
    ///
    /// # Errors
    /// 400 for a key of another location, and `refused` with the agent.
    pub fn need_key(
        &self,
        agent: &str,
        key: &Value,
        location: &str,
        refused: impl FnOnce(&Principal) -> Error,
    ) -> Result<()> {
        let Some(key) = key.as_str().filter(|key| !key.is_empty()) else { return Ok(()) };
        let place = key.split('/').nth(3).unwrap_or_default();
        if !place.eq_ignore_ascii_case(location) && place != "global" {
            return Err(Error::invalid(format!("The Cloud KMS key {key} is in {place}, and not in {location}.")));
        }
        let agent = self.agent(agent);
        let ring = key.split("/cryptoKeys/").next().unwrap_or_default();
        let may = |permission: &str| [key, ring].iter().any(|on| self.allowed(&agent, permission, &key_target(on)));
        let permissions = ["cloudkms.cryptoKeyVersions.useToEncrypt", "cloudkms.cryptoKeyVersions.useToDecrypt"];
        if permissions.iter().all(|permission| may(permission)) { Ok(()) } else { Err(refused(&agent)) }
    }

    /// As [`Self::need_key`], in the words of Key Management, which Compute Engine and others repeat
    /// (terraform-provider-google #5103).
    ///
    /// # Errors
    /// As [`Self::need_key`].
    pub fn need_key_of(&self, agent: &str, key: &Value, location: &str) -> Result<()> {
        self.need_key(agent, key, location, |_| {
            Error::invalid(format!(
                "Permission 'cloudkms.cryptoKeyVersions.useToEncrypt' denied on resource '{}' (or it may not exist).",
                key.as_str().unwrap_or_default()
            ))
        })
    }
}

/// A key or a key ring as a target of permissions.
pub(super) fn key_target(name: &str) -> Target {
    let project = name.split('/').nth(1).unwrap_or_default();
    Target::resource(name, "cloudkms.googleapis.com/CryptoKey", "cloudkms.googleapis.com").within(project)
}
