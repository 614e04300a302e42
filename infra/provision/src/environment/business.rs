//! A business as the environment file describes it, with every derived name filled in.

use contract::config;
use serde::Serialize;

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Business {
    /// Name; also the prefix of its objects.
    pub name: String,
    /// Bucket that holds its objects.
    pub bucket: String,
    /// Kubernetes namespace.
    pub namespace: String,
    /// Id of the topic.
    pub topic: String,
    /// Id of the subscription.
    pub subscription: String,
    /// Id of the filtered subscription that is drained first, with `priority = true`.
    pub priority_subscription: Option<String>,
    /// Id of the events topic.
    pub events_topic: String,
    /// Its service accounts.
    pub accounts: BusinessAccounts,
    /// Most Kubernetes Jobs that may be active at once.
    pub max_active_jobs: u32,
    /// Number of finished Kubernetes Jobs above which a further one stays only for a minute.
    pub max_finished_jobs: u32,
    /// What computes the items of a message.
    pub dispatch: config::Dispatch,
    /// The pool of engines, with `dispatch = "pool"`.
    pub pool: Option<config::Pool>,
    /// Where results are stored.
    pub results: config::Results,
    /// Whether an upload under `B/input/` is a submission by itself.
    pub submit_on_upload: bool,
    /// Kueue LocalQueue.
    pub queue: Option<String>,
    /// How long finished things are kept.
    pub retention: Retention,
    /// How the engine runs.
    pub engine: Engine,
}

/// Emails of a business's service accounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BusinessAccounts {
    /// Who submits.
    pub client: String,
    /// The orchestrator.
    pub orchestrator: String,
    /// The engine.
    pub engine: String,
}

/// How long finished things are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Retention {
    /// Seconds a finished Kubernetes Job stays.
    pub finished_jobs_secs: u32,
    /// Days results stay in the bucket.
    pub output_days: u32,
    /// Days outcomes stay in the bucket.
    pub outcome_days: u32,
    /// Days common data of a session that nobody closed stays in the bucket.
    pub common_days: u32,
}

/// How the engine runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Engine {
    /// A desk's own image; without one, the image that `build` made.
    pub image: Option<String>,
    /// Command of a desk's own program; empty for the built-in kernel.
    pub command: Vec<String>,
    /// CPU request and limit, as a Kubernetes quantity.
    pub cpu: String,
    /// Memory request and limit, as a Kubernetes quantity.
    pub memory: String,
    /// Size limit of the work folder, as a Kubernetes quantity.
    pub disk: String,
    /// Retries of a failed pod.
    pub retries: u32,
    /// Seconds a pod may run.
    pub timeout_secs: u32,
    /// Run on spot nodes.
    pub spot: bool,
    /// How a desk's own program is judged.
    pub program: config::Program,
}

impl Business {
    /// What the services must know of it.
    pub(super) fn config(&self, project: &str) -> config::Business {
        let subscription = |id: &str| format!("projects/{project}/subscriptions/{id}");
        config::Business {
            name: self.name.clone(),
            bucket: self.bucket.clone(),
            namespace: self.namespace.clone(),
            topic: format!("projects/{project}/topics/{}", self.topic),
            subscription: subscription(&self.subscription),
            priority_subscription: self.priority_subscription.as_deref().map(subscription),
            events_topic: format!("projects/{project}/topics/{}", self.events_topic),
            max_active_jobs: self.max_active_jobs,
            max_finished_jobs: self.max_finished_jobs,
            dispatch: self.dispatch,
            pool: self.pool,
            results: self.results,
            submit_on_upload: self.submit_on_upload,
            intake: true,
            queue: self.queue.clone(),
            retention: config::Retention {
                finished_jobs_secs: self.retention.finished_jobs_secs,
                output_days: self.retention.output_days,
                outcome_days: self.retention.outcome_days,
            },
            engine: config::Engine {
                command: self.engine.command.clone(),
                cpu: self.engine.cpu.clone(),
                memory: self.engine.memory.clone(),
                retries: self.engine.retries,
                timeout_secs: self.engine.timeout_secs,
                spot: self.engine.spot,
                program: self.engine.program.clone(),
            },
        }
    }
}
