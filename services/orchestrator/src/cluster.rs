//! The orchestrator's calls of the API server, each with a timeout and without retries: the caller decides what to do
//! about an error.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use futures::AsyncReadExt as _;
use http::Request;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, LogParams, Patch, PatchParams, Preconditions, PropagationPolicy},
    core::PartialObjectMeta,
};
use serde_json::{Value, json};

pub(crate) mod answers;

/// Accepted answers to a create: only the metadata if the server supports that, a small part of a Job.
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
const LOG_TIMEOUT: Duration = Duration::from_secs(10);
/// Number of log lines that are read for a tail.
const LOG_LINES: i64 = 5000;
/// Label that the Job controller puts on a Job's pods.
pub(crate) const JOB_NAME: &str = "batch.kubernetes.io/job-name";

/// The namespace's Jobs and Pods.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
    jobs: Api<Job>,
    pods: Api<Pod>,
    configs: Api<ConfigMap>,
    path: String,
}

impl Cluster {
    pub(crate) fn new(client: Client, namespace: &str) -> Self {
        Self {
            jobs: Api::namespaced(client.clone(), namespace),
            pods: Api::namespaced(client.clone(), namespace),
            configs: Api::namespaced(client.clone(), namespace),
            path: format!("/apis/batch/v1/namespaces/{namespace}/jobs"),
            client,
        }
    }

    /// The Jobs for a watch.
    pub(crate) fn watched_jobs(&self) -> Api<Job> {
        self.jobs.clone()
    }

    /// The uid of a pod; `None` when it does not exist.
    pub(crate) async fn pod_uid(&self, name: &str) -> anyhow::Result<Option<String>> {
        let pod =
            with_timeout(self.pods.get_metadata_opt(name)).await.with_context(|| format!("read the pod {name}"))?;
        Ok(pod.and_then(|pod| pod.metadata.uid))
    }

    /// The public keys with which the API server signs tokens of service accounts, as a JWK set.
    pub(crate) async fn token_keys(&self) -> anyhow::Result<String> {
        let request = Request::get("/openid/v1/jwks").body(Vec::new()).context("build a request")?;
        with_timeout(self.client.request_text(request)).await.context("read the keys of the API server")
    }

    /// The entries of a ConfigMap.
    pub(crate) async fn config(&self, name: &str) -> anyhow::Result<BTreeMap<String, String>> {
        let found = with_timeout(self.configs.get(name)).await.with_context(|| format!("read the ConfigMap {name}"))?;
        Ok(found.data.unwrap_or_default())
    }

    /// Merges a patch into a ConfigMap.
    pub(crate) async fn patch_config(&self, name: &str, patch: Value) -> anyhow::Result<()> {
        let (parameters, patch) = (PatchParams::default(), Patch::Merge(patch));
        let patched = self.configs.patch_metadata(name, &parameters, &patch);
        with_timeout(patched).await.with_context(|| format!("patch the ConfigMap {name}")).map(drop)
    }

    /// The pods for a watch.
    pub(crate) fn watched_pods(&self) -> Api<Pod> {
        self.pods.clone()
    }

    /// Creates a Job from its text; returns its uid.
    pub(crate) async fn create(&self, job: Vec<u8>) -> Result<String, kube::Error> {
        self.post(&self.path, job).await
    }

    /// Checks whether the API server would accept a Job; unknown fields are errors.
    pub(crate) async fn dry_run(&self, job: &Value) -> Result<(), kube::Error> {
        let job = serde_json::to_vec(job).map_err(kube::Error::SerdeError)?;
        self.post(&format!("{}?dryRun=All&fieldValidation=Strict", self.path), job).await?;
        Ok(())
    }

    async fn post(&self, target: &str, job: Vec<u8>) -> Result<String, kube::Error> {
        let request = Request::post(target)
            .header(http::header::CONTENT_TYPE, "application/json")
            .header(http::header::ACCEPT, METADATA)
            .body(job);
        let request = request.map_err(kube::Error::HttpError)?;
        let created: PartialObjectMeta<Job> = with_timeout(self.client.request(request)).await?;
        Ok(created.metadata.uid.unwrap_or_default())
    }

    /// Reads a Job; `None` when it does not exist.
    pub(crate) async fn job(&self, name: &str) -> anyhow::Result<Option<Job>> {
        with_timeout(self.jobs.get_opt(name)).await.with_context(|| format!("read the Job {name}"))
    }

