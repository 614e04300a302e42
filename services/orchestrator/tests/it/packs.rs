//! Packs: split once, computed by range, with one outcome for each range.

use std::time::Duration;

use contract::{
    Outcome,
    message::Work,
    object,
    outcome::State as Ended,
    pack::{Counts, Format, Layout, Pack, Span, files},
};
use serde_json::json;

use crate::fixture::{Fixture, Process, Setting, pack, ranges};

/// At this age the sweep requeues an input.
const OLD: Duration = Duration::from_secs(4000);

fn outcome(fixture: &Fixture, work: &Work) -> Outcome {
    fixture.outcomes().remove(&work.outcome()).unwrap()
}

fn counts(succeeded: u32, failed: u32, cancelled: u32) -> Counts {
    Counts { succeeded, failed, cancelled }
}

#[test]
fn each_range_of_a_pack_is_one_job_and_the_last_success_deletes_the_input() {
    let fixture = Fixture::new();
    let work = fixture.submit("pack", "good", Some(9), 1);
    let process = Process::start(&fixture, Setting { max_active_jobs: 3, ..Setting::default() });
    fixture.wait_until_done();
    fixture.check_succeeded([&work]);
    let state = fixture.state();
    assert_eq!(state.creations.len(), 5);
    assert!(state.creations.values().all(|count| *count == 1));
    // The input, the layout, and for each range a part and an outcome.
    let written: Vec<_> = state.written.iter().filter(|name| name.contains("pack")).collect();
    assert_eq!(written.len(), 2 + 2 * 5, "{written:?}");
    let layout = object::layout("bu1", "s1", "pack", work.identity.generation);
    assert_eq!(serde_json::from_slice::<Pack>(&state.objects[&layout].contents).unwrap(), pack(9));
    let last = ranges(&work).pop().unwrap();
    let events: Vec<_> =
        state.events.iter().filter(|event| event.get("first").map(String::as_str) == Some("8")).collect();
    assert_eq!((events.len(), events[0]["count"].as_str()), (1, "1"));
    let metadata = &state.objects[&last.outcome()].metadata;
    assert_eq!(metadata["deskgrid-items-ended"], "succeeded=1,failed=0,cancelled=0");
    drop(state);
    process.terminate().unwrap();
}

#[test]
fn each_range_of_a_large_pack_of_lines_reads_its_part() {
    let fixture = Fixture::new();
    // The lines of an item have other lengths than those of the next one.
    let lines = |item: usize| format!("good{}\n", "x".repeat(4_000_000 + item));
    let text: String = (0..9).map(lines).collect();
    let text: &'static str = text.leak();
    let pack = Pack { format: Format::Lines, ..pack(9) };
    let work = fixture.submit_to("s1", "pack", text, 1, |work| work.pack = Some(pack.clone()));
    let process = Process::start(&fixture, Setting::default());
    fixture.wait_until_done();
    fixture.check_succeeded([&work]);
    let (outcomes, state) = (fixture.outcomes(), fixture.state());
    let layout = object::layout("bu1", "s1", "pack", work.identity.generation);
    let layout: Layout = serde_json::from_slice(&state.objects[&layout].contents).unwrap();
    assert_eq!(layout.pack, pack);
    for range in ranges(&work) {
        let found = outcomes[&range.outcome()].work.as_ref().unwrap();
        let Span { offset, length } = found.span.unwrap();
        let first = usize::try_from(range.identity.first.unwrap()).unwrap();
        let part = &text[usize::try_from(offset).unwrap()..usize::try_from(offset + length).unwrap()];
        assert!(part == (first..9).take(2).map(lines).collect::<String>(), "the lines of the range from {first}");
    }
    drop(state);
    process.terminate().unwrap();
}

