//! Readers of what version 1 left: no command fails on it, and the results of split Jobs are found.

use cloud::storage::Properties;
use contract::testing::VERSION_1;
use serde_json::Value;

use crate::desk::Desk;

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_of_version_1_are_read_with_their_results() {
    let desk = Desk::start().await;
    let left: Value = serde_json::from_str(VERSION_1).unwrap();
    // An input would have another generation than its outcome says.
    for (name, object) in left["objects"].as_object().unwrap().iter().filter(|(name, _)| !name.contains("/input/")) {
        let metadata = serde_json::from_value(object["metadata"].clone()).unwrap();
        let contents = object["contents"].as_str().unwrap().to_owned();
        let properties = Properties { content_type: "text/plain".to_owned(), metadata };
        desk.store.write_once(&desk.business.bucket, name, contents, properties).await.unwrap();
    }
    let (stdout, _) = desk.run(&["jobs", "--json"], 0).await;
    let jobs: Vec<Value> = serde_json::from_str(&stdout).unwrap();
    let mut states: Vec<String> =
        jobs.iter().map(|job| format!("{}/{} {}", job["session"], job["job"], job["state"]).replace('"', "")).collect();
    states.sort();
    assert_eq!(
        states,
        [
            "new/batch-1 succeeded",
            "new/batch-3 succeeded",
            "old/bad.json failed",
            "old/batched-0 succeeded",
            "old/batched-1 succeeded",
            "old/batched-2 failed",
            "old/single succeeded",
            "old/split succeeded",
            "old/split-bad failed",
        ]
    );
    let (stdout, _) = desk.run(&["session", "list"], 0).await;
    assert!(stdout.contains("old") && stdout.contains("paused"), "{stdout}");
    let (stdout, _) = desk.run(&["session", "failures", "old"], 0).await;
    assert!(stdout.contains("split-bad, bad.json") && stdout.contains("batched-2"), "{stdout}");
    let (stdout, _) = desk.run(&["results", "--session", "old", "--format", "csv"], 0).await;
    let split: Vec<&str> = stdout.lines().filter(|line| line.starts_with("old,split,")).collect();
    assert_eq!(
        split,
        ["old,split,0,text,result,,", "old,split,1,text,result,,", "old,split,2,text,result,,"],
        "{stdout}"
    );
    let (stdout, _) = desk.run(&["verify", "old"], 0).await;
    assert!(stdout.contains("6 results named by 7 outcomes; 6 objects"), "{stdout}");
    let (stdout, _) = desk.run(&["job", "split", "--session", "old"], 0).await;
    assert!(stdout.contains("succeeded"), "{stdout}");
    desk.run(&["session", "cost", "old"], 0).await;
    desk.run(&["dead-letters", "list"], 0).await;
    desk.run(&["status"], 0).await;
}
