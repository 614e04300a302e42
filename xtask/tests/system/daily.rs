//! The daily verbs against a laptop Google Cloud.

use std::collections::BTreeSet;

use cloud::storage::Properties;
use contract::{
    Outcome, object,
    outcome::{Reason, State},
    pack::{Item, ItemResult},
};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::desk::{Desk, ended, text, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_submitted_once_however_often_it_is_submitted() {
    let desk = Desk::start().await;
    for index in 0..40 {
        desk.input(&format!("book-{index:02}.json"), &format!("{{\"book\": {index}}}"));
    }
    desk.input("deep/er/bad.json", "{");
    desk.input("big.bin", &"x".repeat(20 << 20));
    let inputs = desk.inputs();
    let submit = ["submit", "--session", "s1", "--client", "alice", "--json", text(&inputs)];
    let (stdout, _) = desk.run(&submit, 0).await;
    let document: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(document["jobs"].as_array().unwrap().len(), 42);

    let stored = desk.list("input/s1/").await;
    assert_eq!(stored.len(), 42);
    assert!(stored.iter().all(|object| object.metadata["deskgrid-client"] == "alice"), "{stored:?}");
    assert_eq!(stored.iter().find(|o| o.name.ends_with("book-00.json")).unwrap().content_type, "application/json");
    let work = desk.pull(42).await;
    let announced: BTreeSet<_> = work.iter().map(|w| (w.identity.object.clone(), w.identity.generation)).collect();
    assert_eq!(announced, stored.iter().map(|o| (o.name.clone(), o.generation)).collect());
    assert!(work.iter().all(|work| work.client.as_deref() == Some("alice")));

    // Again: the same objects, the same identities, and so harmless messages.
    let (_, stderr) = desk.run(&submit[..submit.len()], 0).await;
    assert!(stderr.contains("42 of them had been uploaded before"), "{stderr}");
    let again: BTreeSet<_> =
        desk.pull(42).await.into_iter().map(|w| (w.identity.object, w.identity.generation)).collect();
    assert_eq!(again, announced);

    // Once they ended there is nothing to send.
    desk.settle().await;
    let (_, stderr) = desk.run(&submit, 0).await;
    assert!(stderr.contains("42 Jobs had ended in this session before"), "{stderr}");
    let left = desk.list("input/s1/").await;
    assert_eq!(left.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["bu1/input/s1/deep/er/bad.json"]);

    // Other contents under the same name are another matter.
    desk.input("deep/er/bad.json", "{\"trades\": []}");
    let (_, stderr) = desk.run(&submit, 1).await;
    let error: Value = serde_json::from_str(stderr.lines().last().unwrap()).unwrap();
    assert!(error["why"].as_str().unwrap().contains("other contents"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn priority_needs_a_subscription_for_it() {
    let desk = Desk::start().await;
    desk.input("a.json", "{}");
    let inputs = desk.inputs();
    let (_, stderr) = desk.run(&["submit", "--priority", text(&inputs)], 64).await;
    assert!(stderr.contains("error[usage]") && stderr.contains("priority = true"), "{stderr}");
    assert!(desk.list("").await.is_empty(), "nothing was uploaded");
    let config = desk.folder.path().join("generated/try/config.json");
    let written = std::fs::read_to_string(&config).unwrap();
    let mut changed: Value = serde_json::from_str(&written).unwrap();
    changed["businesses"]["bu1"]["priority_subscription"] = "projects/laptop-desk/subscriptions/first".into();
    std::fs::write(&config, changed.to_string()).unwrap();
    let (_, stderr) = desk.run(&["submit", "--session", "s1", "--priority", text(&inputs)], 1).await;
    assert!(stderr.contains("the topic has no subscription first"), "{stderr}");
    assert!(desk.list("").await.is_empty(), "nothing was uploaded");
    desk.subscribe("first").await;
    desk.run(&["submit", "--session", "s1", "--priority", text(&inputs)], 0).await;
    assert!(desk.pull(1).await[0].priority);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_tells_how_a_session_ended() {
    let desk = Desk::start().await;
    for name in ["a.json", "b.json", "bad.json"] {
        desk.input(name, name);
    }
    let inputs = desk.inputs();
    let waiting = desk.command(&["submit", "--session", "s1", "--wait", "--timeout", "50s", text(&inputs)]).spawn();
    desk.pull(3).await;
    desk.settle().await;
    let (stdout, stderr) = ended(&within(waiting.unwrap().wait_with_output()).await.unwrap(), 1);
    assert_eq!(stdout, "s1\n");
    assert!(
        stderr.contains("2 of 3 Jobs succeeded")
            && stderr.contains("1 failed, malformed-input: ")
            && stderr.contains("bad.json")
            && stderr.contains("next: cargo xtask")
            && stderr.contains("session failures s1 --business bu1"),
        "{stderr}"
    );

    std::fs::remove_file(inputs.join("bad.json")).unwrap();
    desk.run(&["submit", "--session", "s1", "--wait", text(&inputs)], 0).await;
    desk.input("new.json", "new");
    let (_, stderr) = desk.run(&["submit", "--session", "s1", "--wait", "--timeout", "1", text(&inputs)], 1).await;
    assert!(stderr.contains("1 not settled at the time limit: new.json"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_pack_ends_with_its_last_range() {
    let desk = Desk::start().await;
    desk.input("lines", "a\nb\nc\n");
    let lines = desk.inputs().join("lines");
    let submit = ["submit", "--session", "s1", "--pack", text(&lines), "--items-per-range", "1"];
    desk.run(&submit, 0).await;
    let work = desk.pull(1).await.remove(0);
    let bucket = &desk.business.bucket;
    let layout = object::layout("bu1", "s1", "lines", work.identity.generation);
    let metadata = [("deskgrid-items", "3"), ("deskgrid-items-per-range", "1")];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let body = serde_json::to_vec(&work.pack).unwrap();
    desk.store.write_once(bucket, &layout, body, Properties { metadata, ..Properties::json() }).await.unwrap();
    let mut waiting = desk.command(&["session", "wait", "s1", "--timeout", "50s", "--json"]).spawn().unwrap();
    let mut records = BufReader::new(waiting.stdout.take().unwrap()).lines();
    let record: Value = serde_json::from_str(&within(records.next_line()).await.unwrap().unwrap()).unwrap();
    assert_eq!((&record["waiting"], &record["ended"]), (&3.into(), &false.into()));
    for index in 0..3 {
        let range = work.of_range(index);
        let mut outcome = Outcome::new("bu1", State::Failed, "malformed-input", "line 1");
        outcome.work = Some(range.clone());
        let item = Item::without_result(index, State::Succeeded, Reason::default());
        let succeeded = Item { reason: None, result: Some(ItemResult::inline(b"1", "text/plain")), ..item };
        outcome.set_items(&(index..index + 1), (index == 2).then_some(succeeded));
        // A person copied the last one without its metadata.
        let properties = if index == 2 { Properties::json() } else { (&outcome).into() };
        let body = serde_json::to_vec(&outcome).unwrap();
        desk.store.write_once(bucket, &range.outcome(), body, properties).await.unwrap();
    }
    let mut last = record;
    while let Some(record) = within(records.next_line()).await.unwrap() {
        last = serde_json::from_str(&record).unwrap();
    }
    assert_eq!((&last["succeeded"], &last["failed"], &last["ended"]), (&1.into(), &2.into(), &true.into()));
    ended(&within(waiting.wait_with_output()).await.unwrap(), 1);
    let (stdout, _) = desk.run(&["jobs"], 0).await;
    assert!(stdout.contains("failed, 3 of 3 items, 2 failed"), "{stdout}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_interrupted_is_completed_by_the_same_command() {
    let desk = Desk::start().await;
    for index in 0..600 {
        desk.input(&format!("{index}"), &"x".repeat(index * 10));
    }
    let inputs = desk.inputs();
    let submit = ["submit", "--session", "s1", "--each", text(&inputs)];
    let child = desk.command(&submit).spawn().unwrap();
    let id = nix::unistd::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
    within(async {
        while desk.list("input/s1/").await.len() < 20 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGINT).unwrap();
    let (_, stderr) = ended(&within(child.wait_with_output()).await.unwrap(), 130);
    assert!(stderr.contains("error[stopped]") && stderr.contains("--session s1"), "{stderr}");
    assert!(desk.list("input/s1/").await.len() < 600);

    desk.run(&submit, 0).await;
    let stored: BTreeSet<_> = desk.list("input/s1/").await.into_iter().map(|o| (o.name, o.generation)).collect();
    assert_eq!(stored.len(), 600);
    // Some are announced twice, each at least once.
    let mut announced = BTreeSet::new();
    desk.pull_until(|work| {
        announced.extend(work.last().map(|w| (w.identity.object.clone(), w.identity.generation)));
        announced.len() == 600
    })
    .await;
    assert_eq!(announced, stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_input_is_a_job() {
    let desk = Desk::start().await;
    let mut command = desk.command(&["submit", "--session", "s1", "--job", "book.json", "-"]);
    let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stdin, b"{}").await.unwrap();
    drop(stdin);
    ended(&within(child.wait_with_output()).await.unwrap(), 0);
    // An empty one is a broken pipe, mostly.
    let (_, stderr) = desk.run(&["submit", "--session", "s1", "--job", "empty", "-"], 1).await;
    assert!(stderr.contains("error[nothing-to-submit]") && stderr.contains("a file with no contents"), "{stderr}");
    let stored = desk.list("input/").await;
    assert_eq!((stored[0].name.as_str(), stored[0].size), ("bu1/input/s1/book.json", 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_can_be_looked_at_without_a_cluster() {
    let desk = Desk::start().await;
    desk.input("a.json", "{}");
    desk.input("bad.json", "{");
    let inputs = desk.inputs();
    desk.run(&["submit", "--session", "s1", text(&inputs)], 0).await;
    desk.settle().await;
    desk.input("a.json", "{ }");
    desk.run(&["submit", "--session", "s2", "--quiet", text(&inputs.join("a.json"))], 0).await;

    let (stdout, stderr) = desk.run(&["jobs", "--json"], 0).await;
    let jobs: Vec<Value> = serde_json::from_str(&stdout).unwrap();
    let states: BTreeSet<_> =
        jobs.iter().map(|job| format!("{}/{} {}", job["session"], job["job"], job["state"]).replace('"', "")).collect();
    assert_eq!(states, ["s1/a.json succeeded", "s1/bad.json failed", "s2/a.json waiting"].map(str::to_owned).into());
    assert!(stderr.contains("the cluster cannot be reached"), "{stderr}");
    let (stdout, _) = desk.run(&["jobs", "--state", "failed,refused"], 0).await;
    assert!(stdout.contains("bad.json") && !stdout.contains("a.json  "), "{stdout}");

    let (stdout, _) = desk.run(&["job", "bad.json"], 0).await;
    for part in ["failed (malformed-input)", "can never work", "settled", "reading\n  line 1: no trades"] {
        assert!(stdout.contains(part), "{part:?} is not in\n{stdout}");
    }
    let (stdout, _) = desk.run(&["job", "a.json", "--session", "s1"], 0).await;
    assert!(stdout.contains("0.25"), "{stdout}");
    let (_, stderr) = desk.run(&["job", "b"], 1).await;
    assert!(stderr.contains("did you mean bad.json"), "{stderr}");

    let (stdout, _) = desk.run(&["logs", "bad.json"], 0).await;
    assert_eq!(stdout, "reading\nline 1: no trades\n");
    desk.run(&["logs", "a.json"], 1).await;

    let (stdout, _) = desk.run(&["results", "--session", "s1"], 0).await;
    assert_eq!(
        stdout,
        "session,job,row,measure,value,standard_error,error\ns1,a.json,t1,price,1.5,0.25,\n\
         s1,bad.json,,,,,failed: malformed-input: line 1: no trades\n"
    );
    let file = desk.folder.path().join("out.json");
    desk.run(&["results", "--output", text(&file)], 0).await;
    let rows: Vec<Value> = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(rows.len(), 2);
    desk.run(&["results", "--session", "nope"], 1).await;
    let (stdout, _) = desk.run(&["session", "cost", "s1"], 0).await;
    assert!(stdout.contains("2 outcomes without the times of a pod") && stdout.contains("An estimate"), "{stdout}");
    desk.run(&["session", "cost", "nope"], 1).await;

    let (stdout, _) = desk.run(&["status", "--json"], 0).await;
    let status: Value = serde_json::from_str(&stdout).unwrap();
    let jobs = &status["businesses"][0]["jobs"];
    assert_eq!((&jobs["succeeded"], &jobs["failed"], &jobs["waiting"]), (&1.into(), &1.into(), &1.into()), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_driver_reads_results_into_a_table() {
    if std::process::Command::new("python3").arg("--version").output().is_err() {
        eprintln!("skipped: there is no python3");
        return;
    }
    let desk = Desk::start().await;
    for name in ["a.json", "b.json"] {
        desk.input(name, name);
    }
    let xtask = desk.command(&[]);
    let program: Vec<&str> = std::iter::once(xtask.as_std().get_program())
        .chain(xtask.as_std().get_args())
        .map(|word| word.to_str().unwrap())
        .collect();
    let driver = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/driver.py");
    let child = tokio::process::Command::new("python3")
        .arg(driver)
        .arg(desk.inputs())
        .env("DESKGRID", program.join(" "))
        .current_dir(desk.folder.path())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    desk.pull(2).await;
    desk.settle().await;
    let (stdout, _) = ended(&within(child.wait_with_output()).await.unwrap(), 0);
    assert!(stdout.contains("a.json t1 price 1.5 0.25"), "{stdout}");
    assert!(stdout.contains("b.json t1 price 1.5 0.25"), "{stdout}");
    assert!(stdout.ends_with("2 rows, prices together: 3.0\n"), "{stdout}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_cannot_be_priced_is_not_uploaded() {
    let desk = Desk::start().await;
    let row = |id: &str| format!("{id},european,call,A,100,1\n");
    desk.input("t.csv", &format!("id,kind,option,underlying,strike,maturity\n{}{}{}", row("a"), row("b"), row("a")));
    let market =
        r#"{"schema": 1, "seed": 1, "paths": 10, "underlyings": {"A": {"spot": 1, "volatility": 1, "rate": 0}}}"#;
    desk.input("market.json", market);
    let (table, market) = (desk.inputs().join("t.csv"), desk.inputs().join("market.json"));
    let submit = ["submit", "--table", text(&table), "--rows-per-item", "1", "--common", text(&market)];
    let (_, stderr) = desk.run(&submit, 1).await;
    assert!(stderr.contains("error[malformed-table]") && stderr.contains("line 4, column 1: trades[2].id"), "{stderr}");
    assert_eq!((desk.list("input/").await, desk.list("common/").await), (vec![], vec![]));
    desk.input(
        "t.csv",
        &std::fs::read_to_string(&table)
            .unwrap()
            .replace("\na,european,call,A,100,1\nb", "\nc,european,call,A,100,1\nb"),
    );
    desk.run(&submit, 0).await;
    assert_eq!(desk.pull(1).await[0].pack.as_ref().unwrap().items, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_with_an_error_are_counted_wherever_their_job_is_shown() {
    let desk = Desk::start().await;
    desk.input("rows.json", "{}");
    let inputs = desk.inputs();
    desk.run(&["submit", "--session", "s1", text(&inputs)], 0).await;
    desk.settle().await;
    let (_, stderr) = desk.run(&["submit", "--session", "s1", "--wait", text(&inputs)], 0).await;
    assert!(stderr.contains("1 of 1 Job succeeded, 2 row errors"), "{stderr}");
    let (jobs, _) = desk.run(&["jobs"], 0).await;
    assert!(jobs.contains("succeeded, 2 row errors"), "{jobs}");
    let (job, _) = desk.run(&["job", "rows.json"], 0).await;
    assert!(job.contains("succeeded, 2 row errors") && job.contains("15.1235"), "{job}");
    let (waited, _) = desk.run(&["session", "wait", "s1"], 0).await;
    assert!(waited.contains("1 of 1 Job succeeded, 2 row errors"), "{waited}");

    let missing = "missing in this sum: 2 of 3 trades, which have an error";
    let (csv, stderr) = desk.run(&["results"], 0).await;
    assert!(csv.contains(&format!("portfolio,value,15.123456789,0.25,\"{missing}\"")), "{csv}");
    assert!(csv.contains(",'=t2,"), "{csv}");
    assert!(stderr.contains("4 rows of 1 Job, 2 row errors") && stderr.contains(missing), "{stderr}");
    desk.run(&["results", "--strict"], 1).await;
    let (_, stderr) = desk.run(&["results", "--output", "x.xlsx"], 64).await;
    assert!(stderr.contains("csv (.csv), json (.json)"), "{stderr}");
    assert!(!desk.folder.path().join("x.xlsx").exists());
}