#[test]
fn a_pack_of_one_range_needs_no_second_message() {
    let fixture = Fixture::new();
    let work = fixture.submit("pack", "good", Some(2), 2);
    let process = Process::start(&fixture, Setting::default());
    fixture.wait_until_done();
    fixture.check_succeeded([&work]);
    let state = fixture.state();
    assert_eq!((state.acked, state.creations.len()), (2, 1));
    drop(state);
    process.terminate().unwrap();
}

#[test]
fn a_retry_computes_the_failed_items_only_and_its_outcome_describes_the_whole_range() {
    let fixture = Fixture::new();
    let work = fixture.submit("pack", "mixed", Some(4), 1);
    let process = Process::start(&fixture, Setting::default());
    fixture.wait_until_done();
    fixture.check(&[(&work, Ended::Failed, "malformed-input")]);
    for range in ranges(&work) {
        let outcome = outcome(&fixture, &range);
        assert_eq!(outcome.counts(), counts(1, 1, 0));
        assert!(outcome.reason.message.starts_with("1 of 2 items failed, first item "), "{}", outcome.reason.message);
    }
    let mut retry = work.clone();
    retry.identity.attempt = 1;
    fixture.publish_work(&retry);
    fixture.wait("the input is deleted", |state| !state.objects.contains_key(&work.identity.object));
    fixture.wait_until_done();
    fixture.check_succeeded([&retry]);
    let state = fixture.state();
    for range in ranges(&retry) {
        let job = state.jobs[&range.identity.job_name()]["metadata"]["annotations"]["deskgrid.dev/work"].clone();
        let computed: Work = serde_json::from_str(job.as_str().unwrap()).unwrap();
        assert_eq!(computed.items(), [range.identity.first.unwrap() + 1]);
    }
    drop(state);
    process.terminate().unwrap();
}

#[test]
fn a_cancelled_range_keeps_the_results_it_had() {
    let fixture = Fixture::new();
    fixture.change(|state| state.engines_record_one = true);
    let work = fixture.submit("pack", "good", Some(4), 1);
    let process = Process::start(&fixture, Setting::default());
    fixture.wait("both run", |state| state.jobs.len() == 2);
    fixture.cancel("s1");
    fixture.wait_until_done();
    for range in ranges(&work) {
        let outcome = outcome(&fixture, &range);
        assert_eq!((outcome.state, outcome.counts()), (Ended::Cancelled, counts(1, 0, 1)));
    }
    assert!(fixture.state().objects.contains_key(&work.identity.object));
    process.terminate().unwrap();
}

#[test]
fn a_pack_that_waits_is_cancelled_or_parked_before_it_is_split() {
    let fixture = Fixture::new();
    fixture.expect_warnings(&["cannot become a Job"]);
    fixture.decide("s1", Some(json!({"paused": true})));
    let paused = fixture.submit("pack", "good", Some(4), 1);
    let cancelled = fixture.submit_to("s2", "pack", "good", 1, |work| work.pack = Some(pack(4)));
    fixture.cancel("s2");
    let process = Process::start(&fixture, Setting::default());
    fixture.wait_until_done();
    assert_eq!(fixture.count("parked"), 1);
    let whole = outcome(&fixture, &cancelled);
    assert_eq!((whole.state, fixture.outcomes().len()), (Ended::Cancelled, 1));
    fixture.decide("s1", None);
    fixture.wait("it ran", |state| !state.objects.contains_key(&paused.identity.object));
    fixture.wait_until_done();
    fixture.check_succeeded([&paused]);
    process.terminate().unwrap();
}

