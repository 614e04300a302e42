//! Items that are lost or doubled while engines and orchestrators are killed, beside Ray and Dask, whose workers are.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use cli::{Context, output::Output};
use cloud::outcomes;
use contract::{config::Business, object, outcome::State, pack::ITEMS_PER_RANGE_MAX};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use super::{
    load, packs, pool,
    report::{Better, Goal, Measure, Row},
};

/// Items of a round, in a pack and each alone.
const PACKED: u32 = 20_000;
const ALONE: usize = 2_000;
/// Longest pause between two kills.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Deadline of a round.
const LIMIT: Duration = Duration::from_secs(300);
/// Deadline of a peer.
const PEER_LIMIT: Duration = Duration::from_secs(120);
/// Tasks that leave a line each while workers are killed: the name of the peer is an argument, and the number of tasks.
const PEER: &str = r#"
import collections, json, os, random, signal, sys, tempfile, threading, time
import psutil
peer, count = sys.argv[1], int(sys.argv[2])
path = os.path.join(tempfile.mkdtemp(), "done")
def task(index, data):
    with open(path, "ab", 0) as file:
        file.write(b"%d\n" % index)
ended, kills, data = threading.Event(), 0, b"x" * 1024
def kill(*marks):
    global kills
    while not ended.wait(random.uniform(0, 3)):
        children = psutil.Process().children(recursive=True)
        random.shuffle(children)
        for child in children:
            try:
                if any(mark in " ".join(child.cmdline()) for mark in marks):
                    child.kill()
                    kills += 1
                    break
            except psutil.Error:
                pass
lost = 0
if peer == "ray":
    import ray
    ray.init(num_cpus=2, log_to_driver=False, logging_level="CRITICAL")
    remote = ray.remote(task)
    threading.Thread(target=kill, args=["ray::task", "ray::IDLE"], daemon=True).start()
    for reference in [remote.remote(index, data) for index in range(count)]:
        try:
            ray.get(reference)
        except Exception:
            lost += 1
else:
    import logging
    from distributed import Client, LocalCluster, wait
    client = Client(LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL))
    threading.Thread(target=kill, args=["spawn_main"], daemon=True).start()
    futures = client.map(task, range(count), [data] * count, pure=False)
    wait(futures)
    lost = sum(future.status != "finished" for future in futures)
ended.set()
times = collections.Counter(open(path).read().split())
print(json.dumps({"kills": kills, "lost": lost, "doubled": sum(n > 1 for n in times.values())}))
"#;

/// What became of the items.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Tally {
    kills: usize,
    /// They have no result.
    lost: usize,
    /// They have two.
    doubled: usize,
}

/// Kills engines and orchestrators of the business `pool`, one orchestrator and then two.
pub(super) async fn measure(context: &Context, quick: bool, output: &Output) -> anyhow::Result<Vec<Row>> {
    let business = context.business(Some("pool"))?;
    let rounds = if quick { 1 } else { 5 };
    let mut rows = Vec::new();
    for replicas in [1, 2] {
        scale(context, business, replicas).await?;
        let mut all = Tally::default();
        for round in 0..rounds {
            let Tally { kills, lost, doubled } = run(context, business, &format!("kills-{replicas}-{round}")).await?;
            all = Tally { kills: all.kills + kills, lost: all.lost + lost, doubled: all.doubled + doubled };
        }
        let items = rounds * (PACKED as usize + ALONE);
        let name = match replicas {
            1 => format!("{items} items of a pool in packs and alone"),
            _ => format!("the same with {replicas} orchestrators"),
        };
        rows.push(row(name, all));
    }
    scale(context, business, 1).await?;
    for peer in ["ray", "distributed"] {
        let items = if quick { 5_000 } else { 20_000 };
        match peers(peer, items).await {
            Ok(tally) => {
                let name = format!("{items} tasks of {peer}, whose workers are killed");
                rows.push(Row { goal: Goal::None, reached: None, ..row(name, tally) });
            }
            Err(why) => output.note(format_args!("{peer} was not measured: {why}")),
        }
    }
    Ok(rows)
}

fn row(what: String, tally: Tally) -> Row {
    let Tally { kills, lost, doubled } = tally;
    let measure = Measure { value: (lost + doubled) as f64, unit: "items" };
    let note = format!("{lost} without a result and {doubled} with two, under {kills} kills");
    Row::new(format!("lost or doubled of {what}"), measure, None, Goal::Value(0.0, Better::Lower), note)
}

