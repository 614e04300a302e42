//! Who may do what: one table for every business and one for the environment, from which every grant is made.

use contract::{names, object};

use super::{
    BTreeSet, Business, Condition, Environment, Grant, Id, Kind, Managed, NODES, PROJECT_NUMBER, Resources, agent,
};
pub use crate::kinds::role::{LISTER_ROLE, MARKER_ROLE};
use crate::{
    environment::{Auth, Builder},
    kinds::{bucket, crypto_key, registry, role, service_account, subscription, topic},
};

/// Whom a row of the table is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// A business's client.
    Client,
    /// A business's orchestrator.
    Orchestrator,
    /// A business's engine.
    Engine,
    /// The client web app, of every business it serves.
    WebClient,
    /// The monitor web app, of every business it serves.
    WebMonitor,
    /// Google's agent that sends notifications of uploads, for businesses with `submit_on_upload`.
    StorageAgent,
    /// The agents of services that encrypt with a key.
    Encrypters,
    /// The nodes of the cluster.
    Nodes,
    /// The image builder.
    Builder,
}

/// What a row of the table is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Objects of the business under these parts; all of its objects without one.
    Objects(&'static [&'static str]),
    /// The names of all objects of the business's bucket, or of the environment's.
    Names,
    /// The topic.
    Topic,
    /// The events topic.
    Events,
    /// The subscription, and the one for priority.
    Subscriptions,
    /// Objects under this prefix of the environment's bucket.
    Prefix(&'static str),
    /// The image registry.
    Registry,
    /// The keys of the environment, each for the agents of the services that encrypt with it.
    Keys,
    /// The whole project.
    Project,
}

/// One row: a role of somebody on something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Who.
    pub who: Who,
    /// `roles/…`, or [`LISTER_ROLE`] or [`MARKER_ROLE`].
    pub role: &'static str,
    /// On what.
    pub on: On,
}

const fn row(who: Who, role: &'static str, on: On) -> Row {
    Row { who, role, on }
}

/// What holds for every business.
pub const BUSINESS: &[Row] = &[
    row(Who::Client, "roles/storage.objectCreator", On::Objects(&["input", "common"])),
    row(Who::Client, "roles/storage.objectViewer", On::Objects(&["output", "outcome"])),
    row(Who::Client, LISTER_ROLE, On::Names),
    row(Who::Client, "roles/pubsub.publisher", On::Topic),
    // Before it uploads, a client lists the subscriptions of its topic (pubsub.topics.get).
    row(Who::Client, "roles/pubsub.viewer", On::Topic),
    row(Who::Orchestrator, "roles/storage.objectUser", On::Objects(&[])),
    row(Who::Orchestrator, LISTER_ROLE, On::Names),
    row(Who::Orchestrator, "roles/pubsub.publisher", On::Topic),
    row(Who::Orchestrator, "roles/pubsub.publisher", On::Events),
    row(Who::Orchestrator, "roles/pubsub.subscriber", On::Subscriptions),
    row(Who::Orchestrator, "roles/pubsub.viewer", On::Subscriptions),
    row(Who::Engine, "roles/storage.objectViewer", On::Objects(&["input", "common", "output"])),
    row(Who::Engine, "roles/storage.objectCreator", On::Objects(&["output"])),
    row(Who::WebClient, "roles/storage.objectCreator", On::Objects(&["input", "common"])),
    row(Who::WebClient, "roles/storage.objectViewer", On::Objects(&["output", "outcome"])),
    // People cancel their own inputs (replace the control object) and retry them (note it with the input, unread).
    row(Who::WebClient, "roles/storage.objectUser", On::Objects(&["control"])),
    row(Who::WebClient, MARKER_ROLE, On::Objects(&["input"])),
    row(Who::WebClient, LISTER_ROLE, On::Names),
    row(Who::WebClient, "roles/pubsub.publisher", On::Topic),
    row(Who::WebClient, "roles/pubsub.viewer", On::Topic),
    // The operator's actions: pause, resume and cancel (replace or delete the control object), close (delete what all
    // Jobs read), retry (note it with the input, publish), replay (the same, or a corrected input), discard (delete the
    // input). Replay and discard also mark the outcome, which nobody but the orchestrator may replace.
    row(Who::WebMonitor, "roles/storage.objectUser", On::Objects(&["input", "common", "control"])),
    row(Who::WebMonitor, "roles/storage.objectViewer", On::Objects(&["output", "outcome", "parked"])),
    row(Who::WebMonitor, MARKER_ROLE, On::Objects(&["outcome"])),
    row(Who::WebMonitor, LISTER_ROLE, On::Names),
    row(Who::WebMonitor, "roles/pubsub.publisher", On::Topic),
    row(Who::WebMonitor, "roles/pubsub.viewer", On::Topic),
    row(Who::WebMonitor, "roles/pubsub.viewer", On::Events),
    row(Who::WebMonitor, "roles/pubsub.viewer", On::Subscriptions),
    row(Who::StorageAgent, "roles/pubsub.publisher", On::Topic),
];

