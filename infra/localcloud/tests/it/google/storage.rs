//! Cloud Storage: data, metadata, preconditions, listings.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use google_cloud_gax::error::rpc::Code;
use google_cloud_storage::model::Object;
use google_cloud_storage::model_ext::ReadRange;
use localcloud::{
    clock::Clock,
    google::{Google, Options},
    storage::WriteRates,
};
use serde_json::{Value, json};

use crate::google::support::{BUCKET, Clients, PROJECT, Rest, account, bucket, google, pod_token, start, within};

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

/// Uploads by REST and answers the resource.
async fn upload(rest: &Rest, google: &Google, object: &str, query: &str) -> (u16, Value) {
    let storage = google.endpoints().storage;
    let url = format!("{storage}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={object}{query}");
    rest.try_call("POST", &url, Some(json!({ "some": "data" }))).await
}

#[tokio::test]
async fn large_objects_go_in_pieces_and_come_back_in_ranges() {
    let google = google().await;
    bucket(&google, vec![]).await;
    let clients = Clients::operator(&google).await;
    let data: Vec<u8> = (0..20 << 20).map(|index: usize| (index * 31 % 251) as u8).collect();
    let payload = bytes::Bytes::from(data.clone());
    let written = within(
        clients
            .storage
            .write_object(name(), "large/µ object", payload.clone())
            .with_resumable_upload_threshold(1_usize << 20)
            .with_resumable_upload_buffer_size(4_usize << 20)
            .send_buffered(),
    )
    .await
    .unwrap();
    assert_eq!(written.size, 20 << 20);
    let unbuffered = within(
        clients
            .storage
            .write_object(name(), "large/2", payload)
            .with_resumable_upload_threshold(1_usize << 20)
            .send_unbuffered(),
    )
    .await
    .unwrap();
    assert_eq!(unbuffered.checksums, written.checksums);
    let range = ReadRange::segment(5 << 20, 1000);
    let mut reader = clients.storage.read_object(name(), "large/µ object").set_read_range(range).send().await.unwrap();
    let mut read = Vec::new();
    while let Some(chunk) = within(reader.next()).await.transpose().unwrap() {
        read.extend_from_slice(&chunk);
    }
    assert_eq!(read, data[5 << 20..(5 << 20) + 1000]);
}

#[tokio::test]
async fn an_upload_goes_on_after_it_was_cut_off() {
    let google = google().await;
    bucket(&google, vec![]).await;
    let storage = google.endpoints().storage;
    let http = reqwest::Client::new();
    let token = google.operator_token();
    let url = format!("{storage}/upload/storage/v1/b/{BUCKET}/o?uploadType=resumable&ifGenerationMatch=0");
    let begun = http
        .post(&url)
        .bearer_auth(&token)
        .header("X-Upload-Content-Type", "text/plain")
        .json(&json!({ "name": "slow", "metadata": { "k": "v" } }))
        .send()
        .await
        .unwrap();
    let session = begun.headers()["location"].to_str().unwrap().to_owned();
    let put = |range: &str, body: &'static str| {
        http.put(&session).bearer_auth(&token).header("Content-Range", range.to_owned()).body(body).send()
    };
    let partial = put("bytes 0-4/*", "hello").await.unwrap();
    assert_eq!((partial.status().as_u16(), partial.headers()["range"].to_str().unwrap()), (308, "bytes=0-4"));
    let asked = put("bytes */*", "").await.unwrap();
    assert_eq!(asked.headers()["range"].to_str().unwrap(), "bytes=0-4");
    // Bytes sent twice are taken once; a gap is not taken at all.
    assert_eq!(put("bytes 8-10/11", "rld").await.unwrap().status(), 308);
    let done: Value = put("bytes 3-10/11", "lo world").await.unwrap().json().await.unwrap();
    assert_eq!(
        (&done["size"], &done["contentType"], &done["metadata"]["k"]),
        (&json!("11"), &json!("text/plain"), &json!("v"))
    );
    assert_eq!(done["crc32c"], "yZRlqg==");
    assert_eq!(done["md5Hash"], "XrY7u+Ae7tCTyyK7j1rNww==");
    // Asking again answers the same object.
    let again: Value = put("bytes */11", "").await.unwrap().json().await.unwrap();
    assert_eq!(again["generation"], done["generation"]);
    assert_eq!(
        http.post(&url).bearer_auth(&token).json(&json!({ "name": "slow" })).send().await.unwrap().status(),
        412
    );
}

