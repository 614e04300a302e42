//! Single Jobs in the monitor: cancelled wherever they are, and what they were given and made taken away.

use contract::{names, outcome::State};
use orchestrator::Hooks;
use serde_json::json;

use crate::{
    web_apps::{ALL, Monitor, ONE, world, world_with},
    world::{Setup, eventually},
};

/// Engines that may compute [`endless`] for as long as a test lasts.
pub(crate) const PATIENT: &str = "\ntimeout = \"1h\"\n";

/// A book that computes for longer than a test lasts.
pub(crate) fn endless() -> String {
    let text = include_str!("../../../examples/pricing/10-power-daily-average.json");
    let mut book: serde_json::Value = serde_json::from_str(text).unwrap();
    book["paths"] = 1_000_000_000_u64.into();
    book.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_job_is_cancelled_and_no_other() {
    let setup = Setup { settings: "max_active_jobs = 1", ..Setup::default() };
    let world = world_with(&["bu1", "bu2"], setup).await;
    let monitor = Monitor::start(&world).await;
    for job in ["runs", "waits", "stays"] {
        let body = if job == "stays" { "payload".to_owned() } else { endless() };
        world.publish(&world.upload("bu1", "s1", job, &body).await).await;
        if job == "runs" {
            // The first one takes the only slot.
            monitor.shows("bu1", "waiting", 1).await;
        }
    }
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    monitor.shows("bu1", "running", 1).await;
    let cancel = |job: &str| json!({"action": "cancel", "business": "bu1", "session": "s1", "job": job});
    for job in ["runs", "waits"] {
        let (status, said) = monitor.act(ONE, cancel(job)).await;
        assert_eq!((status, &said["count"]), (200, &1.into()), "{said}");
    }
    let outcomes = world.settled("bu1", 3).await;
    for outcome in outcomes {
        let job = outcome.work.unwrap().job;
        let wanted = if job == "stays" { State::Succeeded } else { State::Cancelled };
        assert_eq!(outcome.state, wanted, "{job}: {:?} {:?}", outcome.reason, outcome.log_tail);
    }
    let kept: Vec<String> = world.objects("bu1", "input").await.into_iter().map(|input| input.name).collect();
    assert_eq!(kept, ["bu1/input/s1/runs", "bu1/input/s1/waits"], "what is cancelled can be retried");
    // What has ended, is not there, or is somebody else's.
    monitor.shows("bu1", "cancelled", 2).await;
    for job in ["runs", "stays", "nobody"] {
        let (status, said) = monitor.act(ONE, cancel(job)).await;
        assert_eq!((status, &said["code"]), (409, &json!("not-pending")), "{job}: {said}");
    }
    world.upload("bu2", "s1", "waits", "payload").await;
    let mut other = cancel("waits");
    other["business"] = "bu2".into();
    assert_eq!(monitor.act(ONE, other).await.0, 404);
    assert!(world.objects("bu2", "control").await.is_empty());
    // The page asks first, and only where something can be cancelled.
    let query = |business: &str, job: &str| web::encode([("business", business), ("session", "s1"), ("job", job)]);
    eventually("bu2's Job is shown", async || {
        monitor.get(&format!("/job?{}", query("bu2", "waits")), ALL).await.0 == 200
    })
    .await;
    let (_, page) = monitor.get(&format!("/job?{}", query("bu2", "waits")), ALL).await;
    assert!(page.contains("Cancel this Job?"), "{page}");
    let (_, page) = monitor.get(&format!("/job?{}", query("bu1", "stays")), ALL).await;
    assert!(!page.contains("Cancel this Job?"), "{page}");

    // The command line does the same.
    let run = async |arguments: &[&str]| {
        let ended = world.command(arguments).output().await.unwrap();
        (ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned())
    };
    let (code, said) = run(&["session", "cancel", "s1", "--business", "bu1", "--job", "stays", "--yes"]).await;
    assert!(code == Some(64) && said.contains("it has ended: succeeded"), "{said}");
    let cancel = ["session", "cancel", "s1", "--business", "bu2", "--job", "waits", "--yes", "--timeout", "1s"];
    let (code, said) = run(&cancel).await;
    assert_eq!(code, Some(0), "{said}");
    let (control, _) = cloud::controls::read(&world.store, world.business("bu2"), "s1").await.unwrap();
    let control = control.unwrap();
    assert_eq!(
        (control.cancelled_before, control.cancelled_jobs.keys().next().map(String::as_str)),
        (None, Some("waits"))
    );
    orchestrator.kill();
    monitor.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_was_given_and_made_is_taken_away_as_a_file() {
    let world = world(&["bu1", "bu2"]).await;
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    let monitor = Monitor::start(&world).await;
    let script = "<script>alert(1)</script>.txt";
    let broken = "{\"schema\": 1, \"<script>alert(2)</script>\": 1}";
    for (business, job, body) in
        [("bu1", script, "payload"), ("bu1", "broken.json", broken), ("bu2", "secret", "secret-payload")]
    {
        world.publish(&world.upload(business, "s1", job, body).await).await;
    }
    world.settled("bu1", 2).await;
    monitor.shows("bu1", "succeeded", 1).await;
    monitor.shows("bu2", "waiting", 1).await;
    let get = async |business: &str, job: &str, rest: &str, token: &str| {
        let query = web::encode([("business", business), ("session", "s1"), ("job", job)]);
        let request = monitor.http.get(monitor.url(&format!("/object?{query}{rest}"))).bearer_auth(token);
        request.header("accept", "text/html").send().await.unwrap()
    };
    for (job, kind, file) in [("broken.json", "input", "broken.json"), (script, "result", "script_.txt.result")] {
        let answer = get("bu1", job, &format!("&kind={kind}"), ONE).await;
        assert_eq!(answer.status().as_u16(), 200, "{kind}");
        let headers = answer.headers().clone();
        let disposition = headers["content-disposition"].to_str().unwrap().to_owned();
        assert!(disposition.starts_with("attachment; filename=\"") && disposition.contains(file), "{disposition}");
        assert_eq!(
            (headers["content-type"].to_str().unwrap(), headers["x-content-type-options"].to_str().unwrap()),
            ("application/octet-stream", "nosniff")
        );
        let text = answer.text().await.unwrap();
        match kind {
            "input" => assert_eq!(text, broken),
            _ => {
                let name = &world.objects("bu1", "output").await[0].name;
                let (_, result) = world.store.read(&world.business("bu1").bucket, name, None).await.unwrap().unwrap();
                assert_eq!(text.as_bytes(), result);
            }
        }
    }
    // The page leads there.
    let query = web::encode([("business", "bu1"), ("session", "s1"), ("job", script)]);
    let (_, page) = monitor.get(&format!("/job?{query}"), ONE).await;
    assert!(
        page.contains("kind=result")
            && page.contains("gs://test-desk-bucket/bu1/output/")
            && !page.contains("kind=input"),
        "{page}"
    );
    // What is gone, what never was, what is of another business, and tricks.
    for (business, job, rest, token, wanted) in [
        ("bu1", script, "&kind=input", ONE, 404),
        ("bu1", "broken.json", "&kind=result", ONE, 404),
        ("bu1", script, "&kind=result&index=7", ONE, 404),
        ("bu1", script, "&kind=outcome", ONE, 400),
        ("bu1", script, "", ONE, 400),
        ("bu1", "../../bu2/input/s1/secret", "&kind=input", ONE, 404),
        ("bu1", "broken.json", "&kind=input&generation=1", ONE, 404),
        ("bu2", "secret", "&kind=input", ONE, 404),
        ("bu2", "secret", "&kind=input", "nobody-nobody-nobody-nobody", 401),
        ("bu2", "secret", "&kind=input", ALL, 200),
    ] {
        let answer = get(business, job, rest, token).await;
        let status = answer.status().as_u16();
        assert!(status == wanted || (wanted == 401 && status == 303), "{business} {job} {rest}: {status}");
        let text = answer.text().await.unwrap();
        assert_eq!(text.contains("secret-payload"), wanted == 200, "{text}");
    }
    assert!(names::check_job(script).is_ok());
    orchestrator.kill();
    monitor.stop().await;
    world.stop().await;
}
