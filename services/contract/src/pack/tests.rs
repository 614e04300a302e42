use super::*;
use crate::{Outcome, testing};

fn item(index: u32, state: State) -> Item {
    let reason = Reason { code: "timeout".into(), message: format!("item {index} took too long") };
    Item { result: None, ..Item::without_result(index, state, reason) }
}

fn succeeded(index: u32) -> Item {
    Item { reason: None, result: Some(ItemResult::inline(b"1", "text/plain")), ..item(index, State::Succeeded) }
}

/// Every item is in exactly one range, and ranges are found by their first item only.
#[test]
fn ranges_divide_the_items() {
    for (items, per_range) in [(1, 1), (1, 1000), (10, 3), (1000, 1000), (1001, 1000)] {
        let pack = Pack { format: Format::Lines, items, items_per_range: per_range, rows_per_item: 2 };
        pack.check().unwrap();
        let ranges: Vec<_> = pack.ranges().map(|first| pack.range(first).unwrap()).collect();
        assert_eq!(ranges.iter().cloned().flatten().collect::<Vec<_>>(), (0..items).collect::<Vec<_>>());
        assert_eq!((0..items + 5).filter(|first| pack.range(*first).is_some()).count(), ranges.len());
        assert_eq!(pack.rows(&ranges[0]), 0..2 * ranges[0].end as usize);
    }
}

#[test]
fn a_pack_has_some_ranges_for_each_job_and_keeps_the_limits() {
    let size = |items, jobs| Pack::new(Format::Table, items, 1, jobs).items_per_range;
    assert_eq!([size(1, 4), size(8, 4), size(100, 4), size(100_000, 4), size(10, 0)], [1, 1, 13, 1000, 5]);
    for items in [1, 7, 100_000, ITEMS_MAX] {
        for jobs in [1, 4, 1000, u32::MAX] {
            Pack::new(Format::Table, items, 1, jobs).check().unwrap();
        }
    }
    let pack =
        |items, items_per_range, rows_per_item| Pack { format: Format::Table, items, items_per_range, rows_per_item };
    for wrong in [
        pack(0, 1, 1),
        pack(1, 0, 1),
        pack(1, 1001, 1),
        pack(1, 1, 0),
        pack(100_001, 1, 1),
        pack(ITEMS_MAX + 1, 1000, 1),
    ] {
        assert!(wrong.check().is_err(), "{wrong:?}");
    }
    assert_eq!(
        [Pack::items_for(3, 2), Pack::items_for(0, 2), Pack::items_for(usize::MAX, 1)],
        [Some(2), Some(0), None]
    );
}

#[test]
fn counts_are_read_as_they_were_written() {
    let counts = Counts { succeeded: 3, failed: 2, cancelled: 1 };
    assert_eq!(Counts::decode(&counts.encode()), Some(counts));
    for wrong in ["", "succeeded", "succeeded=x", "other=1", "succeeded=-1"] {
        assert_eq!(Counts::decode(wrong), None, "{wrong:?}");
    }
}

#[test]
fn results_are_text_or_base64() {
    for bytes in [&b"{\"price\": 1}\n"[..], b"", b"\xff\x00\x01"] {
        assert_eq!(ItemResult::inline(bytes, "x").bytes().as_deref(), Some(bytes));
    }
    assert_eq!((inline_max(INLINE_RESULT_MAX, 1), inline_max(INLINE_RESULT_MAX, 1000)), (16384, 2097));
}

#[test]
fn the_name_of_a_file_is_a_part_of_what_its_result_may_have() {
    assert_eq!([inline_result_max(1, None), inline_result_max(1000, None)], [16384, 2097]);
    assert_eq!(inline_result_max(1000, Some(&"n".repeat(1024))), 1073);
    assert_eq!(inline_result_max(u32::MAX as usize, Some("name")), 0);
    let mut outcome = Outcome::new("bu1", State::Failed, "x", "");
    outcome.work = Some(testing::work("bu1", "s", "j"));
    outcome.set_items(&(0..2), vec![Item { name: Some("a/b".into()), ..succeeded(0) }, succeeded(1)]);
    let jobs: Vec<String> = outcome.by_item().into_iter().map(|item| item.work.unwrap().job).collect();
    assert_eq!(jobs, ["j/a/b", "j[1]"]);
    let text = serde_json::to_string(&outcome).unwrap();
    assert_eq!(serde_json::from_str::<Outcome>(&text).unwrap(), outcome);
    assert_eq!(text.matches("name").count(), 1, "{text}");
}

