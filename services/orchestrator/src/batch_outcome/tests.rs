//! What becomes of the inputs of a batch.

use contract::{
    Identity,
    batch::{Done, Failed, Report},
    message::Work,
};
use serde_json::json;

use super::*;
use crate::{job::tests, watched::Phase};

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn manifest() -> Manifest {
    let entry = |input: u32| {
        let object = format!("bu1/input/s1/{input}");
        let base = tests::work(None);
        let identity = Identity { object, ..base.identity.clone() };
        let work = Work { identity, job: input.to_string(), ..base };
        Entry { work, message_id: format!("m{input}"), published: Some(time(1)), received: time(2) }
    };
    Manifest::new((0..6).map(entry).collect())
}

pub(crate) fn failed(input: u32, permanent: bool, code: &str, second: i64) -> Failed {
    Failed {
        input,
        started: time(second - 1),
        finished: time(second),
        permanent,
        code: code.into(),
        message: format!("said the engine at {second}"),
        log_tail: Some("a line".into()),
    }
}

/// The state and reason of each input: 0 done, 1 has a result but no report, 2 can never work, 3 failed twice, 4 timed
/// out, 5 was in nobody's hand.
fn check(standing: Standing, wanted: [&str; 6]) -> Vec<Fate> {
    let manifest = manifest();
    let (_, hash) = manifest.encode().unwrap();
    let batch = Batch {
        schema: 1,
        bucket: "p-bucket".into(),
        business: "bu1".into(),
        session: "s1".into(),
        hash,
        inputs: 6,
        indexes: 1,
    };
    let template = tests::template(&tests::business());
    let job: Job = serde_json::from_value(template.batch(&batch).unwrap()).unwrap();
    assert_eq!(crate::batch_job::batch_of(&job).unwrap(), Some(batch.clone()));
    let pods: Vec<Pod> = ["p1", "p2"]
        .map(|name| {
            serde_json::from_value(json!({
                "metadata": {"name": name, "labels": {INDEX: "0"}}, "spec": {"nodeName": "n", "containers": []},
            }))
            .unwrap()
        })
        .into();
    let report = |pod: &str, done: &[u32], failed: Vec<Failed>| Report {
        schema: 1,
        pod: pod.into(),
        cpu_seconds: 3.0,
        done: done.iter().map(|input| Done { input: *input, started: time(5), finished: time(6) }).collect(),
        failed,
    };
    let reports = [
        report("p2", &[0], vec![failed(3, false, "program-failed", 20), failed(4, false, "timeout", 20)]),
        report("p1", &[], vec![failed(3, false, "program-failed", 10), failed(2, true, "malformed-input", 10)]),
    ];
    let mut known = Reports::default();
    reports.into_iter().for_each(|report| known.add(report, standing, &HashSet::new()));
    let results = [manifest.entries[1].work.output(None)].into();
    let facts = Facts {
        job: &job,
        batch: &batch,
        standing,
        manifest: &manifest,
        pods: &pods,
        reports: known,
        results: if standing == Standing::Running { BTreeSet::new() } else { results },
        gone: HashSet::new(),
        now: time(30),
    };
    let fates: Vec<Fate> = (0..).zip(&manifest.entries).map(|(input, entry)| decide(&facts, input, entry)).collect();
    let words: Vec<String> = fates
        .iter()
        .map(|fate| match fate {
            Fate::Ended(outcome) => format!("{} {}", outcome.state, outcome.reason.code),
            Fate::Alone => "alone".into(),
            Fate::Later => "later".into(),
            Fate::Again => "again".into(),
        })
        .collect();
    assert_eq!(words, wanted);
    fates
}

#[test]
fn what_is_reported_is_settled_while_the_rest_runs() {
    check(Standing::Running, ["succeeded completed", "later", "failed malformed-input", "later", "later", "later"]);
}

#[test]
fn what_is_left_at_the_end_failed_or_gets_a_job_of_its_own() {
    let done = "succeeded completed";
    let wanted = [done, done, "failed malformed-input", "failed retries-exhausted", "failed timeout", "alone"];
    let fates = check(Standing::Ended(Phase::Failed), wanted);
    let Fate::Ended(first) = &fates[0] else { panic!() };
    assert_eq!((first.timestamps.started, first.timestamps.finished), (Some(time(5)), Some(time(6))));
    assert_eq!((first.cpu_seconds, first.node.as_deref(), first.pods), (Some(1.0), Some("n"), 2));
    assert_eq!((first.message_id.as_deref(), &first.log_tail), (Some("m0"), &None));
    let Fate::Ended(third) = &fates[3] else { panic!() };
    assert_eq!((third.exit_code, third.log_tail.as_deref()), (Some(1), Some("a line")));
    assert!(third.reason.message.contains("at 20"), "the last failure counts: {}", third.reason.message);
}

#[test]
fn what_is_not_done_when_the_job_is_deleted_is_cancelled() {
    let (done, cancelled) = ("succeeded completed", "cancelled cancelled");
    check(Standing::Deleted, [done, done, "failed malformed-input", cancelled, cancelled, cancelled]);
}

#[test]
fn the_job_of_a_batch_tries_each_index_by_itself() {
    let batch = Batch {
        schema: 1,
        bucket: "b".into(),
        business: "bu1".into(),
        session: "s".into(),
        hash: "0".repeat(32),
        inputs: 10,
        indexes: 3,
    };
    let job = tests::template(&tests::business()).batch(&batch).unwrap();
    let spec = &job["spec"];
    assert_eq!((&spec["completionMode"], &spec["completions"]), (&json!("Indexed"), &json!(3)));
    assert_eq!((&spec["backoffLimit"], &spec["backoffLimitPerIndex"]), (&json!(null), &json!(3)));
    assert_eq!(job["metadata"]["finalizers"], json!([contract::labels::FINALIZER]));
    assert_eq!(job["metadata"]["labels"]["session"], "s");
}
