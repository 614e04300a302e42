use contract::{
    outcome::Reason,
    pack::{Format, Item, Pack},
    testing,
};

use super::*;

fn part(index: u32, offset: u64, length: u64) -> Item {
    let object = "bu1/output/s/p/7-0-0/0.data".to_owned();
    let result = ItemResult::Object { object, generation: 9, offset, length, content_type: String::new() };
    Item { result: Some(result), ..without(index, State::Succeeded) }
}

fn without(index: u32, state: State) -> Item {
    Item::without_result(index, state, Reason::default())
}

#[test]
fn an_outcome_names_results_and_lacks_none() {
    let pack = Pack { format: Format::Lines, items: 4, items_per_range: 4, rows_per_item: 1 };
    let mut range = Outcome::new("bu1", State::Failed, "x", "");
    range.work = Some(contract::message::Work { pack: Some(pack), ..testing::work("bu1", "s", "p") }.of_range(0));
    range.items = vec![part(0, 0, 10), part(1, 10, 5), without(2, State::Succeeded)];
    let mut single = Outcome::new("bu1", State::Succeeded, "completed", "");
    single.work = Some(testing::work("bu1", "s", "j"));
    let (mut verified, mut named) = (Verified::default(), Named::new());
    for outcome in [&range, &single] {
        verified.add(outcome, "o", &mut named);
    }
    let found: Vec<_> = verified.problems.iter().map(|problem| (problem.problem, problem.item)).collect();
    assert_eq!(found, [(Kind::NoResult, Some(3)), (Kind::NoResult, Some(2))]);
    assert_eq!((verified.outcomes, verified.results), (2, 3));
    let object = |name: &str, generation| (name.to_owned(), generation);
    let expected = [
        (object("bu1/output/s/j/7-0", None), Result { job: "j".into(), item: None, end: 0 }),
        (object("bu1/output/s/p/7-0-0/0.data", Some(9)), Result { job: "p".into(), item: Some(0), end: 15 }),
    ];
    assert_eq!(named, expected.into());
}

#[test]
fn an_object_is_compared_by_generation_size_and_hash() {
    let listed = Fingerprint { generation: 9, size: 20, crc32c: Some(7), compressed: false };
    let check = |end, generation, listed: Option<&Fingerprint>, read, expected| {
        let found = compare(&Result { end, ..Result::default() }, generation, listed, read);
        assert_eq!(found.map(|(kind, _)| kind), expected);
    };
    check(20, Some(9), Some(&listed), Some((20, 7)), None);
    check(0, None, Some(&listed), Some((20, 7)), None);
    check(0, None, None, None, Some(Kind::Missing));
    check(20, Some(8), Some(&listed), None, Some(Kind::Missing));
    check(20, Some(9), Some(&listed), None, Some(Kind::Missing));
    check(21, Some(9), Some(&listed), Some((20, 7)), Some(Kind::Differs));
    check(20, Some(9), Some(&listed), Some((20, 8)), Some(Kind::Differs));
    check(20, Some(9), Some(&listed), Some((19, 7)), Some(Kind::Differs));
}

#[test]
fn the_outcome_of_an_object_follows_from_its_name() {
    let check = |name: &str, expected: Option<&str>| {
        assert_eq!(outcome_of("bu1", "s", name).as_deref(), expected, "{name}");
    };
    check("bu1/output/s/a/b/7-0", Some("bu1/outcome/s/a/b/7-0.json"));
    check("bu1/output/s/p/7-40-1/12.json", Some("bu1/outcome/s/p/7-40-1.json"));
    check("bu1/output/s/p/7-40-1/12.data", Some("bu1/outcome/s/p/7-40-1.json"));
    check("bu1/output/s/split/7-0/2", Some("bu1/outcome/s/split/7-0.json"));
    check("bu1/output/s/p/notes.data", None);
}
