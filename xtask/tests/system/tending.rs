//! What a person does with an environment that works: follow logs, clean up, open a web app.

use std::{collections::BTreeMap, path::Path, time::Duration};

use contract::outcome::State;
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{Namespace, Secret},
};
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use orchestrator::Hooks;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::world::{World, eventually};

/// Safety net.
const LIMIT: Duration = Duration::from_secs(240);

/// The desk's program counts aloud, or fails when it is told so.
const ENGINE: &str = r#"
image = "registry/shell"
command = ["/bin/sh", "-c", '''read -r word; [ "$word" = fail ] && exit 65; for n in 1 2 3 4 5 6 7 8; do echo "count $n" >&2; sleep 0.4; done; echo "{}"''']
permanent_exit_codes = [65]
"#;

async fn world() -> World {
    let world = World::start(&["bu1"], ENGINE).await;
    world.cloud.kubernetes.images().register("registry/shell", Path::new("/bin/sh")).unwrap();
    world.apply_without_orchestrators().await;
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_followed_through_a_restart_of_the_api_server_to_its_end() {
    let world = world().await;
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    let work = world.upload("bu1", "session", "aloud", "count\n").await;
    world.publish(&work).await;
    let mut follow = world.command(&["logs", "--follow", "--session", "session"]).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    let read = async {
        let mut counted = Vec::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some((_, rest)) = line.split_once("count ") {
                counted.push(rest.chars().next().unwrap());
                if counted.len() == 3 {
                    world.cloud.kubernetes.restart_api().await.unwrap();
                }
            }
        }
        counted
    };
    let counted = tokio::time::timeout(LIMIT, read).await.expect("it ends by itself when the session is over");
    assert_eq!(counted.into_iter().collect::<String>(), "12345678", "every line once, in order");
    assert!(follow.wait().await.unwrap().success());
    orchestrator.stop().await;
    world.stop().await;
}

/// The desk's program writes a line of 40,000 bytes between short ones, and waits.
const LONG_LINE: &str = r#"
image = "registry/shell"
timeout = "10m"
command = ["/bin/sh", "-c", '''read -r gate; echo early >&2; head -c 40000 /dev/zero | tr "\\0" x >&2; echo >&2; echo late >&2; while [ ! -e $gate ]; do sleep 0.1; done; echo "{}"''']
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_line_of_a_log_appears_once_and_whole() {
    let world = World::start(&["bu1"], LONG_LINE).await;
    world.cloud.kubernetes.images().register("registry/shell", Path::new("/bin/sh")).unwrap();
    world.apply_without_orchestrators().await;
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    let gate = world.folder().join("gate");
    let work = world.upload("bu1", "session", "long", &format!("{}\n", gate.display())).await;
    world.publish(&work).await;
    let logs = async |arguments: &[&str]| {
        let output = world.command(&[&["logs", "long"], arguments].concat()).output().await.unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    eventually("the log is there", async || logs(&[]).await.contains("late")).await;
    let long = "x".repeat(40_000);
    let count = |text: &str| text.lines().filter(|line| line.contains(&long)).count();
    for tail in ["2", "3", "100"] {
        let text = logs(&["--tail", tail]).await;
        assert_eq!((count(&text), text.lines().filter(|line| line.contains("xxx")).count()), (1, 1), "of {tail} lines");
        assert_eq!(text.lines().count() == 2, tail == "2");
    }
    let mut follow = world.command(&["logs", "long", "--follow", "--tail", "2"]).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    let read = async {
        let first = lines.next_line().await.unwrap().unwrap();
        assert_eq!(count(&first), 1, "{first:.90}");
        world.cloud.kubernetes.restart_api().await.unwrap();
        std::fs::write(&gate, "").unwrap();
        let mut rest = String::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            rest += &format!("{line}\n");
        }
        rest
    };
    let rest = tokio::time::timeout(LIMIT, read).await.expect("it ends with the Job");
    assert_eq!((count(&rest), rest.matches("late").count(), rest.contains("early")), (0, 1, false), "{rest}");
    orchestrator.stop().await;
    world.stop().await;
}