#[test]
fn only_the_layout_defines_ranges() {
    let fixture = Fixture::new();
    fixture.expect_warnings(&["refused the message"]);
    let work = fixture.submit("pack", "good", Some(4), 1);
    let process = Process::start(&fixture, Setting::default());
    fixture.wait_until_done();
    // The same input, divided otherwise: aligned by its own count, but not by the layout.
    let other = Pack { items_per_range: 1, ..pack(4) };
    let misaligned = Work { pack: Some(other.clone()), ..work.clone() }.of_range(3);
    let aligned = Work { pack: Some(other), ..work.clone() }.of_range(2);
    let refused = fixture.publish_work(&misaligned);
    fixture.publish_work(&aligned);
    fixture.wait_until_done();
    fixture.check_succeeded([&work]);
    let refused = fixture.outcomes().remove(&format!("bu1/outcome/refused/{refused}.json")).unwrap();
    assert_eq!(refused.reason.code, "misaligned-range");
    assert!(refused.reason.message.contains("item 3 begins no range"), "{}", refused.reason.message);
    assert_eq!(fixture.state().creations.len(), 2);
    process.terminate().unwrap();
}

#[test]
fn the_sweep_requeues_lost_ranges_and_deletes_what_a_crash_left() {
    let fixture = Fixture::new();
    let work = fixture.submit("pack", "good", Some(6), 1);
    let process = Process::start(&fixture, Setting::default());
    fixture.wait_until_done();
    process.terminate().unwrap();
    let options = work.metadata();
    // The messages of two ranges were lost, and their Jobs with them; the input is there.
    let restore = |lost: &[Work]| {
        fixture.change(|state| {
            let generation = work.identity.generation;
            let input = crate::fixture::Object {
                generation,
                contents: "good".into(),
                metadata: options.clone(),
                created: jiff::Timestamp::now(),
            };
            state.objects.insert(work.identity.object.clone(), input);
            for range in lost {
                state.objects.remove(&range.outcome());
                state.objects.remove(&range.part(0));
                state.written.retain(|name| *name != range.outcome() && *name != range.part(0));
                state.delete(&range.identity.job_name());
            }
        });
    };
    restore(&ranges(&work)[1..]);
    let process = Process::start(&fixture, Setting { ahead: OLD, ..Setting::default() });
    fixture.wait("the input is deleted", |state| !state.objects.contains_key(&work.identity.object));
    fixture.wait_until_done();
    fixture.check_succeeded([&work]);
    let first = ranges(&work)[0].identity.job_name();
    assert_eq!(fixture.state().creations[&first], 1, "the first range had its outcome");
    process.terminate().unwrap();
    // Every range has its outcome, and the process ended before it deleted the input.
    restore(&[]);
    let process = Process::start(&fixture, Setting { ahead: OLD, ..Setting::default() });
    fixture.wait("the input is deleted", |state| !state.objects.contains_key(&work.identity.object));
    fixture.check_succeeded([&work]);
    assert_eq!(fixture.state().creations.len(), 3);
    process.terminate().unwrap();
}

#[test]
fn an_input_that_is_gone_before_its_split_has_an_outcome() {
    let fixture = Fixture::new();
    fixture.expect_warnings(&["cannot become a Job"]);
    let work = fixture.submit("pack", "good", Some(4), 1);
    fixture.change(|state| state.objects.remove(&work.identity.object));
    let process = Process::start(&fixture, Setting::default());
    fixture.wait_until_done();
    let outcome = outcome(&fixture, &work);
    assert_eq!((outcome.state, outcome.reason.code.as_str()), (Ended::Failed, "input-missing"));
    process.terminate().unwrap();
}

#[test]
fn a_compressed_pack_is_refused_before_it_has_a_layout() {
    let fixture = Fixture::new();
    fixture.expect_warnings(&["refused the upload"]);
    let work = fixture.submit("pack", "good", Some(4), 0);
    fixture.change(|state| {
        let input = state.objects.get_mut(&work.identity.object).unwrap();
        input.contents = bytes::Bytes::from_static(&[0x1f, 0x8b, 8]);
    });
    fixture.publish_work(&work);
    let process = Process::start(&fixture, Setting::default());
    fixture.wait_until_done();
    let outcome = outcome(&fixture, &work);
    assert_eq!((outcome.state, outcome.reason.code.as_str()), (Ended::Refused, "compressed-pack"));
    assert_eq!(outcome.reason.message, contract::pack::COMPRESSED);
    let layout = object::layout("bu1", "s1", "pack", work.identity.generation);
    assert!(!fixture.state().objects.contains_key(&layout) && fixture.state().creations.is_empty());
    process.terminate().unwrap();
}