    /// Deletes exactly this Job; a Job that does not exist is fine. One that is deleted in the foreground exists until its
    /// pods are gone, so no other one of its name does.
    pub(crate) async fn delete(&self, name: &str, uid: &str, propagation: PropagationPolicy) -> anyhow::Result<()> {
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let (propagation_policy, preconditions) = (Some(propagation), Some(preconditions));
        let parameters = DeleteParams { propagation_policy, preconditions, ..DeleteParams::default() };
        match with_timeout(self.jobs.delete(name, &parameters)).await {
            // 409: another Job has that name now.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            answer => answer.map(|_| ()).with_context(|| format!("delete the Job {name}")),
        }
    }

    /// Removes our finalizer from a Job, and sets how long the Job stays, if given. `false` when the Job has changed since
    /// it was read and must be read once more.
    pub(crate) async fn remove_finalizer(&self, job: &Job, ttl_secs: Option<u32>) -> anyhow::Result<bool> {
        let name = job.metadata.name.as_deref().unwrap_or_default();
        let mut finalizers = job.metadata.finalizers.clone().unwrap_or_default();
        finalizers.retain(|finalizer| finalizer != contract::labels::FINALIZER);
        let mut patch = json!({"metadata": {
            "uid": job.metadata.uid,
            "resourceVersion": job.metadata.resource_version,
            "finalizers": finalizers,
        }});
        if let Some(seconds) = ttl_secs {
            patch["spec"] = json!({"ttlSecondsAfterFinished": seconds});
        }
        match with_timeout(self.jobs.patch_metadata(name, &PatchParams::default(), &Patch::Merge(patch))).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error).with_context(|| format!("remove the finalizer of the Job {name}")),
        }
    }

    /// The pods of a Job.
    pub(crate) async fn pods(&self, job: &str) -> anyhow::Result<Vec<Pod>> {
        let parameters = ListParams::default().labels(&format!("{JOB_NAME}={job}"));
        let pods =
            with_timeout(self.pods.list(&parameters)).await.with_context(|| format!("list the Pods of the Job {job}"));
        Ok(pods?.items)
    }

    /// Deletes a pod; a pod that does not exist is fine.
    pub(crate) async fn delete_pod(&self, name: &str) -> anyhow::Result<()> {
        match with_timeout(self.pods.delete(name, &DeleteParams::background())).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            answer => answer.map(|_| ()).with_context(|| format!("delete the Pod {name}")),
        }
    }

    /// The end of a container's log, at most `bytes` of it, from the start of a line where that is known.
    pub(crate) async fn log_tail(&self, pod: &str, container: Option<&str>, bytes: usize) -> anyhow::Result<String> {
        let parameters =
            LogParams { container: container.map(str::to_owned), tail_lines: Some(LOG_LINES), ..LogParams::default() };
        let read = async {
            let mut stream = std::pin::pin!(self.pods.log_stream(pod, &parameters).await?);
            let mut tail = Tail::new(bytes);
            let mut chunk = vec![0; 16 * 1024];
            loop {
                match stream.read(&mut chunk).await? {
                    0 => return anyhow::Ok(tail.text()),
                    read => tail.push(&chunk[..read]),
                }
            }
        };
        let read = tokio::time::timeout(LOG_TIMEOUT, read).await;
        read.unwrap_or_else(|_| anyhow::bail!("the log did not end within {LOG_TIMEOUT:?}"))
            .with_context(|| format!("read the log of the Pod {pod}"))
    }
}

/// Runs a call with a timeout; a call that takes longer counts as not answered.
async fn with_timeout<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => answer,
        Err(elapsed) => Err(kube::Error::Service(elapsed.into())),
    }
}

/// The last bytes of a stream.
#[derive(Debug)]
struct Tail {
    bytes: Vec<u8>,
    keep: usize,
    cut: bool,
}

impl Tail {
    fn new(keep: usize) -> Self {
        Self { bytes: Vec::new(), keep, cut: false }
    }

    fn push(&mut self, chunk: &[u8]) {
        self.bytes.extend_from_slice(chunk);
        if self.bytes.len() > 2 * self.keep {
            self.shorten();
        }
    }

    fn shorten(&mut self) {
        let surplus = self.bytes.len().saturating_sub(self.keep);
        self.cut |= surplus > 0;
        self.bytes.drain(..surplus);
    }

    fn text(mut self) -> String {
        self.shorten();
        let start = match self.bytes.iter().position(|byte| *byte == b'\n') {
            Some(end) if self.cut && end + 1 < self.bytes.len() => end + 1,
            _ => 0,
        };
        // Replacement characters are longer than the bytes they replace, so the text is cut once more.
        let text = String::from_utf8_lossy(&self.bytes[start..]);
        text[text.ceil_char_boundary(text.len().saturating_sub(self.keep))..].to_owned()
    }
}

#[cfg(test)]
mod tests;
