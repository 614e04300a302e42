//! A business becomes a pool, has its certificate renewed and rotated, and is no pool any more.

use std::sync::Arc;

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{ConfigMap, Secret, Service},
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use provision::{
    Cloud, Environment, deploy,
    environment::{Overrides, parse},
    keys::{self, KeyUser},
};
use serde_json::{Value, json};

use crate::{desk::Desk, fixture::PROJECT};

const SERIAL: &str = "deskgrid.dev/pool-certificate";
const RECORD: &str = "deskgrid.dev/certificate";

/// One business, dispatched like this.
fn business(dispatch: &str) -> Environment {
    let text = format!(
        "project = \"{PROJECT}\"\nlocation = \"europe-west1\"\nweb.enabled = false\n[businesses.bu1]\ndispatch = \"{dispatch}\"\n"
    );
    parse("e", "e.toml", &text, &Overrides::new()).unwrap_or_else(|problems| panic!("{problems}"))
}

/// A desk, and a business on it.
struct Pool {
    desk: Desk,
    cloud: Cloud,
}

impl Pool {
    async fn start() -> Self {
        let desk = Desk::start(None).await;
        let cloud = desk.cloud().await;
        Self { desk, cloud }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.cloud.cluster().unwrap().clone(), "bu1")
    }

    /// What a deploy changes, as `verb Kind name`, and does.
    async fn deploy(&self, environment: &Environment) -> Vec<String> {
        let options = self.desk.options();
        let plan = deploy::plan(environment, &self.cloud, &options).await.unwrap();
        let lines = plan.changes().into_iter().map(|change| {
            let deploy::Applied { kind, name, change, .. } = change.applied;
            format!("{} {kind} {name}", change.verb())
        });
        let lines: Vec<String> = lines.collect();
        assert_eq!(plan.is_empty(), lines.is_empty());
        deploy::carry_out(environment, &self.cloud, &options, &plan, &(Arc::new(|_| {}) as deploy::Progress))
            .await
            .unwrap();
        lines
    }

    async fn secret(&self) -> Option<Secret> {
        self.api::<Secret>().get_opt("pool-tls").await.unwrap()
    }

    /// How many authorities engines trust.
    async fn authorities(&self) -> usize {
        let data = self.secret().await.unwrap().data.unwrap();
        String::from_utf8_lossy(&data["ca.crt"].0).matches("BEGIN CERTIFICATE").count()
    }

    /// Serial numbers of the certificate: in the Secret, for the pods of the orchestrator, and for the engines.
    async fn serials(&self) -> (u64, String, String) {
        let annotations = self.secret().await.unwrap().metadata.annotations.unwrap();
        let record: Value = serde_json::from_str(&annotations[RECORD]).unwrap();
        let deployment = self.api::<Deployment>().get("orchestrator").await.unwrap();
        let of_pods = deployment.spec.unwrap().template.metadata.unwrap().annotations.unwrap()[SERIAL].clone();
        let map = self.api::<ConfigMap>().get("deskgrid-config").await.unwrap().data.unwrap();
        let template: Value = serde_json::from_str(&map["pool.json"]).unwrap();
        let of_engines = template["spec"]["template"]["metadata"]["annotations"][SERIAL].as_str().unwrap().to_owned();
        (record["serial"].as_u64().unwrap(), of_pods, of_engines)
    }

    /// Has the certificate expire in this many days.
    async fn expire_in(&self, days: i64) {
        let mut annotations = self.secret().await.unwrap().metadata.annotations.unwrap();
        let mut record: Value = serde_json::from_str(&annotations[RECORD]).unwrap();
        let expires = Timestamp::now().to_zoned(TimeZone::UTC).date().saturating_add(days.days());
        record["expires"] = json!(expires);
        annotations.insert(RECORD.to_owned(), record.to_string());
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        let ours = PatchParams { field_manager: Some(deploy::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        self.api::<Secret>().patch("pool-tls", &ours, &patch).await.unwrap();
    }
}

/// All three of one serial number.
fn all(serial: u64) -> (u64, String, String) {
    (serial, serial.to_string(), serial.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_made_once_and_renewed_before_it_expires() {
    let pool = Pool::start().await;
    let environment = business("pool");
    let first = pool.deploy(&environment).await;
    assert!(first.contains(&"create Secret pool-tls".to_owned()), "{first:?}");
    assert_eq!((pool.serials().await, pool.authorities().await), (all(1), 2));
    assert_eq!(pool.deploy(&environment).await, [""; 0]);

    pool.expire_in(40).await;
    assert_eq!(pool.deploy(&environment).await, [""; 0]);
    let check = async || {
        let finding = provision::certificates::check(&environment, pool.cloud.cluster().unwrap()).await.unwrap();
        finding.map(|finding| (finding.fine, finding.fix))
    };
    assert_eq!(check().await, Some((true, None)));
    pool.expire_in(20).await;
    assert_eq!(check().await, Some((false, Some("cargo xtask deploy".to_owned()))));
    let renewed = ["change ConfigMap deskgrid-config", "change Deployment orchestrator", "change Secret pool-tls"];
    assert_eq!(pool.deploy(&environment).await, renewed);
    assert_eq!((pool.serials().await, pool.authorities().await), (all(2), 3));
    assert_eq!(pool.deploy(&environment).await, [""; 0]);

    // Without its Secret a pool gets a certificate that no pod has, so that all start anew.
    pool.api::<Secret>().delete("pool-tls", &Default::default()).await.unwrap();
    pool.deploy(&environment).await;
    assert_eq!((pool.serials().await, pool.authorities().await), (all(3), 2));
    pool.desk.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_certificate_is_what_the_next_deploy_finds() {
    let pool = Pool::start().await;
    let environment = business("pool");
    let user = KeyUser::business(&environment.businesses[0]).without_keys();
    let rotate = async || {
        let planned = deploy::rotation(&environment, &user, &pool.cloud).await.unwrap();
        let limits = (deploy::LIMIT, deploy::LIMIT);
        let rotated = keys::rotate(&environment, &user, &pool.cloud, limits, &|_| {}).await.unwrap();
        (planned.len(), serde_json::to_value(rotated).unwrap())
    };
    pool.deploy(&environment).await;
    assert_eq!(rotate().await, (3, json!([{"certificate": "pool.bu1.svc", "serial": 2}])));
    assert_eq!((pool.serials().await, pool.authorities().await), (all(2), 3));
    assert_eq!(pool.deploy(&environment).await, [""; 0]);
    // A rotation that was stopped after its first write is finished, not begun again.
    let mut annotations = pool.secret().await.unwrap().metadata.annotations.unwrap();
    let stopped = annotations[RECORD].replace("\"serial\":2", "\"serial\":3");
    annotations.insert(RECORD.to_owned(), stopped);
    let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
    pool.api::<Secret>().patch("pool-tls", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(rotate().await.0, 2, "only the pods are different");
    assert_eq!(pool.serials().await, all(3));
    assert_eq!(rotate().await.1[0]["serial"], 4);
    assert_eq!((pool.serials().await, pool.authorities().await), (all(4), 3));
    pool.desk.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_business_that_is_no_pool_any_more_keeps_nothing_of_it() {
    let pool = Pool::start().await;
    pool.deploy(&business("job")).await;
    assert!(pool.secret().await.is_none());
    let becomes = pool.deploy(&business("pool")).await;
    assert_eq!(
        becomes,
        [
            "change Role orchestrator",
            "change NetworkPolicy engine",
            "change NetworkPolicy orchestrator",
            "change ConfigMap deskgrid-config",
            "create ConfigMap deskgrid-pool",
            "change Deployment orchestrator",
            "create Service pool",
            "change ConfigMap deskgrid-applyset",
            "create Secret pool-tls",
        ]
    );
    // An engine, as the orchestrator makes it, and a Job of a message.
    let map = pool.api::<ConfigMap>().get("deskgrid-config").await.unwrap().data.unwrap();
    for (template, name) in [("pool.json", "pool-0"), ("job.json", "a-message")] {
        let mut job: Job = serde_json::from_str(&map[template]).unwrap();
        job.metadata.name = Some(name.to_owned());
        pool.api::<Job>().create(&PostParams::default(), &job).await.unwrap();
    }
    let is_no_more = pool.deploy(&business("job")).await;
    for line in ["delete Service pool", "delete ConfigMap deskgrid-pool", "delete Job pool-*", "delete Secret pool-tls"]
    {
        assert!(is_no_more.contains(&line.to_owned()), "{line} is missing in {is_no_more:?}");
    }
    assert!(pool.secret().await.is_none());
    assert!(pool.api::<Service>().get_opt("pool").await.unwrap().is_none());
    let jobs = pool.api::<Job>();
    let is_running = async |name: &str| {
        jobs.get_opt(name).await.unwrap().is_some_and(|job| job.metadata.deletion_timestamp.is_none())
    };
    assert!(!is_running("pool-0").await && is_running("a-message").await);
    assert_eq!(pool.deploy(&business("job")).await, [""; 0]);
    pool.desk.stop().await;
}
