//! Everything goes wrong at once, for a while, and the equation holds exactly: duplicates, redelivery, 429 and 5xx,
//! broken connections, restarts of the API server and of Pub/Sub, a node that dies twice, a full quota; single inputs
//! and packs. With `cargo xtask test --long soak` for 5,000 jobs, else for a few hundred.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use contract::{
    outcome::State,
    pack::{Format, Pack},
};
use futures::{StreamExt as _, stream};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Pod, ResourceQuota},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams},
};
use localcloud::{
    faults::{Fault, PointId, When},
    kubernetes::NodeSettings,
};
use serde_json::json;

use crate::{
    sample::is_long,
    world::{PATIENCE, World, command_lines, eventually},
};

const BUSINESSES: [&str; 3] = ["bu1", "bu2", "bu3"];
/// Jobs of each business: in the long run 5,001.
const SHORT: [usize; 3] = [60, 60, 60];
const LONG: [usize; 3] = [600, 600, 3801];
/// Three lines, one of them empty, in two ranges.
const PACK: Pack = Pack { format: Format::Lines, items: 3, items_per_range: 2, rows_per_item: 1 };
/// Between two looks at how many are settled.
const POLL_EVERY: Duration = Duration::from_millis(250);
/// A book whose strike is no number.
const MALFORMED: &str = include_str!("../../../examples/malformed.json");
/// Longer than Jobs are kept.
const RETENTION: Duration = Duration::from_secs(2 * 86_400);
/// How much an orchestrator may grow between the middle and the end, in KiB.
const GROWTH_KIB: u64 = 12 * 1024;

/// What goes wrong all the time, and how often each came to pass.
struct Misbehaviour {
    points: Vec<PointId>,
    met: Vec<usize>,
}

impl Misbehaviour {
    /// Begins, or begins again.
    fn start(&mut self, world: &World) {
        self.points = misbehave(world);
    }

    /// Ends for now.
    fn stop(&mut self, world: &World) {
        let faults = world.cloud.faults();
        let met = self.points.drain(..).map(|point| faults.met(point));
        self.met = met.zip(self.met.iter().chain(std::iter::repeat(&0))).map(|(now, before)| now + before).collect();
        faults.clear();
    }
}

/// Adds the fault points, each so often that no two fall together for long.
fn misbehave(world: &World) -> Vec<PointId> {
    let faults = world.cloud.faults();
    let refused = |code| Fault::Answer(code);
    [
        // The API server: creates, and the patches that let Jobs go.
        ("POST", "/jobs", 17, refused(429)),
        ("POST", "/jobs", 23, refused(500)),
        ("POST", "/jobs", 29, Fault::DropAfter),
        ("POST", "/jobs", 31, Fault::DropBefore),
        ("PATCH", "/jobs/", 13, refused(409)),
        ("PATCH", "/jobs/", 19, Fault::DropAfter),
        ("GET", "/pods", 11, refused(503)),
        // Storage: outcomes, results, looks, deletes.
        ("POST", "/upload/storage", 23, refused(503)),
        ("POST", "/upload/storage", 37, Fault::DropAfter),
        ("POST", "Storage/GetObject", 29, refused(503)),
        ("POST", "Storage/DeleteObject", 17, refused(503)),
        ("POST", "Storage/DeleteObject", 41, Fault::DropAfter),
        ("POST", "Storage/ListObjects", 13, Fault::Delay(Duration::from_millis(50))),
        // Pub/Sub: what is published arrives twice, what is acknowledged does not arrive.
        ("POST", "Publisher/Publish", 7, Fault::Twice),
        ("POST", "Subscriber/Acknowledge", 11, refused(503)),
        ("POST", "Subscriber/Acknowledge", 13, Fault::DropAfter),
    ]
    .into_iter()
    .map(|(method, path, every, fault)| faults.add(method, path, When::Every(every), fault))
    .collect()
}

/// Resident memory of every orchestrator of this world, in KiB.
fn memory(world: &World) -> BTreeMap<i32, u64> {
    let folder = world.folder().display().to_string();
    let ours = command_lines().into_iter().filter(|(_, line)| line.contains(&folder) && line.contains("orchestrator"));
    ours.filter_map(|(pid, _)| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        Some((pid, line.split_whitespace().nth(1)?.parse().ok()?))
    })
    .collect()
}

/// Publishes the work of one business: most succeeds, some fails, some is refused, some comes twice.
async fn submit(world: &World, business: &str, jobs: std::ops::Range<usize>) -> BTreeMap<String, State> {
    let submitted = stream::iter(jobs).map(|index| async move {
        if index % 25 == 24 {
            let ours = BTreeMap::from([("deskgrid".to_owned(), "1".to_owned())]);
            let id = world.publish_raw(business, format!("{{{index}").into_bytes(), ours).await;
            return (format!("refused/{id}"), State::Refused);
        }
        let (job, body, state) = match index % 20 {
            19 => (format!("{index}.json"), MALFORMED.to_owned(), State::Failed),
            _ => (format!("{index}"), format!("payload {index}\n\nanother\n"), State::Succeeded),
        };
        let work = match index % 20 {
            7 => world.upload_pack(business, "soak", &job, &body, PACK).await,
            _ => world.upload(business, "soak", &job, &body).await,
        };
        world.publish(&work).await;
        if index % 9 == 0 {
            world.publish(&work).await;
        }
        (work.identity.object, state)
    });
    submitted.buffer_unordered(16).collect().await
}

