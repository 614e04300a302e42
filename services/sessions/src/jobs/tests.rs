use contract::outcome;

use super::*;

fn object(name: &str, generation: i64, second: i64) -> Object {
    Object {
        name: name.into(),
        generation,
        size: 1,
        created: Timestamp::from_second(second).ok(),
        content_type: String::new(),
        metadata: BTreeMap::new(),
    }
}

fn active(session: &str, job: &str, generation: i64, attempt: u32, second: i64) -> Active {
    Active {
        session: session.into(),
        job: job.into(),
        generation,
        first: None,
        items: 1,
        attempt,
        reason: Reason { code: "running".into(), message: String::new() },
        timestamps: Timestamps { created: Timestamp::from_second(second).ok(), ..Timestamps::default() },
        kubernetes_job: "job-x".into(),
    }
}

/// What `merge` makes of inputs, outcomes and active Jobs: `session/job#generation-attempt state` each.
fn check(session: Option<&str>, objects: &Objects, active: &[Active], expected: &[&str]) {
    let merged: Vec<String> = merge("bu1", session, objects, active)
        .iter()
        .map(|job| {
            let state = job.state.map_or("ended", State::as_str);
            format!("{}/{}#{}-{} {state}", job.session, job.job, job.generation, job.attempt)
        })
        .collect();
    assert_eq!(merged, expected);
}

#[test]
fn every_job_is_shown_once_newest_first() {
    let mut succeeded = object("bu1/outcome/s/told/9-0.json", 100, 5);
    succeeded.metadata.insert(labels::METADATA_STATE.into(), "succeeded".into());
    let objects = Objects {
        inputs: vec![
            object("bu1/input/s/waits", 1, 1),
            object("bu1/input/s/runs", 2, 2),
            object("bu1/input/s/failed", 3, 3),
            object("bu1/input/loose", 4, 0),
        ],
        outcomes: vec![
            object("bu1/outcome/s/failed/3-0.json", 101, 6),
            object("bu1/outcome/refused/42.json", 102, 7),
            object("bu1/outcome/s/not-one.txt", 103, 8),
            succeeded,
        ],
        expired_before: None,
        lost_before: None,
    };
    let active = [active("s", "runs", 2, 0, 4)];
    check(
        None,
        &objects,
        &active,
        &[
            "refused/42#0-0 ended",
            "s/failed#3-0 ended",
            "s/told#9-0 succeeded",
            "s/runs#2-0 running",
            "s/waits#1-0 waiting",
            "uploads/loose#4-0 waiting",
        ],
    );
    check(Some("uploads"), &objects, &active, &["uploads/loose#4-0 waiting"]);
    check(Some("none"), &objects, &active, &[]);
}

#[test]
fn the_latest_attempt_is_shown() {
    let objects = Objects {
        inputs: vec![object("bu1/input/s/j", 5, 1)],
        outcomes: vec![object("bu1/outcome/s/j/5-0.json", 10, 2), object("bu1/outcome/s/j/5-1.json", 11, 3)],
        expired_before: None,
        lost_before: None,
    };
    check(None, &objects, &[], &["s/j#5-1 ended"]);
    // Written, but its Kubernetes Job is not gone yet.
    check(None, &objects, &[active("s", "j", 5, 1, 4)], &["s/j#5-1 ended"]);
    check(None, &objects, &[active("s", "j", 5, 2, 4)], &["s/j#5-2 running"]);
    // Another upload of the same name is another Job.
    check(None, &objects, &[active("s", "j", 6, 0, 4)], &["s/j#6-0 running", "s/j#5-1 ended"]);
}

