//! Environments that Google would refuse on the way: each ends with a code, a cause and a fix before the first write.
//!
//! Others are tested where their check is: networks, quotas and the second environment of a project in `first_contact`;
//! Shared VPCs and grants on keys in `landing_zone`; permissions, services, billing, constraints and names in
//! `preflight`; keys of another location and zones of another region in `environment::tests` of the crate.

use localcloud::faults::{Fault, Faults, When};
use provision::{
    environment::{Overrides, parse},
    google::{Api, Client, Method, Request},
    plan, preflight, show,
};
use serde_json::json;

use crate::fixture::{self, ONE, PROJECT, client, cloud, silent};

/// What is wrong with an environment, and what its user reads.
struct Wrong {
    /// Lines of the environment file, before the businesses.
    settings: &'static str,
    /// Method, path and answer of what Google has otherwise than the laptop cloud.
    fault: Option<(&'static str, u16, &'static str)>,
    code: &'static str,
    cause: &'static str,
    fix: &'static str,
}

const KEY: &str =
    "[security.kms_keys]\nbucket = \"projects/desk-one/locations/europe-west1/keyRings/r/cryptoKeys/k\"\n";
const GET_KEY: &str = "/keyRings/r/cryptoKeys/k";
const BY_SOMEBODY: &str = r#"{"error": {"code": 403, "message": "no storage.buckets.get (or it may not exist)."}}"#;

