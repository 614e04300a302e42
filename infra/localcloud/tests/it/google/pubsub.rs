//! Pub/Sub: publish, streaming pull, acknowledge, redelivery, back-off, filters, limits.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use google_cloud_gax::error::rpc::Code;
use google_cloud_pubsub::model::Message;
use localcloud::{
    clock::Clock,
    google::{Google, Options},
};
use serde_json::{Value, json};

use crate::google::support::{Clients, PROJECT, Rest, account, credentials, google, pod_token, start, until, within};

fn topic(id: &str) -> String {
    format!("projects/{PROJECT}/topics/{id}")
}

fn subscription(id: &str) -> String {
    format!("projects/{PROJECT}/subscriptions/{id}")
}

async fn pair(clients: &Clients, id: &str) {
    clients.topics.create_topic().set_name(topic(id)).send().await.unwrap();
    clients
        .subscriptions
        .create_subscription()
        .set_name(subscription(id))
        .set_topic(topic(id))
        .set_ack_deadline_seconds(10)
        .send()
        .await
        .unwrap();
}

#[tokio::test]
async fn published_streamed_acknowledged() {
    let google = google().await;
    let clients = Clients::operator(&google).await;
    pair(&clients, "work").await;
    let publisher = clients.publisher(&topic("work")).await;
    let futures: Vec<_> = (0..500)
        .map(|number| publisher.publish(Message::new().set_data(number.to_string()).set_attributes([("k", "v")])))
        .collect();
    let mut ids = BTreeSet::new();
    for future in futures {
        ids.insert(within(future).await.unwrap());
    }
    assert_eq!(ids.len(), 500);
    assert!(ids.iter().all(|id| id.bytes().all(|byte| byte.is_ascii_digit())));

    let mut stream = clients.subscriber.subscribe(subscription("work")).build();
    let mut seen = BTreeSet::new();
    while seen.len() < 500 {
        let (message, handler) = within(stream.next()).await.unwrap().unwrap();
        assert_eq!(message.attributes["k"], "v");
        assert!(message.publish_time.is_some());
        seen.insert(message.message_id.clone());
        handler.ack();
    }
    assert_eq!(seen, ids);
    within(stream.shutdown_token().shutdown()).await;
    until(|| google.pubsub().backlog(&subscription("work")).unwrap().messages == 0).await;
    google.stop().await;
}

/// What a pull by REST gets now, without waiting.
async fn pull(rest: &Rest, google: &Google, id: &str, most: i32) -> Vec<Value> {
    let url = format!("{}/v1/{}:pull", google.endpoints().pubsub, subscription(id));
    let answer = rest.post(&url, json!({ "maxMessages": most, "returnImmediately": true })).await;
    answer["receivedMessages"].as_array().cloned().unwrap_or_default()
}

