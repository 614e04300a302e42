//! What the web apps may do: every page and action works with the rights that they are deployed with, at Google and in
//! the cluster, and every one of those rights is used.

use std::{collections::BTreeSet, path::Path};

use client::Uploads;
use localcloud::kubernetes::rbac::Granted;
use orchestrator::Hooks;
use provision::{desired::desired, resource::Desired};
use serde_json::{Value, json};
use web::Limits;

use crate::{
    web_apps::{ALL, App, Monitor, ONE, world_with},
    world::{Setup, World, eventually},
};

/// A program that waits, fails or ends as its input says.
const ENGINE: &str = r#"
image = "registry/shell"
command = ["/bin/sh", "-c", '''read -r verb gate; case $verb in fail) echo "no good" >&2; exit 65;; wait) while [ ! -e $gate ]; do echo "it waits" >&2; sleep 0.2; done;; esac; echo "{\"value\": 1}"''']
permanent_exit_codes = [65]
"#;

/// Everything that the rendered roles of the monitor allow.
fn granted(world: &World) -> BTreeSet<Granted> {
    let mut all = BTreeSet::new();
    let is_ours = |object: &&Value| {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        ["Role", "ClusterRole"].iter().any(|kind| object["kind"] == *kind) && name.ends_with("web-monitor")
    };
    for role in world.rendered.objects().filter(is_ours) {
        let texts = |value: &Value| -> Vec<String> {
            value.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        for rule in role["rules"].as_array().unwrap() {
            for (group, resource, verb) in texts(&rule["apiGroups"]).iter().flat_map(|group| {
                let verbs = texts(&rule["verbs"]);
                texts(&rule["resources"])
                    .into_iter()
                    .flat_map(move |resource| verbs.clone().into_iter().map(move |verb| (resource.clone(), verb)))
                    .map(move |(resource, verb)| (group.clone(), resource, verb))
            }) {
                let namespace = role["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
                all.insert(Granted { namespace, group, resource, verb });
            }
        }
    }
    all
}

/// Grants of an account that it did not use: resource, role and condition.
fn unused(world: &World, email: &str) -> Vec<String> {
    let used = world.cloud.google.identity().used(email);
    let member = format!("serviceAccount:{email}");
    let mut unused = Vec::new();
    for resource in desired(&world.environment) {
        let Desired::Grants(grants) = &resource.desired else { continue };
        for grant in grants.iter().filter(|grant| grant.member == member) {
            let condition = grant.condition.as_ref().map(|condition| condition.expression.as_str()).unwrap_or_default();
            let is_it = |used: &&localcloud::identity::used::Grant| {
                used.role == grant.role && used.condition == condition && used.on.ends_with(&resource.id.name)
            };
            if !used.iter().any(|used| is_it(&used)) {
                unused.push(format!("{} on {} if {condition}", grant.role, resource.id));
            }
        }
    }
    unused
}

/// Submits to a paused session until a message is put aside, as all are once the orchestrator has read of the pause;
/// the name of that Job.
async fn put_aside(world: &World, business: &str, session: &str) -> String {
    for number in 0.. {
        let job = format!("marker-{number}");
        let work = world.upload(business, session, &job, "good").await;
        world.publish(&work).await;
        let mut is_parked = false;
        eventually("it is put aside or done", async || {
            is_parked = !world.objects(business, "parked").await.is_empty();
            is_parked || world.objects(business, "outcome").await.iter().any(|object| object.name == work.outcome())
        })
        .await;
        if is_parked {
            return job;
        }
    }
    unreachable!("numbers do not end")
}

async fn act(monitor: &Monitor, action: Value) -> Value {
    let (status, said) = monitor.act(ALL, action.clone()).await;
    assert_eq!(status, 200, "{action}: {said}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_and_action_works_with_the_rights_that_are_granted_and_uses_them_all() {
    let setup = Setup { settings: "max_active_jobs = 8\npriority = true", engine: ENGINE, ..Setup::default() };
    let world = world_with(&["bu1", "bu2"], setup).await;
    if world.is_real() {
        println!("skipped: what is used of a right is only noted by the laptop cloud");
        return;
    }
    world.cloud.kubernetes.images().register("registry/shell", Path::new("/bin/sh")).unwrap();
    let orchestrators =
        [world.orchestrator("bu1", Hooks::none()).await, world.orchestrator("bu2", Hooks::none()).await];
    let monitor = Monitor::start(&world).await;
    let app = App::start(&world, Uploads::default(), Limits::PRODUCTION).await;
    let gate = world.folder().join("gate");
    for business in ["bu1", "bu2"] {
        // A person submits, with data that all inputs read, and takes the results.
        let token = if business == "bu1" { ONE } else { ALL };
        let put = async |job: &str, body: String| {
            let query = web::encode([("business", business), ("session", "s1"), ("job", job)]);
            let answer = app.request("PUT", &format!("/api/v1/inputs?{query}"), token).body(body).send().await.unwrap();
            assert_eq!(answer.status().as_u16(), 201, "{job}: {:?}", answer.text().await);
        };
        let query = web::encode([("business", business), ("session", "s1"), ("name", "shared.txt")]);
        let shared = app.request("PUT", &format!("/api/v1/shared?{query}"), token).body("x").send().await.unwrap();
        assert_eq!(shared.status().as_u16(), 201);
        put("good", "good".to_owned()).await;
        put("bad", "fail".to_owned()).await;
        app.done(business, "s1", 2).await;
        for page in ["/", "/sessions", "/session?session=s1", "/results.csv?session=s1", "/result?session=s1&job=good"]
        {
            let (status, text) = app
                .get(&format!("{page}{}business={business}", if page.contains('?') { '&' } else { '?' }), token)
                .await;
            assert!(status == 200 && !text.contains("does not answer"), "{page}: {status} {text}");
        }

        // An operator looks at everything while one runs, and does everything.
        put("waits", format!("wait {}", gate.display())).await;
        monitor.shows(business, "running", 1).await;
        monitor.shows(business, "failed", 1).await;
        let of = |path: &str, job: &str| {
            format!("{path}?{}", web::encode([("business", business), ("session", "s1"), ("job", job)]))
        };
        for path in ["/", "/sessions", "/session", "/jobs", "/job", "/pubsub", "/letters", "/cluster"] {
            for job in ["good", "bad", "waits"] {
                let (status, text) = monitor.get(&of(path, job), ALL).await;
                assert!(status == 200 && !text.contains("does not answer"), "{path} {job}: {status} {text}");
            }
        }
        eventually("the log of what runs is shown", async || {
            let job = monitor.json(&of("/job", "waits")).await;
            assert_eq!(job["cluster_trouble"], Value::Null, "{job}");
            job["log"].as_str().is_some_and(|log| log.contains("it waits")) && job["events"] != json!([])
        })
        .await;
        let pods = monitor.json(&of("/job", "waits")).await["pods"].clone();
        let pod = pods[0]["name"].as_str().unwrap();
        let follow = format!("/log?{}", web::encode([("business", business), ("pod", pod), ("job", "waits")]));
        let mut log = monitor.http.get(monitor.url(&follow)).bearer_auth(ALL).send().await.unwrap();
        let mut seen = String::new();
        while !seen.contains("it waits") {
            let piece = log.chunk().await.unwrap().expect("the log goes on");
            seen.push_str(&String::from_utf8_lossy(&piece));
        }
        drop(log);
        for (job, kind) in [("bad", "input"), ("good", "result")] {
            let (status, text) = monitor.get(&format!("{}&kind={kind}", of("/object", job)), ALL).await;
            assert_eq!(status, 200, "{kind}: {text}");
        }
        let action = |action: &str, session: &str| json!({"action": action, "business": business, "session": session});
        let of_job = |what: &str, job: &str| {
            let mut action = action(what, "s1");
            action["job"] = job.into();
            action
        };
        act(&monitor, of_job("cancel", "waits")).await;
        monitor.shows(business, "cancelled", 1).await;
        act(&monitor, action("pause", "later")).await;
        let parked = put_aside(&world, business, "later").await;
        let query = web::encode([("business", business), ("session", "later"), ("job", &parked)]);
        eventually("its page says so", async || {
            let (status, text) = monitor.get(&format!("/job?{query}"), ALL).await;
            assert!(matches!(status, 200 | 404) && !text.contains("does not answer"), "{text}");
            status == 200 && text.contains("paused")
        })
        .await;
        assert_eq!(monitor.json(&format!("/job?{query}")).await["parked"]["work"]["job"], json!(parked));
        act(&monitor, action("resume", "later")).await;
        act(&monitor, action("cancel", "later")).await;
        act(&monitor, of_job("retry", "bad")).await;
        eventually("the second attempt failed too", async || {
            let job = monitor.json(&of("/job", "bad")).await;
            job["attempt"] == 1 && job["state"] == "failed"
        })
        .await;
        eventually("it can be replayed", async || monitor.act(ALL, of_job("replay", "bad")).await.0 == 200).await;
        eventually("the third attempt failed too", async || {
            let job = monitor.json(&of("/job", "bad")).await;
            job["attempt"] == 2 && job["state"] == "failed"
        })
        .await;
        let message =
            world.publish_raw(business, b"{".to_vec(), [("deskgrid".to_owned(), "1".to_owned())].into()).await;
        monitor.shows(business, "refused", 1).await;
        let mut replay = action("replay", "refused");
        replay["job"] = message.into();
        act(&monitor, replay).await;
        let mut discard = of_job("discard", "bad");
        discard["delete_input"] = true.into();
        act(&monitor, discard).await;

        // A person cancels and retries what is theirs.
        let query = web::encode([("business", business), ("session", "own"), ("job", "waits")]);
        let request = app.request("PUT", &format!("/api/v1/inputs?{query}"), token);
        let answer = request.body(format!("wait {}", gate.display())).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 201);
        let own = async |action: &str| {
            let path = format!("/act?business={business}&session=own&action={action}");
            let answer = app.request("POST", &path, token).send().await.unwrap();
            assert_eq!(answer.status().as_u16(), 303, "{action}: {:?}", answer.text().await);
        };
        own("cancel").await;
        app.done(business, "own", 1).await;
        own("retry").await;
        eventually("it has another attempt", async || app.session(business, "own").await["jobs"][0]["attempt"] == 1)
            .await;
        own("cancel").await;
        app.done(business, "own", 1).await;
    }
    let used = world.cloud.kubernetes.cluster().used.of("system:serviceaccount:deskgrid:web-monitor");
    let refused = world.cloud.kubernetes.cluster().used.refused("system:serviceaccount:deskgrid:web-monitor");
    assert!(refused.is_empty(), "the monitor wants what it may not: {refused:#?}");
    let granted = granted(&world);
    assert!(granted.len() > 15, "{granted:?}");
    assert_eq!(used, granted, "what the monitor may do in the cluster, and what it does");
    // The client asks the cluster for nothing, and has nothing there.
    assert_eq!(world.cloud.kubernetes.cluster().used.of("system:serviceaccount:deskgrid:web-client"), BTreeSet::new());
    let accounts = &world.environment.accounts;
    for email in [&accounts.web_monitor, &accounts.web_client] {
        let refused = world.cloud.google.identity().refused(email);
        assert_eq!(refused, [], "{email} wants what it may not");
        assert_eq!(unused(&world, email), Vec::<String>::new(), "{email} has what it does not use");
    }
    for orchestrator in orchestrators {
        orchestrator.kill();
    }
    app.stop().await;
    monitor.stop().await;
    world.stop().await;
}
