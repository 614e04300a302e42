//! A business that comes or goes reaches the web apps that run, without a deploy of everything.

use std::{io::BufRead as _, process::Child, time::Instant};

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use serde_json::{Value, json};

use crate::{setup_verbs::Desk, world::eventually};

const FILE: &str = "project = \"web-desk\"\nlocation = \"europe-west1\"\ncloud = \"local\"\n\
                    [businesses.bu1]\nmax_active_jobs = 4\n[businesses.bu1.engine]\ncpu = \"100m\"\n";

/// A way to an app, as `open` makes it.
struct Opened {
    way: Child,
    url: String,
    token: String,
    http: reqwest::Client,
}

impl Opened {
    fn new(desk: &Desk, app: &str) -> Self {
        let mut way = desk.begin(&["open", app, "--no-browser", "--json"]);
        let mut line = String::new();
        std::io::BufReader::new(way.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let text = |name: &str| said[name].as_str().unwrap().to_owned();
        // Each request finds the pod that is there then.
        let http = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
        Self { way, url: text("url"), token: text("token"), http }
    }

    /// A document of the app; nothing while one pod takes another's place.
    async fn get(&self, path: &str) -> Option<Value> {
        let answer = self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.token).send().await.ok()?;
        answer.json().await.ok()
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let _ = self.way.kill();
        let _ = self.way.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_business_that_comes_or_goes_is_known_to_the_web_apps_that_run() {
    let _ = cloud::clients::install_tls_provider();
    let desk = Desk::deployed(FILE);
    let (client, monitor) = (Opened::new(&desk, "client"), Opened::new(&desk, "monitor"));
    let served = async |names: &[&str]| {
        let of_monitor = |found: Value| {
            let lines = found["businesses"].as_array().cloned().unwrap_or_default();
            lines.iter().map(|line| line["business"].clone()).collect::<Value>()
        };
        client.get("api/v1/businesses").await == Some(json!({"businesses": names}))
            && monitor.get("api/v1/overview").await.map(of_monitor) == Some(json!(names))
    };
    eventually("both serve bu1", async || served(&["bu1"]).await).await;
    let deployments: Api<Deployment> = Api::namespaced(desk.cloud().await.cluster().unwrap().clone(), "bu1");
    let before = deployments.get("orchestrator").await.unwrap().metadata.generation;

    desk.run(&["add-business", "bu2"], 0);
    let since = Instant::now();
    eventually("both serve bu2", async || served(&["bu1", "bu2"]).await).await;
    println!("known {} ms after the verb had ended", since.elapsed().as_millis());
    // The new one is of use: somebody submits to it, and the monitor sees it done.
    let put = client.http.put(format!("{}api/v1/inputs?business=bu2&session=first&job=note.txt", client.url));
    let answer = put.bearer_auth(&client.token).body("engine payload").send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 201, "{:?}", answer.text().await);
    eventually("the monitor shows it done", async || {
        let found = monitor.get("api/v1/jobs?business=bu2&state=succeeded").await;
        found.is_some_and(|found| found["total"] == 1)
    })
    .await;
    let overview = monitor.get("api/v1/overview").await.unwrap();
    assert_eq!(overview["businesses"][1]["troubles"], json!({}), "it may look at all of it: {overview}");
    assert_eq!(deployments.get("orchestrator").await.unwrap().metadata.generation, before, "bu1 did not notice");

    desk.run(&["remove-business", "bu2", "--delete-data", "--yes-delete", "web-desk-bucket"], 0);
    eventually("both serve bu1 alone", async || served(&["bu1"]).await).await;
    // A teardown takes the web apps with it.
    drop((client, monitor));
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> =
        Api::all(desk.cloud().await.cluster().unwrap().clone());
    assert!(namespaces.get_opt("deskgrid").await.unwrap().is_some());
    desk.run(&["teardown"], 0);
    assert!(!matches!(namespaces.get_opt("deskgrid").await, Ok(Some(_))), "the web apps are gone");
}
