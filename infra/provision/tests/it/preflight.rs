//! What is looked at before anything is written, and by `doctor`: each check both ways, with the fix it prints.

use google_cloud_auth::credentials::{CacheableResource, Credentials, CredentialsProvider, EntityTag};
use http::{Extensions, HeaderMap, HeaderValue, header};
use localcloud::{
    faults::{Fault, Faults, When},
    google::{Google, Options},
};
use provision::{
    Cloud, Environment,
    environment::{Overrides, parse},
    finding::Finding,
    google::{Api, Method, Request},
    preflight,
};
use serde_json::json;

use crate::fixture::{self, ONE, PROJECT, Verb, client, cloud};

/// A token that somebody was given.
#[derive(Debug)]
pub(crate) struct Token(pub(crate) String);

impl CredentialsProvider for Token {
    async fn headers(
        &self,
        _: Extensions,
    ) -> Result<CacheableResource<HeaderMap>, google_cloud_auth::errors::CredentialsError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {}", self.0)).unwrap());
        Ok(CacheableResource::New { entity_tag: EntityTag::new(), data: headers })
    }

    async fn universe_domain(&self) -> Option<String> {
        None
    }
}

fn environment(more: &str) -> Environment {
    let text = format!("project = \"{PROJECT}\"\nlocation = \"europe-west1\"\n{more}");
    parse("e", "e.toml", &text, &Overrides::new()).unwrap_or_else(|problems| panic!("{problems}"))
}

/// What one check found.
async fn found(environment: &Environment, cloud: &Cloud, what: &str) -> Finding {
    let findings = preflight::check(environment, cloud, None).await;
    let finding = findings.iter().find(|finding| finding.what == what);
    finding.cloned().unwrap_or_else(|| panic!("{what} was not looked at: {findings:#?}"))
}

/// Fails unless a check found this, and says this to do.
#[track_caller]
fn assert_bad(finding: &Finding, needed: bool, seen: &str, fix: &str) {
    assert!(!finding.fine && finding.needed == needed, "{finding:?}");
    assert!(finding.seen.contains(seen), "{finding:?}");
    assert!(finding.fix.as_deref().unwrap_or_default().contains(fix), "{finding:?}");
}

async fn start(tell: impl FnOnce(&mut Options)) -> Google {
    fixture::google(|options| {
        options.enforce_apis = false;
        tell(options);
    })
    .await
}

/// Quotas with room for every engine.
fn roomy() -> std::collections::BTreeMap<String, u32> {
    [("SSD_TOTAL_GB".to_owned(), 4000), ("IN_USE_ADDRESSES".to_owned(), 80)].into()
}

#[tokio::test]
async fn a_project_as_it_should_be_has_nothing_to_find() {
    let google = start(|options| options.quotas = roomy()).await;
    let cloud = cloud(client(&google));
    Verb::Provision.run(&cloud).await.unwrap();
    for desired in ["services enabled", "everything"] {
        let findings = preflight::check(&environment(ONE), &cloud, None).await;
        let wrong: Vec<&Finding> = findings.iter().filter(|one| !one.fine).collect();
        // Only services that nobody asked for are off.
        assert!(wrong.iter().all(|one| one.what == "services"), "{desired}: {wrong:#?}");
        assert!(findings.len() > 12, "{findings:#?}");
    }
    google.stop().await;
}