const WRONG: [Wrong; 13] = [
    Wrong {
        settings: "zone = \"europe-west1-a\"\n",
        fault: None,
        code: "no-zone",
        cause: "location: europe-west1 has no zone europe-west1-a",
        fix: "set `zone` in the environment file to one of: europe-west1-b, europe-west1-c, europe-west1-d",
    },
    Wrong {
        settings: "",
        fault: Some(("/regions/europe-west1", 404, r#"{"error": {"code": 404, "message": "not found"}}"#)),
        code: "no-region",
        cause: "location: Compute Engine has no region europe-west1",
        fix: "gcloud compute regions list --project desk-one",
    },
    Wrong {
        settings: "",
        fault: Some(("/networks/default", 200, r#"{"name": "default", "autoCreateSubnetworks": false}"#)),
        code: "subnetwork-unnamed",
        cause: "network: the network default is in manual subnet mode",
        fix: "name one as `subnetwork` under [network]",
    },
    Wrong {
        settings: KEY,
        fault: Some((GET_KEY, 404, r#"{"error": {"code": 404, "status": "NOT_FOUND", "message": "not found"}}"#)),
        code: "no-key",
        cause: "cryptoKeys/k does not exist",
        fix: "name another one under [security.kms_keys]",
    },
    Wrong {
        settings: KEY,
        fault: Some((GET_KEY, 200, r#"{"purpose": "ENCRYPT_DECRYPT", "primary": {"state": "DESTROYED"}}"#)),
        code: "key-disabled",
        cause: "cryptoKeys/k is \"DESTROYED\"",
        fix: "gcloud kms keys versions enable",
    },
    Wrong {
        settings: KEY,
        fault: Some((GET_KEY, 200, r#"{"purpose": "ASYMMETRIC_SIGN"}"#)),
        code: "key-purpose",
        cause: "is for \"ASYMMETRIC_SIGN\", and not for ENCRYPT_DECRYPT",
        fix: "name another one under [security.kms_keys]",
    },
    Wrong {
        settings: "",
        fault: Some(("/storage/v1/b/desk-one-bucket", 403, BY_SOMEBODY)),
        code: "bucket-taken",
        cause: "bucket names are shared by all of Google Cloud, so it may be somebody else's",
        fix: "set another `bucket` in the environment file",
    },
    Wrong {
        settings: "bucket = \"taken-bucket\"\n",
        fault: None,
        code: "foreign",
        cause: "bucket taken-bucket",
        fix: "--adopt",
    },
    Wrong {
        settings: "[businesses.bu1.accounts]\nengine = \"taken-account\"\n",
        fault: None,
        code: "foreign",
        cause: "taken-account@desk-one.iam.gserviceaccount.com",
        fix: "--adopt",
    },
    Wrong {
        settings: "[cluster]\nmode = \"autopilot\"\n[cluster.engine_pool]\nmax = 4\n",
        fault: None,
        code: "environment-file",
        cause: "`cluster.engine_pool` is for node pools of our own, which an Autopilot cluster has not",
        fix: "`spot = true` under [businesses.NAME.engine]",
    },
    Wrong {
        settings: "zone = \"europe-west1-b\"\n[cluster]\nmode = \"autopilot\"\n",
        fault: None,
        code: "environment-file",
        cause: "an Autopilot cluster is a regional one and has no zone",
        fix: "leave `zone` out",
    },
    Wrong {
        settings: "[security]\nallowed_locations = [\"europe-west4\"]\n",
        fault: None,
        code: "environment-file",
        cause: "the location \"europe-west1\" is not one of `security.allowed_locations` (europe-west4)",
        fix: "set `location` to one of these",
    },
    Wrong {
        settings: "[manage]\ncluster = \"verify\"\n",
        fault: None,
        code: "missing",
        cause: "cluster desk-one-cluster",
        fix: "ask them for this",
    },
];

/// What `provision` ends with: the code and the words.
async fn end(wrong: &Wrong, client: &Client) -> (&'static str, String) {
    let business = if wrong.settings.contains("[businesses.bu1") { "[businesses.bu2]\n" } else { ONE };
    let text = format!("project = \"{PROJECT}\"\nlocation = \"europe-west1\"\n{}{business}", wrong.settings);
    let environment = match parse("e", "e.toml", &text, &Overrides::new()) {
        Ok(environment) => environment,
        Err(problems) => return ("environment-file", problems.to_string()),
    };
    let cloud = cloud(client.clone());
    let plan = provision::make_plan(&environment, &cloud, plan::Options::default(), &silent()).await.unwrap();
    if let Some(code) = plan.blockers().find_map(|change| change.action.code()) {
        return (code, show::render(&plan));
    }
    let findings = preflight::check(&environment, &cloud, Some(&plan)).await;
    match preflight::pass(&environment, &findings) {
        Ok(()) => ("nothing", format!("{findings:#?}")),
        Err(failure) => (failure.code, failure.to_string()),
    }
}

#[tokio::test]
async fn each_ends_with_a_code_a_cause_and_a_fix_before_the_first_write() {
    let faults = Faults::default();
    let shared = faults.clone();
    let google = fixture::google(|options| {
        options.enforce_apis = false;
        options.faults = shared;
    })
    .await;
    let (client, writes) = fixture::recording(client(&google));
    // What somebody else has of the project.
    let post = |api, path: &str| Request::new(api, Method::Post, path);
    let bucket = json!({"name": "taken-bucket", "location": "EUROPE-WEST1"});
    client.send(&post(Api::Storage, "storage/v1/b").query("project", PROJECT).body(bucket)).await.unwrap();
    let accounts = format!("v1/projects/{PROJECT}/serviceAccounts");
    client.send(&post(Api::Iam, &accounts).body(json!({"accountId": "taken-account"}))).await.unwrap();
    writes.take();
    for wrong in &WRONG {
        faults.clear();
        if let Some((path, code, said)) = wrong.fault {
            faults.add("GET", path, When::Always, Fault::Say(code, said));
        }
        let (code, said) = end(wrong, &client).await;
        assert_eq!(code, wrong.code, "{}: {said}", wrong.cause);
        assert!(said.contains(wrong.cause) && said.contains(wrong.fix), "{:?} is not in\n{said}", wrong.cause);
        assert_eq!(writes.take(), Vec::<String>::new(), "{}", wrong.cause);
    }
    google.stop().await;
}
