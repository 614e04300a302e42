//! The cluster's own life: objects kept over a restart, and many Jobs at once.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, api::PostParams};
use localcloud::kubernetes::Options;
use serde_json::json;

use crate::kubernetes::support::{Lab, has, job, until};

#[tokio::test(flavor = "multi_thread")]
async fn objects_outlive_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let options = |base: &std::path::Path| {
        let mut options = Options::new(base.join("kubernetes"));
        options.persist = Some(base.join("saved"));
        options.retry_base = Duration::from_millis(20);
        options
    };
    let base = folder.path().to_owned();
    let lab = Lab::start(options(&base), folder).await;
    lab.job("done", "true", json!({})).await;
    lab.until_job("done", |job| has(job, "Complete")).await;
    let gate = base.join("gate");
    lab.job("unfinished", &format!("test -e {} || exec sleep 600", gate.display()), json!({})).await;
    lab.until_job("unfinished", |job| job.status.as_ref().is_some_and(|status| status.ready == Some(1))).await;
    let ca = lab.kubernetes.ca_pem().to_owned();
    let token = lab.kubernetes.admin_token().to_owned();
    lab.kubernetes.stop().await;
    let Lab { folder, .. } = lab;

    std::fs::write(gate, "").unwrap();
    let lab = Lab::start(options(&base), folder).await;
    assert_eq!((lab.kubernetes.ca_pem(), lab.kubernetes.admin_token()), (ca.as_str(), token.as_str()));
    assert!(has(&lab.jobs().get("done").await.unwrap(), "Complete"));
    let finished = lab.until_job("unfinished", |job| has(job, "Complete")).await;
    assert_eq!(finished.status.unwrap().failed, Some(1));
    lab.kubernetes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_jobs_are_quick() {
    const JOBS: usize = 200;
    let lab = Lab::new().await;
    let start = Instant::now();
    stream::iter(0..JOBS)
        .for_each_concurrent(16, async |index| {
            lab.jobs().create(&PostParams::default(), &job(&format!("j{index}"), "exit 0", json!({}))).await.unwrap();
        })
        .await;
    let created = start.elapsed();
    let successful = kube::api::ListParams::default().fields("status.successful=1");
    until("all jobs", || async {
        let done = lab.jobs().list_metadata(&successful).await.unwrap().items.len();
        if done == JOBS { Ok(()) } else { Err(format!("{done}")) }
    })
    .await;
    eprintln!("{JOBS} jobs created in {created:?}, done in {:?}", start.elapsed());
    let configs: Api<ConfigMap> = Api::default_namespaced(lab.client.clone());
    assert_eq!(configs.list(&Default::default()).await.unwrap().items.len(), 1);
    lab.kubernetes.stop().await;
}