#[tokio::test]
async fn who_one_is_and_what_one_may_is_looked_at() {
    let google = start(|options| options.allow_anonymous = false).await;
    let operator = client(&google).acting_as(Credentials::from(Token(google.operator_token())));
    let as_operator = cloud(operator.clone());
    Verb::Provision.run(&as_operator).await.unwrap();
    let one = environment(ONE);
    for what in ["credentials", "permissions", "permissions: nodes", "bucket"] {
        assert!(found(&one, &as_operator, what).await.fine, "{what}");
    }

    let nobody = found(&one, &cloud(client(&google)), "credentials").await;
    assert_bad(&nobody, true, "", "gcloud auth application-default login");
    let elsewhere = Environment { project: "another-project".to_owned(), ..one.clone() };
    assert_bad(&found(&elsewhere, &as_operator, "project").await, true, "403", "check `project`");

    // Somebody who may nothing, and then act as the nodes.
    let email = one.accounts.builder.clone();
    let path = format!("v1/projects/{PROJECT}/serviceAccounts/{email}");
    let grant = |member: &str, role: &str| json!({"policy": {"bindings": [{"role": role, "members": [member]}]}});
    let post = |path: String| Request::new(Api::Iam, Method::Post, path);
    let maker = grant("user:operator@example.com", "roles/iam.serviceAccountTokenCreator");
    operator.send(&post(format!("{path}:setIamPolicy")).body(maker)).await.unwrap();
    let token = Request::new(
        Api::IamCredentials,
        Method::Post,
        format!("v1/projects/-/serviceAccounts/{email}:generateAccessToken"),
    )
    .body(json!({"scope": ["https://www.googleapis.com/auth/cloud-platform"]}));
    let answer = operator.send(&token).await.unwrap();
    let builder =
        client(&google).acting_as(Credentials::from(Token(answer["accessToken"].as_str().unwrap().to_owned())));
    let as_builder = cloud(builder);
    // Calls count in the project, which is a right of its own.
    let denied = found(&one, &as_builder, "project").await;
    assert_bad(&denied, true, "USER_PROJECT_DENIED", "--member YOU --role roles/serviceusage.serviceUsageConsumer");
    let project = format!("v1/projects/{PROJECT}");
    let read = Request::new(Api::CloudResourceManager, Method::Post, format!("{project}:getIamPolicy"));
    let mut policy = operator.send(&read).await.unwrap();
    let consumer = json!({
        "role": "roles/serviceusage.serviceUsageConsumer", "members": [format!("serviceAccount:{email}")],
    });
    policy["bindings"].as_array_mut().unwrap().push(consumer);
    let write = Request::new(Api::CloudResourceManager, Method::Post, format!("{project}:setIamPolicy"));
    operator.send(&write.body(json!({"policy": policy}))).await.unwrap();
    let permissions = found(&one, &as_builder, "permissions").await;
    assert_bad(&permissions, true, "container.clusters.create", "--member YOU --role roles/container.admin");
    assert_bad(&permissions, true, "monitoring.alertPolicies.create", "--role roles/monitoring.alertPolicyEditor");
    let without = ONE.split_once("[businesses").map(|(_, rest)| format!("[businesses{rest}")).unwrap();
    assert!(!found(&environment(&without), &as_builder, "permissions").await.seen.contains("monitoring."));
    assert_bad(&found(&one, &as_builder, "bucket").await, true, "storage.objects.delete", "--role roles/storage.admin");
    let nodes = &one.accounts.nodes;
    let acting = found(&one, &as_builder, "permissions: nodes").await;
    assert_bad(&acting, true, "iam.serviceAccounts.actAs", &format!("add-iam-policy-binding {nodes} --member YOU"));
    let user = grant(&format!("serviceAccount:{email}"), "roles/iam.serviceAccountUser");
    let policy = format!("v1/projects/{PROJECT}/serviceAccounts/{nodes}:setIamPolicy");
    operator.send(&post(policy).body(user)).await.unwrap();
    assert!(found(&one, &as_builder, "permissions: nodes").await.fine);
    google.stop().await;
}

#[tokio::test]
async fn services_and_money_are_looked_at() {
    let google = start(|_| {}).await;
    let cloud = cloud(client(&google));
    assert!(found(&environment(ONE), &cloud, "billing").await.fine);
    let ours = found(&environment(ONE), &cloud, "services").await;
    assert_bad(&ours, false, "container.googleapis.com", "cargo xtask provision enables them");
    let verified = environment(&format!("[manage]\napis = \"verify\"\n{ONE}"));
    let theirs = found(&verified, &cloud, "services").await;
    assert_bad(&theirs, true, "not enabled: ", &format!("gcloud services enable --project {PROJECT} "));
    // The command that it prints, as a call.
    let fix = theirs.fix.unwrap();
    let names: Vec<&str> = fix.split(' ').filter(|word| word.ends_with(".googleapis.com")).collect();
    let path = format!("v1/projects/{PROJECT}/services:batchEnable");
    let enable = Request::new(Api::ServiceUsage, Method::Post, path).body(json!({"serviceIds": names}));
    cloud.google.send(&enable).await.unwrap();
    assert!(found(&verified, &cloud, "services").await.fine);
    google.stop().await;

    let unbilled = start(|options| options.unbilled = true).await;
    let bill = found(&environment(ONE), &fixture::cloud(client(&unbilled)), "billing").await;
    assert_bad(&bill, true, "no billing account", &format!("gcloud billing projects link {PROJECT}"));
    unbilled.stop().await;
}