async fn settled(world: &World) -> usize {
    let mut count = 0;
    for business in BUSINESSES {
        count += world.ended(business).await.len();
    }
    count
}

/// Waits until so many are settled, for as long as it goes on at all.
async fn reach(world: &World, count: usize, started: Instant) {
    let (mut seen, mut since) = (0, Instant::now());
    while seen < count {
        let now = settled(world).await;
        if now > seen {
            (seen, since) = (now, Instant::now());
        }
        assert!(since.elapsed() < PATIENCE, "{seen} of {count} are settled, and no more for {} s", PATIENCE.as_secs());
        tokio::time::sleep(POLL_EVERY).await;
    }
    println!("{seen} settled after {:.0} s", started.elapsed().as_secs_f64());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_can_go_wrong_changes_no_outcome() {
    let each: BTreeMap<&str, usize> = BUSINESSES.into_iter().zip(if is_long() { LONG } else { SHORT }).collect();
    let started = Instant::now();
    let world = World::start(&BUSINESSES, "").await;
    world.cloud.kubernetes.add_node(&NodeSettings::named("second"));
    world.deploy().await;

    // The publishing itself is not what is tested, but what the messages meet afterwards; a message that is published
    // twice by a fault would be two refusals, so those go first.
    let mut expected: BTreeMap<&str, BTreeMap<String, State>> = BTreeMap::new();
    for business in BUSINESSES {
        expected.insert(business, submit(&world, business, 0..each[business] / 2).await);
    }
    let mut wrong = Misbehaviour { points: vec![], met: vec![] };
    wrong.start(&world);
    let total: usize = each.values().sum();
    reach(&world, total / 4, started).await;
    world.cloud.kubernetes.restart_api().await.unwrap();
    world.cloud.kubernetes.kill_node("second");
    reach(&world, total / 3, started).await;
    let half = memory(&world);

    // A full quota for one business, and Pub/Sub away for all.
    let quotas: Api<ResourceQuota> = Api::namespaced(world.kube.clone(), "bu2");
    let quota = serde_json::from_value(json!({
        "metadata": {"name": "full"}, "spec": {"hard": {"count/jobs.batch": "1"}},
    }));
    quotas.create(&PostParams::default(), &quota.unwrap()).await.unwrap();
    world.cloud.kubernetes.add_node(&NodeSettings::named("second"));
    wrong.stop(&world);
    for business in BUSINESSES {
        let more = submit(&world, business, each[business] / 2..each[business]).await;
        expected.entry(business).or_default().extend(more);
    }
    wrong.start(&world);
    let away = world.cloud.faults().add("POST", "/google.pubsub.v1.", When::Always, Fault::Answer(503));
    world.cloud.kubernetes.restart_api().await.unwrap();
    eventually("Pub/Sub was missed", async || world.cloud.faults().met(away) > 0).await;
    wrong.stop(&world);
    wrong.start(&world);
    // Leases end, and what was in hand comes once more.
    world.cloud.clock.advance(Duration::from_secs(61));
    // The other businesses go on, and the node dies once more.
    reach(&world, total / 2, started).await;
    world.cloud.kubernetes.kill_node("second");
    quotas.delete("full", &DeleteParams::default()).await.unwrap();
    world.cloud.clock.advance(Duration::from_secs(61));
    reach(&world, total * 9 / 10, started).await;
    wrong.stop(&world);
    assert!(wrong.met.iter().all(|count| *count > 0), "some faults never came to pass: {:?}", wrong.met);
    world.cloud.clock.advance(Duration::from_secs(61));
    reach(&world, total, started).await;

    for (business, expected) in &expected {
        world.assert_equation(business, expected).await;
        // Only finished Jobs are left, kept for whoever looks at them, and one for each input.
        let jobs: Api<Job> = Api::namespaced(world.kube.clone(), business);
        let left = jobs.list(&ListParams::default()).await.unwrap().items;
        let outcomes = world.outcomes(business).await;
        let works = outcomes.iter().filter(|outcome| outcome.work.is_some()).count();
        assert!(left.len() <= works, "{} Jobs for {works} inputs and ranges", left.len());
        for job in &left {
            let status = job.status.clone().unwrap_or_default();
            let ended =
                status.conditions.iter().flatten().any(|it| ["Complete", "Failed"].contains(&it.type_.as_str()));
            assert!(ended, "{} is left and has not ended", job.name_any());
        }
    }
    let after = memory(&world);
    for (pid, now) in &after {
        println!("orchestrator {pid}: {now} KiB resident, {:?} KiB half-way", half.get(pid));
        if let Some(before) = half.get(pid) {
            assert!(*now < before + GROWTH_KIB, "an orchestrator grew from {before} to {now} KiB");
        }
    }
    println!("{total} jobs in {:.1} s", started.elapsed().as_secs_f64());
    world.cloud.clock.advance(RETENTION);
    for business in BUSINESSES {
        let jobs: Api<Job> = Api::namespaced(world.kube.clone(), business);
        let pods: Api<Pod> = Api::namespaced(world.kube.clone(), business);
        eventually("finished Jobs are gone, and their Pods", async || {
            let engines = pods.list(&ListParams::default().labels("app=engine")).await.unwrap();
            jobs.list(&ListParams::default()).await.unwrap().items.is_empty() && engines.items.is_empty()
        })
        .await;
    }
    world.stop().await;
}
