//! The results of a session are verified: by size and hash, and by a new computation of local inputs.

use cloud::storage::{Properties, Written};
use contract::{
    Outcome,
    message::Work,
    outcome::{Reason, State},
    pack::{Item, ItemResult, Pack},
};
use serde_json::Value;

use crate::desk::{Desk, text};

const TABLE: &str = "id,kind,option,underlying,strike,maturity\na,european,call,A,100,1\nb,european,put,A,100,1\n\
                     c,european,put,A,90,1\n";
const MARKET: &str = r#"{"schema": 1, "seed": 1, "paths": 100,
    "underlyings": {"A": {"spot": 100, "volatility": 0.2, "rate": 0}}}"#;

/// A desk on which the three rows of a table were computed as one range: the first result is in the outcome, the others
/// are in an object.
async fn computed() -> (Desk, Work) {
    let desk = Desk::start().await;
    desk.input("t.csv", TABLE);
    desk.input("market.json", MARKET);
    let (table, market) = (desk.inputs().join("t.csv"), desk.inputs().join("market.json"));
    let submit = ["submit", "--session", "s1", "--table", text(&table), "--common", text(&market)];
    desk.run(&submit, 0).await;
    let work = desk.pull(1).await.remove(0);
    let pack = Pack { items_per_range: 3, ..work.pack.clone().unwrap() };
    let work = Work { pack: Some(pack), ..work }.of_range(0);
    let books = kernel::read_items(TABLE.as_bytes(), &(0..3), 1, Some(MARKET.as_bytes()));
    let results: Vec<Vec<u8>> = books
        .iter()
        .map(|book| kernel::price_book(book.as_ref().unwrap(), kernel::Share::ALL, 1).unwrap().bytes)
        .collect();
    let bucket = &desk.business.bucket;
    let data = [&results[1][..], &results[2]].concat();
    let written = desk.store.write_once(bucket, &work.part_data(0), data, Properties::default()).await.unwrap();
    let Written::New(generation) = written else { panic!("{written:?}") };
    desk.store.write_once(bucket, &work.part(0), "{}", Properties::json()).await.unwrap();
    let in_object = |offset: usize, index: usize| ItemResult::Object {
        object: work.part_data(0),
        generation,
        offset: offset as u64,
        length: results[index].len() as u64,
        content_type: "application/json".into(),
    };
    let results =
        [ItemResult::inline(&results[0], "application/json"), in_object(0, 1), in_object(results[1].len(), 2)];
    let mut outcome = Outcome::new("bu1", State::Succeeded, "completed", "");
    outcome.work = Some(work.clone());
    outcome.set_items(
        &(0..3),
        (0..).zip(results).map(|(index, result)| Item {
            result: Some(result),
            reason: None,
            ..Item::without_result(index, State::Succeeded, Reason::default())
        }),
    );
    let body = serde_json::to_vec(&outcome).unwrap();
    desk.store.write_once(bucket, &work.outcome(), body, (&outcome).into()).await.unwrap();
    (desk, work)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_computed_is_the_same_when_it_is_computed_again() {
    let (desk, _) = computed().await;
    let inputs = desk.inputs();
    let verify = ["verify", "s1", "--inputs", text(&inputs)];
    let (stdout, _) = desk.run(&verify, 0).await;
    assert!(stdout.contains("3 results named by 1 outcome; 1 object"), "{stdout}");
    assert!(stdout.contains("3 results computed once more, 0 differ"), "{stdout}");
    desk.input("t.csv", &TABLE.replace("90", "91"));
    let (stdout, stderr) = desk.run(&["verify", "s1", "--json", "--inputs", text(&inputs)], 1).await;
    let found: Value = serde_json::from_str(&stdout).unwrap();
    let problems = found["recomputed"]["problems"].as_array().unwrap();
    assert_eq!((problems.len(), &problems[0]["item"], &found["problems"]), (1, &2.into(), &serde_json::json!([])));
    assert!(stderr.contains("\"code\":\"not-verified\""), "{stderr}");
    // Without a local copy of the input nothing can be said of its results.
    std::fs::remove_file(inputs.join("t.csv")).unwrap();
    let (stdout, _) = desk.run(&verify, 0).await;
    assert!(stdout.contains("0 results computed once more, 0 differ; 1 Job without a local input"), "{stdout}");
    desk.run(&["verify", "other"], 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_that_are_missing_and_objects_that_nothing_names_are_found() {
    let (desk, work) = computed().await;
    let bucket = &desk.business.bucket;
    for name in ["other.json", "gone.json"] {
        desk.input(name, "{}");
        desk.run(&["submit", "--session", "s1", "--quiet", text(&desk.inputs().join(name))], 0).await;
    }
    let mut singles: Vec<Work> = desk.pull(2).await;
    singles.sort_by_key(|work| work.job.clone());
    let [gone, other] = &singles[..] else { panic!("{singles:?}") };
    // A pod has written the result of work that is not settled yet.
    desk.store.write_once(bucket, &other.output(), "{}", Properties::json()).await.unwrap();
    let (stdout, stderr) = desk.run(&["verify", "s1"], 0).await;
    assert!(stdout.contains("1 object of work that has not ended"), "{stdout}");
    assert!(!stderr.contains("no outcome names"), "{stderr}");

    let mut outcome = Outcome::new("bu1", State::Succeeded, "completed", "");
    outcome.work = Some(gone.clone());
    let body = serde_json::to_vec(&outcome).unwrap();
    desk.store.write_once(bucket, &gone.outcome(), body, (&outcome).into()).await.unwrap();
    desk.store.write_once(bucket, &work.part_data(1), "left", Properties::default()).await.unwrap();
    let data = work.part_data(0);
    let generation = desk.store.describe(bucket, &data, None).await.unwrap().unwrap().generation;
    desk.store.delete(bucket, &data, generation).await.unwrap();
    desk.store.write_once(bucket, &data, "other", Properties::default()).await.unwrap();
    let (stdout, stderr) = desk.run(&["verify", "s1", "--json"], 1).await;
    let found: Value = serde_json::from_str(&stdout).unwrap();
    let problems = found["problems"].as_array().unwrap().iter();
    let problems: Vec<_> = problems.map(|one| format!("{} {} {}", one["problem"], one["job"], one["item"])).collect();
    assert_eq!(problems, [r#""missing" "gone.json" null"#, r#""missing" "t.csv" 1"#], "{stdout}");
    assert_eq!(found["unnamed"], serde_json::json!([work.part_data(1)]));
    assert!(stderr.contains("no outcome names 1 object"), "{stderr}");
}