/// What holds for the environment. The nodes' is the one grant on the whole project.
pub const ENVIRONMENT: &[Row] = &[
    row(Who::Nodes, "roles/container.defaultNodeServiceAccount", On::Project),
    row(Who::Nodes, "roles/artifactregistry.reader", On::Registry),
    row(Who::Builder, "roles/storage.objectViewer", On::Prefix(object::BUILD_SOURCE_PREFIX)),
    // Cloud Build lists the bucket to find the generation of the source, and reads the bucket's metadata before it
    // accepts a build that writes its log there (cloud-builders #280): storage.objects.list and storage.buckets.get.
    row(Who::Builder, "roles/storage.legacyBucketReader", On::Names),
    // A log grows by being written over.
    row(Who::Builder, "roles/storage.objectUser", On::Prefix(object::BUILD_LOG_PREFIX)),
    row(Who::Builder, "roles/artifactregistry.writer", On::Registry),
    row(Who::Encrypters, crypto_key::ENCRYPTER, On::Keys),
];

impl Resources<'_> {
    /// Every row of the table that this business needs.
    pub(super) fn business_grants(&mut self, business: &Business) {
        for row in BUSINESS {
            let Some(member) = member(row.who, self.environment, Some(business)) else { continue };
            let bucket = || bucket::id(&business.bucket);
            let (on, condition) = match row.on {
                On::Objects(parts) => (vec![bucket()], Some(under(&business.bucket, &business.name, parts))),
                On::Names => (vec![bucket()], None),
                On::Topic => (vec![topic::id(self.environment, &business.topic)], None),
                On::Events => (vec![topic::id(self.environment, &business.events_topic)], None),
                On::Subscriptions => {
                    let names = [Some(&business.subscription), business.priority_subscription.as_ref()];
                    (names.into_iter().flatten().map(|name| subscription::id(self.environment, name)).collect(), None)
                }
                On::Prefix(_) | On::Registry | On::Keys | On::Project => continue,
            };
            for on in on {
                self.grant(
                    on,
                    Some(business),
                    role::full_name(self.environment, row.role),
                    member.clone(),
                    condition.clone(),
                );
            }
        }
        let accounts = [("orchestrator", &business.accounts.orchestrator), ("engine", &business.accounts.engine)];
        for (kubernetes, email) in accounts {
            self.stand_in(email, Some(business), &business.namespace, kubernetes);
        }
    }

    /// Every row of the table that the environment needs.
    pub(super) fn environment_grants(&mut self) {
        let environment = self.environment;
        for row in ENVIRONMENT {
            if row.on == On::Keys {
                for (class, key) in crypto_key::used(environment) {
                    let member = agent(class.agent, PROJECT_NUMBER);
                    self.grant(crypto_key::id(key), None, row.role.to_owned(), member, None);
                }
                continue;
            }
            let Some(mut member) = member(row.who, environment, None) else { continue };
            let (on, condition) = match row.on {
                On::Registry if environment.manage.registry == Managed::Off => continue,
                On::Registry => {
                    // Only its owner knows what the nodes of a cluster run as.
                    if row.who == Who::Nodes && environment.manage.cluster == Managed::Verify {
                        member = NODES.to_owned();
                    }
                    (registry::id(environment), None)
                }
                // Whoever creates the cluster lets its nodes write logs and metrics.
                On::Project
                    if environment.manage.cluster != Managed::Create && environment.security.node_account.is_none() =>
                {
                    continue;
                }
                On::Project => (Id::new(Kind::Project, format!("projects/{}", environment.project)), None),
                On::Names => (bucket::id(&environment.bucket), None),
                On::Prefix(prefix) => (bucket::id(&environment.bucket), Some(below(environment, prefix))),
                _ => continue,
            };
            self.grant(on, None, role::full_name(self.environment, row.role), member, condition);
        }
        if environment.web.enabled {
            self.stand_in(&environment.accounts.web_client, None, names::WEB_NAMESPACE, "web-client");
            self.stand_in(&environment.accounts.web_monitor, None, names::WEB_NAMESPACE, "web-monitor");
        }
    }

    /// With Workload Identity, a Kubernetes account acts as a Google one.
    fn stand_in(&mut self, email: &str, business: Option<&Business>, namespace: &str, kubernetes: &str) {
        if self.environment.auth == Auth::WorkloadIdentity {
            let member = format!("serviceAccount:{}[{namespace}/{kubernetes}]", self.environment.workload_pool());
            let role = "roles/iam.workloadIdentityUser".to_owned();
            self.grant(service_account::id(email), business, role, member, None);
        }
    }

    fn grant(
        &mut self,
        on: Id,
        business: Option<&Business>,
        role: String,
        member: String,
        condition: Option<Condition>,
    ) {
        let shared = on.kind == Kind::Bucket
            && self.environment.buckets().iter().any(|(name, businesses)| {
                *name == on.name && (businesses.len() > 1 || *name == self.environment.bucket)
            });
        let owner = business.filter(|_| !shared).map(|business| business.name.clone());
        let entry = self.grants.entry(on).or_insert_with(|| (owner, BTreeSet::new()));
        entry.1.insert(Grant { role, member, condition });
    }
}