async fn scale(context: &Context, business: &Business, replicas: usize) -> anyhow::Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(context.cluster()?.clone(), &business.namespace);
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    deployments.patch("orchestrator", &PatchParams::default(), &patch).await.context("scale the orchestrator")?;
    let deadline = Instant::now() + LIMIT;
    while running(context, business, "orchestrator").await?.len() != replicas {
        ensure!(Instant::now() < deadline, "there are not {replicas} orchestrators after {} s", LIMIT.as_secs());
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn running(context: &Context, business: &Business, app: &str) -> anyhow::Result<Vec<String>> {
    let pods: Api<Pod> = Api::namespaced(context.cluster()?.clone(), &business.namespace);
    let listed = pods.list(&ListParams::default().labels(&format!("app={app}"))).await.context("list the pods")?;
    let is_running = |pod: &Pod| pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"));
    Ok(listed.items.into_iter().filter(is_running).filter_map(|pod| pod.metadata.name).collect())
}

/// Kills a running pod of an app, if there is one; returns how many were killed.
async fn kill(context: &Context, business: &Business, app: &str) -> anyhow::Result<usize> {
    let pods: Api<Pod> = Api::namespaced(context.cluster()?.clone(), &business.namespace);
    let names = running(context, business, app).await?;
    let Some(name) = names.get(rand::random_range(0..names.len().max(1))) else { return Ok(0) };
    // It may have ended meanwhile.
    Ok(usize::from(pods.delete(name, &DeleteParams::default().grace_period(0)).await.is_ok()))
}

/// Computes a pack and items that are alone, while an orchestrator is killed once and engines until the end.
async fn run(context: &Context, business: &Business, session: &str) -> anyhow::Result<Tally> {
    let publisher = context.connection.publisher(&business.topic).await?;
    let pack = packs::upload(context, business, session, PACKED).await?;
    load::publish_all(context, business, &[pack]).await?;
    let alone = stream::iter(0..ALONE).map(|_| pool::publish(&publisher)).buffer_unordered(1000);
    let alone: BTreeSet<String> = alone.try_collect().await?;
    let (deadline, mut kills) = (Instant::now() + LIMIT, 0);
    sleep(PAUSE_MAX.mul_f64(rand::random())).await;
    kills += kill(context, business, "orchestrator").await?;
    loop {
        let ranges = outcomes_of(context, business, session).await?;
        let mut singles = outcomes_of(context, business, object::INLINE_SESSION).await?;
        singles.retain(|(job, _)| alone.contains(job));
        let ended: BTreeSet<&String> = singles.iter().map(|(job, _)| job).collect();
        if ranges.len() >= PACKED.div_ceil(ITEMS_PER_RANGE_MAX) as usize && ended.len() == alone.len() {
            let names = ranges.into_iter().chain(singles).map(|(_, name)| name).collect();
            let results = results(context, business, names).await?;
            let doubled = results.values().filter(|count| **count > 1).count();
            return Ok(Tally { kills, lost: PACKED as usize + ALONE - results.len(), doubled });
        }
        ensure!(Instant::now() < deadline, "{session} has not ended after {} s", LIMIT.as_secs());
        sleep(PAUSE_MAX.mul_f64(rand::random())).await;
        kills += kill(context, business, "engine").await?;
    }
}

/// The outcomes of a session, without layouts: the job, and the name of the object.
async fn outcomes_of(context: &Context, business: &Business, session: &str) -> anyhow::Result<Vec<(String, String)>> {
    let prefix = object::outcome_prefix(&business.name, Some(session));
    let listed = context.store.list(&business.bucket, &prefix).await?;
    let named = |name: String| Some((object::parse_outcome(&business.name, &name)?.job, name));
    Ok(listed.into_iter().filter_map(|found| named(found.name)).collect())
}

/// How many results each item has, by its job and its index.
async fn results(
    context: &Context,
    business: &Business,
    names: Vec<String>,
) -> anyhow::Result<BTreeMap<(String, u32), usize>> {
    let mut results = BTreeMap::new();
    for outcome in outcomes::read_all(&context.store, &business.bucket, names, load::AT_ONCE).await? {
        let outcome = outcome.context("read an outcome, which existed a moment ago")?;
        let job = outcome.work.as_ref().map(|work| work.job.clone()).unwrap_or_default();
        let succeeded = outcome.items.iter().filter(|item| item.state == State::Succeeded).map(|item| item.index);
        let single = (outcome.items.is_empty() && outcome.state == State::Succeeded).then_some(0);
        for index in succeeded.chain(single) {
            *results.entry((job.clone(), index)).or_default() += 1;
        }
    }
    Ok(results)
}

/// What a peer loses and doubles, or why it cannot be measured.
async fn peers(peer: &str, count: usize) -> Result<Tally, String> {
    let mut command = Command::new("python3");
    command.args(["-c", PEER, peer, &count.to_string()]).stdin(Stdio::null()).kill_on_drop(true);
    let ended = tokio::time::timeout(PEER_LIMIT, command.output()).await;
    let ended = ended.map_err(|_| format!("it had not ended after {} s", PEER_LIMIT.as_secs()))?;
    let ended = ended.map_err(|error| format!("cannot run python3: {error}"))?;
    // A peer prints on standard output too.
    let printed = String::from_utf8_lossy(&ended.stdout);
    let tally = printed.lines().rev().find_map(|line| serde_json::from_str(line).ok());
    tally.ok_or_else(|| String::from_utf8_lossy(&ended.stderr).lines().last().unwrap_or_default().to_owned())
}