/// Each constraint, what in an environment breaks it, and what the fix says; and the settings with which none is
/// broken.
#[tokio::test]
async fn every_constraint_is_named_with_the_setting_that_avoids_it() {
    const BROKEN: &str = "auth = \"key\"\n[network]\nendpoint = \"public\"\n";
    let keys = "auth = \"workload-identity\"";
    let accounts = "iam = \"verify\" under [manage]";
    let private = "private_nodes = true under [network]";
    let constraints = [
        ("iam.disableServiceAccountKeyCreation", "", keys),
        ("iam.managed.disableServiceAccountKeyCreation", "", keys),
        ("iam.disableServiceAccountCreation", "", accounts),
        ("iam.managed.disableServiceAccountCreation", "", accounts),
        ("container.managed.enableControlPlaneDNSOnlyAccess", "", "endpoint = \"dns\" under [network]"),
        ("container.managed.enablePrivateNodes", "", private),
        ("compute.vmExternalIpAccess", "=none", private),
        ("gcp.resourceLocations", "=in:us-locations", "set `location`"),
        ("gcp.restrictNonCmekServices", "=run.googleapis.com", "[security.kms_keys]"),
        ("gcp.restrictServiceUsage", "=storage.googleapis.com", "have them allowed for the project"),
    ];
    let free = start(|_| {}).await;
    let locked = start(|options| {
        options.constraints = constraints.iter().map(|(name, values, _)| format!("{name}{values}")).collect();
    })
    .await;
    let (broken, kept) = (environment(&format!("{BROKEN}{ONE}")), {
        let key = format!("projects/{PROJECT}/locations/us-east1/keyRings/r/cryptoKeys/k");
        let keys: String =
            ["bucket", "pubsub", "cluster", "disks", "registry"].map(|class| format!("{class} = \"{key}\"\n")).concat();
        let text = format!(
            "project = \"{PROJECT}\"\nlocation = \"us-east1\"\n[manage]\niam = \"verify\"\napis = \"off\"\n\
             [network]\nprivate_nodes = true\n[security.kms_keys]\n{keys}{ONE}"
        );
        parse("e", "e.toml", &text, &Overrides::new()).unwrap_or_else(|problems| panic!("{problems}"))
    });
    for (name, _, fix) in constraints {
        let what = format!("constraints/{name}");
        let finding = found(&broken, &cloud(client(&locked)), &what).await;
        assert_bad(&finding, true, "", fix);
        assert!(found(&broken, &cloud(client(&free)), &what).await.fine, "{name} where nobody enforces it");
    }
    let findings = preflight::check(&kept, &cloud(client(&locked)), None).await;
    // Which services may be used at all, only whoever keeps the policy can change.
    let ours = |one: &&Finding| one.what.starts_with("constraints/") && !one.what.ends_with("restrictServiceUsage");
    let bad: Vec<&Finding> = findings.iter().filter(ours).filter(|one| !one.fine).collect();
    assert!(bad.is_empty(), "with those settings: {bad:#?}");
    free.stop().await;
    locked.stop().await;
}