#[test]
fn what_is_older_than_outcomes_are_kept_waits_for_nothing() {
    let mut retried = object("bu1/input/s/retried", 3, 1);
    retried.metadata.insert(labels::METADATA_RETRIED.into(), Timestamp::from_second(20).unwrap().to_string());
    let mut pack = object("bu1/input/s/pack", 5, 0);
    pack.metadata.insert("deskgrid-items".into(), "7".into());
    let objects = Objects {
        inputs: vec![
            object("bu1/input/s/settled", 1, 1),
            object("bu1/input/s/runs", 2, 2),
            retried,
            object("bu1/input/s/new", 4, 10),
            pack,
        ],
        outcomes: vec![],
        expired_before: Timestamp::from_second(10).ok(),
        lost_before: None,
    };
    let shown = [
        "s/runs#2-0 running",
        "s/new#4-0 waiting",
        "s/retried#3-0 waiting",
        "s/settled#1-0 expired",
        "s/pack#5-0 expired",
    ];
    check(None, &objects, &[active("s", "runs", 2, 0, 30)], &shown);
    let jobs = merge("bu1", None, &objects, &[]);
    let counts = crate::Counts::of(&jobs);
    assert_eq!((counts.pending(), counts.unsuccessful(), counts.total()), (2, 9, 11), "nobody waits for them");
    let chosen = crate::Selection::default().choose(&jobs);
    let again: Vec<&str> = chosen.iter().map(|chosen| chosen.job.as_str()).collect();
    assert_eq!(again, ["runs", "settled", "pack"], "a retry asks for them anew");
}

#[test]
fn a_pack_is_one_job_with_the_states_of_its_items() {
    let metadata = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let with = |name: &str, pairs: &[(&str, &str)]| Object { metadata: metadata(pairs), ..object(name, 5, 1) };
    let ended = |run: &str, state: &str, counts: &str| {
        with(&format!("bu1/outcome/s/p/5-{run}.json"), &[("deskgrid-state", state), ("deskgrid-items-ended", counts)])
    };
    let input = |attempt: &str| with("bu1/input/s/p", &[("deskgrid-items", "5"), ("deskgrid-attempt", attempt)]);
    let range = |first: u32, items: u32, attempt: u32| Active {
        first: Some(first),
        items,
        kubernetes_job: format!("job-{first}"),
        ..active("s", "p", 5, attempt, 4)
    };
    let check = |inputs: &[Object], outcomes: &[Object], active: &[Active], expected: &str| {
        let objects =
            Objects { inputs: inputs.to_vec(), outcomes: outcomes.to_vec(), expired_before: None, lost_before: None };
        let merged = merge("bu1", None, &objects, active);
        assert_eq!(merged.len(), 1, "{merged:#?}");
        let Items { waiting, running, succeeded, failed, cancelled } = merged[0].items.unwrap();
        let counts = crate::Counts::of(&merged);
        assert_eq!((counts.total(), counts.failed), (5, failed as usize));
        let numbers = format!("{waiting}+{running}+{succeeded}+{failed}+{cancelled}");
        assert_eq!(format!("{}#{} {numbers}", merged[0].state_line(), merged[0].attempt), expected);
        merged.into_iter().next().unwrap()
    };
    let layout = with("bu1/outcome/s/p/5-layout.json", &[("deskgrid-items", "5")]);
    check(&[input("0")], &[], &[], "waiting, 0 of 5 items#0 5+0+0+0+0");
    let mut outcomes = vec![layout.clone(), ended("0-0", "failed", "succeeded=1,failed=1,cancelled=0")];
    let runs = check(&[input("0")], &outcomes, &[range(2, 2, 0)], "running, 2 of 5 items, 1 failed#0 1+2+1+1+0");
    assert_eq!(runs.kubernetes_job.as_deref(), Some("job-2"));
    outcomes.push(ended("2-0", "cancelled", "succeeded=1,failed=0,cancelled=1"));
    outcomes.push(ended("4-0", "succeeded", "succeeded=1,failed=0,cancelled=0"));
    let failed = check(&[input("0")], &outcomes, &[range(4, 1, 0)], "failed, 5 of 5 items, 1 failed#0 0+0+3+1+1");
    assert_eq!((failed.outcome.as_deref(), failed.outcomes.len()), (Some("bu1/outcome/s/p/5-0-0.json"), 3));
    let unsuccessful = ["bu1/outcome/s/p/5-0-0.json", "bu1/outcome/s/p/5-2-0.json"];
    assert_eq!(
        (&failed.unsuccessful[..], failed.outcome_of_range(2)),
        (&unsuccessful.map(String::from)[..], Some(unsuccessful[1]))
    );
    assert_eq!(failed.outcome_of_range(1), None, "no range begins there");
    // A retry repeats what has no result.
    check(&[input("1")], &outcomes, &[], "waiting, 3 of 5 items#1 2+0+3+0+0");
    check(&[input("1")], &outcomes, &[range(0, 1, 1)], "running, 3 of 5 items#1 1+1+3+0+0");
    outcomes.push(ended("0-1", "succeeded", "succeeded=2,failed=0,cancelled=0"));
    outcomes.push(ended("2-1", "succeeded", "succeeded=2,failed=0,cancelled=0"));
    let succeeded = check(&[], &outcomes, &[], "succeeded, 5 of 5 items#1 0+0+5+0+0");
    assert!(succeeded.unsuccessful.is_empty());
}

