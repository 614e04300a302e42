//! Watches: order, selectors, resumption, expiry, and logs that are followed.

use futures::{AsyncBufReadExt as _, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{DeleteParams, LogParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
    runtime::watcher,
};
use serde_json::json;

use crate::kubernetes::support::{Lab, until};

fn config(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": {"in": "yes"}}})).unwrap()
}

fn show(event: &WatchEvent<ConfigMap>) -> String {
    match event {
        WatchEvent::Added(one) => format!("added {}", one.metadata.name.as_deref().unwrap()),
        WatchEvent::Modified(one) => format!("modified {}", one.metadata.name.as_deref().unwrap()),
        WatchEvent::Deleted(one) => format!("deleted {}", one.metadata.name.as_deref().unwrap()),
        WatchEvent::Bookmark(_) => "bookmark".to_owned(),
        WatchEvent::Error(status) => format!("error {} {}", status.code, status.reason),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_sees_what_its_selector_takes_and_resumes() {
    let lab = Lab::new().await;
    let api: Api<ConfigMap> = Api::default_namespaced(lab.client.clone());
    let start = api.list(&Default::default()).await.unwrap().metadata.resource_version.unwrap();
    let first = api.create(&PostParams::default(), &config("a")).await.unwrap();
    let label = |value: &str| Patch::Merge(json!({"metadata": {"labels": {"in": value}}}));
    api.patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"x": "1"}}))).await.unwrap();
    api.patch("a", &PatchParams::default(), &label("no")).await.unwrap();
    api.patch("a", &PatchParams::default(), &label("yes")).await.unwrap();
    api.delete("a", &DeleteParams::default()).await.unwrap();
    let params = WatchParams::default().labels("in=yes").timeout(20);
    let seen: Vec<_> =
        api.watch(&params, &start).await.unwrap().take(5).map_ok(|event| show(&event)).try_collect().await.unwrap();
    assert_eq!(seen, ["added a", "modified a", "deleted a", "added a", "deleted a"]);
    let version = first.metadata.resource_version.unwrap();
    let next = api.watch(&params, &version).await.unwrap().boxed().try_next().await.unwrap().unwrap();
    assert_eq!(show(&next), "modified a");

    lab.kubernetes.cluster().store.compact();
    api.create(&PostParams::default(), &config("b")).await.unwrap();
    let expired = api.watch(&params, &version).await.unwrap().boxed().try_next().await.unwrap().unwrap();
    assert_eq!(show(&expired), "error 410 Expired");
    lab.kubernetes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_survives_a_restart_of_the_api_server() {
    let lab = Lab::new().await;
    let api: Api<ConfigMap> = Api::default_namespaced(lab.client.clone());
    for config in [watcher::Config::default().labels("in"), watcher::Config::default().labels("in").streaming_lists()] {
        let mut stream = watcher(api.clone(), config).boxed();
        let mut next = async |desired: &str| loop {
            // Errors are items: the watcher begins again by itself.
            let event = tokio::time::timeout(std::time::Duration::from_secs(20), stream.next()).await.unwrap().unwrap();
            if let Ok(watcher::Event::Apply(one) | watcher::Event::InitApply(one)) = event
                && one.metadata.name.as_deref() == Some(desired)
            {
                return;
            }
        };
        api.create(&PostParams::default(), &self::config("before")).await.unwrap();
        next("before").await;
        lab.kubernetes.restart_api().await.unwrap();
        until("the server", || async {
            api.create(&PostParams::default(), &self::config("after"))
                .await
                .map(drop)
                .map_err(|error| error.to_string())
        })
        .await;
        next("after").await;
        api.delete_collection(&DeleteParams::default(), &Default::default()).await.unwrap();
    }
    lab.kubernetes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_followed_to_the_end() {
    let lab = Lab::new().await;
    let gate = lab.folder.path().join("gate");
    let script = format!("echo one; echo two; while ! test -e {}; do sleep 0.02; done; echo three", gate.display());
    lab.job("talk", &script, json!({})).await;
    lab.until_job("talk", |job| job.status.as_ref().is_some_and(|status| status.ready == Some(1))).await;
    let name = lab.job_pods("talk").await.remove(0).metadata.name.unwrap();
    until("two lines", || async {
        let log = lab.pods().logs(&name, &LogParams::default()).await.unwrap();
        if log == "one\ntwo\n" { Ok(()) } else { Err(log) }
    })
    .await;
    let follow = LogParams { follow: true, tail_lines: Some(1), ..LogParams::default() };
    let mut lines = lab.pods().log_stream(&name, &follow).await.unwrap().lines();
    assert_eq!(lines.try_next().await.unwrap().as_deref(), Some("two"));
    std::fs::write(gate, "").unwrap();
    assert_eq!(lines.try_next().await.unwrap().as_deref(), Some("three"));
    assert_eq!(lines.try_next().await.unwrap(), None);
    let limited = LogParams { limit_bytes: Some(5), ..LogParams::default() };
    assert_eq!(lab.pods().logs(&name, &limited).await.unwrap(), "one\nt");
    let stamped = LogParams { timestamps: true, since_seconds: Some(3600), ..LogParams::default() };
    let stamped = lab.pods().logs(&name, &stamped).await.unwrap();
    let (time, text) = stamped.lines().next().unwrap().split_once(' ').unwrap();
    assert!(time.parse::<jiff::Timestamp>().is_ok() && text == "one", "{stamped}");
    lab.kubernetes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_line_is_kept_in_parts_and_given_as_a_kubelet_does() {
    const PART: usize = 16 * 1024;
    let lab = Lab::new().await;
    let line = |length: usize| format!("head -c {length} /dev/zero | tr '\\0' x; echo");
    let script = format!("echo first; {}; {}; printf last", line(PART), line(2 * PART + 7));
    lab.job("long", &script, json!({})).await;
    lab.until_job("long", |job| job.status.as_ref().is_some_and(|status| status.succeeded == Some(1))).await;
    let name = lab.job_pods("long").await.remove(0).metadata.name.unwrap();
    let read = async |parameters: LogParams| lab.pods().logs(&name, &parameters).await;
    let whole = format!("first\n{}\n{}\nlast\n", "x".repeat(PART), "x".repeat(2 * PART + 7));
    assert!(read(LogParams::default()).await.unwrap() == whole, "the parts of a line are one line");
    let tail = |lines: i64| LogParams { tail_lines: Some(lines), ..LogParams::default() };
    assert_eq!(read(tail(2)).await.unwrap(), "xxxxxxx\nlast\n", "the last part of a line counts as a line");
    assert_eq!(read(tail(3)).await.unwrap().len(), PART + "xxxxxxx\nlast\n".len());
    let limit = LogParams { limit_bytes: Some(i64::try_from(PART).unwrap() + 10), ..LogParams::default() };
    assert!(read(limit).await.unwrap() == whole[..PART + 10]);

    // Only the first part has a time, and so has what is read first, but not the rest of a line that was left out.
    let stamped = |parameters| LogParams { timestamps: true, ..parameters };
    let lines = read(stamped(LogParams::default())).await.unwrap();
    let (times, texts): (Vec<_>, Vec<_>) = lines.lines().map(|line| line.split_once(' ').unwrap()).unzip();
    assert!(texts.join("\n") + "\n" == whole);
    assert!(times.iter().all(|time| time.parse::<jiff::Timestamp>().is_ok()) && times.is_sorted(), "{times:?}");
    let rest = read(stamped(tail(2))).await.unwrap();
    assert!(rest.lines().all(|line| line.split_once(' ').unwrap().0.parse::<jiff::Timestamp>().is_ok()), "{rest}");
    for refused in [tail(-1), LogParams { limit_bytes: Some(0), ..LogParams::default() }] {
        let error = read(refused).await.unwrap_err();
        assert!(matches!(&error, kube::Error::Api(status) if status.code == 422), "{error}");
    }
    lab.kubernetes.stop().await;
}