#[tokio::test]
async fn generations_preconditions_and_refusals_have_googles_shapes() {
    let google = google().await;
    bucket(&google, vec![]).await;
    let rest = Rest::operator(&google);
    let storage = google.endpoints().storage;
    let one = format!("{storage}/storage/v1/b/{BUCKET}/o/x");
    let (_, first) = upload(&rest, &google, "x", "").await;
    let (_, second) = upload(&rest, &google, "x", "").await;
    let generation = |resource: &Value| resource["generation"].as_str().unwrap().parse::<i64>().unwrap();
    let (first, second) = (generation(&first), generation(&second));
    assert!(second > first && first > 1_000_000_000_000_000);
    let (status, answer) = upload(&rest, &google, "x", "&ifGenerationMatch=0").await;
    assert_eq!(status, 412);
    assert_eq!(
        answer,
        json!({ "error": { "code": 412, "message": "At least one of the pre-conditions you specified did not hold.", "errors": [{
            "domain": "global", "reason": "conditionNotMet", "locationType": "header", "location": "If-Match",
            "message": "At least one of the pre-conditions you specified did not hold.",
        }] } })
    );
    assert_eq!(upload(&rest, &google, "x", &format!("&ifGenerationMatch={first}")).await.0, 412);
    assert_eq!(upload(&rest, &google, "y", "&ifMetagenerationMatch=1").await.0, 412);
    assert_eq!(rest.try_call("GET", &format!("{one}?ifGenerationNotMatch={second}"), None).await.0, 304);
    assert_eq!(rest.try_call("GET", &format!("{one}?generation={first}"), None).await.0, 404);
    let (status, answer) = rest.try_call("GET", &format!("{storage}/storage/v1/b/{BUCKET}/o/none"), None).await;
    assert_eq!(status, 404);
    assert_eq!(answer["error"]["message"], format!("No such object: {BUCKET}/none"));
    assert_eq!(answer["error"]["errors"][0]["reason"], "notFound");
    assert!(answer["error"].get("status").is_none());
    let (status, answer) = rest.try_call("GET", &format!("{storage}/storage/v1/b/no-such-bucket"), None).await;
    assert_eq!((status, answer["error"]["message"].as_str()), (404, Some("The specified bucket does not exist.")));
    let (status, answer) = rest
        .try_call("POST", &format!("{storage}/storage/v1/b?project={PROJECT}"), Some(json!({ "name": BUCKET })))
        .await;
    assert_eq!((status, answer["error"]["errors"][0]["reason"].as_str()), (409, Some("conflict")));
    assert_eq!(rest.try_call("DELETE", &format!("{storage}/storage/v1/b/{BUCKET}"), None).await.0, 409);

    let patch = json!({ "metadata": { "a": "1" }, "contentType": "text/csv" });
    let patched = rest.call("PATCH", &format!("{one}?ifMetagenerationMatch=1"), Some(patch.clone())).await;
    assert_eq!((&patched["metageneration"], &patched["contentType"]), (&json!("2"), &json!("text/csv")));
    assert_eq!(rest.try_call("PATCH", &format!("{one}?ifMetagenerationMatch=1"), Some(patch)).await.0, 412);
    let cleared = rest.call("PATCH", &one, Some(json!({ "metadata": { "a": null } }))).await;
    assert!(cleared["metadata"].as_object().is_none_or(serde_json::Map::is_empty));
    assert_eq!(rest.try_call("DELETE", &format!("{one}?ifGenerationMatch={first}"), None).await.0, 412);
    assert_eq!(rest.try_call("DELETE", &format!("{one}?generation={second}"), None).await.0, 204);
    assert_eq!(rest.try_call("DELETE", &format!("{storage}/storage/v1/b/{BUCKET}"), None).await.0, 204);
}

