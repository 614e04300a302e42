//! Labels, annotations, finalizers, attributes and environment variables. Other code uses these constants.

/// Prefix of our labels, annotations and finalizers on Kubernetes objects.
pub const DOMAIN: &str = "deskgrid.dev";

/// Label: which program an object belongs to (`orchestrator`, `engine`, `client`, `monitor`).
pub const APP: &str = "app";
/// Label: the business an object belongs to.
pub const BUSINESS: &str = "business";
/// Label: the session of a Job.
pub const SESSION: &str = "session";
/// Label: the job id, or its hashed short form (see [`crate::names::label_value`]).
pub const JOB: &str = "job";
/// Label that Kubernetes recommends for the tool that manages an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY`], and of the label `managed-by` on Google resources.
pub const MANAGED_BY_DESKGRID: &str = "deskgrid";
/// Label on Google resources: the environment they belong to.
pub const GOOGLE_ENVIRONMENT: &str = "deskgrid-env";
/// Label on Google resources: the tool that manages them.
pub const GOOGLE_MANAGED_BY: &str = "managed-by";
/// Label on alert policies: which of those of a business one is.
pub const GOOGLE_ALERT: &str = "deskgrid-alert";

/// Value of [`APP`] on Jobs and Pods that compute.
pub const APP_ENGINE: &str = "engine";
/// Label that puts a Job into a Kueue LocalQueue.
pub const KUEUE_QUEUE: &str = "kueue.x-k8s.io/queue-name";

/// Finalizer that holds a Job until its outcome is written.
pub const FINALIZER: &str = "deskgrid.dev/outcome";

/// Annotation on a Job: the full work item as JSON (see [`crate::message::Work`]).
pub const ANNOTATION_WORK: &str = "deskgrid.dev/work";
/// Annotation that version 1 put on a Job of a batch.
pub const ANNOTATION_BATCH: &str = "deskgrid.dev/batch";
/// Annotation on a Job: RFC 3339 time at which Pub/Sub accepted the message.
pub const ANNOTATION_PUBLISHED: &str = "deskgrid.dev/published";
/// Annotation on a Job: RFC 3339 time at which the orchestrator received the message.
pub const ANNOTATION_RECEIVED: &str = "deskgrid.dev/received";
/// Annotation on a Job: the Pub/Sub message id that made it.
pub const ANNOTATION_MESSAGE_ID: &str = "deskgrid.dev/message-id";
/// Annotation on a Job: schema version of its annotations.
pub const ANNOTATION_SCHEMA: &str = "deskgrid.dev/schema";
/// Label of the Job and the pod of an engine in a pool; its value is `true`.
pub const POOL: &str = "deskgrid.dev/pool";
/// Label of the Job of an engine in a pool: its slot, from 0.
pub const POOL_SLOT: &str = "deskgrid.dev/pool-slot";
/// Annotation on the Job of an engine in a pool: a hash of the template it was made from.
pub const ANNOTATION_POOL_TEMPLATE: &str = "deskgrid.dev/pool-template";
/// Annotation on the pods of an orchestrator and of the engines of its pool: serial number of the certificate with which
/// they start; another one starts them anew.
pub const ANNOTATION_POOL_CERTIFICATE: &str = "deskgrid.dev/pool-certificate";
/// Port of the orchestrator for the engines of its pool.
pub const POOL_PORT: u16 = 7443;
/// Name of the port, and of the Service, of the orchestrator for the engines of its pool.
pub const POOL_SERVICE: &str = "pool";
/// Name of the Secret with the certificates of that port.
pub const POOL_TLS_SECRET: &str = "pool-tls";
/// Audience of the service account token by which an engine authenticates to its orchestrators.
pub const POOL_AUDIENCE: &str = "deskgrid-pool";
/// On an orchestrator's Deployment: the engine image that was deployed with it.
pub const ANNOTATION_ENGINE_IMAGE: &str = "deskgrid.dev/engine-image";

