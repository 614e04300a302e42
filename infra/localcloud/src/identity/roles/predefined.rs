//! The table of predefined roles: those the laptop cloud knows, with the permissions that matter here.

/// A predefined role.
#[derive(Clone, Copy, Debug)]
pub struct Predefined {
    /// `roles/…`
    pub name: &'static str,
    /// Title.
    pub title: &'static str,
    /// Permissions; a trailing `*` stands for everything that begins so.
    pub permissions: &'static [&'static str],
}

impl Predefined {
    /// True when the role has the permission.
    pub fn has(&self, permission: &str) -> bool {
        match self.name {
            "roles/owner" => !makes_tokens(permission),
            "roles/editor" => !is_protected(permission) && !permission.starts_with("storage.objects."),
            "roles/viewer" => {
                (permission.ends_with(".get") || permission.ends_with(".list"))
                    && !is_protected(permission)
                    && !permission.starts_with("storage.objects.")
            }
            _ => self.permissions.iter().any(|has| match has.strip_suffix('*') {
                Some(prefix) => permission.starts_with(prefix),
                None => *has == permission,
            }),
        }
    }
}

/// What only owners and administrators of access may do.
fn is_protected(permission: &str) -> bool {
    permission.ends_with(".setIamPolicy")
        || permission.starts_with("iam.roles.") && !permission.ends_with(".get") && !permission.ends_with(".list")
        || makes_tokens(permission)
}

/// What not even an owner may do without being granted it.
fn makes_tokens(permission: &str) -> bool {
    ["getAccessToken", "getOpenIdToken", "implicitDelegation", "signBlob", "signJwt"]
        .iter()
        .any(|verb| permission.ends_with(verb))
}

const fn role(name: &'static str, title: &'static str, permissions: &'static [&'static str]) -> Predefined {
    Predefined { name, title, permissions }
}

