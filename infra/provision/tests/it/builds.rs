//! Builds are begun once, whatever becomes of the answers.

use std::time::Duration;

use localcloud::faults::{Fault, Faults, When};
use provision::{
    Environment,
    build::{self, Build, Image, Order},
    google::{Api, Client, Method, Request},
};
use serde_json::json;

use crate::fixture::{self, ONE, Verb, client, cloud, environment};

fn order<'a>(environment: &'a Environment, images: &'a [Image<'a>]) -> Order<'a> {
    Order {
        environment,
        object: "deskgrid/build/source/src.tar.gz",
        generation: 7,
        place: "europe-west1-docker.pkg.dev/desk-one/desk-one-images",
        images,
    }
}

async fn known(client: &Client, order: &Order<'_>) -> Vec<Build> {
    let builds = client.list(&build::list(order.environment, &order.images[0]), "builds").await.unwrap();
    builds.iter().filter_map(Build::read).collect()
}

#[tokio::test]
async fn an_order_whose_answer_is_lost_is_one_build() {
    let faults = Faults::default();
    let told = faults.clone();
    let google = fixture::google(move |options| options.faults = told).await;
    Verb::Provision.run(&cloud(client(&google))).await.unwrap();
    let environment = environment(ONE);
    let client = client(&google);
    for (tag, fault) in [("src-1", Fault::DropAfter), ("src-2", Fault::DropBefore), ("src-3", Fault::Answer(503))] {
        let engine = [Image { name: "engine", tag }];
        let order = order(&environment, &engine);
        let lost = faults.add("POST", "/builds", When::Between(1, 1), fault);
        let (begun, found) = build::begin(&client, &order, false).await.unwrap().unwrap();
        assert_eq!(faults.met(lost), 1, "{fault:?}");
        faults.clear();
        assert!(!found, "{fault:?}: it was there before");
        let ids: Vec<String> = known(&client, &order).await.into_iter().map(|build| build.id).collect();
        assert_eq!(ids, [begun.id], "{fault:?}");
    }
    // One that is wanted anew is another one, once.
    let engine = [Image { name: "engine", tag: "src-1" }];
    let order = order(&environment, &engine);
    faults.add("POST", "/builds", When::Between(1, 1), Fault::DropAfter);
    let (anew, found) = build::begin(&client, &order, true).await.unwrap().unwrap();
    let all = known(&client, &order).await;
    assert!(!found && all.len() == 2 && all.iter().any(|build| build.id == anew.id), "{all:?}");
    google.stop().await;
}

#[tokio::test]
async fn a_build_is_waited_for_only_if_it_makes_every_image_that_is_wanted() {
    // No build ends while this looks.
    let google = fixture::google(|options| {
        options.operations_take = Duration::from_secs(3600);
        options.enforce_apis = false;
    })
    .await;
    let (client, environment) = (client(&google), environment(ONE));
    let builder = environment.accounts.builder.split('@').next().unwrap();
    let accounts = format!("v1/projects/{}/serviceAccounts", environment.project);
    let account = Request::new(Api::Iam, Method::Post, accounts).body(json!({"accountId": builder}));
    client.send(&account).await.unwrap();
    let bucket =
        json!({"name": environment.bucket, "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": true}}});
    let project = environment.project.clone();
    client
        .send(&Request::new(Api::Storage, Method::Post, "storage/v1/b").query("project", project).body(bucket))
        .await
        .unwrap();
    let member = format!("serviceAccount:{}", environment.accounts.builder);
    let policy = json!({"bindings": [{"role": "roles/storage.legacyBucketReader", "members": [member]}]});
    let path = format!("storage/v1/b/{}/iam", environment.bucket);
    client.send(&Request::new(Api::Storage, Method::Put, path).body(policy)).await.unwrap();
    let begin =
        async |images: &[Image<'_>]| build::begin(&client, &order(&environment, images), false).await.unwrap().unwrap();
    let engine = Image { name: "engine", tag: "src-1" };
    let orchestrator = Image { name: "orchestrator", tag: "src-2" };
    let (first, _) = begin(std::slice::from_ref(&engine)).await;
    let (both, found) = begin(&[engine, orchestrator]).await;
    assert!(!found && both.id != first.id, "the engine's build makes no orchestrator");
    let (again, found) = begin(&[orchestrator]).await;
    assert!(found && again.id == both.id, "{again:?}");
    google.stop().await;
}
