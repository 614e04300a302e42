//! The image registry.

use super::{Id, Kind, Managed, Resources, json};

/// Images without a tag are deleted when they are this old.
const UNTAGGED: &str = "2592000s";
/// So many of the newest versions of each image stay, whatever their age.
const KEPT: u32 = 10;

impl Resources<'_> {
    pub(super) fn registry(&mut self) {
        let managed = self.environment.manage.registry;
        let mut fields = json!({"format": "DOCKER"});
        if managed == Managed::Create {
            fields["labels"] = self.labels(None);
            fields["cleanupPolicies"] = json!({
                "delete-untagged": {
                    "id": "delete-untagged",
                    "action": "DELETE",
                    "condition": {"tagState": "UNTAGGED", "olderThan": UNTAGGED},
                },
                "keep-newest": {"id": "keep-newest", "action": "KEEP", "mostRecentVersions": {"keepCount": KEPT}},
            });
            fields["cleanupPolicyDryRun"] = json!(false);
            if let Some(key) = self.environment.security.kms_keys.get("registry") {
                fields["kmsKeyName"] = json!(key);
            }
        }
        self.add(self.registry_id(), None, managed, fields, vec![]);
    }

    pub(super) fn registry_id(&self) -> Id {
        let environment = self.environment;
        let name = format!(
            "projects/{}/locations/{}/repositories/{}",
            environment.project, environment.location, environment.build.registry
        );
        Id::new(Kind::Registry, name)
    }
}