/// All of them.
pub const PREDEFINED: &[Predefined] = &[
    role("roles/owner", "Owner", &["*"]),
    role("roles/editor", "Editor", &["*"]),
    role("roles/viewer", "Viewer", &["*"]),
    role(
        "roles/browser",
        "Browser",
        &["resourcemanager.projects.get", "resourcemanager.projects.getIamPolicy", "resourcemanager.projects.list"],
    ),
    role(
        "roles/storage.admin",
        "Storage Admin",
        &["storage.*", "resourcemanager.projects.get", "resourcemanager.projects.list"],
    ),
    role(
        "roles/storage.objectAdmin",
        "Storage Object Admin",
        &[
            "storage.objects.*",
            "storage.folders.*",
            "storage.managedFolders.*",
            "storage.multipartUploads.*",
            "resourcemanager.projects.get",
        ],
    ),
    role(
        "roles/storage.objectUser",
        "Storage Object User",
        &[
            "storage.objects.create",
            "storage.objects.createContext",
            "storage.objects.delete",
            "storage.objects.get",
            "storage.objects.list",
            "storage.objects.move",
            "storage.objects.restore",
            "storage.objects.update",
            "storage.folders.*",
            "storage.managedFolders.create",
            "storage.managedFolders.delete",
            "storage.managedFolders.get",
            "storage.managedFolders.list",
            "storage.multipartUploads.*",
            "resourcemanager.projects.get",
        ],
    ),
    role(
        "roles/storage.objectViewer",
        "Storage Object Viewer",
        &[
            "storage.objects.get",
            "storage.objects.list",
            "storage.folders.get",
            "storage.folders.list",
            "storage.managedFolders.get",
            "storage.managedFolders.list",
            "resourcemanager.projects.get",
        ],
    ),
    role(
        "roles/storage.objectCreator",
        "Storage Object Creator",
        &[
            "storage.objects.create",
            "storage.folders.create",
            "storage.managedFolders.create",
            "storage.multipartUploads.abort",
            "storage.multipartUploads.create",
            "storage.multipartUploads.listParts",
            "resourcemanager.projects.get",
        ],
    ),
    role("roles/storage.bucketViewer", "Storage Bucket Viewer", &["storage.buckets.get", "storage.buckets.list"]),
    role(
        "roles/storage.legacyBucketOwner",
        "Storage Legacy Bucket Owner",
        &[
            "storage.buckets.get",
            "storage.buckets.getIamPolicy",
            "storage.buckets.setIamPolicy",
            "storage.buckets.update",
            "storage.objects.create",
            "storage.objects.delete",
            "storage.objects.list",
            "storage.multipartUploads.*",
        ],
    ),
    role(
        "roles/storage.legacyBucketReader",
        "Storage Legacy Bucket Reader",
        &["storage.buckets.get", "storage.objects.list", "storage.multipartUploads.list"],
    ),
    role(
        "roles/storage.legacyBucketWriter",
        "Storage Legacy Bucket Writer",
        &[
            "storage.buckets.get",
            "storage.objects.create",
            "storage.objects.delete",
            "storage.objects.list",
            "storage.multipartUploads.*",
        ],
    ),
    role(
        "roles/storage.legacyObjectOwner",
        "Storage Legacy Object Owner",
        &[
            "storage.objects.get",
            "storage.objects.getIamPolicy",
            "storage.objects.setIamPolicy",
            "storage.objects.update",
        ],
    ),
    role("roles/storage.legacyObjectReader", "Storage Legacy Object Reader", &["storage.objects.get"]),
    role(
        "roles/pubsub.admin",
        "Pub/Sub Admin",
        &["pubsub.*", "resourcemanager.projects.get", "serviceusage.services.list"],
    ),
    role(
        "roles/pubsub.editor",
        "Pub/Sub Editor",
        &[
            "pubsub.snapshots.*",
            "pubsub.schemas.*",
            "pubsub.subscriptions.consume",
            "pubsub.subscriptions.create",
            "pubsub.subscriptions.delete",
            "pubsub.subscriptions.get",
            "pubsub.subscriptions.list",
            "pubsub.subscriptions.update",
            "pubsub.topics.attachSubscription",
            "pubsub.topics.create",
            "pubsub.topics.delete",
            "pubsub.topics.detachSubscription",
            "pubsub.topics.get",
            "pubsub.topics.list",
            "pubsub.topics.publish",
            "pubsub.topics.update",
            "resourcemanager.projects.get",
        ],
    ),
    role("roles/pubsub.publisher", "Pub/Sub Publisher", &["pubsub.topics.publish"]),
    role(
        "roles/pubsub.subscriber",
        "Pub/Sub Subscriber",
        &["pubsub.snapshots.seek", "pubsub.subscriptions.consume", "pubsub.topics.attachSubscription"],
    ),
    role(
        "roles/pubsub.viewer",
        "Pub/Sub Viewer",
        &[
            "pubsub.schemas.get",
            "pubsub.schemas.list",
            "pubsub.snapshots.get",
            "pubsub.snapshots.list",
            "pubsub.subscriptions.get",
            "pubsub.subscriptions.list",
            "pubsub.topics.get",
            "pubsub.topics.list",
            "resourcemanager.projects.get",
            "serviceusage.services.list",
        ],
    ),
    role(
        "roles/iam.serviceAccountAdmin",
        "Service Account Admin",
        &[
            "iam.serviceAccounts.create",
            "iam.serviceAccounts.delete",
            "iam.serviceAccounts.disable",
            "iam.serviceAccounts.enable",
            "iam.serviceAccounts.get",
            "iam.serviceAccounts.getIamPolicy",
            "iam.serviceAccounts.list",
            "iam.serviceAccounts.setIamPolicy",
            "iam.serviceAccounts.undelete",
            "iam.serviceAccounts.update",
            "resourcemanager.projects.get",
        ],
    ),
    role(
        "roles/iam.serviceAccountCreator",
        "Create Service Accounts",
        &["iam.serviceAccounts.create", "iam.serviceAccounts.get", "iam.serviceAccounts.list"],
    ),
    role(
        "roles/iam.serviceAccountViewer",
        "View Service Accounts",
        &[
            "iam.serviceAccountKeys.get",
            "iam.serviceAccountKeys.list",
            "iam.serviceAccounts.get",
            "iam.serviceAccounts.getIamPolicy",
            "iam.serviceAccounts.list",
        ],
    ),
    role(
        "roles/iam.serviceAccountKeyAdmin",
        "Service Account Key Admin",
        &["iam.serviceAccountKeys.*", "iam.serviceAccounts.get", "iam.serviceAccounts.list"],
    ),
    role(
        "roles/iam.serviceAccountUser",
        "Service Account User",
        &[
            "iam.serviceAccounts.actAs",
            "iam.serviceAccounts.get",
            "iam.serviceAccounts.list",
            "resourcemanager.projects.get",
        ],
    ),
    role(
        "roles/iam.serviceAccountTokenCreator",
        "Service Account Token Creator",
        &[
            "iam.serviceAccounts.get",
            "iam.serviceAccounts.getAccessToken",
            "iam.serviceAccounts.getOpenIdToken",
            "iam.serviceAccounts.implicitDelegation",
            "iam.serviceAccounts.list",
            "iam.serviceAccounts.signBlob",
            "iam.serviceAccounts.signJwt",
        ],
    ),
    role(
        "roles/iam.workloadIdentityUser",
        "Workload Identity User",
        &[
            "iam.serviceAccounts.get",
            "iam.serviceAccounts.getAccessToken",
            "iam.serviceAccounts.getOpenIdToken",
            "iam.serviceAccounts.list",
        ],
    ),
    role(
        "roles/iam.roleAdmin",
        "Role Administrator",
        &["iam.roles.*", "resourcemanager.projects.get", "resourcemanager.projects.getIamPolicy"],
    ),
    role("roles/iam.roleViewer", "Role Viewer", &["iam.roles.get", "iam.roles.list", "resourcemanager.projects.get"]),
    role(
        "roles/iam.securityAdmin",
        "Security Admin",
        &[
            "iam.roles.get",
            "iam.roles.list",
            "iam.serviceAccounts.get",
            "iam.serviceAccounts.getIamPolicy",
            "iam.serviceAccounts.list",
            "iam.serviceAccounts.setIamPolicy",
            "pubsub.subscriptions.getIamPolicy",
            "pubsub.subscriptions.setIamPolicy",
            "pubsub.topics.getIamPolicy",
            "pubsub.topics.setIamPolicy",
            "resourcemanager.projects.get",
            "resourcemanager.projects.getIamPolicy",
            "resourcemanager.projects.setIamPolicy",
            "storage.buckets.getIamPolicy",
            "storage.buckets.list",
            "storage.buckets.setIamPolicy",
        ],
    ),
    role(
        "roles/resourcemanager.projectIamAdmin",
        "Project IAM Admin",
        &[
            "resourcemanager.projects.get",
            "resourcemanager.projects.getIamPolicy",
            "resourcemanager.projects.setIamPolicy",
        ],
    ),
    role(
        "roles/serviceusage.serviceUsageAdmin",
        "Service Usage Admin",
        &["serviceusage.*", "resourcemanager.projects.get"],
    ),
    role(
        "roles/serviceusage.serviceUsageConsumer",
        "Service Usage Consumer",
        &[
            "serviceusage.services.get",
            "serviceusage.services.list",
            "serviceusage.services.use",
            "serviceusage.operations.get",
        ],
    ),
    role(
        "roles/serviceusage.serviceUsageViewer",
        "Service Usage Viewer",
        &["serviceusage.services.get", "serviceusage.services.list", "serviceusage.operations.get"],
    ),
    role("roles/container.admin", "Kubernetes Engine Admin", &["container.*", "resourcemanager.projects.get"]),
    role(
        "roles/container.clusterAdmin",
        "Kubernetes Engine Cluster Admin",
        &[
            "container.clusters.*",
            "container.operations.get",
            "container.operations.list",
            "resourcemanager.projects.get",
        ],
    ),
    role(
        "roles/container.clusterViewer",
        "Kubernetes Engine Cluster Viewer",
        &[
            "container.clusters.connect",
            "container.clusters.get",
            "container.clusters.list",
            "resourcemanager.projects.get",
        ],
    ),
    role(
        "roles/container.developer",
        "Kubernetes Engine Developer",
        &[
            "container.clusters.connect",
            "container.clusters.get",
            "container.clusters.list",
            "container.configMaps.*",
            "container.deployments.*",
            "container.events.*",
            "container.jobs.*",
            "container.pods.*",
            "container.services.*",
            "container.serviceAccounts.*",
            "container.secrets.*",
            "resourcemanager.projects.get",
        ],
    ),
    role(
        "roles/container.viewer",
        "Kubernetes Engine Viewer",
        &[
            "container.clusters.connect",
            "container.clusters.get",
            "container.clusters.list",
            "container.jobs.get",
            "container.jobs.list",
            "container.pods.get",
            "container.pods.list",
            "container.pods.getLogs",
            "resourcemanager.projects.get",
        ],
    ),
    role(
        "roles/container.defaultNodeServiceAccount",
        "Kubernetes Engine Default Node Service Account",
        &[
            "autoscaling.sites.writeMetrics",
            "logging.logEntries.create",
            "logging.logEntries.route",
            "monitoring.metricDescriptors.create",
            "monitoring.metricDescriptors.list",
            "monitoring.timeSeries.create",
        ],
    ),
    role(
        "roles/container.nodeServiceAccount",
        "Kubernetes Engine Node Service Account",
        &[
            "autoscaling.sites.writeMetrics",
            "logging.logEntries.create",
            "monitoring.metricDescriptors.create",
            "monitoring.timeSeries.create",
            "storage.objects.get",
            "storage.objects.list",
        ],
    ),
    role("roles/artifactregistry.admin", "Artifact Registry Administrator", &["artifactregistry.*"]),
    role(
        "roles/artifactregistry.repoAdmin",
        "Artifact Registry Repository Administrator",
        &[
            "artifactregistry.repositories.*",
            "artifactregistry.dockerimages.*",
            "artifactregistry.tags.*",
            "artifactregistry.versions.*",
        ],
    ),
    role(
        "roles/artifactregistry.writer",
        "Artifact Registry Writer",
        &[
            "artifactregistry.dockerimages.get",
            "artifactregistry.dockerimages.list",
            "artifactregistry.repositories.downloadArtifacts",
            "artifactregistry.repositories.get",
            "artifactregistry.repositories.list",
            "artifactregistry.repositories.uploadArtifacts",
            "artifactregistry.tags.*",
        ],
    ),
    role(
        "roles/artifactregistry.reader",
        "Artifact Registry Reader",
        &[
            "artifactregistry.dockerimages.get",
            "artifactregistry.dockerimages.list",
            "artifactregistry.repositories.downloadArtifacts",
            "artifactregistry.repositories.get",
            "artifactregistry.repositories.list",
            "artifactregistry.tags.get",
            "artifactregistry.tags.list",
        ],
    ),
    role(
        "roles/cloudbuild.builds.editor",
        "Cloud Build Editor",
        &[
            "cloudbuild.builds.create",
            "cloudbuild.builds.get",
            "cloudbuild.builds.list",
            "cloudbuild.builds.update",
            "resourcemanager.projects.get",
        ],
    ),
    role(
        "roles/cloudbuild.builds.viewer",
        "Cloud Build Viewer",
        &["cloudbuild.builds.get", "cloudbuild.builds.list", "resourcemanager.projects.get"],
    ),
    role(
        "roles/cloudbuild.builds.builder",
        "Cloud Build Service Account",
        &[
            "artifactregistry.repositories.downloadArtifacts",
            "artifactregistry.repositories.get",
            "artifactregistry.repositories.uploadArtifacts",
            "cloudbuild.builds.*",
            "logging.logEntries.create",
            "pubsub.topics.create",
            "pubsub.topics.publish",
            "storage.buckets.create",
            "storage.buckets.get",
            "storage.buckets.list",
            "storage.objects.create",
            "storage.objects.delete",
            "storage.objects.get",
            "storage.objects.list",
            "storage.objects.update",
        ],
    ),
    role("roles/logging.logWriter", "Logs Writer", &["logging.logEntries.create", "logging.logEntries.route"]),
    role(
        "roles/logging.viewer",
        "Logs Viewer",
        &["logging.logEntries.list", "logging.logs.list", "resourcemanager.projects.get"],
    ),
    role(
        "roles/monitoring.metricWriter",
        "Monitoring Metric Writer",
        &[
            "monitoring.metricDescriptors.create",
            "monitoring.metricDescriptors.get",
            "monitoring.metricDescriptors.list",
            "monitoring.monitoredResourceDescriptors.get",
            "monitoring.monitoredResourceDescriptors.list",
            "monitoring.timeSeries.create",
        ],
    ),
    role(
        "roles/monitoring.viewer",
        "Monitoring Viewer",
        &[
            "monitoring.metricDescriptors.get",
            "monitoring.metricDescriptors.list",
            "monitoring.timeSeries.list",
            "resourcemanager.projects.get",
        ],
    ),
    role(
        "roles/stackdriver.resourceMetadata.writer",
        "Stackdriver Resource Metadata Writer",
        &["stackdriver.resourceMetadata.write"],
    ),
    role("roles/autoscaling.metricsWriter", "Autoscaling Metrics Writer", &["autoscaling.sites.writeMetrics"]),
    role("roles/secretmanager.secretAccessor", "Secret Manager Secret Accessor", &["secretmanager.versions.access"]),
    role(
        "roles/compute.networkUser",
        "Compute Network User",
        &["compute.networks.get", "compute.networks.use", "compute.subnetworks.get", "compute.subnetworks.use"],
    ),
    role(
        "roles/compute.viewer",
        "Compute Viewer",
        &["compute.networks.get", "compute.networks.list", "compute.subnetworks.get", "compute.subnetworks.list"],
    ),
];
