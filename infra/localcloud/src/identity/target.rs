//! Resources as permissions are checked on them.

use std::collections::BTreeMap;

/// A resource that a permission is checked on.
#[derive(Clone, Debug)]
pub struct Target {
    /// Resource that has the policy, besides the project; none for the project itself.
    pub policy: Option<String>,
    /// Project whose policy holds for it too; the cloud's own one without.
    pub home: Option<String>,
    /// `resource.name` of conditions.
    pub name: String,
    /// `resource.type` of conditions.
    pub kind: &'static str,
    /// `resource.service` of conditions.
    pub service: &'static str,
    /// `api.getAttribute` of conditions.
    pub attributes: BTreeMap<&'static str, String>,
}

impl Target {
    /// The project itself.
    pub fn project(project: &str) -> Self {
        Self {
            policy: None,
            home: None,
            name: format!("projects/{project}"),
            kind: "cloudresourcemanager.googleapis.com/Project",
            service: "cloudresourcemanager.googleapis.com",
            attributes: BTreeMap::new(),
        }
    }

    /// A resource with a policy of its own.
    pub fn resource(name: impl Into<String>, kind: &'static str, service: &'static str) -> Self {
        let name = name.into();
        Self { policy: Some(name.clone()), home: None, name, kind, service, attributes: BTreeMap::new() }
    }

    /// The same in a project, which may be another one.
    #[must_use]
    pub fn within(self, project: &str) -> Self {
        Self { home: Some(project.to_owned()), ..self }
    }
}

/// Name of the policy of the project.
pub fn project_policy(project: &str) -> String {
    format!("projects/{project}")
}
