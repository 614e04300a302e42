//! Dispatch in batches and tables, with real engines: one outcome each, whatever dies or is deleted in the middle.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Instant,
};

use cloud::storage::{Properties, Written};
use contract::{Outcome, batch::is_job_name, message::Work, outcome::State};
use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use orchestrator::Hooks;
use sessions::results;

use crate::world::{World, command_lines, eventually};

const BATCH: &str = "max_active_jobs = 4\ndispatch = \"batch\"";
/// A book whose strike is no number.
const MALFORMED: &str = include_str!("../../../examples/malformed.json");
/// The desk's image is the shell; its program passes the table on, without its first line.
const SHELL: &str = r#"
image = "registry/shell"
command = ["/bin/sh", "-c", '''cat > t; { read h; [ "$DESKGRID_INDEX" = 0 ] || :; echo "id,pv"; cat; } < t''']
"#;
/// Set to a number of inputs, it is measured how fast so many tiny ones are computed.
const MEASURE: &str = "DESKGRID_MEASURE_BATCH";

async fn submit(world: &World, count: usize, body: &str) -> Vec<Work> {
    let mut works = Vec::new();
    for index in 0..count {
        works.push(world.upload("bu1", "session", &format!("{index:04}"), body).await);
    }
    for work in &works {
        world.publish(work).await;
    }
    works
}

/// The pricing example with so many paths.
fn book(paths: u64) -> String {
    let text = include_str!("../../../examples/pricing/10-power-daily-average.json");
    let mut book: serde_json::Value = serde_json::from_str(text).unwrap();
    book["paths"] = paths.into();
    book.to_string()
}

async fn names(world: &World, part: &str) -> BTreeSet<String> {
    world.objects("bu1", part).await.into_iter().map(|object| object.name).collect()
}

async fn assert_no_batch_is_left(world: &World) {
    for part in ["common", "output"] {
        let left: Vec<String> = names(world, part).await.into_iter().filter(|name| name.contains("/.batch/")).collect();
        assert_eq!(left, Vec::<String>::new(), "what belonged to batches is deleted");
    }
}

