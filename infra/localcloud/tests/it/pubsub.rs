//! Pub/Sub: publish, streaming pull, acknowledge, redelivery, back-off, filters, limits.

use std::collections::BTreeSet;

use google_cloud_pubsub::model::Message;

use crate::support::{Clients, PROJECT, google, until, within};

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
