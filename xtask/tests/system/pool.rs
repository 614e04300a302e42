//! A desk with a pool of engines, from `deploy` on: the same results as with Jobs, and nothing lost.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use localcloud::node::images::Images;
use serde_json::Value;

use crate::{setup_verbs::Desk, world::eventually};

/// Two desks that differ in nothing but how they compute.
const FILE: &str = r#"
project = "pool-desk"
location = "europe-west1"
cloud = "local"
[businesses.bu1]
dispatch = "pool"
[businesses.bu1.pool]
max = 2
slots = 2
idle = "10s"
[businesses.bu1.engine]
cpu = "200m"
[businesses.bu2]
[businesses.bu2.engine]
cpu = "200m"
"#;

fn example(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name).display().to_string()
}

/// A pack of lines that the kernel echoes.
fn lines(desk: &Desk, count: usize) -> PathBuf {
    let path = desk.folder().join("lines.ndjson");
    let lines: String = (0..count).map(|line| format!("line {line}\n")).collect();
    std::fs::write(&path, lines).unwrap();
    path
}

/// The table of results of a session.
fn results(desk: &Desk, business: &str, session: &str) -> Value {
    desk.json(&["results", "--business", business, "--session", session], 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_computes_the_same_as_jobs_and_ends_when_it_is_idle() {
    let _ = cloud::clients::install_tls_provider();
    let desk = Desk::deployed(FILE);
    let (pricing, pack) = (example("pricing"), lines(&desk, 500));
    for business in ["bu1", "bu2"] {
        desk.run(&["submit", "--business", business, "--session", "single", "--wait", &pricing], 0);
        let pack = ["--pack", pack.to_str().unwrap()];
        let submit = ["submit", "--business", business, "--session", "pack", "--wait"];
        desk.run(&[&submit[..], &pack].concat(), 0);
        // What can never work fails in both.
        let malformed = example("malformed.json");
        desk.run(&["submit", "--business", business, "--session", "bad", "--wait", &malformed], 1);
    }
    for session in ["single", "pack", "bad"] {
        let (pool, jobs) = (results(&desk, "bu1", session), results(&desk, "bu2", session));
        assert_eq!(pool, jobs, "{session}");
        assert!(pool.as_array().is_some_and(|rows| !rows.is_empty()), "{session}: {pool}");
    }
    let verified = desk.run(&["verify", "pack", "--business", "bu1"], 0);
    assert!(!verified.contains("error"), "{verified}");

    let cluster = desk.cloud().await.cluster().unwrap().clone();
    let jobs: Api<Job> = Api::namespaced(cluster, "bu1");
    let listed = jobs.list(&ListParams::default()).await.unwrap().items;
    let names: Vec<&str> = listed.iter().filter_map(|job| job.metadata.name.as_deref()).collect();
    assert!(names.iter().all(|name| name.starts_with("pool-")), "no work has a Job of its own: {names:?}");
    eventually("the engines end", async || {
        let listed = jobs.list(&ListParams::default()).await.unwrap().items;
        let has_ended = |job: &Job| job.status.as_ref().is_some_and(|status| status.completion_time.is_some());
        listed.iter().all(has_ended)
    })
    .await;
}

/// The program of the desk waits with a certain line, and ends the container in which it runs when it meets another.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_in_a_container_of_its_own_computes_and_an_item_that_ends_it_fails_alone() {
    let _ = cloud::clients::install_tls_provider();
    let folder = tempfile::tempdir().unwrap();
    let shell = Path::new("/bin/sh");
    let image = Images::new(folder.path().to_owned()).register("registry/shell", shell).unwrap();
    let (one, _) = FILE.split_once("[businesses.bu2]").unwrap();
    let gate = folder.path().join("gate");
    let script = format!(
        "read -r x; [ \"$x\" = \"line 7\" ] && kill -9 $PPID; \
         while [ \"$x\" = \"line 3\" ] && [ ! -e {} ]; do sleep 0.1; done; echo \"$x of $DESKGRID_COUNT\"",
        gate.display()
    );
    let desk = Desk::start(&format!("{one}image = \"{image}\"\ncommand = [\"/bin/sh\", \"-c\", '{script}']\n"));
    Images::new(desk.folder().join("generated/verbs/cloud/cluster/images")).register("registry/shell", shell).unwrap();
    desk.run(&["provision"], 0);
    desk.run(&["deploy"], 0);
    let pack = lines(&desk, 50);
    desk.run(&["submit", "--business", "bu1", "--session", "pack", "--pack", pack.to_str().unwrap()], 0);
    let item = ["job", "lines.ndjson", "--business", "bu1", "--item", "3"];
    // It goes to another engine when the line that ends containers ends its own.
    eventually("it is known with which engine an item is", async || {
        desk.json(&item, 0)["engine"].as_str().is_some_and(|engine| engine.starts_with("pool-"))
            && desk.json(&item[..4], 0)["explanation"].to_string().contains(" with engine pool-")
    })
    .await;
    let status = desk.json(&["status"], 0);
    let reports = status["businesses"][0]["engines"]["reports"].as_array().unwrap();
    let mut engines = reports.iter().flat_map(|report| report["engines"].as_array().unwrap());
    assert!(engines.any(|engine| engine["items"].as_u64() > Some(0)), "{status}");
    std::fs::write(gate, "").unwrap();
    desk.run(&["session", "wait", "pack", "--business", "bu1", "--timeout", "4m"], 1);
    for (index, row) in results(&desk, "bu1", "pack").as_array().unwrap().iter().enumerate() {
        if index == 7 {
            assert!(row["error"].as_str().is_some_and(|error| error.contains("container ended twice")), "{row}");
        } else {
            assert_eq!(row["error"], Value::Null, "{row}");
            assert!(row.to_string().contains(&format!("line {index} of 50")), "{row}");
        }
    }
}

/// The kubelet evicts the pod, and asks the engine to stop before that, as when a node is emptied.
#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_fills_the_disk_fails_alone() {
    let _ = cloud::clients::install_tls_provider();
    let shell = Path::new("/bin/sh");
    let folder = tempfile::tempdir().unwrap();
    let image = Images::new(folder.path().to_owned()).register("registry/shell", shell).unwrap();
    let (one, _) = FILE.split_once("[businesses.bu2]").unwrap();
    let script = "read -r x; [ \"$x\" = \"line 3\" ] && dd if=/dev/null of=$DESKGRID_WORK_DIR/full bs=1 seek=2000000000 && sleep 1000; echo $x";
    let desk = Desk::start(&format!("{one}image = \"{image}\"\ncommand = [\"/bin/sh\", \"-c\", '{script}']\n"));
    Images::new(desk.folder().join("generated/verbs/cloud/cluster/images")).register("registry/shell", shell).unwrap();
    desk.run(&["provision"], 0);
    desk.run(&["deploy"], 0);
    let pack = lines(&desk, 20);
    let submit = ["submit", "--business", "bu1", "--session", "pack", "--pack", pack.to_str().unwrap()];
    desk.run(&[&submit[..], &["--wait", "--timeout", "4m"]].concat(), 1);
    for (index, row) in results(&desk, "bu1", "pack").as_array().unwrap().iter().enumerate() {
        let error = row["error"].as_str();
        assert_eq!(error.is_some_and(|error| error.contains("memory or disk")), index == 3, "{row}");
        assert_eq!(error.is_some(), index == 3, "{row}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_an_engine_and_the_orchestrator_are_deleted() {
    let _ = cloud::clients::install_tls_provider();
    let desk = Desk::deployed(FILE);
    let pack = lines(&desk, 20_000);
    let submit = ["submit", "--business", "bu1", "--session", "pack", "--pack", pack.to_str().unwrap()];
    desk.run(&submit, 0);
    let cluster = desk.cloud().await.cluster().unwrap().clone();
    let pods: Api<Pod> = Api::namespaced(cluster, "bu1");
    let running = async |app: &str| {
        let listed = pods.list(&ListParams::default().labels(&format!("app={app}"))).await.unwrap().items;
        let is_running = |pod: &Pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
        };
        listed.into_iter().filter(is_running).filter_map(|pod| pod.metadata.name).collect::<Vec<_>>()
    };
    for app in ["engine", "orchestrator"] {
        eventually("a pod runs", async || !running(app).await.is_empty()).await;
        let name = running(app).await.remove(0);
        pods.delete(&name, &DeleteParams::default().grace_period(0)).await.unwrap();
    }
    desk.run(&["session", "wait", "pack", "--business", "bu1", "--timeout", "4m"], 0);
    let rows = results(&desk, "bu1", "pack");
    let mut seen: BTreeMap<u64, usize> = BTreeMap::new();
    for row in rows.as_array().unwrap() {
        assert_eq!(row["error"], Value::Null, "{row}");
        *seen.entry(row["row"].as_str().unwrap().parse().unwrap()).or_default() += 1;
    }
    assert!(seen.len() == 20_000 && seen.values().all(|count| *count == 1), "{} items", seen.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_certificate_are_replaced_while_a_pool_computes_and_a_business_leaves_its_pool_and_returns() {
    let _ = cloud::clients::install_tls_provider();
    let (one, _) = FILE.split_once("[businesses.bu2]").unwrap();
    let one =
        one.replace("cloud = \"local\"", "cloud = \"local\"\nauth = \"key\"").replace("max = 2", "min = 1\nmax = 2");
    let desk = Desk::deployed(&one);
    let cluster = desk.cloud().await.cluster().unwrap().clone();
    let jobs: Api<Job> = Api::namespaced(cluster, "bu1");
    let engines = async || {
        let listed = jobs.list(&ListParams::default().labels("deskgrid.dev/pool")).await.unwrap().items;
        listed.into_iter().filter_map(|job| job.metadata.uid).collect::<Vec<_>>()
    };
    eventually("an engine stays", async || !engines().await.is_empty()).await;
    let before = engines().await;
    let pack = lines(&desk, 20_000);
    desk.run(&["submit", "--business", "bu1", "--session", "pack", "--pack", pack.to_str().unwrap()], 0);

    let rotated = desk.json(&["rotate-keys", "--business", "bu1"], 0);
    assert_eq!(rotated[0], serde_json::json!({"certificate": "pool.bu1.svc", "serial": 2}));
    for key in &rotated.as_array().unwrap()[1..] {
        assert_eq!(
            key["deleted"].as_array().unwrap().len(),
            1,
            "an engine with the old key does not stay: {rotated:#}"
        );
    }
    assert!(engines().await.iter().all(|uid| !before.contains(uid)), "every engine is another one");
    desk.run(&["session", "wait", "pack", "--business", "bu1", "--timeout", "4m"], 0);
    let rows = results(&desk, "bu1", "pack");
    assert!(rows.as_array().is_some_and(|rows| rows.iter().all(|row| row["error"].is_null())), "{rows}");
    assert_eq!(
        desk.json(&["deploy", "--dry-run"], 0),
        serde_json::json!([]),
        "a deploy renders what the rotation wrote"
    );

    let (without, _) = one.split_once("dispatch").unwrap();
    std::fs::write(desk.file(), without).unwrap();
    desk.run(&["deploy"], 0);
    eventually("the engines are gone", async || engines().await.is_empty()).await;
    let pricing = example("pricing");
    let submit = |session| ["submit", "--business", "bu1", "--session", session, "--wait", &pricing];
    desk.run(&submit("jobs"), 0);
    assert_eq!(desk.json(&["deploy", "--dry-run"], 0), serde_json::json!([]));

    std::fs::write(desk.file(), &one).unwrap();
    desk.run(&["deploy"], 0);
    desk.run(&submit("pool"), 0);
    assert!(!engines().await.is_empty(), "an engine stays");
    let of_jobs = results(&desk, "bu1", "jobs").to_string().replace("\"jobs\"", "\"pool\"");
    assert_eq!(results(&desk, "bu1", "pool").to_string(), of_jobs);
    assert_eq!(desk.json(&["deploy", "--dry-run"], 0), serde_json::json!([]));
}
