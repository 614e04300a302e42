//! Plans against a laptop cloud: a second look finds nothing, and what a hand changed is found exactly.

use std::sync::{Arc, Mutex};

use provision::{
    Cloud,
    google::{Api, Method, Request},
    plan::{self, Action, Change},
};
use serde_json::json;

use crate::world::World;

async fn pending(world: &World) -> Vec<Change> {
    let silent: provision::apply::Progress = Arc::new(|_| {});
    let plan =
        provision::make_plan(&world.environment, &world.clients, plan::Options::default(), &silent).await.unwrap();
    plan.changes.into_iter().filter(|change| change.action != Action::Nothing).collect()
}

#[tokio::test]
async fn a_second_provision_writes_nothing() {
    let world = World::start(&["bu1", "bu2"], "").await;
    let writes: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = writes.clone();
    let google = world.clients.google.clone().observed(Arc::new(move |call| {
        if call.request.is_write() {
            seen.lock().unwrap().push(call.request.to_string());
        }
    }));
    let observed = Cloud { google, ..world.clients.clone() };
    let silent: provision::apply::Progress = Arc::new(|_| {});
    let report = provision::run(&world.environment, &observed, plan::Options::default(), &silent).await.unwrap();
    assert!(report.plan.is_empty());
    assert_eq!(*writes.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn what_a_hand_changed_is_shown_and_nothing_else() {
    let world = World::start(&["bu1"], "").await;
    assert_eq!(pending(&world).await, []);
    let subscription = "v1/projects/test-desk/subscriptions/test-desk-bu1-subscription";
    let body = json!({"subscription": {"ackDeadlineSeconds": 30}, "updateMask": "ackDeadlineSeconds"});
    let send = async |request: Request| world.clients.google.send(&request).await.unwrap();
    send(Request::new(Api::Pubsub, Method::Patch, subscription).body(body)).await;
    let found = pending(&world).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].action, Action::Update);
    let fields: Vec<&str> = found[0].differences.iter().map(|difference| difference.field.as_str()).collect();
    assert_eq!(fields, ["ackDeadlineSeconds"]);

    let topic = "v1/projects/test-desk/topics/test-desk-bu1-topic";
    let mut policy = send(Request::get(Api::Pubsub, format!("{topic}:getIamPolicy"))).await;
    let bindings = policy["bindings"].as_array_mut().unwrap();
    let members = bindings[0]["members"].as_array_mut().unwrap();
    let lost = members.remove(0);
    let write = Request::new(Api::Pubsub, Method::Post, format!("{topic}:setIamPolicy"));
    send(write.body(json!({"policy": policy}))).await;
    let found = pending(&world).await;
    assert_eq!(found.len(), 2, "{found:#?}");
    let policy = found.iter().find(|change| change.id.is_policy()).unwrap();
    assert_eq!(policy.differences.len(), 1);
    assert_eq!(policy.differences[0].desired, Some(lost));
}

#[tokio::test]
async fn what_is_somebody_elses_stops_the_plan() {
    let world = World::start(&["bu1"], "").await;
    let topic = "v1/projects/test-desk/topics/test-desk-bu1-topic";
    let body = json!({"topic": {"labels": {"team": "another"}}, "updateMask": "labels"});
    world.clients.google.send(&Request::new(Api::Pubsub, Method::Patch, topic).body(body)).await.unwrap();
    let found = pending(&world).await;
    assert_eq!(found.len(), 1);
    assert!(matches!(&found[0].action, Action::Foreign { owner } if owner.contains("team=another")), "{found:#?}");
    let silent: provision::apply::Progress = Arc::new(|_| {});
    let options = plan::Options::default();
    let refused = provision::run(&world.environment, &world.clients, options, &silent).await.unwrap_err();
    assert!(format!("{refused:#}").contains("somebody else's"), "{refused:#}");
    let adopt = plan::Options { adopt: true, prune: false };
    provision::run(&world.environment, &world.clients, adopt, &silent).await.unwrap();
    assert_eq!(pending(&world).await, []);
}
