use std::sync::Arc;

use serde_json::json;
use sessions::{
    Counts,
    jobs::State,
    results::{PORTFOLIO, Row},
};

use web::Query;

use super::{
    parts::paged,
    results::{Cell, Results},
    *,
};
use crate::session::{Entry, Results as Kept, Session, Settled};

fn row(job: &str, row: &str, measure: &str, value: serde_json::Value, error: Option<f64>) -> Row {
    Row {
        session: "s".into(),
        job: job.into(),
        row: row.into(),
        measure: measure.into(),
        value: Some(value),
        standard_error: error.and_then(serde_json::Number::from_f64),
        error: None,
    }
}

/// A session of books that succeeded, one that failed and one that is pending.
fn session() -> Session {
    let book = |job: &str, value: f64| {
        Arc::new(Settled {
            rows: vec![
                row(job, "t1", "price", json!(value / 10.0), Some(0.5)),
                row(job, "t1", "value", json!(value), Some(5.0)),
                row(job, PORTFOLIO, "value", json!(value), Some(5.0)),
            ],
            has_output: true,
            ..Settled::default()
        })
    };
    let failed = Settled {
        message: "line 7, column 12".into(),
        rows: vec![Row {
            value: None,
            error: Some("failed: malformed-input".into()),
            ..row("c", "", "", json!(null), None)
        }],
        ..Settled::default()
    };
    let settled = vec![book("a", 10.0), book("b", -30.0), Arc::new(failed)];
    let states = [("a", State::Succeeded), ("b", State::Succeeded), ("c", State::Failed), ("d", State::Waiting)];
    let entry = |(number, (job, state)): (usize, (&str, State))| Entry {
        job: job.into(),
        state,
        attempt: 0,
        client: (job != "b").then(|| "me".into()),
        items: None,
        changed: None,
        code: "x".into(),
        settled: settled.get(number).cloned(),
    };
    Session {
        jobs: states.into_iter().enumerate().map(entry).collect(),
        counts: Counts { succeeded: 2, failed: 1, waiting: 1, ..Counts::default() },
        results: Kept { settled, left_out: 0 },
        ..Session::default()
    }
}

#[test]
fn the_status_says_it_in_a_sentence() {
    let mut session = session();
    assert_eq!(status(&session, "me").sentence, "3 of 4 inputs done, 1 of them without success.");
    let own = status(&session, "me");
    assert_eq!((own.cancellable, own.retryable), (1, 1));
    let of_others = status(&session, "you");
    assert_eq!((of_others.cancellable, of_others.retryable), (0, 0));
    session.counts = Counts { succeeded: 3, failed: 1, ..Counts::default() };
    assert_eq!(status(&session, "me").sentence, "All done: 3 of 4 inputs succeeded, 1 did not.");
    session.counts = Counts { succeeded: 1, ..Counts::default() };
    let now = status(&session, "me");
    assert_eq!((now.sentence.as_str(), now.is_done, now.is_good), ("All done: 1 input succeeded.", true, true));
    session.counts = Counts { succeeded: 1, row_errors: 2, ..Counts::default() };
    let now = status(&session, "me");
    assert_eq!(now.sentence, "All done: 1 input succeeded. 2 rows have an error in the results.");
    assert!(!now.is_good);
    assert!(status(&Session::default(), "me").is_empty);
}

#[test]
fn each_person_acts_on_their_own_inputs() {
    let acts = |session: &Session, client: &str| {
        let rows = jobs(session, "bu1", "s", client, &Query::parse("session=s&jobs-q=c%26")).rows;
        rows.into_iter().map(|row| row.act.map(|act| (act.link, act.refusal))).collect::<Vec<_>>()
    };
    let mut session = session();
    session.jobs[2].job = "c&".into();
    let link = "session=s&jobs-q=c%26&job=c%26&action=retry";
    let mut check = |owner: Option<&str>, client: &str, refusal: &str| {
        session.jobs[2].client = owner.map(str::to_owned);
        assert_eq!(acts(&session, client), [Some((link.to_owned(), refusal.to_owned()))]);
    };
    check(Some("me"), "me", "");
    check(Some("me"), "you", "Submitted by me.");
    check(Some(""), "me", "It is not known who submitted it.");
    check(None, "me", "Its input was deleted.");
    session.jobs[2].state = State::Waiting;
    session.jobs[2].client = Some("me".into());
    assert_eq!(acts(&session, "me"), [Some((link.replace("retry", "cancel"), String::new()))]);
    session.jobs[2].state = State::Succeeded;
    assert_eq!(acts(&session, "me"), [None]);
}

#[test]
fn a_bar_is_whole() {
    let bar = bar(&Counts { succeeded: 1, failed: 1, running: 1, waiting: 1, ..Counts::default() });
    let widths: f64 = bar.iter().map(|segment| segment.width).sum();
    assert!((widths - 100.0).abs() < 1e-9 && bar.len() == 3 && bar[2].from == 50.0, "{bar:?}");
    assert!(super::bar(&Counts::default()).is_empty());
}

