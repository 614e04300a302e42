//! Cloud Storage: data, metadata, preconditions, listings.

use google_cloud_gax::error::rpc::Code;

use crate::support::{BUCKET, Clients, bucket, google, within};

fn name() -> String {
    format!("projects/_/buckets/{BUCKET}")
}

#[tokio::test]
async fn written_read_listed_deleted_with_preconditions() {
    let google = google().await;
    bucket(&google, vec![]).await;
    let clients = Clients::operator(&google).await;
    let first = within(
        clients
            .storage
            .write_object(name(), "bu1/output/s/j", "result")
            .set_if_generation_match(0_i64)
            .set_content_type("text/plain")
            .set_metadata([("job", "j")])
            .send_buffered(),
    )
    .await
    .unwrap();
    assert!(first.generation > 0 && first.size == 6);

    let again = clients
        .storage
        .write_object(name(), "bu1/output/s/j", "other")
        .set_if_generation_match(0_i64)
        .send_buffered()
        .await
        .unwrap_err();
    assert_eq!(again.http_status_code(), Some(412));

    let mut reader = clients.storage.read_object(name(), "bu1/output/s/j").send().await.unwrap();
    let highlights = reader.object();
    assert_eq!(highlights.generation, first.generation);
    assert_eq!(highlights.content_type, "text/plain");
    let mut data = Vec::new();
    while let Some(chunk) = reader.next().await.transpose().unwrap() {
        data.extend_from_slice(&chunk);
    }
    assert_eq!(data, b"result");

    let found = clients.control.get_object().set_bucket(name()).set_object("bu1/output/s/j").send().await.unwrap();
    assert_eq!(found.metadata["job"], "j");
    assert_eq!(found.generation, first.generation);
    let listed = clients.control.list_objects().set_parent(name()).set_prefix("bu1/").send().await.unwrap();
    assert_eq!(listed.objects.len(), 1);

    let wrong = clients
        .control
        .delete_object()
        .set_bucket(name())
        .set_object("bu1/output/s/j")
        .set_if_generation_match(first.generation + 1)
        .send()
        .await
        .unwrap_err();
    assert_eq!(wrong.status().map(|status| status.code), Some(Code::FailedPrecondition));
    let delete = || {
        clients.control.delete_object().set_bucket(name()).set_object("bu1/output/s/j").set_generation(first.generation)
    };
    delete().send().await.unwrap();
    let gone = delete().send().await.unwrap_err();
    assert_eq!(gone.status().map(|status| status.code), Some(Code::NotFound));
    let gone = clients.storage.read_object(name(), "bu1/output/s/j").send().await.unwrap_err();
    assert_eq!(gone.http_status_code(), Some(404));
    google.stop().await;
}