#[tokio::test]
async fn what_happens_to_objects_is_published() {
    let google = google().await;
    bucket(&google, vec![]).await;
    let rest = Rest::operator(&google);
    let endpoints = google.endpoints();
    let topic = format!("projects/{PROJECT}/topics/work");
    let configs = format!("{}/storage/v1/b/{BUCKET}/notificationConfigs", endpoints.storage);
    let desired = json!({
        "topic": format!("//pubsub.googleapis.com/{topic}"), "event_types": ["OBJECT_FINALIZE"],
        "payload_format": "JSON_API_V1", "object_name_prefix": "bu1/input/",
    });
    let (status, answer) = rest.try_call("POST", &configs, Some(desired.clone())).await;
    assert_eq!(status, 403, "{answer}");
    rest.call("PUT", &format!("{}/v1/{topic}", endpoints.pubsub), Some(json!({}))).await;
    let subscription = format!("{}/v1/projects/{PROJECT}/subscriptions/work", endpoints.pubsub);
    rest.call("PUT", &subscription, Some(json!({ "topic": topic }))).await;
    assert_eq!(rest.try_call("POST", &configs, Some(desired.clone())).await.0, 403);
    let agent = rest.get(&format!("{}/storage/v1/projects/{PROJECT}/serviceAccount", endpoints.storage)).await;
    let member = format!("serviceAccount:{}", agent["email_address"].as_str().unwrap());
    let binding = json!({ "role": "roles/pubsub.publisher", "members": [member] });
    let policy = json!({ "policy": { "bindings": [binding] } });
    rest.post(&format!("{}/v1/{topic}:setIamPolicy", endpoints.pubsub), policy).await;
    let made = rest.post(&configs, desired).await;
    assert_eq!(made["kind"], "storage#notification");

    let (_, object) = upload(&rest, &google, "bu1%2Finput%2Fs%2Fj", "").await;
    upload(&rest, &google, "bu1%2Foutput%2Fs%2Fj", "").await;
    rest.call("DELETE", &format!("{}/storage/v1/b/{BUCKET}/o/bu1%2Finput%2Fs%2Fj", endpoints.storage), None).await;
    let pulled =
        rest.post(&format!("{subscription}:pull"), json!({ "maxMessages": 10, "returnImmediately": true })).await;
    let messages = pulled["receivedMessages"].as_array().unwrap();
    assert_eq!(messages.len(), 1);
    let attributes = &messages[0]["message"]["attributes"];
    assert_eq!(attributes["eventType"], "OBJECT_FINALIZE");
    assert_eq!((&attributes["bucketId"], &attributes["objectId"]), (&json!(BUCKET), &json!("bu1/input/s/j")));
    assert_eq!(attributes["objectGeneration"], object["generation"]);
    assert_eq!(attributes["payloadFormat"], "JSON_API_V1");
    assert_eq!(attributes["notificationConfig"], format!("projects/_/buckets/{BUCKET}/notificationConfigs/1"));
    let payload = BASE64_STANDARD.decode(messages[0]["message"]["data"].as_str().unwrap()).unwrap();
    let payload: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!((&payload["name"], &payload["generation"]), (&json!("bu1/input/s/j"), &object["generation"]));

    let id = made["id"].as_str().unwrap();
    assert_eq!(rest.get(&configs).await["items"].as_array().unwrap().len(), 1);
    rest.call("DELETE", &format!("{configs}/{id}"), None).await;
    assert_eq!(rest.try_call("GET", &format!("{configs}/{id}"), None).await.0, 404);
}

#[tokio::test]
async fn metadata_is_changed_over_grpc_and_labels_over_json() {
    let google = google().await;
    bucket(&google, vec![]).await;
    let clients = Clients::operator(&google).await;
    within(clients.storage.write_object(name(), "dir/a", "data").send_buffered()).await.unwrap();
    let changed = clients
        .control
        .update_object()
        .set_object(Object::new().set_bucket(name()).set_name("dir/a").set_metadata([("k", "v")]))
        .set_update_mask(google_cloud_wkt::FieldMask::default().set_paths(["metadata"]))
        .send()
        .await
        .unwrap();
    assert_eq!((changed.metadata["k"].as_str(), changed.metageneration), ("v", 2));

    let rest = Rest::operator(&google);
    let base = format!("{}/storage/v1/b/{BUCKET}", google.endpoints().storage);
    rest.call("PATCH", &base, Some(json!({ "labels": { "a": "b", "c": "d" } }))).await;
    let patched = rest.call("PATCH", &base, Some(json!({ "labels": { "a": null } }))).await;
    assert_eq!((&patched["labels"], &patched["metageneration"]), (&json!({ "c": "d" }), &json!("3")));
    assert_eq!(rest.get(&format!("{base}/o?delimiter=/")).await["prefixes"], json!(["dir/"]));
}

