use cloud::storage::Object;
use contract::{labels, outcome};

use super::*;
use crate::{Selection, jobs};

fn object(name: &str, generation: i64, second: i64, metadata: &[(&str, &str)]) -> Object {
    Object {
        name: name.into(),
        generation,
        size: 1,
        created: Timestamp::from_second(second).ok(),
        content_type: String::new(),
        metadata: metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
    }
}

/// A small business: a session with one Job of each kind, and another that is done.
pub(crate) fn merged() -> Vec<Job> {
    let state =
        |word: &'static str, code: &'static str| [(labels::METADATA_STATE, word), (labels::METADATA_REASON, code)];
    let objects = jobs::Objects {
        inputs: vec![
            object("bu1/input/a/waits", 1, 10, &[]),
            object("bu1/input/a/failed", 2, 11, &[]),
            object("bu1/input/a/oom", 3, 12, &[]),
            object("bu1/input/a/retried", 4, 13, &[("deskgrid-attempt", "1")]),
            object("bu1/input/a/corrected", 9, 14, &[]),
        ],
        outcomes: vec![
            object("bu1/outcome/a/failed/2-0.json", 20, 20, &state("failed", "malformed-input")),
            object("bu1/outcome/a/oom/3-0.json", 21, 21, &state("failed", "out-of-memory")),
            object("bu1/outcome/a/oom/3-1.json", 22, 22, &state("failed", "out-of-memory")),
            object("bu1/outcome/a/retried/4-0.json", 23, 23, &state("failed", "timeout")),
            object("bu1/outcome/a/corrected/5-0.json", 24, 24, &state("failed", "malformed-input")),
            object("bu1/outcome/a/gone/6-0.json", 25, 25, &state("cancelled", "cancelled")),
            object("bu1/outcome/b/done/7-0.json", 26, 99, &state("succeeded", "completed")),
            object("bu1/outcome/refused/17.json", 27, 27, &state("refused", "wrong-bucket")),
        ],
        expired_before: None,
        lost_before: None,
    };
    let running = jobs::Active {
        session: "a".into(),
        job: "runs".into(),
        generation: 8,
        first: None,
        items: 1,
        attempt: 0,
        reason: outcome::Reason { code: "running".into(), message: String::new() },
        timestamps: outcome::Timestamps::default(),
        kubernetes_job: "job-1".into(),
    };
    jobs::merge("bu1", None, &objects, &[running])
}

#[test]
fn a_session_counts_each_job_once_in_its_latest_attempt_at_its_latest_input() {
    let paused = Control { paused: true, ..Control::new("c", Timestamp::UNIX_EPOCH) };
    let controls = BTreeMap::from([("c".to_owned(), paused)]);
    let found = summaries("bu1", merged(), &controls);
    let names: Vec<&str> = found.iter().map(|summary| summary.session.as_str()).collect();
    assert_eq!(names, ["b", "a", "c"], "the one that changed last comes first");
    let a = &found[1];
    let wanted = Counts { waiting: 3, running: 1, failed: 2, cancelled: 1, ..Counts::default() };
    assert_eq!((a.counts, a.counts.total(), a.counts.pending()), (wanted, 7, 4));
    assert_eq!(a.oldest_pending, Timestamp::from_second(10).ok());
    assert!(found[2].paused && found[2].counts.total() == 0);
    assert_eq!(found[0].counts.succeeded, 1);
}

#[test]
fn a_retry_chooses_what_did_not_succeed() {
    let jobs = latest(merged());
    let chosen = |selection: Selection| {
        let mut names: Vec<String> =
            selection.choose(&jobs).iter().map(|c| format!("{} {:?}", c.job, c.doing)).collect();
        names.sort();
        names
    };
    let oom = "oom Anew { attempt: 2, outcome: \"bu1/outcome/a/oom/3-1.json\" }".to_owned();
    let failed = "failed Anew { attempt: 1, outcome: \"bu1/outcome/a/failed/2-0.json\" }".to_owned();
    let again = "retried Again { input: \"bu1/input/a/retried\" }".to_owned();
    assert_eq!(chosen(Selection::default()), [failed.clone(), "gone InputGone".to_owned(), oom.clone(), again.clone()]);
    let only_failed = Selection { states: vec![State::Failed], ..Selection::default() };
    assert_eq!(chosen(only_failed), [failed, oom.clone(), again.clone()]);
    let only_oom = Selection { codes: vec!["out-of-memory".into()], ..Selection::default() };
    assert_eq!(chosen(only_oom), [oom.clone(), again]);
    let named = Selection { jobs: vec!["oom".into(), "waits".into()], ..Selection::default() };
    assert_eq!(chosen(named), [oom]);
}
