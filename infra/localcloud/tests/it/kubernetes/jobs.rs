//! Jobs: completion, indexes, retries, failure policies, deadlines, TTL.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, LogParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::kubernetes::support::{Lab, conditions, has, job, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_a_process_and_completes() {
    let lab = Lab::new().await;
    lab.job("hello", "echo hello; echo $X >&2", json!({})).await;
    let done = lab.until_job("hello", |job| has(job, "Complete")).await;
    let status = done.status.clone().unwrap();
    assert_eq!((status.succeeded, status.failed, status.active, status.ready), (Some(1), None, None, Some(0)));
    assert!(status.start_time.is_some() && status.completion_time.is_some());
    let complete = ("Complete".to_owned(), "CompletionsReached".to_owned());
    assert!(conditions(&done).contains(&complete) && has(&done, "SuccessCriteriaMet"));
    let labels = done.spec.unwrap().template.metadata.unwrap().labels.unwrap();
    assert_eq!(labels["batch.kubernetes.io/job-name"], "hello");
    let pods = lab.job_pods("hello").await;
    assert_eq!(pods.len(), 1);
    let status = pods[0].status.as_ref().unwrap();
    assert_eq!(status.phase.as_deref(), Some("Succeeded"));
    let container = &status.container_statuses.as_ref().unwrap()[0];
    assert!(container.image_id.starts_with("sh@sha256:"), "{}", container.image_id);
    let name = pods[0].metadata.name.clone().unwrap();
    let log = lab.pods().logs(&name, &LogParams::default()).await.unwrap();
    // Nobody promises an order between the two streams.
    let mut lines: Vec<&str> = log.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["", "hello"]);
    lab.kubernetes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_indexed_job_has_a_pod_for_each_index() {
    let lab = Lab::new().await;
    let spec = json!({"completionMode": "Indexed", "completions": 5, "parallelism": 2});
    lab.job("indexed", "echo index $JOB_COMPLETION_INDEX", spec).await;
    let done = lab.until_job("indexed", |job| has(job, "Complete")).await;
    assert_eq!(done.status.unwrap().completed_indexes.as_deref(), Some("0-4"));
    let mut logs = Vec::new();
    for pod in lab.job_pods("indexed").await {
        logs.push(lab.pods().logs(&pod.metadata.name.unwrap(), &LogParams::default()).await.unwrap());
    }
    logs.sort();
    assert_eq!(logs, ["index 0\n", "index 1\n", "index 2\n", "index 3\n", "index 4\n"]);
    lab.kubernetes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_end_at_the_backoff_limit() {
    let lab = Lab::new().await;
    lab.job("bad", "exit 3", json!({"backoffLimit": 2})).await;
    let done = lab.until_job("bad", |job| has(job, "Failed")).await;
    assert!(conditions(&done).contains(&("Failed".to_owned(), "BackoffLimitExceeded".to_owned())));
    assert!(has(&done, "FailureTarget"));
    assert_eq!(done.status.unwrap().failed, Some(3));
    assert_eq!(lab.job_pods("bad").await.len(), 3);
    lab.kubernetes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_failure_policy_decides_by_exit_code_and_condition() {
    let lab = Lab::new().await;
    let policy = json!({"podFailurePolicy": {"rules": [
        {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [10]}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
    ]}, "backoffLimit": 0});
    lab.job("permanent", "exit 10", policy.clone()).await;
    let done = lab.until_job("permanent", |job| has(job, "Failed")).await;
    let failed = done.status.unwrap().conditions.unwrap().into_iter().find(|one| one.type_ == "Failed").unwrap();
    assert_eq!(failed.reason.as_deref(), Some("PodFailurePolicy"));
    let message = failed.message.unwrap();
    assert!(message.contains("exit code 10 matching FailJob rule at index 0"), "{message}");

    // A disrupted pod costs no retry.
    lab.job("disrupted", "test -e /tmp/nothing || exec sleep 600", policy).await;
    let pod = until("a running pod", || async {
        let pods = lab.job_pods("disrupted").await;
        let running = pods.into_iter().find(|pod| pod.status.as_ref().unwrap().phase.as_deref() == Some("Running"));
        running.ok_or_else(|| "none".to_owned())
    })
    .await;
    lab.kubernetes.kill_node("laptop");
    lab.kubernetes.add_node(&localcloud::kubernetes::NodeSettings::named("laptop"));
    until("another pod", || async {
        let pods = lab.job_pods("disrupted").await;
        let other = pods.iter().any(|other| {
            other.metadata.uid != pod.metadata.uid && other.status.as_ref().unwrap().phase.as_deref() == Some("Running")
        });
        if other { Ok(()) } else { Err(format!("{} pods", pods.len())) }
    })
    .await;
    let job = lab.jobs().get("disrupted").await.unwrap();
    assert_eq!(job.status.unwrap().failed, None);
    lab.kubernetes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_job_goes_after_its_ttl() {
    let lab = Lab::new().await;
    lab.job("short", "true", json!({"ttlSecondsAfterFinished": 3600})).await;
    lab.until_job("short", |job| has(job, "Complete")).await;
    lab.kubernetes.cluster().clock.advance(Duration::from_secs(3601));
    until("the job to go", || async {
        match lab.jobs().get_opt("short").await.unwrap() {
            Some(_) => Err("there".to_owned()),
            None => Ok(()),
        }
    })
    .await;
    assert!(lab.job_pods("short").await.is_empty());
    lab.kubernetes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finalizer_holds_a_deleted_job_and_it_makes_no_new_pods() {
    let lab = Lab::new().await;
    let mut held = job("held", "exit 1", json!({"backoffLimit": 1000}));
    held.metadata.finalizers = Some(vec!["deskgrid.dev/outcome".to_owned()]);
    lab.jobs().create(&PostParams::default(), &held).await.unwrap();
    lab.until_job("held", |job| job.status.as_ref().is_some_and(|status| status.failed > Some(0))).await;
    lab.jobs().delete("held", &DeleteParams::background()).await.unwrap();
    let deleting = lab.jobs().get("held").await.unwrap();
    assert!(deleting.metadata.deletion_timestamp.is_some());
    until("pods to be counted", || async {
        let pods = lab.job_pods("held").await;
        let waiting = pods.iter().filter(|pod| pod.metadata.finalizers.is_some()).count();
        if waiting == 0 { Ok(()) } else { Err(format!("{waiting}")) }
    })
    .await;
    let count = lab.job_pods("held").await.len();
    lab.job("after", "true", json!({})).await;
    lab.until_job("after", |job| has(job, "Complete")).await;
    assert_eq!(lab.job_pods("held").await.len(), count);
    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    lab.jobs().patch("held", &PatchParams::default(), &patch).await.unwrap();
    assert!(lab.jobs().get_opt("held").await.unwrap().is_none());
    until("its pods to go", || async {
        let pods = lab.job_pods("held").await;
        if pods.is_empty() { Ok(()) } else { Err(format!("{}", pods.len())) }
    })
    .await;
    lab.kubernetes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pod_and_job_deadlines_are_kept_on_the_clock() {
    let lab = Lab::new().await;
    let in_pod = json!({"backoffLimit": 0, "template": {"spec": {"activeDeadlineSeconds": 3600}}});
    lab.job("pod-deadline", "exec sleep 600", in_pod).await;
    lab.job("job-deadline", "exec sleep 600", json!({"activeDeadlineSeconds": 3600})).await;
    for name in ["pod-deadline", "job-deadline"] {
        lab.until_job(name, |job| job.status.as_ref().is_some_and(|status| status.ready == Some(1))).await;
    }
    lab.kubernetes.cluster().clock.advance(Duration::from_secs(3601));
    let failed = lab.until_job("job-deadline", |job| has(job, "Failed")).await;
    assert!(conditions(&failed).contains(&("Failed".to_owned(), "DeadlineExceeded".to_owned())));
    let failed = lab.until_job("pod-deadline", |job| has(job, "Failed")).await;
    assert!(conditions(&failed).contains(&("Failed".to_owned(), "BackoffLimitExceeded".to_owned())));
    let status = lab.job_pods("pod-deadline").await.remove(0).status.unwrap();
    assert_eq!((status.phase.as_deref(), status.reason.as_deref()), (Some("Failed"), Some("DeadlineExceeded")));
    assert_eq!(status.container_statuses.unwrap()[0].state.clone().unwrap().terminated.unwrap().exit_code, 143);
    lab.kubernetes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_job_has_no_pods_until_it_is_resumed() {
    let lab = Lab::new().await;
    lab.job("later", "true", json!({"suspend": true})).await;
    lab.until_job("later", |job| has(job, "Suspended")).await;
    assert!(lab.job_pods("later").await.is_empty());
    let patch = Patch::Merge(json!({"spec": {"suspend": false}}));
    lab.jobs().patch("later", &PatchParams::default(), &patch).await.unwrap();
    lab.until_job("later", |job| has(job, "Complete") && !has(job, "Suspended")).await;
    lab.kubernetes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_fails_for_good_after_its_own_limit() {
    let lab = Lab::new().await;
    let spec = json!({"completionMode": "Indexed", "completions": 3, "parallelism": 3, "backoffLimitPerIndex": 1});
    lab.job("per-index", "test $JOB_COMPLETION_INDEX != 1", spec).await;
    let done = lab.until_job("per-index", |job| has(job, "Failed")).await;
    assert!(conditions(&done).contains(&("Failed".to_owned(), "FailedIndexes".to_owned())));
    let status = done.status.unwrap();
    assert_eq!((status.completed_indexes.as_deref(), status.failed_indexes.as_deref()), (Some("0,2"), Some("1")));
    assert_eq!(status.failed, Some(2));
    lab.kubernetes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_deletion_keeps_the_pods_and_background_does_not() {
    let lab = Lab::new().await;
    for (name, parameters) in [("kept", DeleteParams::default()), ("gone", DeleteParams::background())] {
        lab.job(name, "true", json!({})).await;
        lab.until_job(name, |job: &Job| has(job, "Complete")).await;
        lab.jobs().delete(name, &parameters).await.unwrap();
        assert!(lab.jobs().get_opt(name).await.unwrap().is_none());
    }
    until("collected pods", || async {
        let pods = lab.job_pods("gone").await;
        if pods.is_empty() { Ok(()) } else { Err(format!("{}", pods.len())) }
    })
    .await;
    let kept = lab.job_pods("kept").await;
    assert_eq!(kept.len(), 1);
    assert!(kept[0].metadata.owner_references.is_none());
    lab.kubernetes.stop().await;
}
