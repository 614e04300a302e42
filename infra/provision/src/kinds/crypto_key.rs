//! Keys of Cloud KMS, which only a policy is on: they are never read, created or changed.
//!
//! A service encrypts with a key as its own service agent, which needs a role on the key first:
//! cloud.google.com/storage/docs/encryption/using-customer-managed-keys, cloud.google.com/pubsub/docs/encryption,
//! cloud.google.com/kubernetes-engine/docs/how-to/encrypting-secrets,
//! cloud.google.com/kubernetes-engine/docs/how-to/using-cmek, cloud.google.com/artifact-registry/docs/cmek.

use super::*;
use crate::{
    desired::agent,
    environment::{Manage, Managed},
};

mod usable;

pub(crate) const RULES: Rules = Rules {
    noun: "key",
    api: Api::CloudKms,
    checks: &[|environment, client, _| Box::pin(usable::check(environment, client))],
    ..project::RULES
};

/// The methods of checks of keys, beside those of the kind.
pub(crate) const CHECK_METHODS: &[&str] = &[
    "cloudkms.projects.locations.keyRings.getIamPolicy",
    "cloudkms.projects.locations.keyRings.cryptoKeys.get",
    "cloudkms.projects.locations.keyRings.cryptoKeys.testIamPermissions",
];

/// Encrypts and decrypts with a key.
pub(crate) const ENCRYPTER: &str = "roles/cloudkms.cryptoKeyEncrypterDecrypter";

/// A class of resources that a key of the environment file encrypts.
pub(crate) struct Class {
    /// Its name under `[security.kms_keys]`.
    pub(crate) name: &'static str,
    /// The service that they are of.
    pub(crate) service: &'static str,
    /// The service agent that encrypts, by the domain of its email.
    pub(crate) agent: &'static str,
    /// Who creates the resources.
    managed: fn(&Manage) -> Managed,
}

impl Class {
    /// Whether we create its resources.
    pub(crate) fn is_ours(&self, environment: &Environment) -> bool {
        (self.managed)(&environment.manage) == Managed::Create
    }
}

pub(crate) const CLASSES: [Class; 5] = [
    Class { name: "bucket", service: "storage", agent: "gs-project-accounts", managed: |manage| manage.bucket },
    Class { name: "pubsub", service: "pubsub", agent: "gcp-sa-pubsub", managed: |manage| manage.pubsub },
    Class { name: "cluster", service: "container", agent: "container-engine-robot", managed: |manage| manage.cluster },
    Class { name: "disks", service: "compute", agent: "compute-system", managed: |manage| manage.cluster },
    Class {
        name: "registry",
        service: "artifactregistry",
        agent: "gcp-sa-artifactregistry",
        managed: |manage| manage.registry,
    },
];

/// The keys that we encrypt with: each class with its key.
pub(crate) fn used(environment: &Environment) -> impl Iterator<Item = (&'static Class, &str)> {
    CLASSES.iter().filter_map(|class| {
        let key = environment.security.kms_keys.get(class.name)?;
        class.is_ours(environment).then_some((class, key.as_str()))
    })
}

/// The id of a key.
pub(crate) fn id(key: &str) -> Id {
    Id::new(Kind::CryptoKey, key)
}

/// The permissions that must exist before something that the keys of these classes encrypt.
pub(super) fn permissions(environment: &Environment, classes: &[&str]) -> Vec<Id> {
    let used = used(environment).filter(|(class, _)| classes.contains(&class.name));
    used.map(|(_, key)| id(key).policy()).collect()
}

/// The service whose agent has this email, if that agent does not exist until somebody asks for it.
fn service_of(member: &str) -> Option<(&str, &str)> {
    let (number, domain) = member.strip_prefix("serviceAccount:service-")?.split_once('@')?;
    let service = domain.strip_prefix("gcp-sa-")?.strip_suffix(".iam.gserviceaccount.com")?;
    Some((number, service))
}

/// Asks for the agents among these members: cloud.google.com/iam/docs/create-service-agents. One that exists stays as
/// it is.
pub(super) fn ask_for_agents<'a>(members: impl Iterator<Item = &'a str>) -> Vec<Request> {
    let asked = members.filter_map(service_of).map(|(number, service)| {
        let path = format!("v1beta1/projects/{number}/services/{service}.googleapis.com:generateServiceIdentity");
        Request::new(Api::ServiceUsage, crate::google::Method::Post, path)
    });
    asked.collect()
}

/// The commands that let the agent of a class use a key; `number` is the project's.
pub(crate) fn commands(environment: &Environment, class: &Class, key: &str, number: &str) -> Vec<String> {
    let member = agent(class.agent, number);
    let project = &environment.project;
    let ask = match (service_of(&member), class.name) {
        (Some((_, service)), _) => {
            Some(format!("gcloud beta services identity create --project {project} --service {service}.googleapis.com"))
        }
        (None, "bucket") => Some(format!("gcloud storage service-agent --project {project}")),
        _ => None,
    };
    let parts: Vec<&str> = key.split('/').collect();
    let part = |index: usize| parts.get(index).copied().unwrap_or_default();
    let grant = format!(
        "gcloud kms keys add-iam-policy-binding {} --project {} --location {} --keyring {} --member {member} --role \
         {ENCRYPTER}",
        part(7),
        part(1),
        part(3),
        part(5),
    );
    ask.into_iter().chain([grant]).collect()
}

/// Says what to do when a key may not be used.
pub(super) fn explain(error: Error) -> Error {
    if !error.is_key_denied() {
        return error;
    }
    let message = format!(
        "{}; the service's agent may not use the key: `cargo xtask doctor` shows the commands that grant it",
        error.message.trim_end_matches('.')
    );
    Error { message, ..error }
}
