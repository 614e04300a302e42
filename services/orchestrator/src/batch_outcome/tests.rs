//! Decisions about the inputs of a batch.

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
/// out, 5 is in no report.
fn check(state: JobState, expected: [&str; 6]) -> Vec<Fate> {
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
    assert_eq!(crate::batch_job::read_batch(&job).unwrap(), Some(batch.clone()));
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
        done: done
            .iter()
            .map(|input| Done { input: *input, started: time(5), finished: time(6), row_errors: Some(2) })
            .collect(),
        failed,
    };
    let reports = [
        report("p2", &[0], vec![failed(3, false, "program-failed", 20), failed(4, false, "timeout", 20)]),
        report("p1", &[], vec![failed(3, false, "program-failed", 10), failed(2, true, "malformed-input", 10)]),
    ];
    let mut merged = Reports::default();
    reports.into_iter().for_each(|report| merged.add(report, state, &HashSet::new()));
    let results = [manifest.entries[1].work.output(None)].into();
    let facts = BatchFacts {
        job: &job,
        batch: &batch,
        state,
        manifest: &manifest,
        pods: &pods,
        reports: merged,
        results: if state == JobState::Running { BTreeSet::new() } else { results },
        missing_inputs: HashSet::new(),
        now: time(30),
    };
    let fates: Vec<Fate> = (0..).zip(&manifest.entries).map(|(input, entry)| decide(&facts, input, entry)).collect();
    let words: Vec<String> = fates
        .iter()
        .map(|fate| match fate {
            Fate::Settle(outcome) => format!("{} {}", outcome.state, outcome.reason.code),
            Fate::RunAlone => "alone".into(),
            Fate::Wait => "wait".into(),
            Fate::Requeue => "requeue".into(),
        })
        .collect();
    assert_eq!(words, expected);
    fates
}

#[test]
fn reported_inputs_are_settled_while_the_others_run() {
    check(JobState::Running, ["succeeded completed", "wait", "failed malformed-input", "wait", "wait", "wait"]);
}

#[test]
fn the_inputs_left_at_the_end_fail_or_get_a_job_of_their_own() {
    let done = "succeeded completed";
    let expected = [done, done, "failed malformed-input", "failed retries-exhausted", "failed timeout", "alone"];
    let fates = check(JobState::Ended(Phase::Failed), expected);
    let Fate::Settle(first) = &fates[0] else { panic!() };
    assert_eq!((first.timestamps.started, first.timestamps.finished), (Some(time(5)), Some(time(6))));
    assert_eq!((first.cpu_seconds, first.node.as_deref(), first.pods), (Some(1.0), Some("n"), 2));
    assert_eq!((first.message_id.as_deref(), &first.log_tail), (Some("m0"), &None));
    assert_eq!((first.row_errors, &*first.reason.message), (2, "the result is written; 2 rows in it have an error"));
    let Fate::Settle(third) = &fates[3] else { panic!() };
    assert_eq!((third.exit_code, third.log_tail.as_deref()), (Some(1), Some("a line")));
    assert!(third.reason.message.contains("at 20"), "the last failure counts: {}", third.reason.message);
}

#[test]
fn unfinished_inputs_of_a_deleted_job_are_cancelled() {
    let (done, cancelled) = ("succeeded completed", "cancelled cancelled");
    check(JobState::Deleted, [done, done, "failed malformed-input", cancelled, cancelled, cancelled]);
}

#[test]
fn each_index_of_a_batch_has_its_own_retries() {
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