#[tokio::test]
async fn everything_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let options = || Options { persist: Some(folder.path().to_owned()), ..Options::new(PROJECT) };
    let google = start(options()).await;
    bucket(&google, vec![]).await;
    let email = account(&google, "bu1-client").await;
    let token = pod_token(&google, "bu1", &email).await.unwrap();
    let rest = Rest::operator(&google);
    let (_, object) = upload(&rest, &google, "kept", "").await;
    upload(&rest, &google, "gone", "").await;
    let endpoints = google.endpoints();
    rest.call("DELETE", &format!("{}/storage/v1/b/{BUCKET}/o/gone", endpoints.storage), None).await;
    let topic = format!("projects/{PROJECT}/topics/work");
    let subscription = format!("projects/{PROJECT}/subscriptions/work");
    rest.call("PUT", &format!("{}/v1/{topic}", endpoints.pubsub), Some(json!({}))).await;
    rest.call("PUT", &format!("{}/v1/{subscription}", endpoints.pubsub), Some(json!({ "topic": topic }))).await;
    let publish = json!({ "messages": [{ "data": "eA==" }, { "attributes": { "k": "v" } }] });
    let ids = rest.post(&format!("{}/v1/{topic}:publish", endpoints.pubsub), publish).await;
    let pull = json!({ "maxMessages": 1, "returnImmediately": true });
    let first = rest.post(&format!("{}/v1/{subscription}:pull", endpoints.pubsub), pull.clone()).await;
    let ack = json!({ "ackIds": [first["receivedMessages"][0]["ackId"]] });
    rest.post(&format!("{}/v1/{subscription}:acknowledge", endpoints.pubsub), ack).await;
    google.stop().await;

    let other = Options { persist: Some(folder.path().to_owned()), ..Options::new("other-desk") };
    let error = format!("{:#}", Google::start(other).await.err().unwrap());
    assert!(error.contains(&format!("project {PROJECT}")) && error.contains("project other-desk"), "{error}");
    let google = start(options()).await;
    let endpoints = google.endpoints();
    assert_eq!(google.user_of_token(&token), Some(format!("serviceAccount:{email}")));
    let found = rest.get(&format!("{}/storage/v1/b/{BUCKET}/o/kept", endpoints.storage)).await;
    assert_eq!((&found["generation"], &found["crc32c"]), (&object["generation"], &object["crc32c"]));
    let media = rest.get(&format!("{}/storage/v1/b/{BUCKET}/o/kept?alt=media", endpoints.storage)).await;
    assert_eq!(media, json!({ "some": "data" }));
    assert_eq!(
        rest.get(&format!("{}/storage/v1/b/{BUCKET}/o", endpoints.storage)).await["items"].as_array().unwrap().len(),
        1
    );
    let second = rest.post(&format!("{}/v1/{subscription}:pull", endpoints.pubsub), pull).await;
    assert_eq!(second["receivedMessages"][0]["message"]["messageId"], ids["messageIds"][1]);
    let (_, newer) = upload(&rest, &google, "kept", "").await;
    assert!(newer["generation"].as_str() > object["generation"].as_str());
    google.stop().await;
    assert_eq!(std::fs::read_dir(folder.path().join("objects")).unwrap().count(), 1);
}