/// Pub/Sub attribute that marks a message of ours; its value is the schema version.
pub const ATTRIBUTE_DESKGRID: &str = "deskgrid";
/// Pub/Sub attribute: session.
pub const ATTRIBUTE_SESSION: &str = "session";
/// Pub/Sub attribute: job id.
pub const ATTRIBUTE_JOB: &str = "job";
/// Pub/Sub attribute: who submitted.
pub const ATTRIBUTE_CLIENT: &str = "client";
/// Pub/Sub attribute: the input is a pack in this format (see [`crate::pack::Format`]).
pub const ATTRIBUTE_PACK: &str = "pack";
/// Pub/Sub attribute: number of items of a pack.
pub const ATTRIBUTE_ITEMS: &str = "items";
/// Pub/Sub attribute: number of items of a range.
pub const ATTRIBUTE_ITEMS_PER_RANGE: &str = "items-per-range";
/// Pub/Sub attribute: number of rows or lines of an item.
pub const ATTRIBUTE_ROWS_PER_ITEM: &str = "rows-per-item";
/// Pub/Sub attribute: first item of the range that a message names.
pub const ATTRIBUTE_FIRST: &str = "first";
/// Pub/Sub attribute of a message that an orchestrator published: RFC 3339 time at which its work was requested.
pub const ATTRIBUTE_REQUESTED: &str = "requested";
/// Pub/Sub attribute of version 1: number of tasks of a split Job.
pub const ATTRIBUTE_TASKS: &str = "tasks";
/// Pub/Sub attribute: attempt, 0 at first.
pub const ATTRIBUTE_ATTEMPT: &str = "attempt";
/// Pub/Sub attribute: priority.
pub const ATTRIBUTE_PRIORITY: &str = "priority";
/// Pub/Sub attribute of version 1: the input is a table, and each task computes so many of its rows.
pub const ATTRIBUTE_ROWS_PER_TASK: &str = "rows-per-task";
/// Pub/Sub attribute: comma-separated names of common data of the session.
pub const ATTRIBUTE_COMMON: &str = "common";

/// Pub/Sub attribute: memory for this attempt, as a Kubernetes quantity.
pub const ATTRIBUTE_MEMORY: &str = "memory";
/// Pub/Sub attribute: seconds this attempt may run.
pub const ATTRIBUTE_TIMEOUT: &str = "timeout";

/// Prefix of an attribute's name in the metadata of an input object, so that an upload carries its options.
pub const METADATA_PREFIX: &str = "deskgrid-";
/// Metadata of an outcome object: its state, so that a listing contains it.
pub const METADATA_STATE: &str = "deskgrid-state";
/// Metadata of the outcome of a range: how many of its items ended in each state (see [`crate::pack::Counts`]).
pub const METADATA_ITEMS: &str = "deskgrid-items-ended";
/// Metadata of an outcome object: its reason code.
pub const METADATA_REASON: &str = "deskgrid-reason";
/// Metadata of a result object and of an outcome object: number of rows that have an error in the result.
pub const METADATA_ROW_ERRORS: &str = "deskgrid-row-errors";

/// Metadata of an input object: RFC 3339 time at which a person requested its latest attempt.
pub const METADATA_RETRIED: &str = "deskgrid-retried";
/// Metadata of a control object: an orchestrator has applied its decisions.
pub const METADATA_APPLIED: &str = "deskgrid-applied";
/// Metadata of `swept`: RFC 3339 time at which the last sweep began.
pub const METADATA_SWEPT: &str = "deskgrid-swept";
/// Metadata of an outcome object: RFC 3339 time at which a person discarded it.
pub const METADATA_DISCARDED: &str = "deskgrid-discarded";
/// Metadata of the outcome of a refused message: id of the message that replaced it.
pub const METADATA_REPLAYED: &str = "deskgrid-replayed";

