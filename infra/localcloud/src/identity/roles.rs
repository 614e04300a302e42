//! Roles: the predefined ones we use, with their permissions, and the project's custom ones.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::policy::is_same_etag;
use crate::google::error::{Error, Result};

mod predefined;

/// How long a deleted role can be brought back; its id stays blocked for [`BLOCKED`] after that.
const UNDELETE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How long the id of a deleted role cannot be used again.
const BLOCKED: SignedDuration = SignedDuration::from_hours(37 * 24);

/// A custom role.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Role {
    /// Title.
    pub title: String,
    /// Description.
    pub description: String,
    /// Permissions.
    pub permissions: Vec<String>,
    /// Launch stage.
    pub stage: String,
    /// When it was deleted.
    pub deleted: Option<Timestamp>,
    /// Counts changes.
    pub revision: u64,
}

/// Custom roles of the project by id.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Roles {
    custom: BTreeMap<String, Role>,
}

impl Role {
    /// Etag of this state of the role.
    pub fn etag(&self) -> String {
        use base64::{Engine as _, prelude::BASE64_STANDARD};
        BASE64_STANDARD.encode(self.revision.to_be_bytes())
    }
}

impl Roles {
    /// True when the role can be granted on resources of `project`.
    pub fn exists(&self, project: &str, name: &str) -> bool {
        if name.starts_with("roles/") {
            return predefined::exists(name);
        }
        custom_id(project, name).is_some_and(|id| self.custom.get(id).is_some_and(|role| role.deleted.is_none()))
    }

    /// True when the role has the permission. A deleted role has none.
    pub fn has(&self, project: &str, name: &str, permission: &str) -> bool {
        if name.starts_with("roles/") {
            return predefined::has(name, permission);
        }
        custom_id(project, name)
            .and_then(|id| self.custom.get(id))
            .is_some_and(|role| role.deleted.is_none() && role.permissions.iter().any(|has| has == permission))
    }

    /// All custom roles by id.
    pub fn list(&self) -> impl Iterator<Item = (&String, &Role)> {
        self.custom.iter()
    }

    /// A custom role, deleted ones too.
    ///
    /// # Errors
    /// 404 when there is none.
    pub fn get(&self, id: &str) -> Result<&Role> {
        self.custom.get(id).ok_or_else(|| missing(id))
    }

    /// Makes a role.
    ///
    /// # Errors
    /// 400 for a bad id or permission or an id marked for deletion, 409 when it exists.
    pub fn create(&mut self, id: &str, role: Role, now: Timestamp) -> Result<Role> {
        let shape = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'));
        if !shape || !(3..=64).contains(&id.len()) {
            return Err(Error::invalid(format!(
                "The role_id ({id}) has 3 to 64 letters, digits, underscores and periods."
            )));
        }
        check_permissions(&role.permissions)?;
        match self.custom.get(id).map(|old| old.deleted) {
            Some(None) => {
                return Err(Error::exists(format!("A role named {id} in projects already exists.")));
            }
            Some(Some(deleted)) if now.duration_since(deleted) <= BLOCKED => {
                return Err(Error::failed_precondition(format!(
                    "You can't create a role with role_id ({id}) where there is an existing role with that role_id in \
                     a deleted state."
                )));
            }
            _ => {}
        }
        let role = Role { revision: 1, deleted: None, ..role };
        self.custom.insert(id.to_owned(), role.clone());
        Ok(role)
    }

    /// Changes a role by `change`, when `etag` is the one it has or none.
    ///
    /// # Errors
    /// 404, 409 for a stale etag, 400 for a bad permission or a deleted role.
    pub fn change(&mut self, id: &str, etag: Option<&str>, change: impl FnOnce(&mut Role)) -> Result<Role> {
        let role = self.custom.get_mut(id).ok_or_else(|| missing(id))?;
        check_etag(role, etag)?;
        if role.deleted.is_some() {
            return Err(Error::failed_precondition(format!("You can't update role_id ({id}) since it is deleted.")));
        }
        let mut changed = role.clone();
        change(&mut changed);
        check_permissions(&changed.permissions)?;
        changed.revision += 1;
        role.clone_from(&changed);
        Ok(changed)
    }

    /// Deletes a role softly; deleting it again is an error, as it is at Google.
    ///
    /// # Errors
    /// 404, 409 for a stale etag, 400 when it is deleted already.
    pub fn delete(&mut self, id: &str, etag: Option<&str>, now: Timestamp) -> Result<Role> {
        let role = self.custom.get_mut(id).ok_or_else(|| missing(id))?;
        check_etag(role, etag)?;
        if role.deleted.is_some() {
            return Err(Error::failed_precondition(format!(
                "You can't delete role_id ({id}) since it is already deleted."
            )));
        }
        role.deleted = Some(now);
        role.revision += 1;
        Ok(role.clone())
    }

    /// Brings a deleted role back.
    ///
    /// # Errors
    /// 404, 409 for a stale etag, 400 when it is not deleted or it is too late.
    pub fn undelete(&mut self, id: &str, etag: Option<&str>, now: Timestamp) -> Result<Role> {
        let role = self.custom.get_mut(id).ok_or_else(|| missing(id))?;
        check_etag(role, etag)?;
        match role.deleted {
            Some(deleted) if now.duration_since(deleted) <= UNDELETE => {
                role.deleted = None;
                role.revision += 1;
                Ok(role.clone())
            }
            Some(_) => Err(Error::failed_precondition(format!(
                "The role_id ({id}) has been marked for deletion and can't be undeleted any more."
            ))),
            None => Err(Error::failed_precondition(format!("The role_id ({id}) is not deleted."))),
        }
    }
}

fn missing(id: &str) -> Error {
    Error::not_found(format!("The role named {id} was not found."))
}

fn check_etag(role: &Role, etag: Option<&str>) -> Result<()> {
    match etag {
        Some(etag) if !etag.is_empty() && !is_same_etag(etag, &role.etag()) => {
            Err(Error::aborted("There were concurrent changes to the role. Please retry with its current etag."))
        }
        _ => Ok(()),
    }
}

fn custom_id<'a>(project: &str, name: &'a str) -> Option<&'a str> {
    name.strip_prefix("projects/")?.strip_prefix(project)?.strip_prefix("/roles/")
}

fn check_permissions(permissions: &[String]) -> Result<()> {
    match permissions.iter().find(|permission| !is_permission(permission)) {
        Some(bad) => Err(Error::invalid(format!("Permission {bad} is not valid."))),
        None => Ok(()),
    }
}

/// True for `service.resource.verb`.
pub fn is_permission(text: &str) -> bool {
    text.split('.').count() >= 3
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.split('.').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}
