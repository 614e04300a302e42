//! Users of keys: the workloads of each business, and the web apps.

use crate::{
    deploy::live::ORCHESTRATOR,
    environment::{Business, Environment},
    manifests::WEB_NAMESPACE,
};

/// A namespace whose workloads act with keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUser {
    /// Its name in messages.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The business that it is; none of the web apps.
    pub(crate) business: Option<String>,
    /// Its workloads, each with its own key.
    pub workloads: Vec<Workload>,
}

/// One workload with a key of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Label `app` of its pods.
    pub app: &'static str,
    /// Its Kubernetes service account, which its Secret is called after.
    pub account: &'static str,
    /// Email of its Google service account.
    pub email: String,
    /// The Deployment that begins anew to work with a new key. Pods without one end by themselves.
    pub deployment: Option<&'static str>,
}

impl KeyUser {
    /// A business: its orchestrator and its engines.
    pub fn business(business: &Business) -> Self {
        let workload =
            |name, email: &str, deployment| Workload { app: name, account: name, email: email.to_owned(), deployment };
        let accounts = &business.accounts;
        Self {
            name: business.name.clone(),
            namespace: business.namespace.clone(),
            business: Some(business.name.clone()),
            workloads: vec![
                workload(ORCHESTRATOR, &accounts.orchestrator, Some(ORCHESTRATOR)),
                workload("engine", &accounts.engine, None),
            ],
        }
    }

    /// The same without its keys: what remains is the certificate of its pool.
    pub fn without_keys(self) -> Self {
        Self { workloads: Vec::new(), ..self }
    }

    /// The web apps, whether or not they are switched on.
    pub fn web(environment: &Environment) -> Self {
        let workload =
            |app, account, email: &str| Workload { app, account, email: email.to_owned(), deployment: Some(app) };
        let accounts = &environment.accounts;
        Self {
            name: "the web apps".to_owned(),
            namespace: WEB_NAMESPACE.to_owned(),
            business: None,
            workloads: vec![
                workload("monitor", "web-monitor", &accounts.web_monitor),
                workload("client", "web-client", &accounts.web_client),
            ],
        }
    }

    /// All users of keys in an environment.
    pub fn all(environment: &Environment) -> Vec<Self> {
        environment.businesses.iter().map(Self::business).chain([Self::web(environment)]).collect()
    }
}
