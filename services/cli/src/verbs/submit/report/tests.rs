use contract::Outcome;

use super::*;

fn fates(fates: Vec<Fate>) -> submit::Report {
    let jobs = fates.into_iter().enumerate().map(|(index, fate)| (format!("job-{index}"), fate)).collect();
    submit::Report { jobs, stopped: false }
}

static NO_PACKS: BTreeMap<String, Pack> = BTreeMap::new();

fn report(sent: &submit::Report) -> Report<'_> {
    Report {
        environment: "local",
        business: "bu1",
        session: "s",
        flag: " --env local",
        packs: &NO_PACKS,
        sent,
        seconds: 1.0,
        size: 10,
        command: "cargo xtask submit --session s x".into(),
        waited: None,
    }
}

fn submitted() -> Fate {
    Fate::Submitted { generation: 1, message_id: "m".into(), repeated: false }
}

#[test]
fn a_complete_submission_is_a_success() {
    let sent = fates(vec![submitted(), Fate::Settled { generation: 2 }]);
    assert_eq!(report(&sent).result().unwrap(), exit::DONE);
    assert_eq!(sent.expected(), [("job-0".to_owned(), 1), ("job-1".to_owned(), 2)]);
}

#[test]
fn a_partial_failure_says_what_is_missing_and_how_to_go_on() {
    let sent = fates(vec![
        submitted(),
        Fate::Failed(anyhow::anyhow!("no such file").context("open b.json")),
        Fate::NotTried,
        Fate::Uploaded { generation: 3 },
    ]);
    let failure = report(&sent).result().unwrap_err().downcast::<Failure>().unwrap();
    assert_eq!((failure.code, failure.what.as_str()), ("not-submitted", "3 of 4 Jobs not submitted"));
    let why = failure.why.unwrap();
    assert!(
        why.contains("job-1: open b.json: no such file")
            && why.contains("1 not tried")
            && why.contains("1 uploaded and not published"),
        "{why}"
    );
    assert!(failure.next.unwrap().ends_with("cargo xtask submit --session s x"));
}

#[test]
fn a_submission_that_was_stopped_says_so() {
    let sent = fates(vec![submitted(), Fate::NotTried]);
    let failure = report(&sent).result().unwrap_err().downcast::<Failure>().unwrap();
    assert_eq!((failure.code, failure.exit), ("stopped", exit::FAILED));
}

#[test]
fn only_a_session_that_succeeded_whole_is_a_success() {
    let outcome = |state| Outcome::new("bu1", state, "x", "");
    let waited = |ended, outcomes| Waited { ended, outcomes, missing: vec![] };
    assert!(all_succeeded(&waited(Ended::Settled, vec![outcome(State::Succeeded)])));
    assert!(!all_succeeded(&waited(Ended::Settled, vec![outcome(State::Succeeded), outcome(State::Cancelled)])));
    assert!(!all_succeeded(&waited(Ended::TimedOut, vec![outcome(State::Succeeded)])));
}