/// The member of policies that somebody is; nothing when there is no such identity here.
fn member(who: Who, environment: &Environment, business: Option<&Business>) -> Option<String> {
    let served =
        environment.web.enabled && business.is_some_and(|business| environment.web.businesses.contains(&business.name));
    let email = match who {
        Who::Client => &business?.accounts.client,
        Who::Orchestrator => &business?.accounts.orchestrator,
        Who::Engine => &business?.accounts.engine,
        Who::WebClient if served => &environment.accounts.web_client,
        Who::WebMonitor if served => &environment.accounts.web_monitor,
        Who::StorageAgent if business?.submit_on_upload => {
            return Some(agent("gs-project-accounts", PROJECT_NUMBER));
        }
        Who::Nodes if environment.manage.cluster != Managed::Off || environment.security.node_account.is_some() => {
            &environment.accounts.nodes
        }
        Who::Builder if environment.build.builder == Builder::CloudBuild => &environment.accounts.builder,
        _ => return None,
    };
    Some(format!("serviceAccount:{email}"))
}

/// Whether a grant on a bucket has a condition that the table makes for a business of some name.
pub(crate) fn is_of_business(bucket: &str, grant: &Grant) -> bool {
    let Some(condition) = &grant.condition else { return false };
    BUSINESS.iter().any(|row| {
        let On::Objects(parts) = row.on else { return false };
        let name = match parts {
            [] => Some(condition.title.as_str()),
            parts => condition.title.strip_suffix(&format!(" {}", parts.join(" "))),
        };
        name.is_some_and(|name| under(bucket, name, parts) == *condition)
    })
}

/// Objects of a business whose name begins with one of these parts; all of them without one.
fn under(bucket: &str, name: &str, parts: &[&str]) -> Condition {
    if parts.is_empty() {
        return Condition { title: name.to_owned(), expression: begins(bucket, &format!("{name}/")) };
    }
    let prefixes: Vec<String> = parts.iter().map(|part| begins(bucket, &format!("{name}/{part}/"))).collect();
    Condition { title: format!("{name} {}", parts.join(" ")), expression: prefixes.join(" || ") }
}

/// Objects of the environment under a prefix.
fn below(environment: &Environment, prefix: &str) -> Condition {
    let title = prefix.trim_end_matches('/').replace('/', " ");
    Condition { title, expression: begins(&environment.bucket, prefix) }
}

fn begins(bucket: &str, prefix: &str) -> String {
    format!("resource.name.startsWith(\"projects/_/buckets/{bucket}/objects/{prefix}\")")
}
