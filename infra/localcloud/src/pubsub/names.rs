//! Names of topics and subscriptions, and their targets of permissions.

use crate::{
    google::error::{Error, Result},
    identity::Target,
};

/// A name taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name<'a> {
    /// Project id.
    pub(super) project: &'a str,
    /// Last part.
    pub(super) id: &'a str,
}

/// Checks `projects/P/COLLECTION/ID`.
pub(super) fn check<'a>(collection: &str, name: &'a str) -> Result<Name<'a>> {
    let bad = || {
        Error::invalid(format!(
            "Invalid resource name given (name={name}). Refer to https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names for more information."
        ))
    };
    let mut parts = name.split('/');
    let (Some("projects"), Some(project), Some(found), Some(id), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(bad());
    };
    let shape = (3..=255).contains(&id.len())
        && id.starts_with(|c: char| c.is_ascii_alphabetic())
        && !id.starts_with("goog")
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~+%".contains(&byte));
    if found != collection || project.is_empty() || !shape {
        return Err(bad());
    }
    Ok(Name { project, id })
}

/// Project of `projects/P`.
pub(super) fn project(name: &str) -> Result<&str> {
    name.strip_prefix("projects/")
        .filter(|project| !project.is_empty() && !project.contains('/'))
        .ok_or_else(|| Error::invalid(format!("Invalid project name given (name={name}).")))
}

/// 404, in Pub/Sub's words.
pub(super) fn missing(name: &str) -> Error {
    Error::not_found(format!("Resource not found (resource={}).", name.rsplit('/').next().unwrap_or(name)))
}

/// A topic as a target of permissions.
pub(super) fn topic_target(name: &str) -> Target {
    Target::resource(name, "pubsub.googleapis.com/Topic", "pubsub.googleapis.com")
}

/// A subscription as a target of permissions.
pub(super) fn subscription_target(name: &str) -> Target {
    Target::resource(name, "pubsub.googleapis.com/Subscription", "pubsub.googleapis.com")
}