#[test]
fn the_first_part_that_records_an_item_decides() {
    let part = |items| Part { schema: SCHEMA, pod: "p".into(), cpu_seconds: 0.0, items, begun: vec![], stopped: false };
    let parts = [part(vec![succeeded(1)]), part(vec![item(1, State::Failed), item(0, State::Failed)])];
    let found = recorded(&parts);
    assert_eq!(
        found.iter().map(|(index, item)| (*index, item.state)).collect::<Vec<_>>(),
        [(0, State::Failed), (1, State::Succeeded)]
    );
}

/// What the outcome of the range 2..5 says, which ended so and has these records.
fn check(ended: State, items: Vec<Item>, expected: (State, &str, Counts)) {
    let mut outcome = Outcome::new("bu1", ended, "stopped", "the pod was stopped");
    outcome.work = Some(testing::work("bu1", "s", "j"));
    outcome.set_items(&(2..5), items);
    assert_eq!((outcome.state, &*outcome.reason.message, outcome.counts()), expected);
    assert_eq!(outcome.items.iter().map(|item| item.index).collect::<Vec<_>>(), [2, 3, 4]);
    assert!(outcome.items.iter().all(|item| (item.state == State::Succeeded) == item.result.is_some()));
}

#[test]
fn an_outcome_says_how_every_item_of_its_range_ended() {
    let counts = |succeeded, failed, cancelled| Counts { succeeded, failed, cancelled };
    let all = || vec![succeeded(2), succeeded(3), succeeded(4)];
    check(State::Succeeded, all(), (State::Succeeded, "all 3 items have a result", counts(3, 0, 0)));
    // The engine recorded everything before it was killed.
    check(State::Failed, all(), (State::Succeeded, "all 3 items have a result", counts(3, 0, 0)));
    let some = || vec![succeeded(2), item(3, State::Failed), succeeded(9)];
    check(
        State::Failed,
        some(),
        (State::Failed, "2 of 3 items failed, first item 3: item 3 took too long", counts(1, 2, 0)),
    );
    check(
        State::Cancelled,
        some(),
        (State::Failed, "1 of 3 items failed, first item 3: item 3 took too long", counts(1, 1, 1)),
    );
    let stopped = "1 of 3 items are cancelled, first item 4: the pod was stopped";
    check(State::Cancelled, vec![succeeded(2), succeeded(3)], (State::Cancelled, stopped, counts(2, 0, 1)));
    let named = |item: Item| Item { name: Some("a/b.json".into()), ..item };
    let message = "1 of 3 items failed, first item 3 (a/b.json): item 3 took too long";
    let items = vec![succeeded(2), named(item(3, State::Failed)), succeeded(4)];
    check(State::Failed, items, (State::Failed, message, counts(2, 1, 0)));
    let nothing = "1 of 3 items failed, first item 4: the engine ended well, but recorded nothing for this item";
    check(State::Succeeded, vec![succeeded(2), succeeded(3)], (State::Failed, nothing, counts(2, 1, 0)));
}

#[test]
fn the_starts_of_ranges_are_where_their_lines_are() {
    // The same by a loop over all lines.
    let expected = |text: &str, pack: &Pack| {
        let found: Vec<&[u8]> = lines(text.as_bytes()).collect();
        let end = |line: usize| found[..line.min(found.len())].iter().map(|line| line.len() as u64).sum::<u64>();
        let mut starts: Vec<u64> = pack.ranges().map(|first| end(pack.rows(&(0..first)).end)).collect();
        starts.push(text.len() as u64);
        starts
    };
    let pack = Pack { format: Format::Lines, items: 5, items_per_range: 2, rows_per_item: 2 };
    for (text, is_described) in [
        ("a\nbb\n\nd\ne\nf\ngggg\nh\ni\n", true),
        ("a\r\nb\nc\nd\ne\nf\ng\nh\ni\nj", true),
        ("a\nb\nc\nd\ne\nf\ng\nh\n", false),
        ("a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\n", false),
        ("", false),
    ] {
        for piece in 1..=text.len().max(1) {
            let mut starts = Starts::new(&pack);
            text.as_bytes().chunks(piece).for_each(|bytes| starts.push(bytes));
            let layout = Layout { pack: pack.clone(), starts: starts.finish() };
            assert_eq!(layout.starts, if is_described { expected(text, &pack) } else { Vec::new() }, "{text:?}");
            let spans = pack.ranges().filter_map(|first| layout.span(first));
            let joined: String =
                spans.map(|span| &text[span.offset as usize..(span.offset + span.length) as usize]).collect();
            assert_eq!(joined, if is_described { text } else { "" });
        }
    }
}
