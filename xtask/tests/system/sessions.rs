//! The verbs over sessions and dead letters, with a real orchestrator and a real engine behind them.

use std::{collections::BTreeMap, process::Stdio};

use cloud::{
    controls,
    storage::{Properties, Replaced},
};
use contract::{control::Control, message::Work, object, outcome::State};
use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use orchestrator::Hooks;
use serde_json::Value;
use sessions::{dead_letters, jobs};

use crate::{
    desk::{ended, within},
    world::{World, eventually},
};

const BOOK: &str = include_str!("../../../examples/pricing/10-power-daily-average.json");

/// A Job that runs until somebody stops it.
fn slow() -> String {
    let mut book: Value = serde_json::from_str(BOOK).unwrap();
    book["paths"] = 1_000_000_000.into();
    book.to_string()
}

async fn run(world: &World, arguments: &[&str], code: i32) -> (String, String) {
    let mut command = world.command(arguments);
    ended(&within(command.stdin(Stdio::null()).output()).await.unwrap(), code)
}

async fn json(world: &World, arguments: &[&str], code: i32) -> Value {
    let (stdout, _) = run(world, &[arguments, &["--json"]].concat(), code).await;
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {stdout}"))
}

fn jobs(world: &World, business: &str) -> Api<Job> {
    Api::namespaced(world.kube.clone(), business)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_paused_resumed_cancelled_and_retried() {
    let world = World::start(&["bu1"], "").await;
    world.apply_without_orchestrators().await;
    run(&world, &["session", "pause", "s1", "--timeout", "1s"], 0).await;
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    let mut expected = BTreeMap::new();
    let mut works: Vec<Work> = Vec::new();
    for name in ["a", "b", "slow.json"] {
        let body = if name == "slow.json" { slow() } else { "payload".to_owned() };
        let work = world.upload("bu1", "s1", name, &body).await;
        world.publish(&work).await;
        world.publish(&work).await;
        works.push(work);
    }
    eventually("all are put aside", async || world.objects("bu1", "parked").await.len() == 3).await;
    assert!(jobs(&world, "bu1").list(&Default::default()).await.unwrap().items.is_empty());
    let listed = json(&world, &["session", "list"], 0).await;
    assert_eq!(
        (&listed[0]["session"], &listed[0]["waiting"], &listed[0]["paused"]),
        (&"s1".into(), &3.into(), &true.into())
    );
    let (page, _) = run(&world, &["job", "a"], 0).await;
    assert!(page.contains("paused session s1") && page.contains("parked"), "{page}");
    let (_, said) = run(&world, &["session", "close", "s1"], 1).await;
    assert!(said.contains("error[pending]"), "{said}");
    let (_, said) = run(&world, &["session", "wait", "s1", "--timeout", "1"], 1).await;
    assert!(said.contains("error[not-settled]") && said.contains("paused"), "{said}");

    let (_, said) = run(&world, &["session", "resume", "s1"], 0).await;
    assert!(said.contains("session s1 is resumed"), "{said}");
    // Its decision takes effect before it is reported.
    assert!(world.objects("bu1", "parked").await.is_empty());
    eventually("two are done and one runs", async || {
        world.objects("bu1", "outcome").await.len() == 2 && world.objects("bu1", "parked").await.is_empty()
    })
    .await;
    // What is cancelled ends, whether it runs or its message has yet to come; the dead orchestrator's successor does
    // it.
    orchestrator.kill();
    let late = world.upload("bu1", "s1", "late", "payload").await;
    world.publish(&late).await;
    let cancelled = json(&world, &["session", "cancel", "s1", "--dry-run"], 0).await;
    assert_eq!((&cancelled["changed"], &cancelled["control"]), (&false.into(), &Value::Null));
    let (_, said) = run(&world, &["session", "cancel", "s1", "--timeout", "1s"], 0).await;
    assert!(said.contains("2 not cancelled yet") && said.contains("0 cancelled"), "{said}");
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    let (stdout, _) = run(&world, &["session", "wait", "s1"], 1).await;
    assert!(stdout.contains("2 of 4 Jobs succeeded, 2 cancelled"), "{stdout}");
    for (work, state) in works.iter().zip([State::Succeeded, State::Succeeded, State::Cancelled]) {
        expected.insert(work.identity.object.clone(), state);
    }
    expected.insert(late.identity.object.clone(), State::Cancelled);
    world.assert_equation("bu1", &expected).await;

    // A retry of one, with more memory; too much is refused before anything is done.
    let (_, said) = run(&world, &["session", "retry", "s1", "late", "--memory", "1Ti"], 64).await;
    assert!(said.contains("8 x"), "{said}");
    let (stdout, _) = run(&world, &["session", "retry", "s1", "--dry-run"], 0).await;
    assert_eq!(stdout.split_whitespace().collect::<Vec<_>>().len(), 2, "{stdout}");
    let retried = json(&world, &["session", "retry", "s1", "late", "--memory", "600Mi"], 0).await;
    assert_eq!(retried["retried"][0]["attempt"], 1, "{retried}");
    run(&world, &["session", "wait", "s1"], 1).await;
    let outcome = world.outcomes("bu1").await.into_iter().find(|outcome| {
        outcome.identity().is_some_and(|identity| identity.object == late.identity.object && identity.attempt == 1)
    });
    let outcome = outcome.expect("the second attempt has its outcome");
    assert_eq!(outcome.state, State::Succeeded, "{outcome:?}");
    let job = jobs(&world, "bu1").get(&outcome.identity().unwrap().job_name()).await.unwrap();
    let container = &job.spec.unwrap().template.spec.unwrap().containers[0];
    assert_eq!(container.resources.as_ref().unwrap().limits.as_ref().unwrap()["memory"].0, "600Mi");
    let rows = json(&world, &["session", "results", "s1"], 0).await;
    assert!(rows.as_array().unwrap().iter().any(|row| row["job"] == "late" && row["error"].is_null()), "{rows}");

    let bucket = &world.business("bu1").bucket;
    let market = object::common("bu1", "s1", "market.json");
    world.store.write_once(bucket, &market, "{}", Properties::json()).await.unwrap();
    run(&world, &["session", "close", "s1"], 0).await;
    assert!(world.objects("bu1", "common").await.is_empty() && world.objects("bu1", "control").await.is_empty());
    orchestrator.stop().await;
    world.cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_upload_ends_in_its_session() {
    let world = World::start_with(&["bu1"], "max_active_jobs = 8\nsubmit_on_upload = true", "").await;
    world.apply_without_orchestrators().await;
    let bucket = &world.business("bu1").bucket;
    let upload = async |job: &str, body: &'static str, options: &[(&str, &str)]| {
        let metadata = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let properties = Properties { content_type: "text/plain".to_owned(), metadata };
        world.store.write_once(bucket, &object::input("bu1", "nov", job), body, properties).await.unwrap();
    };
    upload("", "", &[]).await;
    upload("good", "payload", &[]).await;
    upload("wrong", "payload", &[("deskgrid-tasks", "zz"), ("deskgrid-common", "market.json")]).await;
    // Without an orchestrator nothing ends: the wait does, and says what to do.
    let (_, said) = run(&world, &["session", "close", "nov", "--cancel", "--timeout", "1s"], 1).await;
    assert!(said.contains("error[not-settled]") && said.contains("session close nov"), "{said}");
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    world.settled("bu1", 2).await;
    let (stdout, said) = run(&world, &["session", "wait", "nov", "--timeout", "50s"], 1).await;
    assert!(stdout.contains("1 cancelled") && stdout.contains("1 refused"), "{stdout}");
    assert!(said.contains("session failures nov"), "{said}");
    let letters = json(&world, &["dead-letters", "list"], 0).await;
    assert_eq!(letters.as_array().unwrap().len(), 1, "{letters}");
    assert_eq!((&letters[0]["job"], &letters[0]["code"]), (&"wrong".into(), &"malformed-option".into()));
    // A retry would compute without the common data and in one task; it is refused, and the Job stays ended.
    let (_, said) = run(&world, &["session", "retry", "nov", "wrong"], 1).await;
    assert!(said.contains("deskgrid-tasks") || said.contains("tasks=\"zz\""), "{said}");
    run(&world, &["session", "close", "nov", "--cancel"], 0).await;
    orchestrator.stop().await;
    world.cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_common_data_fails_at_once_and_are_named() {
    let world = World::start(&["bu1"], "").await;
    world.apply_without_orchestrators().await;
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    let mut work = world.upload("bu1", "s1", "book.json", BOOK).await;
    work.common = vec!["market.json".to_owned()];
    world.publish(&work).await;
    let gone = world.upload("bu1", "s1", "gone.json", BOOK).await;
    world.store.delete(&gone.identity.bucket, &gone.identity.object, gone.identity.generation).await.unwrap();
    world.publish(&gone).await;
    let outcomes = world.settled("bu1", 2).await;
    let of = |work: &Work| outcomes.iter().find(|outcome| outcome.identity() == Some(&work.identity)).unwrap();
    for (work, code, named) in [
        (&work, "common-data-missing", object::common("bu1", "s1", "market.json")),
        (&gone, "input-missing", gone.identity.object.clone()),
    ] {
        let outcome = of(work);
        assert_eq!((outcome.reason.code.as_str(), outcome.pods), (code, 1), "{outcome:?}");
        assert!(outcome.reason.message.contains(&named), "{outcome:?}");
    }
    orchestrator.stop().await;
    world.cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_seen_replayed_corrected_and_struck_off() {
    let world = World::start(&["bu1"], "").await;
    world.apply_without_orchestrators().await;
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    let malformed = include_str!("../../../examples/malformed.json");
    let mut works = Vec::new();
    for job in ["one.json", "two.json", "three.json"] {
        let work = world.upload("bu1", "s1", job, malformed).await;
        world.publish(&work).await;
        works.push(work);
    }
    let ours = |schema: &str| BTreeMap::from([("deskgrid".to_owned(), schema.to_owned())]);
    let good = world.upload("bu1", "s1", "good", "payload").await;
    let wrong_schema = world.publish_raw("bu1", good.encode().0, ours("9")).await;
    let broken = world.publish_raw("bu1", b"{".to_vec(), ours("1")).await;
    world.settled("bu1", 5).await;
    let letters = json(&world, &["dead-letters", "list"], 0).await;
    assert_eq!(letters.as_array().unwrap().len(), 5, "{letters}");

    let failures = json(&world, &["session", "failures", "s1"], 0).await;
    let causes = failures["causes"].as_array().unwrap();
    assert_eq!((causes.len(), &causes[0]["count"]), (1, &3.into()), "{failures}");

    // As it was kept, it fails again, as another attempt; corrected, it succeeds.
    run(&world, &["dead-letters", "replay", "one.json"], 0).await;
    let file = world.folder().join("corrected.json");
    let mut book: Value = serde_json::from_str(BOOK).unwrap();
    book["paths"] = 1000.into();
    std::fs::write(&file, book.to_string()).unwrap();
    run(&world, &["dead-letters", "replay", "two.json", "--file", file.to_str().unwrap()], 0).await;
    run(&world, &["dead-letters", "replay", &wrong_schema, "--attribute", "deskgrid=1"], 0).await;
    run(&world, &["dead-letters", "replay", &broken], 0).await;
    run(&world, &["dead-letters", "discard", "three.json"], 0).await;
    let outcomes = world.settled("bu1", 9).await;
    assert_eq!(outcomes.len(), 9, "{outcomes:#?}");
    let states = |job: &str| -> Vec<State> {
        let mut of: Vec<_> = outcomes.iter().filter(|o| o.work.as_ref().is_some_and(|work| work.job == job)).collect();
        of.sort_by_key(|outcome| outcome.identity().map(|identity| (identity.generation, identity.attempt)));
        of.iter().map(|outcome| outcome.state).collect()
    };
    assert_eq!(states("one.json"), [State::Failed, State::Failed]);
    assert_eq!(states("two.json"), [State::Failed, State::Succeeded]);
    assert_eq!(states("good"), [State::Succeeded]);
    assert_eq!(outcomes.iter().filter(|outcome| outcome.state == State::Refused).count(), 3);

    let letters = json(&world, &["dead-letters", "list"], 0).await;
    let mut left: Vec<&str> = letters.as_array().unwrap().iter().filter_map(|letter| letter["job"].as_str()).collect();
    left.retain(|job| *job != "one.json");
    assert_eq!(left.len(), 1, "the message that is still broken: {letters}");
    assert!(left[0] != broken && letters.as_array().unwrap().len() == 2, "{letters}");
    let all = json(&world, &["dead-letters", "list", "--discarded"], 0).await;
    assert!(all.as_array().unwrap().iter().any(|letter| letter["job"] == "three.json"), "nothing is lost: {all}");
    let inputs: Vec<String> = world.objects("bu1", "input").await.into_iter().map(|input| input.name).collect();
    assert_eq!(inputs, ["bu1/input/s1/one.json", "bu1/input/s1/three.json"]);
    // Between the list and the yes somebody corrects the input: the new one is not what was struck off.
    let business = world.business("bu1");
    let objects = jobs::list(&world.store, business, Some("s1")).await.unwrap();
    let letters = dead_letters::among("bu1", Some("s1"), &objects, true);
    let three = letters.iter().find(|letter| letter.job == "three.json").unwrap();
    let name = three.input.as_deref().unwrap();
    let new = world.store.write(&business.bucket, name, "corrected", Properties::default()).await.unwrap();
    assert!(dead_letters::discard(&world.store, business, three, true).await.unwrap());
    let left = world.store.describe(&business.bucket, name, None).await.unwrap();
    assert_eq!(left.map(|left| left.generation), Some(new));
    let (_, said) = run(&world, &["dead-letters", "replay", "nothing"], 1).await;
    assert!(said.contains("error[no-such-job]"), "{said}");
    orchestrator.stop().await;
    world.cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_operators_never_undo_each_others_decision() {
    let world = World::start(&["bu1"], "").await;
    let business = world.business("bu1");
    let decide = |by: usize| {
        let (store, business) = (world.store.clone(), business.clone());
        async move {
            let name = format!("operator {by}");
            match by % 2 {
                0 => sessions::control::cancel(&store, &business, "s1", None, &name).await.map(|_| ()),
                _ => sessions::control::change(&store, &business, "s2", &name, |control| {
                    control.paused = !control.paused
                })
                .await
                .map(|_| ()),
            }
        }
    };
    futures::future::try_join_all((0..12).map(decide)).await.unwrap();
    let (first, _) = controls::read(&world.store, business, "s1").await.unwrap();
    assert!(first.unwrap().cancelled_before.is_some());
    // Six changes of mind, none of them lost.
    let (second, generation) = controls::read(&world.store, business, "s2").await.unwrap();
    assert_eq!((second, generation), (None, 0));
    // Whoever read an older one does not overwrite it.
    let stale = serde_json::to_vec(&Control::new("s1", jiff::Timestamp::now())).unwrap();
    let name = object::control("bu1", "s1");
    let written = world.store.replace(&business.bucket, &name, stale, Properties::json(), 0).await.unwrap();
    assert_eq!(written, Replaced::Changed);
    world.cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_from_a_machine_with_a_fast_clock_means_what_was_submitted_before_it() {
    let world = World::start(&["bu1"], "").await;
    world.cloud.clock.set_back(std::time::Duration::from_secs(120));
    let business = world.business("bu1");
    let before = world.upload("bu1", "s1", "before", "payload").await;
    let control = sessions::control::cancel(&world.store, business, "s1", None, "alice").await.unwrap();
    let after = world.upload("bu1", "s1", "after", "payload").await;
    for (work, expected) in [(before, true), (after, false)] {
        let input = world.store.describe(&business.bucket, &work.identity.object, None).await.unwrap().unwrap();
        assert_eq!(control.cancels(&work.job, 0, None, input.created), expected, "{}", work.job);
    }
    world.cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_that_pubsub_does_not_accept_are_refused_before_anything_is_uploaded() {
    let world = World::start(&["bu1"], "").await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, "payload").unwrap();
        path.to_str().unwrap().to_owned()
    };
    let input = file("book.json".into());
    let mut arguments = vec!["submit".to_owned(), input, "--session".into(), "s1".into()];
    for index in 0..40 {
        arguments.extend(["--common".to_owned(), file(format!("market-data-of-the-equity-desk-{index:02}.json"))]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (_, said) = run(&world, &arguments, 64).await;
    assert!(said.contains("common") && said.contains("1024"), "{said}");
    assert!(world.objects("bu1", "input").await.is_empty() && world.objects("bu1", "common").await.is_empty());
    world.cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_businesss_flood_does_not_delay_another() {
    let world = World::start(&["bu1", "bu2"], "").await;
    world.apply_without_orchestrators().await;
    let first = world.orchestrator("bu1", Hooks::none()).await;
    let second = world.orchestrator("bu2", Hooks::none()).await;
    // More than its share of the cluster, and none of it ever ends.
    let body = slow();
    for index in 0..40 {
        let work = world.upload("bu1", "flood", &format!("{index}.json"), &body).await;
        world.publish(&work).await;
    }
    eventually("bu1 has all it may have", async || {
        jobs(&world, "bu1").list(&Default::default()).await.unwrap().items.len() >= 8
    })
    .await;
    let mut expected = BTreeMap::new();
    for index in 0..5 {
        let work = world.upload("bu2", "small", &index.to_string(), "payload").await;
        world.publish(&work).await;
        expected.insert(work.identity.object, State::Succeeded);
    }
    world.assert_equation("bu2", &expected).await;
    assert!(world.objects("bu1", "outcome").await.is_empty(), "the flood goes on");
    assert_eq!(jobs(&world, "bu1").list(&Default::default()).await.unwrap().items.len(), 8, "and stays in its bounds");
    for outcome in world.outcomes("bu2").await {
        let seconds = sessions::jobs::published_to_settled(&outcome.timestamps).unwrap().as_secs_f64();
        assert!(seconds < 30.0, "{seconds}");
    }
    let cancelled = json(&world, &["session", "cancel", "flood", "--business", "bu1"], 0).await;
    assert_eq!((&cancelled["applied"], &cancelled["counts"]["cancelled"]), (&true.into(), &40.into()), "{cancelled}");
    let outcomes = world.settled("bu1", 40).await;
    assert!(outcomes.len() == 40 && outcomes.iter().all(|outcome| outcome.state == State::Cancelled));
    first.stop().await;
    second.stop().await;
    world.cloud.stop().await;
}
