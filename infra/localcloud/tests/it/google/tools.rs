//! `gcloud` and `gsutil`, where they are installed: commands that no test of `xtask` runs.

use std::{path::Path, process::Stdio, time::Duration};

use localcloud::google::Google;
use serde_json::json;
use tokio::process::Command;

use crate::google::support::{BUCKET, PROJECT, Rest, bucket, google};

/// True when the program can be run.
async fn is_there(program: &str) -> bool {
    let run = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().await;
    let there = run.is_ok_and(|status| status.success());
    if !there {
        println!("skipped: {program} is not on PATH");
    }
    there
}

/// Runs a command line as the operator; answers what it printed.
async fn run(google: &Google, folder: &Path, line: &[&str]) -> String {
    let variables = google.write_tools(folder).unwrap();
    let output =
        Command::new(line[0]).args(&line[1..]).envs(variables).stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(120), output).await.expect("the time limit").unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{line:?}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

#[tokio::test]
async fn gcloud_does_what_it_does_on_google_cloud() {
    if !is_there("gcloud").await {
        return;
    }
    let google = google().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("portfolio.json");
    std::fs::write(&file, "{\"trades\":[]}").unwrap();
    let (file, bucket_url) = (file.display().to_string(), format!("gs://{BUCKET}"));
    let object = format!("{bucket_url}/bu1/input/s/portfolio.json");
    let gcloud = async |line: &str| {
        let line: Vec<&str> = std::iter::once("gcloud").chain(line.split_whitespace()).collect();
        run(&google, folder.path(), &line).await
    };
    gcloud(&format!("storage buckets create {bucket_url} --uniform-bucket-level-access")).await;
    gcloud(&format!("storage cp {file} {object}")).await;
    gcloud(&format!("storage rm {object}")).await;
    assert!(google.storage().is_empty(BUCKET));

    let rest = Rest::operator(&google);
    let (base, topic) = (format!("{}/v1", google.endpoints().pubsub), format!("projects/{PROJECT}/topics/work"));
    rest.call("PUT", &format!("{base}/{topic}"), Some(json!({}))).await;
    let subscription = format!("{base}/projects/{PROJECT}/subscriptions/work");
    rest.call("PUT", &subscription, Some(json!({ "topic": topic }))).await;
    let line = ["gcloud", "pubsub", "topics", "publish", "work", "--message=engine payload 1"];
    run(&google, folder.path(), &line).await;
    assert!(gcloud("pubsub subscriptions pull work --auto-ack").await.contains("engine payload 1"));
}

#[tokio::test]
async fn gsutil_does_what_it_does_on_google_cloud() {
    if !is_there("gsutil").await {
        return;
    }
    let google = google().await;
    let folder = tempfile::tempdir().unwrap();
    // Large enough for a resumable upload.
    let data: Vec<u8> = (0..9 << 20).map(|index: u32| (index % 253) as u8).collect();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    std::fs::write(&from, &data).unwrap();
    let (from, to_text) = (from.display().to_string(), to.display().to_string());
    let object = format!("gs://{BUCKET}/bu1/input/s/data");
    let gsutil = async |line: &str| {
        let line: Vec<&str> = std::iter::once("gsutil").chain(line.split_whitespace()).collect();
        run(&google, folder.path(), &line).await
    };
    bucket(&google, vec![]).await;
    gsutil(&format!("cp {from} {object}")).await;
    gsutil(&format!("cp {object} {to_text}")).await;
    assert!(std::fs::read(&to).unwrap() == data, "what was downloaded is what was uploaded");
    gsutil(&format!("-m rm -r gs://{BUCKET}/bu1")).await;
    assert!(google.storage().is_empty(BUCKET));
}
