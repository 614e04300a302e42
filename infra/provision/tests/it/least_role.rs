//! The least role that `doctor --roles` prints is enough to set an environment up and to take it down, and nothing of it
//! can be left out.

use google_cloud_auth::credentials::Credentials;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Client,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use provision::{
    Cloud,
    environment::{Overrides, parse},
    google::{Api, Error, Method, Request},
    least_role::{Least, least},
};
use serde_json::{Value, json};

use crate::{
    desk::{self, Desk, Verb},
    fixture::{self, PROJECT},
    preflight::Token,
};

const EMAIL: &str = "deployer@desk-one.iam.gserviceaccount.com";

/// Sends as the owner of the project.
async fn send(desk: &Desk, method: Method, api: Api, path: &str, body: Value) -> Value {
    let request = Request::new(api, method, path).body(body);
    fixture::client(&desk.google).send(&request).await.unwrap()
}

/// Creates an account that has only the role, and returns a way to the cloud as this account.
async fn deployer(desk: &Desk, permissions: &[&str]) -> Cloud {
    let project = format!("v1/projects/{PROJECT}");
    let (post, account) = (Method::Post, format!("{project}/serviceAccounts/{EMAIL}"));
    send(desk, post, Api::Iam, &format!("{project}/serviceAccounts"), json!({"accountId": "deployer"})).await;
    let role = json!({"roleId": "least", "role": {"title": "t", "stage": "GA", "includedPermissions": permissions}});
    send(desk, post, Api::Iam, &format!("{project}/roles"), role).await;
    let mut policy = send(desk, post, Api::CloudResourceManager, &format!("{project}:getIamPolicy"), json!({})).await;
    let role = format!("projects/{PROJECT}/roles/least");
    let binding = json!({"role": role, "members": [format!("serviceAccount:{EMAIL}")]});
    policy["bindings"].as_array_mut().unwrap().push(binding);
    let policy = json!({"policy": policy});
    send(desk, post, Api::CloudResourceManager, &format!("{project}:setIamPolicy"), policy).await;
    let maker = json!({"role": "roles/iam.serviceAccountTokenCreator", "members": ["user:operator@example.com"]});
    send(desk, post, Api::Iam, &format!("{account}:setIamPolicy"), json!({"policy": {"bindings": [maker]}})).await;
    let scope = json!({"scope": ["https://www.googleapis.com/auth/cloud-platform"], "lifetime": "3600s"});
    let path = format!("v1/projects/-/serviceAccounts/{EMAIL}:generateAccessToken");
    send(desk, post, Api::ServiceUsage, &format!("{project}/services/iamcredentials.googleapis.com:enable"), json!({}))
        .await;
    let answer = send(desk, post, Api::IamCredentials, &path, scope).await;
    let token = answer["accessToken"].as_str().unwrap().to_owned();
    let mut kubeconfig: Kubeconfig = serde_json::from_value(desk.kubernetes.kubeconfig("default")).unwrap();
    for user in &mut kubeconfig.auth_infos {
        user.auth_info = Some(kube::config::AuthInfo { token: Some(token.clone().into()), ..Default::default() });
    }
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let google = fixture::client(&desk.google).acting_as(Credentials::from(Token(token)));
    Cloud { kubernetes: Ok(Client::try_from(config).unwrap()), ..fixture::cloud(google) }
}

/// Replaces what the role holds.
async fn hold(desk: &Desk, permissions: &[&str]) {
    let path = format!("v1/projects/{PROJECT}/roles/least");
    send(desk, Method::Patch, Api::Iam, &path, json!({"includedPermissions": permissions})).await;
}