/// Pulls until something comes, which it must.
async fn pull_some(rest: &Rest, google: &Google, id: &str) -> Vec<Value> {
    within(async {
        loop {
            let taken = pull(rest, google, id, 100).await;
            if !taken.is_empty() {
                return taken;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
}

async fn create(rest: &Rest, google: &Google, path: &str, body: Value) -> (u16, Value) {
    rest.try_call("PUT", &format!("{}/v1/projects/{PROJECT}/{path}", google.endpoints().pubsub), Some(body)).await
}

async fn publish(rest: &Rest, google: &Google, id: &str, attributes: Value) {
    let url = format!("{}/v1/{}:publish", google.endpoints().pubsub, topic(id));
    let message = json!({ "data": "aGVsbG8=", "attributes": attributes });
    rest.post(&url, json!({ "messages": [message] })).await;
}

#[tokio::test]
async fn unacknowledged_messages_come_back_after_the_deadline_and_go_after_the_retention() {
    let clock = Clock::default();
    let google = start(Options { clock: clock.clone(), ..Options::new(PROJECT) }).await;
    let rest = Rest::operator(&google);
    create(&rest, &google, "topics/work", json!({})).await;
    let settings = json!({ "topic": topic("work"), "ackDeadlineSeconds": 20, "expirationPolicy": {} });
    create(&rest, &google, "subscriptions/work", settings).await;
    publish(&rest, &google, "work", json!({})).await;
    let first = pull(&rest, &google, "work", 10).await;
    assert_eq!(first[0]["message"]["data"], "aGVsbG8=");
    clock.advance(Duration::from_secs(19));
    assert!(pull(&rest, &google, "work", 10).await.is_empty());
    clock.advance(Duration::from_secs(1));
    let second = pull_some(&rest, &google, "work").await;
    assert_eq!(second[0]["message"]["messageId"], first[0]["message"]["messageId"]);
    assert_eq!(second[0]["message"]["publishTime"], first[0]["message"]["publishTime"]);

    // Extended, it stays away; given back, it comes at once.
    let url = format!("{}/v1/{}", google.endpoints().pubsub, subscription("work"));
    let extend = |seconds: i32| json!({ "ackIds": [second[0]["ackId"]], "ackDeadlineSeconds": seconds });
    rest.post(&format!("{url}:modifyAckDeadline"), extend(600)).await;
    clock.advance(Duration::from_secs(599));
    assert!(pull(&rest, &google, "work", 10).await.is_empty());
    rest.post(&format!("{url}:modifyAckDeadline"), extend(0)).await;
    let third = pull_some(&rest, &google, "work").await;
    let days = Duration::from_secs(7 * 86_400);
    clock.advance(days);
    until(|| google.pubsub().backlog(&subscription("work")).unwrap().messages == 0).await;
    // Late acknowledgements of what is gone are no error.
    rest.post(&format!("{url}:acknowledge"), json!({ "ackIds": [third[0]["ackId"]] })).await;
}

#[tokio::test]
async fn nacks_are_backed_off_on_the_stream_too() {
    let clock = Clock::default();
    let google = start(Options { clock: clock.clone(), ..Options::new(PROJECT) }).await;
    let rest = Rest::operator(&google);
    let clients = Clients::operator(&google).await;
    create(&rest, &google, "topics/work", json!({})).await;
    let settings = json!({ "topic": topic("work"), "retryPolicy": { "minimumBackoff": "10s" } });
    let (_, made) = create(&rest, &google, "subscriptions/work", settings).await;
    assert_eq!(made["retryPolicy"]["maximumBackoff"], "600s");
    publish(&rest, &google, "work", json!({})).await;
    let mut stream = clients.subscriber.subscribe(subscription("work")).build();
    let (message, handler) = within(stream.next()).await.unwrap().unwrap();
    handler.nack();
    until(|| google.pubsub().backlog(&subscription("work")).unwrap().leased == 0).await;
    assert!(tokio::time::timeout(Duration::from_millis(50), stream.next()).await.is_err());
    clock.advance(Duration::from_secs(10));
    let (again, handler) = within(stream.next()).await.unwrap().unwrap();
    assert_eq!(again.message_id, message.message_id);
    handler.ack();
    until(|| google.pubsub().backlog(&subscription("work")).unwrap().messages == 0).await;
    within(stream.shutdown_token().shutdown()).await;
}

#[tokio::test]
async fn a_stream_holds_no_more_than_it_asked_for() {
    let google = google().await;
    let clients = Clients::operator(&google).await;
    pair(&clients, "work").await;
    let publisher = clients.publisher(&topic("work")).await;
    let futures: Vec<_> = (0..10).map(|_| publisher.publish(Message::new().set_data("x"))).collect();
    for future in futures {
        within(future).await.unwrap();
    }
    let mut stream = clients.subscriber.subscribe(subscription("work")).set_max_outstanding_messages(3_i64).build();
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(within(stream.next()).await.unwrap().unwrap().1);
    }
    let backlog = google.pubsub().backlog(&subscription("work")).unwrap();
    assert_eq!((backlog.messages, backlog.leased), (10, 3));
    assert!(tokio::time::timeout(Duration::from_millis(50), stream.next()).await.is_err());
    held.pop().unwrap().ack();
    held.push(within(stream.next()).await.unwrap().unwrap().1);
    until(|| google.pubsub().backlog(&subscription("work")).unwrap().messages == 9).await;
    drop(held);
    within(stream.shutdown_token().shutdown()).await;
}

#[tokio::test]
async fn a_stream_ends_with_not_found_when_its_subscription_goes() {
    let google = google().await;
    let clients = Clients::operator(&google).await;
    pair(&clients, "work").await;
    let mut stream = clients.subscriber.subscribe(subscription("work")).build();
    let ended = async {
        let next = stream.next();
        let delete = clients.subscriptions.delete_subscription().set_subscription(subscription("work")).send();
        let (next, deleted) = tokio::join!(next, delete);
        deleted.unwrap();
        next.unwrap().unwrap_err()
    };
    let error = within(ended).await;
    assert_eq!(error.status().map(|status| status.code), Some(Code::NotFound));
}

#[tokio::test]
async fn filters_expiry_and_deleted_topics() {
    let clock = Clock::default();
    let google = start(Options { clock: clock.clone(), ..Options::new(PROJECT) }).await;
    let rest = Rest::operator(&google);
    create(&rest, &google, "topics/work", json!({ "labels": { "managed-by": "deskgrid" } })).await;
    let filtered =
        json!({ "topic": topic("work"), "filter": "attributes.priority = \"true\"", "expirationPolicy": {} });
    let (_, made) = create(&rest, &google, "subscriptions/first", filtered).await;
    assert_eq!(made["expirationPolicy"], json!({}));
    let (_, made) = create(&rest, &google, "subscriptions/rest", json!({ "topic": topic("work") })).await;
    assert_eq!(made["expirationPolicy"], json!({ "ttl": "2678400s" }));
    assert_eq!((&made["ackDeadlineSeconds"], &made["state"]), (&json!(10), &json!("ACTIVE")));
    publish(&rest, &google, "work", json!({ "priority": "true" })).await;
    publish(&rest, &google, "work", json!({ "priority": "false" })).await;
    assert_eq!(pull(&rest, &google, "first", 10).await.len(), 1);
    assert_eq!(pull(&rest, &google, "rest", 10).await.len(), 2);

    let base = format!("{}/v1", google.endpoints().pubsub);
    let names = rest.get(&format!("{base}/{}/subscriptions", topic("work"))).await;
    assert_eq!(names["subscriptions"].as_array().unwrap().len(), 2);
    rest.call("DELETE", &format!("{base}/{}", topic("work")), None).await;
    assert_eq!(rest.get(&format!("{base}/{}", subscription("first"))).await["topic"], "_deleted-topic_");
    clock.advance(Duration::from_secs(32 * 86_400));
    until(|| google.pubsub().backlog(&subscription("rest")).is_none()).await;
    assert!(google.pubsub().backlog(&subscription("first")).is_some());
}

#[tokio::test]
async fn rules_and_refusals_have_googles_shapes() {
    let google = google().await;
    let rest = Rest::operator(&google);
    assert_eq!(create(&rest, &google, "topics/work", json!({})).await.1, json!({ "name": topic("work") }));
    let (status, answer) = create(&rest, &google, "topics/work", json!({})).await;
    assert_eq!((status, &answer["error"]["status"]), (409, &json!("ALREADY_EXISTS")));
    for (path, body) in [
        ("topics/t", json!({})),
        ("topics/goog-work", json!({})),
        ("topics/work2", json!({ "lables": {} })),
        ("subscriptions/work", json!({ "topic": topic("work"), "ackDeadlineSeconds": 5 })),
        ("subscriptions/work", json!({ "topic": topic("work"), "messageRetentionDuration": "60s" })),
        ("subscriptions/work", json!({ "topic": topic("work"), "filter": "nonsense" })),
        ("subscriptions/work", json!({ "topic": topic("work"), "retryPolicy": { "minimumBackoff": "601s" } })),
    ] {
        assert_eq!(create(&rest, &google, path, body.clone()).await.0, 400, "{path} {body}");
    }
    let (status, answer) = create(&rest, &google, "subscriptions/work", json!({ "topic": topic("none") })).await;
    assert_eq!((status, &answer["error"]["message"]), (404, &json!("Resource not found (resource=none).")));
    let url = format!("{}/v1/{}:publish", google.endpoints().pubsub, topic("work"));
    assert_eq!(rest.try_call("POST", &url, Some(json!({ "messages": [{}] }))).await.0, 400);
    let many: Vec<Value> = (0..1001).map(|_| json!({ "data": "eA==" })).collect();
    assert_eq!(rest.try_call("POST", &url, Some(json!({ "messages": many }))).await.0, 400);

    create(&rest, &google, "subscriptions/work", json!({ "topic": topic("work") })).await;
    let one = format!("{}/v1/{}", google.endpoints().pubsub, subscription("work"));
    let patch = json!({ "subscription": { "ackDeadlineSeconds": 60 }, "updateMask": "ack_deadline_seconds" });
    assert_eq!(rest.call("PATCH", &one, Some(patch)).await["ackDeadlineSeconds"], 60);
    let fixed = json!({ "subscription": { "filter": "attributes:x" }, "updateMask": "filter" });
    assert_eq!(rest.try_call("PATCH", &one, Some(fixed)).await.0, 400);
}

#[tokio::test]
async fn publishing_and_subscribing_are_granted_one_by_one() {
    let google = google().await;
    let rest = Rest::operator(&google);
    create(&rest, &google, "topics/work", json!({})).await;
    create(&rest, &google, "topics/other", json!({})).await;
    create(&rest, &google, "subscriptions/work", json!({ "topic": topic("work") })).await;
    let email = account(&google, "bu1-client").await;
    let base = format!("{}/v1", google.endpoints().pubsub);
    let policy_url = format!("{base}/{}", topic("work"));
    let fresh = rest.get(&format!("{policy_url}:getIamPolicy?options.requestedPolicyVersion=3")).await;
    assert_eq!(fresh, json!({ "etag": "ACAB" }));
    let binding = json!({ "role": "roles/pubsub.publisher", "members": [format!("serviceAccount:{email}")] });
    let policy = json!({ "policy": { "bindings": [binding], "etag": fresh["etag"], "version": 3 } });
    let set = rest.post(&format!("{policy_url}:setIamPolicy"), policy.clone()).await;
    assert_eq!((&set["version"], &set["bindings"][0]), (&json!(1), &binding));
    assert_eq!(rest.try_call("POST", &format!("{policy_url}:setIamPolicy"), Some(policy)).await.0, 409);

    let token = pod_token(&google, "bu1", &email).await.unwrap();
    let client = Rest::with_token(token.clone());
    let message = json!({ "messages": [{ "data": "eA==" }] });
    assert_eq!(client.try_call("POST", &format!("{policy_url}:publish"), Some(message.clone())).await.0, 200);
    let other = format!("{base}/{}:publish", topic("other"));
    let (status, answer) = client.try_call("POST", &other, Some(message)).await;
    assert_eq!((status, &answer["error"]["message"]), (403, &json!("User not authorized to perform this action.")));
    let clients = Clients::new(&google, credentials(&token)).await;
    let mut stream = clients.subscriber.subscribe(subscription("work")).build();
    let refused = within(stream.next()).await.unwrap().unwrap_err();
    assert_eq!(refused.status().map(|status| status.code), Some(Code::PermissionDenied));
}

#[tokio::test]
async fn a_backlog_of_thousands_passes_quickly() {
    const MESSAGES: usize = 5_000;
    let google = google().await;
    let clients = Clients::operator(&google).await;
    pair(&clients, "work").await;
    let publisher = clients.publisher(&topic("work")).await;
    let began = Instant::now();
    let futures: Vec<_> = (0..MESSAGES).map(|_| publisher.publish(Message::new().set_data("payload"))).collect();
    for future in futures {
        within(future).await.unwrap();
    }
    let published = began.elapsed();
    let began = Instant::now();
    let mut stream = clients.subscriber.subscribe(subscription("work")).build();
    for _ in 0..MESSAGES {
        within(stream.next()).await.unwrap().unwrap().1.ack();
    }
    until(|| google.pubsub().backlog(&subscription("work")).unwrap().messages == 0).await;
    println!("{MESSAGES} published in {published:?}, received and acknowledged in {:?}", began.elapsed());
    within(stream.shutdown_token().shutdown()).await;
}

#[tokio::test]
async fn a_field_without_effect_here_is_refused_by_name_and_ordering_keys_pass_through() {
    let google = google().await;
    let rest = Rest::operator(&google);
    create(&rest, &google, "topics/work", json!({})).await;
    let refused = json!({
        "bigqueryConfig": { "table": "p.d.t" },
        "cloudStorageConfig": { "bucket": "b" },
        "deadLetterPolicy": { "deadLetterTopic": topic("work") },
        "detached": true,
        "enableMessageOrdering": true,
        "pushConfig": { "pushEndpoint": "http://x" },
    });
    for (name, value) in refused.as_object().unwrap() {
        let (status, answer) =
            create(&rest, &google, "subscriptions/work", json!({ "topic": topic("work"), name: value })).await;
        let error = &answer["error"];
        assert_eq!((status, &error["status"]), (501, &json!("UNIMPLEMENTED")), "{name}: {answer}");
        assert!(error["message"].as_str().unwrap().contains(&format!("Subscription.{name}")), "{answer}");
    }
    let unset = json!({ "topic": topic("work"), "deadLetterPolicy": null, "pushConfig": { "pushEndpoint": "" },
        "enableMessageOrdering": false, "state": "ACTIVE", "enableExactlyOnceDelivery": true });
    let (status, made) = create(&rest, &google, "subscriptions/work", unset).await;
    assert_eq!((status, &made["pushConfig"]), (200, &json!({})), "{made}");
    let one = format!("{}/v1/{}", google.endpoints().pubsub, subscription("work"));
    let patch = |mask: &str, value: Value| json!({ "subscription": value, "updateMask": mask });
    let cleared = patch("deadLetterPolicy", json!({}));
    assert_eq!(rest.try_call("PATCH", &one, Some(cleared)).await.0, 200);
    let set = patch("deadLetterPolicy", json!({ "deadLetterPolicy": { "deadLetterTopic": topic("work") } }));
    assert_eq!(rest.try_call("PATCH", &one, Some(set)).await.0, 501);
    assert_eq!(rest.try_call("PATCH", &one, Some(patch("enableMessageOrdering", json!({})))).await.0, 400);
    let schema = json!({ "schemaSettings": { "schema": "projects/p/schemas/s" } });
    assert_eq!(create(&rest, &google, "topics/checked", schema).await.0, 501);

    let url = format!("{}/v1/{}:publish", google.endpoints().pubsub, topic("work"));
    let keys = |keys: &[&str]| -> Value {
        let messages: Vec<Value> = keys.iter().map(|key| json!({ "data": "eA==", "orderingKey": key })).collect();
        json!({ "messages": messages })
    };
    let long = "k".repeat(1025);
    for bad in [keys(&["a", "b"]), keys(&["a", ""]), keys(&[&long]), json!({ "messages": [{ "dta": "eA==" }] })] {
        assert_eq!(rest.try_call("POST", &url, Some(bad)).await.0, 400);
    }
    rest.post(&url, keys(&["a", "a"])).await;
    let taken = pull_some(&rest, &google, "work").await;
    assert_eq!(taken[0]["message"]["orderingKey"], "a");
    // With exactly-once delivery, an id that does not count any more is refused, and moves no deadline.
    let stale = json!({ "ackIds": ["1:1"], "ackDeadlineSeconds": 20 });
    for verb in ["acknowledge", "modifyAckDeadline"] {
        let (status, answer) = rest.try_call("POST", &format!("{one}:{verb}"), Some(stale.clone())).await;
        assert_eq!((status, &answer["error"]["status"]), (400, &json!("FAILED_PRECONDITION")), "{verb}");
    }
}