#[tokio::test]
async fn what_is_stored_compressed_is_served_as_the_file_unless_the_request_or_the_metadata_forbid_it() {
    use std::io::Write as _;

    let google = google().await;
    bucket(&google, vec![]).await;
    let file = b"the file itself, ".repeat(100);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&file).unwrap();
    let stored = encoder.finish().unwrap();
    let clients = Clients::operator(&google).await;
    let write = async |object: &str, data: &[u8], cache_control: &str| {
        let request = clients.storage.write_object(name(), object, bytes::Bytes::copy_from_slice(data));
        within(request.set_content_encoding("gzip").set_cache_control(cache_control).send_buffered()).await.unwrap()
    };
    let written = write("packed", &stored, "").await;
    write("kept", &stored, "no-transform").await;
    write("lies", b"this is not gzip", "").await;
    let http = reqwest::Client::new();
    let read = async |path: &str, accept: &str, range: &str| {
        let url = format!("{}/{path}?alt=media", google.endpoints().storage);
        let mut request = http.get(url).bearer_auth(google.operator_token()).header("accept-encoding", accept);
        if !range.is_empty() {
            request = request.header("range", range);
        }
        let response = within(request.send()).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let shown = ["content-encoding", "content-length", "warning"].map(text);
        assert_eq!(text("x-goog-stored-content-encoding").unwrap(), "gzip", "{path}");
        (
            status,
            shown,
            text("x-goog-stored-content-length").unwrap(),
            text("x-goog-hash").unwrap(),
            response.bytes().await.unwrap(),
        )
    };
    let gunzipped = [None, None, Some("214 UploadServer gunzipped".to_owned())];
    let as_it_is = |length: usize| [Some("gzip".to_owned()), Some(length.to_string()), None];
    let length = stored.len();
    let packed = format!("storage/v1/b/{BUCKET}/o/packed");
    let crc32c = BASE64_STANDARD.encode(written.checksums.unwrap().crc32c.unwrap().to_be_bytes());
    for path in [packed.clone(), format!("download/{packed}")] {
        for (accept, range) in [("identity", ""), ("identity", "bytes=5-9"), ("gzip;q=0", "")] {
            let (status, headers, stored_length, hash, body) = read(&path, accept, range).await;
            assert_eq!((status, &headers, stored_length), (200, &gunzipped, length.to_string()), "{accept} {range}");
            assert!(hash.contains(&format!("crc32c={crc32c}")) && body == file, "{hash}");
        }
        let (status, headers, .., body) = read(&path, "deflate, gzip", "").await;
        assert_eq!((status, headers), (200, as_it_is(length)));
        assert!(body == stored);
        let (status, headers, .., body) = read(&path, "gzip", "bytes=5-9").await;
        assert_eq!((status, headers, &body[..]), (206, as_it_is(5), &stored[5..10]));
    }
    let (_, headers, .., body) = read(&packed.replace("packed", "kept"), "identity", "").await;
    assert!(headers == as_it_is(length) && body == stored);
    let (_, headers, .., body) = read(&packed.replace("packed", "lies"), "identity", "").await;
    assert_eq!((headers, &body[..]), (as_it_is(16), &b"this is not gzip"[..]));
}

#[tokio::test]
async fn a_bucket_and_a_name_take_so_many_writes_a_second_where_that_is_limited() {
    let clock = Clock::default();
    let write_rates = Some(WriteRates { per_bucket: 3 });
    let google = start(Options { write_rates, clock: clock.clone(), ..Options::new(PROJECT) }).await;
    bucket(&google, vec![]).await;
    let rest = Rest::operator(&google);
    let one = format!("{}/storage/v1/b/{BUCKET}/o/a", google.endpoints().storage);
    let second = std::time::Duration::from_secs(1);
    assert_eq!(upload(&rest, &google, "a", "").await.0, 200);
    let patch = json!({ "metadata": { "k": "v" } });
    for (method, body) in [("DELETE", None), ("PATCH", Some(patch.clone()))] {
        let (status, answer) = rest.try_call(method, &one, body).await;
        let item = &answer["error"]["errors"][0];
        assert_eq!(
            (status, &item["reason"], &item["domain"]),
            (429, &json!("rateLimitExceeded"), &json!("usageLimits"))
        );
        assert!(
            item["message"].as_str().unwrap().starts_with(&format!("The object {BUCKET}/a exceeded the rate limit"))
        );
    }
    clock.advance(second);
    assert_eq!(rest.try_call("PATCH", &one, Some(patch)).await.0, 200);
    clock.advance(second);
    assert_eq!(rest.try_call("DELETE", &one, None).await.0, 204);
    // What is refused anyway is no write.
    assert_eq!(upload(&rest, &google, "b", "&ifGenerationMatch=7").await.0, 412);
    clock.advance(second);
    let mut statuses = Vec::new();
    for name in ["b", "c", "d", "e"] {
        statuses.push(upload(&rest, &google, name, "").await.0);
    }
    assert_eq!(statuses, [200, 200, 200, 503]);
    let refused = google.storage().refused_writes();
    assert_eq!((refused.of_names, refused.of_buckets), (2, 1));
}
