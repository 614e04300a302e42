//! Service accounts and their keys: soft deletion, unique ids, name rules.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::target::Target;
use crate::google::error::{Error, Result};

/// Most user-managed keys of an account.
const KEYS_MAX: usize = 10;

/// A service account, live or deleted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Account {
    /// 21 digits; never used twice.
    pub uid: String,
    /// Email address.
    pub email: String,
    /// Display name.
    pub display_name: String,
    /// Description.
    pub description: String,
    /// Tokens are refused while this is set.
    pub disabled: bool,
    /// When it was deleted.
    pub deleted: Option<Timestamp>,
    /// Counts changes.
    pub revision: u64,
    /// User-managed keys by id.
    pub keys: BTreeMap<String, Key>,
}

/// A user-managed key. The private half is not kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Key {
    /// Public half, SPKI PEM.
    pub public_pem: String,
    /// When it was made.
    pub created: Timestamp,
}

/// All accounts of the project.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Accounts {
    project: String,
    by_uid: BTreeMap<String, Account>,
    live: BTreeMap<String, String>,
    /// Service agents of Google that somebody asked for.
    #[serde(default)]
    agents: BTreeSet<String>,
}

impl Accounts {
    /// No accounts yet.
    pub fn new(project: &str) -> Self {
        Self { project: project.to_owned(), ..Self::default() }
    }

    /// Id of their project.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// True for an address that the project's accounts have.
    pub fn is_ours(&self, email: &str) -> bool {
        email
            .strip_suffix(".iam.gserviceaccount.com")
            .and_then(|rest| rest.split_once('@'))
            .is_some_and(|(_, project)| project == self.project)
    }

    /// Whether an address is not that of a service agent that exists only once somebody asked for it.
    pub fn has_agent(&self, email: &str) -> bool {
        let asked_for = email
            .strip_prefix("service-")
            .and_then(|rest| rest.split_once('@'))
            .is_some_and(|(_, domain)| domain.starts_with("gcp-sa-") || domain.starts_with("gs-project-accounts."));
        !asked_for || self.agents.contains(email)
    }

    /// Notes that a service agent exists.
    pub fn add_agent(&mut self, email: &str) {
        self.agents.insert(email.to_owned());
    }

    /// Unique id of the live account with this address.
    pub fn uid_of(&self, email: &str) -> Option<&str> {
        self.live.get(email).map(String::as_str)
    }

    /// True when the account with this id is not deleted. Ids that are not ours count as deleted.
    pub fn is_live(&self, uid: &str) -> bool {
        self.by_uid.get(uid).is_some_and(|account| account.deleted.is_none())
    }

    /// Live account by address or unique id.
    ///
    /// # Errors
    /// 404 "Unknown service account".
    pub fn get(&self, name: &str) -> Result<&Account> {
        let uid = self.live.get(name).map_or(name, String::as_str);
        self.by_uid
            .get(uid)
            .filter(|account| account.deleted.is_none())
            .ok_or_else(|| Error::not_found("Unknown service account"))
    }

    /// Live account by address or unique id, to change it.
    ///
    /// # Errors
    /// 404 "Unknown service account".
    pub fn get_mut(&mut self, name: &str) -> Result<&mut Account> {
        let uid = self.get(name)?.uid.clone();
        self.by_uid.get_mut(&uid).ok_or_else(|| Error::not_found("Unknown service account"))
    }

    /// Live accounts by address.
    pub fn list(&self) -> impl Iterator<Item = &Account> {
        self.live.values().filter_map(|uid| self.by_uid.get(uid))
    }

    /// Makes an account.
    ///
    /// # Errors
    /// 400 for a bad id, 409 when it exists.
    pub fn create(&mut self, id: &str, uid: String, display_name: String, description: String) -> Result<Account> {
        check_id(id)?;
        check_texts(&display_name, &description)?;
        let email = format!("{id}@{}.iam.gserviceaccount.com", self.project);
        if self.live.contains_key(&email) {
            return Err(Error::exists(format!(
                "Service account {id} already exists within project projects/{}.",
                self.project
            )));
        }
        let account = Account {
            uid: uid.clone(),
            email: email.clone(),
            display_name,
            description,
            disabled: false,
            deleted: None,
            revision: 1,
            keys: BTreeMap::new(),
        };
        self.live.insert(email, uid.clone());
        self.by_uid.insert(uid, account.clone());
        Ok(account)
    }

    /// Deletes an account; policies go on naming it as deleted.
    ///
    /// # Errors
    /// 404 when there is none.
    pub fn delete(&mut self, name: &str, now: Timestamp) -> Result<()> {
        let account = self.get_mut(name)?;
        account.deleted = Some(now);
        let email = account.email.clone();
        self.live.remove(&email);
        Ok(())
    }
}

impl Account {
    /// Name of its policy; by unique id, so that a new account of the same address begins without one.
    pub fn policy(&self) -> String {
        format!("serviceAccounts/{}", self.uid)
    }

    /// The account as a target of permissions.
    pub fn target(&self) -> Target {
        Target {
            policy: Some(self.policy()),
            home: None,
            name: format!("projects/-/serviceAccounts/{}", self.uid),
            kind: "iam.googleapis.com/ServiceAccount",
            service: "iam.googleapis.com",
            attributes: BTreeMap::new(),
        }
    }

    /// Etag of this state of the account.
    pub fn etag(&self) -> String {
        use base64::{Engine as _, prelude::BASE64_STANDARD};
        BASE64_STANDARD.encode(format!("{}:{}", &self.uid[self.uid.len().saturating_sub(6)..], self.revision))
    }

    /// Adds a key.
    ///
    /// # Errors
    /// 400 FAILED_PRECONDITION at ten keys.
    pub fn add_key(&mut self, id: String, key: Key) -> Result<()> {
        if self.keys.len() >= KEYS_MAX {
            return Err(Error::failed_precondition("Precondition check failed."));
        }
        self.keys.insert(id, key);
        Ok(())
    }
}

fn check_id(id: &str) -> Result<()> {
    let shape = id.starts_with(|c: char| c.is_ascii_lowercase())
        && !id.ends_with('-')
        && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if shape && (6..=30).contains(&id.len()) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "Invalid service account id {id:?}: it has 6 to 30 lower-case letters, digits and inner dashes and starts with \
         a letter ([a-z]([-a-z0-9]*[a-z0-9]))."
    )))
}

/// Checks the free texts of an account.
///
/// # Errors
/// 400 when one is too long.
pub fn check_texts(display_name: &str, description: &str) -> Result<()> {
    if display_name.len() > 100 {
        return Err(Error::invalid("The display name has at most 100 bytes."));
    }
    if description.len() > 256 {
        return Err(Error::invalid("The description has at most 256 bytes."));
    }
    Ok(())
}