async fn run(world: &World, arguments: &[&str]) -> Value {
    let output = world.command(arguments).output().await.unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {out}\n{err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_ended_is_cleaned_up_and_nothing_else() {
    let world = world().await;
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    let mut expected = BTreeMap::new();
    for (job, word, state) in [("good", "count\n", State::Succeeded), ("bad", "fail\n", State::Failed)] {
        let work = world.upload("bu1", "session", job, word).await;
        world.publish(&work).await;
        expected.insert(work.identity.object, state);
    }
    world.assert_equation("bu1", &expected).await;
    orchestrator.stop().await;
    // Nobody takes this one: it waits.
    world.upload("bu1", "session", "waits", "count\n").await;
    let jobs: Api<Job> = Api::namespaced(world.kube.clone(), "bu1");
    let count = async || jobs.list(&ListParams::default()).await.unwrap().items.len();
    assert_eq!(count().await, 2);

    let parts = "--objects=input,output,outcome";
    let shown = run(&world, &["clean", "--business", "bu1", parts, "--dry-run", "--json"]).await;
    assert_eq!((&shown[0]["jobs"], &shown[0]["pods"]), (&json!(2), &json!(0)));
    let objects = shown[0]["objects"].as_array().unwrap().iter();
    let objects: BTreeMap<&str, i64> =
        objects.map(|part| (part["part"].as_str().unwrap(), part["objects"].as_i64().unwrap())).collect();
    let wanted = BTreeMap::from([("input", 1), ("outcome", 2), ("output", 1)]);
    assert_eq!(objects, wanted);
    assert_eq!(count().await, 2, "only shown");

    // Without the inputs, the outcome of what kept its input stays, or it would be computed again.
    run(&world, &["clean", "--business", "bu1", "--objects=outcome", "--yes", "--json"]).await;
    eventually("the Jobs are gone", async || count().await == 0).await;
    assert_eq!(world.objects("bu1", "outcome").await.len(), 1);
    run(&world, &["clean", "--business", "bu1", parts, "--yes", "--json"]).await;
    assert!(world.objects("bu1", "outcome").await.is_empty() && world.objects("bu1", "output").await.is_empty());
    let left: Vec<String> = world.objects("bu1", "input").await.into_iter().map(|input| input.name).collect();
    assert_eq!(left, ["bu1/input/session/waits"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_web_app_is_opened_through_the_api_server() {
    let Some(python) = ["/usr/bin/python3", "/usr/local/bin/python3"].into_iter().find(|path| Path::new(path).exists())
    else {
        println!("skipped: no python3 to stand in for a web app");
        return;
    };
    let world = world().await;
    let output = world.command(&["open", "monitor", "--json"]).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("no-web-app") && said.contains("it is not deployed"), "{said}");

    let namespaces: Api<Namespace> = Api::all(world.kube.clone());
    let namespace = serde_json::from_value(json!({"metadata": {"name": "deskgrid"}})).unwrap();
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(world.kube.clone(), "deskgrid");
    let secret =
        json!({"metadata": {"name": "web-access"}, "stringData": {"tokens": "# ours\n0123456789abcdef bu1\n"}});
    secrets.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
    let serve = [python, "-m", "http.server", "$(DESKGRID_PORT_HTTP)", "--bind", "127.0.0.1"];
    let web = json!({"metadata": {"name": "monitor"}, "spec": {"selector": {"matchLabels": {"app": "monitor"}},
        "template": {"metadata": {"labels": {"app": "monitor"}}, "spec": {"containers": [{
            "name": "monitor", "image": "registry/shell", "command": serve,
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1}}]}}}});
    let deployments: Api<Deployment> = Api::namespaced(world.kube.clone(), "deskgrid");
    deployments.create(&PostParams::default(), &serde_json::from_value(web).unwrap()).await.unwrap();
    eventually("the app is ready", async || {
        let status = deployments.get("monitor").await.unwrap().status.unwrap_or_default();
        status.available_replicas == Some(1)
    })
    .await;

    let mut open = world.command(&["open", "monitor", "--json"]).spawn().unwrap();
    let mut lines = BufReader::new(open.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(LIMIT, lines.next_line()).await.unwrap().unwrap().unwrap();
    let opened: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(opened["token"], "0123456789abcdef");
    let url = opened["url"].as_str().unwrap();
    assert!(!url.contains("0123456789abcdef"), "no browser keeps the token");
    for _ in 0..3 {
        let page = reqwest::get(url).await.unwrap();
        assert!(page.status().is_success());
        assert!(page.text().await.unwrap().contains("Directory listing"));
    }
    open.kill().await.unwrap();
    world.stop().await;
}
