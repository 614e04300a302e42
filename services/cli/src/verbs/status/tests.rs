use cloud::storage::Object;
use contract::{
    outcome::{Reason, Timestamps},
    pool_report::Engine,
};
use sessions::jobs::{Active, Objects};

use super::*;

fn business() -> Business {
    Business { max_active_jobs: 2, ..contract::testing::business("bu1") }
}

fn objects() -> Objects {
    let object = |name: &str, metadata: &[(&str, &str)]| Object {
        name: name.into(),
        generation: 1,
        size: 1,
        created: "2026-01-01T00:00:00Z".parse().ok(),
        content_type: String::new(),
        metadata: metadata.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
    };
    Objects {
        inputs: vec![object("bu1/input/s/w", &[])],
        outcomes: vec![
            object("bu1/outcome/s/a/1-0.json", &[("deskgrid-state", "succeeded")]),
            object("bu1/outcome/s/b/1-0.json", &[("deskgrid-state", "failed")]),
            object("bu1/outcome/s/c/1-0.json", &[]),
        ],
        expired_before: None,
        lost_before: None,
    }
}

fn active() -> Active {
    Active {
        session: "s".into(),
        job: "r".into(),
        generation: 1,
        first: None,
        items: 1,
        attempt: 0,
        reason: Reason::default(),
        timestamps: Timestamps::default(),
        kubernetes_job: "job-r".into(),
    }
}

#[test]
fn jobs_are_counted_and_problems_are_found() {
    let merged = jobs::merge("bu1", None, &objects(), &[active()]);
    let well = OrchestratorView { wanted: 1, ready: 1, problem: None };
    let now = "2026-01-01T00:10:00Z".parse().unwrap();
    let status = summarise(&business(), &merged, &[], in_cluster(&well, 1, None), Vec::new(), now);
    let counts: Vec<_> = status.jobs.iter().map(|(state, count)| (state.as_str(), *count)).collect();
    assert_eq!(counts, [("waiting", 1), ("running", 1), ("succeeded", 1), ("failed", 1)]);
    assert_eq!((status.unread, status.oldest_waiting_seconds), (1, Some(600)));
    assert_eq!(
        status.problems,
        ["1 input waiting, the oldest for 10m00s, although more Jobs may run", "1 Job has failed"]
    );
    let full = summarise(&business(), &merged, &[], in_cluster(&well, 2, None), Vec::new(), now);
    assert_eq!(full.problems, ["1 Job has failed"]);
    assert!(table(&[full]).contains(" 1+? "));
    let paused = summarise(&business(), &merged, &["s"], in_cluster(&well, 1, None), vec![], now);
    assert_eq!(paused.problems, ["1 Job has failed"], "what is paused waits for a reason");
}

fn in_cluster(view: &OrchestratorView, active: usize, engines: Option<Engines>) -> Option<InCluster> {
    Some(InCluster { orchestrator: view.clone(), jobs: KubernetesJobs { active, finished: 0 }, engines })
}

#[test]
fn a_pool_shows_its_engines() {
    let merged = jobs::merge("bu1", None, &objects(), &[]);
    let well = OrchestratorView { wanted: 1, ready: 1, problem: None };
    let check = |running, problem: &str| {
        let engines = Some(Engines { running, max: 4, reports: vec![] });
        let now = "2026-01-01T00:10:00Z".parse().unwrap();
        let status = summarise(&business(), &merged, &[], in_cluster(&well, 0, engines), vec![], now);
        assert!(status.problems[0].contains(problem), "{:?}", status.problems);
        assert!(table(&[status]).contains(&format!("{running}/4 engines")));
    };
    check(0, "no engine of the pool runs");
    check(2, "waiting or in the pool");
    let engine = |items| Engine { pod: "p".into(), node: "n".into(), slots: 2, credits: 9, items };
    let report = |waiting, engines| Report {
        at: Timestamp::UNIX_EPOCH,
        waiting,
        items_per_second: 20.0,
        item_seconds: Some(0.25),
        engines,
        ranges: vec![],
        ranges_left_out: 0,
    };
    let reports = vec![report(7, vec![engine(3), engine(4)]), report(5, vec![engine(1)])];
    let load = Engines { running: 2, max: 4, reports }.load();
    let expected = "pool: 8 with engines, 12 items waiting for one, 40.0 items/s, 250.0 ms each";
    assert_eq!(load.as_deref(), Some(expected));
    assert_eq!(Engines { running: 2, max: 4, reports: vec![] }.load(), None, "it is not known");
}

#[test]
fn messages_that_nobody_takes_are_unknown_and_not_silent() {
    let view = |ready| OrchestratorView { wanted: 1, ready, problem: None };
    let check = |business: &Business, view: Option<&OrchestratorView>, has_room, expected: Option<&str>| {
        let found = unknown_messages(business, view, has_room);
        assert_eq!(found.is_some(), expected.is_some(), "{found:?}");
        assert!(found.unwrap_or_default().contains(expected.unwrap_or_default()));
    };
    let (taking, paused) = (business(), Business { intake: false, ..business() });
    check(&taking, Some(&view(1)), true, None);
    check(&taking, Some(&view(0)), true, Some("no orchestrator is ready"));
    check(&taking, Some(&view(1)), false, Some("until a Job ends; num_undelivered_messages of p-bu1-subscription"));
    check(&taking, None, false, Some("it is not known whether an orchestrator takes them"));
    check(&paused, Some(&view(1)), true, Some("`intake = false`"));
}

#[test]
fn without_the_cluster_the_rest_is_still_shown() {
    let status = summarise(&business(), &[], &[], None, vec!["cannot reach the cluster".into()], Timestamp::UNIX_EPOCH);
    assert_eq!(status.problems, ["cannot reach the cluster"]);
    let table = table(&[status]);
    assert!(table.contains('?') && table.contains("bu1"), "{table}");
}