/// An archive of so many files, each of so many bytes.
fn archive(files: usize, size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let file = |number| Ok((format!("d/{number}.txt"), vec![b'g'; size + number]));
    files::write(&mut bytes, (0..files).map(file)).unwrap();
    bytes
}

fn check_archive(contents: Vec<u8>, expected: &str) {
    let fixture = Fixture::new();
    fixture.expect_warnings(&["refused the upload"]);
    let work = fixture.submit_to("s1", "pack", "", 0, |work| {
        work.pack = Some(Pack { format: Format::Files, ..pack(4) });
    });
    fixture.change(|state| {
        let input = state.objects.get_mut(&work.identity.object).unwrap();
        input.contents = contents.into();
    });
    fixture.publish_work(&work);
    let process = Process::start(&fixture, Setting::default());
    fixture.wait_until_done();
    let outcome = outcome(&fixture, &work);
    assert_eq!((outcome.state, outcome.reason.code.as_str()), (Ended::Refused, "malformed-archive"));
    assert!(outcome.reason.message.contains(expected), "{}", outcome.reason.message);
    let (layout, state) = (object::layout("bu1", "s1", "pack", work.identity.generation), fixture.state());
    assert!(!state.objects.contains_key(&layout) && state.creations.is_empty());
    assert!(state.objects.contains_key(&work.identity.object), "the input is kept");
    drop(state);
    process.terminate().unwrap();
}

#[test]
fn an_archive_that_cannot_be_a_pack_is_refused_before_it_has_a_layout() {
    let whole = archive(4, 600);
    check_archive(whole[..whole.len() - 2048].to_vec(), "the archive is cut off at \"d/3.txt\"");
    check_archive(whole[..2048].to_vec(), "is cut off at \"d/1.txt\"");
    check_archive(archive(3, 1), "has 3 files, but the pack describes 4");
    check_archive(b"{}".to_vec(), "is not a tar archive");
}

#[test]
fn each_range_of_a_large_pack_of_files_reads_its_part() {
    let fixture = Fixture::new();
    let bytes = archive(9, 4_000_000);
    let text: &'static str = String::from_utf8(bytes.clone()).unwrap().leak();
    let pack = Pack { format: Format::Files, ..pack(9) };
    let work = fixture.submit_to("s1", "pack", text, 1, |work| work.pack = Some(pack.clone()));
    let process = Process::start(&fixture, Setting::default());
    fixture.wait_until_done();
    let outcomes = fixture.outcomes();
    for range in ranges(&work) {
        let outcome = &outcomes[&range.outcome()];
        let Span { offset, length } = outcome.work.as_ref().unwrap().span.unwrap();
        let part = &bytes[usize::try_from(offset).unwrap()..usize::try_from(offset + length).unwrap()];
        let mut names = Vec::new();
        files::read(part, true, |file| names.push(file.name)).unwrap();
        let first = range.identity.first.unwrap();
        assert_eq!(names, (first..9).take(2).map(|number| format!("d/{number}.txt")).collect::<Vec<_>>());
        // The engines of this fixture record none.
        let recorded: Vec<String> = outcome.items.iter().map(|item| item.name.clone().unwrap()).collect();
        assert_eq!(recorded, names);
    }
    process.terminate().unwrap();
}

#[test]
fn items_that_end_their_pod_fail_with_the_reason_of_the_job() {
    let fixture = Fixture::new();
    let work = fixture.submit("pack", "kill", Some(2), 1);
    let process = Process::start(&fixture, Setting::default());
    fixture.wait_until_done();
    fixture.check(&[(&work, Ended::Failed, "kills-pods")]);
    assert_eq!(outcome(&fixture, &ranges(&work)[0]).counts(), counts(0, 2, 0));
    process.terminate().unwrap();
}