#[tokio::test]
async fn the_least_role_is_enough_and_nothing_of_it_can_be_left_out() {
    let desk = Desk::start(None).await;
    let environment = desk::environment(&["bu1"]);
    let Least { roles, .. } = least(&environment, None);
    let [role] = roles.as_slice() else { panic!("all is in one project: {roles:#?}") };
    let permissions: Vec<&str> = role.permissions.iter().map(String::as_str).collect();
    // What a new project has enabled does not include IAM and Resource Manager.
    for service in ["iam", "cloudresourcemanager"] {
        let path = format!("v1/projects/{PROJECT}/services/{service}.googleapis.com:enable");
        send(&desk, Method::Post, Api::ServiceUsage, &path, json!({})).await;
    }
    let cloud = deployer(&desk, &permissions).await;
    desk::provision(&cloud).await;
    Verb::Deploy.run(&desk, &cloud).await.unwrap();
    Verb::RotateKeys.run(&desk, &cloud).await.unwrap();

    let topic = format!("v1/projects/{PROJECT}/topics/{}", environment.businesses[0].topic);
    let bucket = format!("storage/v1/b/{}", environment.bucket);
    let clusters = format!("v1/projects/{PROJECT}/locations/europe-west1/clusters");
    let account = format!("v1/projects/{PROJECT}/serviceAccounts/{}", environment.accounts.nodes);
    for (permission, request) in [
        ("pubsub.topics.get", Request::get(Api::Pubsub, topic.as_str())),
        ("pubsub.topics.getIamPolicy", Request::get(Api::Pubsub, format!("{topic}:getIamPolicy"))),
        ("storage.buckets.get", Request::get(Api::Storage, bucket.as_str())),
        ("storage.buckets.getIamPolicy", Request::get(Api::Storage, format!("{bucket}/iam"))),
        ("container.clusters.list", Request::get(Api::Container, clusters)),
        ("iam.serviceAccounts.get", Request::get(Api::Iam, account.as_str())),
        ("serviceusage.services.use", Request::get(Api::Iam, account.as_str())),
    ] {
        let without: Vec<&str> = permissions.iter().copied().filter(|held| *held != permission).collect();
        assert!(without.len() < permissions.len(), "{permission} is not in the role");
        hold(&desk, &permissions).await;
        assert!(cloud.google.send(&request).await.is_ok(), "{permission}");
        hold(&desk, &without).await;
        let refused = cloud.google.send(&request).await;
        assert!(refused.as_ref().is_err_and(Error::is_forbidden), "without {permission}: {refused:?}");
    }
    let deployments: kube::Api<Deployment> = kube::Api::all(cloud.cluster().unwrap().clone());
    let without: Vec<&str> = permissions.iter().copied().filter(|held| *held != "container.deployments.list").collect();
    hold(&desk, &permissions).await;
    assert!(deployments.list(&ListParams::default()).await.is_ok());
    hold(&desk, &without).await;
    let refused = deployments.list(&ListParams::default()).await;
    assert!(matches!(&refused, Err(kube::Error::Api(status)) if status.code == 403), "{refused:?}");
    hold(&desk, &permissions).await;
    Verb::Teardown.run(&desk, &cloud).await.unwrap();
    desk.stop().await;
}

#[test]
fn what_is_of_other_projects_has_roles_there() {
    let key = "projects/keys-one/locations/europe-west1/keyRings/r/cryptoKeys/k";
    let text = format!(
        "project = \"{PROJECT}\"\nlocation = \"europe-west1\"\n[network]\nnetwork = \
         \"projects/host-one/global/networks/n\"\nsubnetwork = \
         \"projects/host-one/regions/europe-west1/subnetworks/s\"\npods_range = \"p\"\nservices_range = \
         \"s\"\n[security.kms_keys]\nbucket = \"{key}\"\n[businesses.bu1]\n"
    );
    let environment = parse("e", "e.toml", &text, &Overrides::new()).unwrap_or_else(|problems| panic!("{problems}"));
    let found = least(&environment, Some(EMAIL));
    let shown: Vec<(&str, usize)> =
        found.roles.iter().map(|role| (role.project.as_str(), role.permissions.len())).skip(1).collect();
    assert_eq!(found.roles[0].project, PROJECT);
    assert_eq!(shown, [("keys-one", 3), ("host-one", 3), ("keys-one", 1)]);
    let commands = found.roles.iter().flat_map(|role| &role.commands).cloned().collect::<Vec<_>>().join("\n");
    for part in [
        "gcloud projects add-iam-policy-binding host-one --member serviceAccount:deployer@",
        "gcloud kms keys add-iam-policy-binding k --project keys-one --location europe-west1 --keyring r",
        "--role projects/keys-one/roles/deskgridOperator_e_key_r_k",
    ] {
        assert!(commands.contains(part), "{part} in\n{commands}");
    }
    let others = found.others.join("\n");
    assert!(others.contains("resourcemanager.folders.getIamPolicy") && others.contains("serviceAccountTokenCreator"));
    let yaml = found.roles[0].yaml();
    assert!(yaml.contains("\nincludedPermissions:\n- ") && yaml.contains("\n- pubsub.topics.create\n"), "{yaml}");
    assert!(!yaml.contains("cloudkms.") && !yaml.contains("compute.networks."), "{yaml}");

    // What others look after is only read.
    let verified = text.replace("[network]", "[manage]\npubsub = \"verify\"\n[network]");
    let environment = parse("e", "e.toml", &verified, &Overrides::new()).unwrap_or_else(|one| panic!("{one}"));
    let role = &least(&environment, None).roles[0];
    assert!(role.permissions.contains("pubsub.topics.get") && !role.permissions.contains("pubsub.topics.create"));
}