#[test]
fn what_did_not_succeed_comes_first_and_can_be_chosen() {
    let names = |query: &str| {
        let jobs = jobs(&session(), "bu1", "s", "me", &Query::parse(query));
        jobs.rows.iter().map(|row| format!("{} {}", row.job, row.state)).collect::<Vec<_>>()
    };
    assert_eq!(names(""), ["c failed", "a succeeded", "b succeeded", "d pending"]);
    assert_eq!(names("state=pending"), ["d pending"]);
    assert_eq!(names("jobs-q=A"), ["a succeeded"]);
    let jobs = jobs(&session(), "bu1", "s", "me", &Query::default());
    assert_eq!(jobs.rows[0].message, "line 7, column 12");
    assert_eq!(jobs.rows[1].raw.as_deref(), Some("business=bu1&session=s&job=a"));
}

fn alone(query: &str) -> Results {
    results(&session(), "s", None, &Query::parse(query))
}

#[test]
fn results_are_lines_with_a_chart_of_the_same_lines() {
    let view = alone("");
    let shown: Vec<_> =
        view.lines.iter().map(|line| (&*line.job, &*line.cells[0].value, &*line.cells[0].half, &*line.error)).collect();
    let expected = [("a", "10.0", "9.8", ""), ("b", "−30.0", "9.8", ""), ("c", "", "", "failed: malformed-input")];
    assert_eq!(shown, expected);
    assert_eq!(view.chart.unwrap().marks[0].text, "10.0 ± 9.8", "chart and table have the same interval");
    assert_eq!((view.measure.as_str(), view.levels.len()), ("value", 2));
    let view = alone("rows=all&measure=price&sort=value&q=b");
    assert_eq!(view.columns, ["price", "value"]);
    let cells = &view.lines[0].cells;
    assert_eq!(
        (&*view.lines[0].row, &*cells[0].half, &*cells[1].value),
        ("t1", "0.98", "−30.0"),
        "one line for a trade"
    );
    assert_eq!(cells[0].exact, "-3, standard error 0.5");
    assert_eq!(view.missing, "1 pending", "the order by value is not final");
    let none = results(&Session::default(), "s", None, &Query::default());
    assert!(!none.has_any && none.chart.is_none() && none.lines.is_empty() && none.total.is_none());
}

#[test]
fn values_are_summed_with_their_combined_error_once() {
    for query in ["", "rows=all", "rows=all&page=9&sort=error"] {
        let total = alone(query).total.unwrap();
        let value = total.cells.last().unwrap();
        assert_eq!((&*value.value, &*value.exact), ("−20.0", "-20, standard error 7.0710678118654755"), "{query}");
        assert!(total.error.contains("1 line with an error is not"), "{query}: {total:?}");
        assert!(total.cells.len() == 1 || total.cells[0] == Cell::default(), "prices of one option have no sum");
    }
}

#[test]
fn two_sessions_stand_beside_each_other_with_what_differs() {
    let (before, mut after) = (session(), session());
    let mut book = (*after.results.settled[0]).clone();
    book.rows[2].value = Some(json!(50.0));
    after.results.settled[0] = Arc::new(book);
    let mut book = (*after.results.settled[1]).clone();
    book.rows.iter_mut().for_each(|row| row.job = "new".into());
    after.results.settled[1] = Arc::new(book);
    let view = results(&after, "after", Some(("before", &before)), &Query::parse("sort=value&against=before&page=1"));
    assert_eq!(view.columns, ["before", "after", "Difference"]);
    let lines: Vec<_> = view
        .lines
        .iter()
        .map(|line| (&*line.job, &*line.cells[0].value, &*line.cells[1].value, &*line.cells[2].value))
        .collect();
    assert_eq!(lines, [("a", "10.0", "50.0", "40.0"), ("new", "", "−30.0", "new"), ("b", "−30.0", "", "gone")]);
    assert_eq!((&*view.lines[0].cells[2].half, view.chart.unwrap().marks.len()), ("13.9", 1));
    assert!(view.changes.starts_with("1 number in both sessions, 1 of them with a difference"), "{}", view.changes);
    assert!(view.changes.ends_with("1 new, 1 gone.") && view.missing == "1 pending; 1 pending in before");
    assert_eq!(view.alone, "sort=value");
}

#[test]
fn pages_link_to_their_neighbours_and_keep_the_rest_of_the_query() {
    let (pages, range) = paged(120, 50, &Query::parse("q=x&page=2"), "page");
    assert_eq!((range, pages.pages), (50..100, 3));
    assert_eq!((pages.previous.as_deref(), pages.next.as_deref()), (Some("q=x"), Some("q=x&page=3")));
    let (pages, range) = paged(0, 50, &Query::parse("page=99"), "page");
    assert_eq!((range, pages.page, pages.next), (0..0, 1, None));
}
