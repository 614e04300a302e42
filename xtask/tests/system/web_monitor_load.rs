//! The monitor with many Jobs and fifty open pages.

use std::time::{Duration, Instant};

use cloud::storage::Properties;
use contract::labels;
use futures::{StreamExt as _, TryStreamExt as _};

use crate::{
    sample::is_long,
    web_apps::{ALL, Monitor, world},
    world::World,
};

/// Jobs that ended: in a sample, and when every case runs.
const JOBS: [usize; 2] = [2_000, 10_000];
/// Pages that are open.
const PAGES: usize = 50;
/// How long a page may take to be made, in a program that is optimised. One that is not takes several times as long.
const PAGE_WITHIN: Duration = Duration::from_millis(200);
/// How long a change may take to reach every page.
const UPDATE_WITHIN: Duration = Duration::from_secs(1);

/// Says that this process runs one test only.
const ALONE: &str = "DESKGRID_TEST_ALONE";

/// What slower machines, other tests beside this one and a program without optimisation may make of a time limit.
pub(crate) fn allowed(limit: Duration) -> Duration {
    match contract::config::variables().get("DESKGRID_EXACT_TIMES") {
        Some(_) => limit,
        None => limit * 30,
    }
}

/// Writes outcomes as an orchestrator would have, without the Jobs.
async fn settle_many(world: &World, from: usize, count: usize) {
    let bucket = world.business("bu1").bucket.clone();
    let writes = (from..from + count).map(|number| {
        let state = if number % 50 == 0 { "failed" } else { "succeeded" };
        let reason = if number % 50 == 0 { "malformed-input" } else { "completed" };
        let body = serde_json::json!({
            "schema": 1, "business": "bu1", "state": state, "reason": {"code": reason, "message": "said"},
            "timestamps": {"published": "2026-01-01T00:00:00Z", "settled": "2026-01-01T00:00:01Z"}, "pods": 1,
        });
        let metadata = [(labels::METADATA_STATE, state), (labels::METADATA_REASON, reason)];
        let metadata = metadata.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let name = format!("bu1/outcome/session-{}/job-{number:05}.json/1-0.json", number % 20);
        let (store, bucket) = (world.store.clone(), bucket.clone());
        async move {
            let properties = Properties { metadata, ..Properties::json() };
            store.write_once(&bucket, &name, body.to_string(), properties).await
        }
    });
    futures::stream::iter(writes).buffer_unordered(64).try_collect::<Vec<_>>().await.unwrap();
}

/// Resident memory of this process in bytes.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    pages * 4096
}

/// Runs in a process of its own: what other tests keep in memory is not the monitor's.
#[test]
fn many_jobs_and_fifty_pages() {
    if contract::config::variables().contains_key(ALONE) {
        return tokio::runtime::Runtime::new().unwrap().block_on(look_on());
    }
    let mut itself = std::process::Command::new(std::env::current_exe().unwrap());
    itself.args(["--exact", "web_monitor_load::many_jobs_and_fifty_pages", "--nocapture"]).env(ALONE, "1");
    assert!(itself.status().unwrap().success(), "see above");
}

async fn look_on() {
    let jobs = JOBS[usize::from(is_long())];
    let world = world(&["bu1"]).await;
    settle_many(&world, 0, jobs).await;
    let monitor = Monitor::start(&world).await;
    monitor.shows("bu1", "failed", (jobs / 50) as u64).await;
    // The first page, and one deep in a filter.
    for path in ["/", "/jobs", "/jobs?state=failed&q=job-01&sort=job", "/sessions"] {
        let since = Instant::now();
        let (status, text) = monitor.get(path, ALL).await;
        let took = since.elapsed();
        println!("{path}: {} ms, {} bytes", took.as_millis(), text.len());
        assert_eq!(status, 200);
        assert!(took < allowed(PAGE_WITHIN), "{path} took {took:?}");
    }
    // Fifty people look at the same list; each is told of what happens.
    let login = monitor.http.post(monitor.url("/login")).form(&[("token", ALL)]).send().await.unwrap();
    let cookie = login.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let mut streams = Vec::new();
    for _ in 0..PAGES {
        let request = monitor.http.get(monitor.url("/live/jobs?state=waiting")).header("cookie", &cookie);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        streams.push(answer.bytes_stream());
    }
    let before = resident();
    let mut slowest = Duration::ZERO;
    for round in 0..5 {
        let name = format!("new-{round}");
        world.upload("bu1", "live", &name, "x").await;
        // The bucket tells nobody; what is measured begins when the monitor knows.
        monitor.shows("bu1", "waiting", round + 1).await;
        let since = Instant::now();
        let reads = streams.iter_mut().map(|stream| {
            let name = name.clone();
            async move {
                let mut seen = String::new();
                while !seen.contains(&name) {
                    let chunk = stream.next().await.expect("the stream goes on").unwrap();
                    seen.push_str(&String::from_utf8_lossy(&chunk));
                }
            }
        });
        let all = futures::future::join_all(reads);
        tokio::time::timeout(Duration::from_secs(60), all).await.expect("every page is told");
        slowest = slowest.max(since.elapsed());
    }
    println!("an update reached {PAGES} pages in {} ms at most", slowest.as_millis());
    assert!(slowest < allowed(UPDATE_WITHIN), "an update took {slowest:?}");
    // Looking on costs no memory.
    for _ in 0..20 {
        settle_many(&world, jobs, 1).await;
        let (status, _) = monitor.get("/jobs", ALL).await;
        assert_eq!(status, 200);
    }
    let grown = resident().saturating_sub(before);
    println!("memory grew by {} KiB", grown / 1024);
    assert!(grown < 64 << 20, "memory grew by {grown} bytes");
    drop(streams);
    monitor.stop().await;
    world.stop().await;
}