/// Kills one engine that runs; false when none does.
fn kill_an_engine(world: &World) -> bool {
    let folder = world.folder().to_string_lossy().into_owned();
    let engines = command_lines().into_iter().filter(|(_, line)| {
        let path = line.split(' ').next().unwrap_or_default();
        path.starts_with(&folder) && path.ends_with("/engine")
    });
    engines.into_iter().any(|(pid, _)| kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_in_batches_survives_the_death_of_an_engine_and_a_bad_input_fails_alone() {
    let world = World::start_with(&["bu1"], BATCH, "").await;
    world.apply_without_orchestrators().await;
    let works = submit(&world, 40, &book(20_000)).await;
    let bad = world.upload("bu1", "session", "malformed.json", MALFORMED).await;
    // Twice, as Pub/Sub may.
    for _ in 0..2 {
        world.publish(&bad).await;
    }
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    let results = async || names(&world, "output").await.into_iter().filter(|name| !name.contains("/.batch/")).count();
    eventually("some of the session is computed", async || results().await > 0).await;
    let first = world.objects("bu1", "output").await;
    eventually("an engine is killed", async || kill_an_engine(&world) || results().await >= 40).await;
    let mut expected: BTreeMap<String, State> =
        works.iter().map(|work| (work.identity.object.clone(), State::Succeeded)).collect();
    expected.insert(bad.identity.object.clone(), State::Failed);
    world.assert_equation("bu1", &expected).await;
    let last = world.objects("bu1", "output").await;
    for result in first.iter().filter(|result| !result.name.contains("/.batch/")) {
        assert!(last.contains(result), "{} was computed before, and stays as it was", result.name);
    }
    let outcomes = world.outcomes("bu1").await;
    let of_bad = outcomes.iter().find(|outcome| outcome.work.as_ref().is_some_and(|w| w.job == bad.job)).unwrap();
    assert_eq!((of_bad.reason.code.as_str(), of_bad.exit_code), ("malformed-input", Some(10)));
    assert!(of_bad.log_tail.as_ref().unwrap().contains("strike"), "{of_bad:#?}");
    let batches: BTreeSet<&str> = outcomes.iter().filter_map(|outcome| outcome.kubernetes_job.as_deref()).collect();
    assert!(batches.len() < 10 && batches.iter().any(|name| is_job_name(name)), "{batches:?}");
    assert_no_batch_is_left(&world).await;
    orchestrator.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_that_are_all_deleted_in_the_middle_have_succeeded_or_are_cancelled() {
    let world = World::start_with(&["bu1"], BATCH, "").await;
    world.apply_without_orchestrators().await;
    let works = submit(&world, 10, "quick").await;
    // One, since each takes a thread for itself.
    let slow = world.upload("bu1", "session", "slow.json", &book(1_000_000_000)).await;
    world.publish(&slow).await;
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    eventually("the quick ones are computed", async || names(&world, "output").await.len() >= works.len()).await;
    let jobs: Api<Job> = Api::namespaced(world.kube.clone(), &world.business("bu1").namespace);
    jobs.delete_collection(&DeleteParams::background(), &ListParams::default()).await.unwrap();
    let mut expected: BTreeMap<String, State> =
        works.iter().map(|work| (work.identity.object.clone(), State::Succeeded)).collect();
    expected.insert(slow.identity.object.clone(), State::Cancelled);
    world.assert_equation("bu1", &expected).await;
    // They come again, and are not run after all.
    for work in works.iter().chain([&slow]) {
        world.publish(work).await;
    }
    let marker = world.upload("bu1", "session", "marker", "payload").await;
    world.publish(&marker).await;
    expected.insert(marker.identity.object, State::Succeeded);
    world.assert_equation("bu1", &expected).await;
    assert_no_batch_is_left(&world).await;
    orchestrator.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rows_of_a_table_are_computed_task_by_task_and_joined_again() {
    let world = World::start(&["bu1"], SHELL).await;
    world.cloud.kubernetes.images().register("registry/shell", Path::new("/bin/sh")).unwrap();
    world.apply_without_orchestrators().await;
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    let rows: Vec<String> = (0..7).map(|row| format!("t{row},{row}.5\n")).collect();
    let text = format!("id,x\n{}", rows.concat());
    let mut work = Work { rows_per_task: Some(2), ..world.upload("bu1", "session", "trades.csv", &text).await };
    work.tasks = Some(4);
    world.publish(&work).await;
    let expected = BTreeMap::from([(work.identity.object.clone(), State::Succeeded)]);
    world.assert_equation("bu1", &expected).await;
    let found = results::read(&world.store, world.business("bu1"), &work.outcome()).await.unwrap();
    let found: Vec<String> =
        found.iter().map(|row| results::csv_line(row.cells()[2..5].iter().map(|c| &**c))).collect();
    let wanted: Vec<String> = (0..7).map(|row| format!("t{row},pv,{row}.5")).collect();
    assert_eq!(found, wanted);
    orchestrator.stop().await;
    world.cloud.stop().await;
}

/// Tiny inputs a second, from the first message published to the last outcome written. Measured only when asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_fast_tiny_inputs_are() {
    let Some(count) = std::env::var_os(MEASURE).and_then(|count| count.to_str()?.parse::<usize>().ok()) else {
        println!("skipped: set {MEASURE} to a number of inputs");
        return;
    };
    let world = World::start_with(&["bu1"], BATCH, "").await;
    world.deploy().await;
    let business = world.business("bu1");
    let uploads: Vec<_> = (0..count)
        .map(|index| {
            let store = world.store.clone();
            let bucket = business.bucket.clone();
            async move {
                let object = contract::object::input("bu1", "speed", &format!("{index:06}"));
                let written =
                    store.write_once(&bucket, &object, format!("{index}"), Properties::default()).await.unwrap();
                let Written::New(generation) = written else { panic!("{object} is there") };
                Work {
                    identity: contract::Identity { bucket, object, generation, attempt: 0 },
                    business: "bu1".into(),
                    session: "speed".into(),
                    job: format!("{index:06}"),
                    client: None,
                    tasks: None,
                    rows_per_task: None,
                    priority: false,
                    common: vec![],
                    resources: Default::default(),
                }
            }
        })
        .collect();
    let works: Vec<Work> =
        futures::StreamExt::collect(futures::StreamExt::buffered(futures::stream::iter(uploads), 32)).await;
    let publisher = world.connection.publisher(&business.topic).await.unwrap();
    let started = Instant::now();
    let sent: Vec<_> = works
        .iter()
        .map(|work| {
            let (data, attributes) = work.encode();
            publisher.publish(google_cloud_pubsub::model::Message::new().set_data(data).set_attributes(attributes))
        })
        .collect();
    for one in sent {
        one.await.unwrap();
    }
    let published = started.elapsed();
    let mut seen = 0;
    while seen < count {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        seen = world.objects("bu1", "outcome").await.len();
    }
    let all = started.elapsed();
    let mut jobs: BTreeMap<String, usize> = BTreeMap::new();
    let (mut first, mut last) = (jiff::Timestamp::MAX, jiff::Timestamp::MIN);
    let mut spent = 0.0;
    for (_, body) in
        world.store.read_all(&business.bucket, works.iter().map(Work::outcome), 32).await.unwrap().into_iter().flatten()
    {
        let outcome: Outcome = serde_json::from_slice(&body).unwrap();
        assert_eq!(outcome.state, State::Succeeded, "{outcome:#?}");
        first = first.min(outcome.timestamps.started.unwrap_or(first));
        last = last.max(outcome.timestamps.finished.unwrap_or(last));
        spent += outcome.cpu_seconds.unwrap_or_default();
        *jobs.entry(outcome.kubernetes_job.unwrap_or_default()).or_default() += 1;
    }
    let per_second = |seconds: f64| count as f64 / seconds;
    println!(
        "{count} inputs: {:.0}/s from published to the last outcome ({:.2} s; published after {:.2} s); computed at \
         {:.0}/s; {} Jobs; {:.2} ms of engine CPU each",
        per_second(all.as_secs_f64()),
        all.as_secs_f64(),
        published.as_secs_f64(),
        per_second(last.duration_since(first).as_secs_f64()),
        jobs.len(),
        1000.0 * spent / count as f64,
    );
    world.cloud.stop().await;
}