#[tokio::test]
async fn quotas_and_names_are_looked_at() {
    let roomy = start(|_| {}).await;
    let tight =
        start(|options| options.quotas = [("CPUS".to_owned(), 4), ("PREEMPTIBLE_CPUS".to_owned(), 4)].into()).await;
    let one = environment(ONE);
    let of = async |google: &Google, what: &str| found(&one, &cloud(client(google)), what).await;
    for what in ["quota: system nodes", "quota: engines at most", "quota: service accounts", "names"] {
        assert!(of(&roomy, what).await.fine, "{what}");
    }
    assert_bad(&of(&tight, "quota: system nodes").await, true, "; 4 are free", "iam-admin/quotas");
    assert_bad(&of(&tight, "quota: engines at most").await, false, "; 4 are free", "iam-admin/quotas");
    tight.stop().await;

    // A project whose roles are all used up, and a plan that needs one more.
    let cloud = cloud(client(&roomy));
    let silent = fixture::silent();
    let options = provision::plan::Options::default();
    let plan = provision::make_plan(&one, &cloud, options, &silent).await.unwrap();
    let limit = async || {
        let findings = preflight::check(&one, &cloud, Some(&plan)).await;
        findings.into_iter().find(|finding| finding.what == "limit: custom roles").unwrap()
    };
    assert!(limit().await.fine);
    let make = |number: usize| {
        let body = json!({"roleId": format!("role{number}"), "role": {"title": "t"}});
        Request::new(Api::Iam, Method::Post, format!("v1/projects/{PROJECT}/roles")).body(body)
    };
    for number in 0..300 {
        cloud.google.send(&make(number)).await.unwrap();
    }
    assert_bad(&limit().await, true, "300 of 300", &format!("gcloud iam roles list --project {PROJECT}"));
    for number in 0..101 {
        let body = json!({"accountId": format!("account-{number}")});
        let path = format!("v1/projects/{PROJECT}/serviceAccounts");
        cloud.google.send(&Request::new(Api::Iam, Method::Post, path).body(body)).await.unwrap();
    }
    assert_bad(&of(&roomy, "quota: service accounts").await, false, "101 exist", "Service Account Count");
    let mut long = one.clone();
    long.cluster.name = "c".repeat(41);
    assert_bad(&found(&long, &cloud, "names").await, true, "has 41 characters", "give them other names");
    roomy.stop().await;
}

/// What runs in the cluster goes to Google without a proxy: whether nodes without public addresses get there.
#[tokio::test]
async fn the_clusters_way_to_google_is_looked_at() {
    let faults = Faults::default();
    let told = faults.clone();
    let google = start(move |options| options.faults = told).await;
    let cloud = cloud(client(&google));
    let private = environment(&format!("[network]\nprivate_nodes = true\n{ONE}"));
    let way = "network: way to Google's APIs";
    let good = found(&private, &cloud, way).await;
    assert!(good.fine && good.seen.contains("Private Google Access"), "{good:?}");
    faults.add("GET", "/subnetworks/default", When::Always, Fault::Say(200, r#"{"name": "default"}"#));
    let bad = found(&private, &cloud, way).await;
    assert_bad(&bad, false, "may not reach Pub/Sub", "--enable-private-ip-google-access");
    assert!(bad.fix.unwrap().contains("restricted.googleapis.com"));
    // A subnetwork of another project is looked at there.
    faults.add("GET", "projects/host/regions/europe-west1/subnetworks/nodes", When::Always, Fault::Say(200, "{}"));
    let shared = environment(&format!(
        "[network]\nprivate_nodes = true\nnetwork = \"projects/host/global/networks/n\"\nsubnetwork = \
         \"projects/host/regions/europe-west1/subnetworks/nodes\"\npods_range = \"p\"\nservices_range = \"s\"\n{ONE}"
    ));
    assert_bad(&found(&shared, &cloud, way).await, false, "nodes has no", "--project host --region europe-west1");

    let findings = preflight::check(&environment(ONE), &cloud, None).await;
    assert!(findings.iter().all(|finding| !finding.what.starts_with("network:")), "{findings:#?}");
    let behind = environment(&format!("[network]\nproxy = \"http://proxy.example.com:3128\"\n{ONE}"));
    let proxy = found(&behind, &cloud, "network: proxy").await;
    assert_bad(&proxy, false, "is for this program", "Private Service Connect");
    google.stop().await;
}