#[test]
fn a_pack_that_cannot_be_split_is_shown_as_a_single_input() {
    let mut input = object("bu1/input/s/p", 5, 1);
    input.metadata.insert("deskgrid-items".into(), "5".into());
    let mut refused = object("bu1/outcome/s/p/5-0.json", 6, 2);
    refused.metadata.insert(labels::METADATA_STATE.into(), "cancelled".into());
    let objects = Objects { inputs: vec![input], outcomes: vec![refused], expired_before: None, lost_before: None };
    check(None, &objects, &[], &["s/p#5-0 cancelled"]);
}

#[test]
fn an_outcome_fills_in_what_is_shown() {
    let mut outcome = Outcome::new("bu1", outcome::State::Succeeded, "completed", "done");
    outcome.timestamps.published = Timestamp::from_second(10).ok();
    outcome.timestamps.settled = Timestamp::from_millisecond(12_500).ok();
    let mut job = new("bu1", "s", "j", 1);
    job.fill(&outcome);
    assert_eq!((job.state, job.seconds), (Some(State::Succeeded), Some(2.5)));
}

#[test]
fn states_have_one_spelling() {
    for state in State::ALL {
        assert_eq!(State::parse(state.as_str()), Some(state));
        assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
    }
    assert_eq!(outcome::State::parse("failed"), Some(outcome::State::Failed));
}

#[test]
fn an_old_input_without_known_options_is_shown_as_lost() {
    let mut known = object("bu1/input/s/known", 2, 1);
    known.metadata.insert("deskgrid-session".into(), "s".into());
    let objects = Objects {
        inputs: vec![object("bu1/input/s/lost", 1, 1), known, object("bu1/input/s/new", 3, 20)],
        outcomes: vec![],
        expired_before: None,
        lost_before: Timestamp::from_second(10).ok(),
    };
    let jobs = merge("bu1", None, &objects, &[]);
    let lost: Vec<&str> =
        jobs.iter().filter(|job| job.reason.as_ref().is_some_and(|r| r.code == LOST)).map(|job| &*job.job).collect();
    assert_eq!(lost, ["lost"]);
    assert!(jobs.iter().all(|job| job.state == Some(State::Waiting)));
    let chosen = crate::Selection { jobs: vec!["lost".into(), "new".into()], ..Default::default() }.choose(&jobs);
    assert_eq!(chosen.iter().map(|chosen| &*chosen.job).collect::<Vec<_>>(), ["lost"], "it can be published");
    let runs = merge("bu1", None, &objects, &[active("s", "lost", 1, 0, 30)]);
    let lost = runs.iter().find(|job| job.job == "lost").unwrap();
    assert_eq!((lost.state, lost.reason.as_ref().is_some_and(|r| r.code == LOST)), (Some(State::Running), false));
}