/// Environment variable: path of the generated `config.json`.
pub const ENV_CONFIG: &str = "DESKGRID_CONFIG";
/// Environment variable of both command lines: path of a file to which each request is added as a line of JSON.
pub const ENV_REQUESTS: &str = "DESKGRID_REQUESTS";
/// Environment variable of the orchestrator: path of the Job template, a Kubernetes Job as JSON.
pub const ENV_JOB_TEMPLATE: &str = "DESKGRID_JOB_TEMPLATE";
/// Environment variable of the orchestrator: path of the template of an engine in a pool, a Kubernetes Job as JSON.
pub const ENV_POOL_TEMPLATE: &str = "DESKGRID_POOL_TEMPLATE";
/// Environment variable of the orchestrator: folder with `tls.crt`, `tls.key` and `ca.crt` of its port for the pool.
pub const ENV_POOL_TLS: &str = "DESKGRID_POOL_TLS";
/// Environment variable of the orchestrator: its port for the pool, when it is not [`POOL_PORT`].
pub const ENV_PORT_POOL: &str = "DESKGRID_PORT_POOL";
/// Environment variable of an engine in a pool: the SRV name of the ready orchestrators.
pub const ENV_POOL_SERVICE: &str = "DESKGRID_POOL_SERVICE";
/// Environment variable of an engine in a pool: the name in the certificate of the orchestrators.
pub const ENV_POOL_NAME: &str = "DESKGRID_POOL_NAME";
/// Environment variable of an engine in a pool: path of the certificate authorities of the orchestrators, PEM.
pub const ENV_POOL_CA: &str = "DESKGRID_POOL_CA";
/// Environment variable of an engine in a pool: its slot.
pub const ENV_POOL_SLOT: &str = "DESKGRID_POOL_SLOT";
/// Environment variable of an engine in a pool: path of its service account token for [`POOL_AUDIENCE`].
pub const ENV_POOL_TOKEN: &str = "DESKGRID_POOL_TOKEN";
/// Environment variable of an engine in a pool: the name of its pod.
pub const ENV_POD_NAME: &str = "POD_NAME";
/// Environment variable of an engine in a pool: the UID of its pod.
pub const ENV_POD_UID: &str = "POD_UID";
/// Environment variable of an engine in a pool: the node of its pod.
pub const ENV_NODE_NAME: &str = "NODE_NAME";
/// Environment variable of an engine in a pool: address and port of the name server, when it is not the system's.
pub const ENV_NAME_SERVER: &str = "DESKGRID_NAME_SERVER";
/// Environment variable of a service: the business it serves.
pub const ENV_BUSINESS: &str = "BUSINESS_NAME";
/// Environment variable of a service: the Kubernetes namespace it works in.
pub const ENV_NAMESPACE: &str = "NAMESPACE";
/// Environment variable of a service: the port of its probes and metrics.
pub const ENV_PORT_HTTP: &str = "DESKGRID_PORT_HTTP";
/// Environment variable of a web app: the address it listens on, by default `0.0.0.0:8080`.
pub const ENV_LISTEN: &str = "DESKGRID_LISTEN";
/// Environment variable of a web app: the path under which a reverse proxy shows it, like `/deskgrid/monitor`.
pub const ENV_BASE_PATH: &str = "DESKGRID_BASE_PATH";
/// Environment variable of a web app: `true` when a proxy in front of it terminates TLS.
pub const ENV_TLS: &str = "DESKGRID_TLS";
/// Environment variable of a web app: who may use it, `token` (the default) or `iap`.
pub const ENV_ACCESS: &str = "DESKGRID_ACCESS";
/// Environment variable of a web app: path of the file with its access tokens.
pub const ENV_ACCESS_TOKEN_FILE: &str = "DESKGRID_ACCESS_TOKEN_FILE";
/// Environment variable of a web app: path of the file that limits people to businesses, with `iap`.
pub const ENV_ACCESS_PEOPLE_FILE: &str = "DESKGRID_ACCESS_PEOPLE_FILE";
/// Environment variable of a web app: the audience that assertions of Identity-Aware Proxy must be for.
pub const ENV_IAP_AUDIENCE: &str = "DESKGRID_IAP_AUDIENCE";
/// Environment variable of a web app: the issuer of those assertions, when it is not Google's.
pub const ENV_IAP_ISSUER: &str = "DESKGRID_IAP_ISSUER";
/// Environment variable of a web app: the URL of the keys of those assertions, when they are not Google's.
pub const ENV_IAP_KEYS: &str = "DESKGRID_IAP_KEYS";
/// Environment variable of the engine: the work item as JSON (see [`crate::message::Work`]).
pub const ENV_WORK: &str = "DESKGRID_WORK";
/// Environment variable of the engine: the name of its pod.
pub const ENV_POD: &str = "DESKGRID_POD";
/// Environment variable of the engine: its writable work folder.
pub const ENV_WORK_DIR: &str = "DESKGRID_WORK_DIR";
/// Environment variable of the engine: path of the termination message file.
pub const ENV_TERMINATION_LOG: &str = "DESKGRID_TERMINATION_LOG";
/// Environment variable for a wrapped program: path of the input.
pub const ENV_INPUT: &str = "DESKGRID_INPUT";
/// Environment variable for a wrapped program: folder of the session's common data.
pub const ENV_COMMON: &str = "DESKGRID_COMMON";
/// Environment variable for a wrapped program: path to write the result to.
pub const ENV_RESULT: &str = "DESKGRID_RESULT";
/// Environment variable for a wrapped program: index of this item in its pack, from 0.
pub const ENV_INDEX: &str = "DESKGRID_INDEX";
/// Environment variable for a wrapped program: number of items of the pack.
pub const ENV_COUNT: &str = "DESKGRID_COUNT";
/// Environment variable for a wrapped program: name of its file in a pack of files.
pub const ENV_NAME: &str = "DESKGRID_NAME";
/// Environment variable of the engine: number of threads to compute with; by default all there are.
pub const ENV_THREADS: &str = "DESKGRID_THREADS";
/// Environment variable of the engine, an aid of tests: the step (`read`, `computed`, `written`, or `part` in a
/// range; `pool-received`, `pool-computed`, `pool-sent` in a pool) after which it kills itself, provided that it could
/// create the file that [`ENV_ENGINE_STOP_ONCE`] names.
pub const ENV_ENGINE_STOP_AT: &str = "DESKGRID_ENGINE_STOP_AT";
/// Environment variable of the engine, an aid of tests: path of a file that must not exist yet, see
/// [`ENV_ENGINE_STOP_AT`].
pub const ENV_ENGINE_STOP_ONCE: &str = "DESKGRID_ENGINE_STOP_ONCE";
