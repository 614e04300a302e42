//! Ranges against a bucket in memory.

use std::collections::BTreeMap;

use contract::{
    Identity,
    message::Work,
    pack::{Format, ItemResult, Pack, Part, SCHEMA, Span, recorded},
};

use super::*;
use crate::input::tests::{Bucket, block_on, settings, work};

/// The first range of a pack, and its input in the bucket.
fn range(bucket: &Bucket, format: Format, input: &str, items: u32, items_per_range: u32) -> Settings {
    bucket.put("bu1/input/s/j", 7, input.as_bytes());
    let pack = Some(Pack { format, items, items_per_range, rows_per_item: 1 });
    let identity = Identity { first: Some(0), ..work().identity };
    let mut settings = settings(Work { identity, pack, ..work() });
    let engine = &mut settings.config.businesses.get_mut("bu1").unwrap().engine;
    (engine.timeout_secs, engine.retries) = (1, 1);
    settings
}

fn lines(bucket: &Bucket, input: &str) -> Settings {
    let items = u32::try_from(input.lines().count()).unwrap();
    range(bucket, Format::Lines, input, items, items)
}

fn other_pod(settings: &Settings) -> Settings {
    Settings { pod: "pod-b".into(), ..settings.clone() }
}

fn compute(settings: &Settings, program: Option<&Program>, bucket: &Bucket) -> Result<Done, Failure> {
    block_on(run(settings, program, bucket, std::future::pending()))
}

fn parts(bucket: &Bucket, settings: &Settings) -> Vec<Part> {
    let texts = (0..).map_while(|number| bucket.text(&settings.work.part(number)));
    texts.map(|text| serde_json::from_str(&text).unwrap()).collect()
}

fn items(bucket: &Bucket, settings: &Settings) -> BTreeMap<u32, Item> {
    recorded(&parts(bucket, settings)).into_iter().map(|(index, item)| (index, item.clone())).collect()
}

/// Each recorded item: its result, or why it has none.
fn ends(bucket: &Bucket, settings: &Settings) -> Vec<String> {
    let end = |item: Item| match (item.state, item.result, item.reason) {
        (State::Succeeded, Some(ItemResult::Object { object, offset, length, generation: 1, .. }), None) => {
            let text = bucket.text(&object).unwrap();
            text[usize::try_from(offset).unwrap()..][..usize::try_from(length).unwrap()].to_owned()
        }
        (State::Succeeded, Some(result), None) => String::from_utf8(result.bytes().unwrap()).unwrap(),
        (State::Failed, None, Some(reason)) => format!("{}: {}", reason.code, reason.message),
        other => panic!("{other:?}"),
    };
    items(bucket, settings).into_values().map(end).collect()
}

fn put_part(bucket: &Bucket, settings: &Settings, number: u32, pod: &str, items: &[(u32, &str)], begun: &[u32]) {
    bucket.put(&settings.work.part(number), 1, &encoded(pod, items, begun));
}

fn encoded(pod: &str, items: &[(u32, &str)], begun: &[u32]) -> Vec<u8> {
    let item = |(index, text): &(u32, &str)| Item {
        index: *index,
        name: None,
        state: State::Succeeded,
        reason: None,
        log_tail: None,
        row_errors: 0,
        seconds: None,
        result: Some(ItemResult::inline(text.as_bytes(), "text/plain")),
    };
    let items = items.iter().map(item).collect();
    let (pod, begun) = (pod.to_owned(), begun.to_vec());
    serde_json::to_vec(&Part { schema: SCHEMA, pod, cpu_seconds: 0.0, items, begun, stopped: false }).unwrap()
}

fn program(script: &str) -> Program {
    Program {
        command: ["sh", "-c", script].map(str::to_owned).into(),
        permanent_exit_codes: vec![3],
        timeout: None,
        max_output_bytes: Some(4_000_000),
        content_type: None,
        resident: false,
    }
}

#[test]
fn an_item_that_can_never_work_fails_alone() {
    let bucket = Bucket::default();
    let settings = lines(&bucket, "one\n{\nthree\n");
    assert_eq!(compute(&settings, None, &bucket), Ok(Done::Recorded));
    let ends = ends(&bucket, &settings);
    assert!(ends[0].contains(r#""payload":"one\n""#) && ends[2].contains("three"), "{ends:?}");
    assert!(ends[1].starts_with("malformed-input: line "), "{ends:?}");
    let found = parts(&bucket, &settings);
    assert_eq!((found[0].pod.as_str(), &found[0].begun[..]), ("pod-a", &[0, 1, 2][..]));
    assert!(found.iter().skip(1).all(|part| part.begun.is_empty() && !part.items.is_empty()), "{found:?}");
    assert!(found.iter().all(|part| part.schema == SCHEMA && !part.stopped));
    assert!(items(&bucket, &settings)[&0].seconds.is_some_and(|seconds| seconds > 0.0));
    // There is nothing left to do, also without the input.
    bucket.put("bu1/input/s/j", 8, b"newer");
    assert_eq!(compute(&other_pod(&settings), None, &bucket), Ok(Done::AlreadyDone));
    assert_eq!(parts(&bucket, &settings), found);
}

#[test]
fn only_the_wanted_items_are_computed() {
    let bucket = Bucket::default();
    let mut settings = range(&bucket, Format::Lines, "a\nb\nc\nd\ne\n", 5, 3);
    settings.work.only = Some(vec![1]);
    let cat = program("cat; echo $DESKGRID_INDEX of $DESKGRID_COUNT");
    assert_eq!(compute(&settings, Some(&cat), &bucket), Ok(Done::Recorded));
    assert_eq!(items(&bucket, &settings).into_keys().collect::<Vec<_>>(), [1]);
    settings.work = Work { only: None, ..settings.work.of_range(3) };
    assert_eq!(compute(&settings, Some(&cat), &bucket), Ok(Done::Recorded));
    assert_eq!(ends(&bucket, &settings), ["d\n3 of 5\n", "e\n4 of 5\n"]);
    settings.work = settings.work.of_range(1);
    assert_eq!(compute(&settings, None, &bucket).unwrap_err().code, "configuration");
}

/// Those that `results` shows with an error.
#[test]
fn rows_with_an_error_in_the_result_of_a_program_are_counted() {
    let bucket = Bucket::default();
    let lines = r#"[{"id":"a","price":1},{"id":"b","error":"no quote"}]
id,price\na,1\nb,n/a\nc,NaN\n
{"price":1}
done
"#;
    let settings = range(&bucket, Format::Lines, lines, 4, 4);
    let shell = program("read -r line; printf \"$line\"");
    assert_eq!(compute(&settings, Some(&shell), &bucket), Ok(Done::Recorded));
    let counts: Vec<u32> = items(&bucket, &settings).values().map(|item| item.row_errors).collect();
    assert_eq!(counts, [1, 2, 0, 0]);
}

/// An archive of these files.
fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    contract::pack::files::write(&mut bytes, files.iter().map(|(name, text)| Ok(((*name).to_owned(), text)))).unwrap();
    bytes
}

#[test]
fn the_files_of_an_archive_are_items_with_names() {
    let bucket = Bucket::default();
    let bytes = archive(&[("a b", "1"), ("d/é", ""), ("c", "3\n"), ("e", "4")]);
    let mut settings = range(&bucket, Format::Files, "", 4, 2);
    bucket.put("bu1/input/s/j", 7, &bytes);
    let cat = program("cat; echo $DESKGRID_INDEX of $DESKGRID_COUNT: $DESKGRID_NAME");
    assert_eq!(compute(&settings, Some(&cat), &bucket), Ok(Done::Recorded));
    assert_eq!(ends(&bucket, &settings), ["10 of 4: a b\n", "1 of 4: d/é\n"]);
    let names: Vec<_> = items(&bucket, &settings).into_values().map(|item| item.name.unwrap()).collect();
    assert_eq!(names, ["a b", "d/é"]);
    let starts = contract::pack::files::starts(settings.work.pack.as_ref().unwrap(), &bytes[..]).unwrap();
    let span = Span { offset: starts[1], length: starts[2] - starts[1] };
    settings.work = Work { span: Some(span), ..settings.work.of_range(2) };
    assert_eq!(compute(&settings, Some(&cat), &bucket), Ok(Done::Recorded));
    assert_eq!(ends(&bucket, &settings), ["3\n2 of 4: c\n", "43 of 4: e\n"]);
    assert_eq!(bucket.parts.take(), [span]);
}

#[test]
fn a_file_is_computed_as_if_it_were_submitted_alone() {
    let bucket = Bucket::default();
    let settings = range(&bucket, Format::Files, "", 3, 3);
    bucket.put("bu1/input/s/j", 7, &archive(&[("a.txt", "one"), ("b.json", "two"), ("c.csv", "id,kind\n")]));
    assert_eq!(compute(&settings, None, &bucket), Ok(Done::Recorded));
    let ends = ends(&bucket, &settings);
    assert!(ends[0].contains(r#""payload":"one""#), "{ends:?}");
    assert!(ends[1].starts_with("malformed-input: ") && ends[2].starts_with("malformed-input: "), "{ends:?}");
}

#[test]
fn an_archive_that_is_not_what_the_pack_says_fails_its_items() {
    for (files, items, expected) in [
        (&[("a", "1"), ("b", "2"), ("c", "3")][..], 2, "pack-mismatch: the input has 3 files"),
        (&[("a", "1")], 2, "item-missing: the pack has 2 items of 1 files, but its input has 1 files"),
        (&[("a", "1"), ("a", "2")], 2, "malformed-archive: the archive has two files with the name \"a\""),
    ] {
        let bucket = Bucket::default();
        let settings = range(&bucket, Format::Files, "", items, items);
        bucket.put("bu1/input/s/j", 7, &archive(files));
        assert_eq!(compute(&settings, None, &bucket), Ok(Done::Recorded));
        assert!(ends(&bucket, &settings)[1].starts_with(expected), "{:?}", ends(&bucket, &settings));
    }
}

#[test]
fn a_range_with_a_part_of_the_input_reads_that_part() {
    let bucket = Bucket::default();
    let mut settings = range(&bucket, Format::Lines, "a\nb\nc\nd\ne\nf\ng\n", 4, 2);
    settings.work.pack.as_mut().unwrap().rows_per_item = 2;
    settings.work = Work { span: Some(Span { offset: 8, length: 6 }), ..settings.work.of_range(2) };
    let cat = program("tr '\\n' ' '; echo $DESKGRID_INDEX of $DESKGRID_COUNT");
    assert_eq!(compute(&settings, Some(&cat), &bucket), Ok(Done::Recorded));
    assert_eq!(ends(&bucket, &settings), ["e f 2 of 4\n", "g 3 of 4\n"]);
    assert_eq!(bucket.parts.take(), [Span { offset: 8, length: 6 }]);
}

#[test]
fn a_single_item_announces_nothing() {
    let bucket = Bucket::default();
    let settings = range(&bucket, Format::Whole, "x", 2, 1);
    assert_eq!(compute(&settings, None, &bucket), Ok(Done::Recorded));
    let parts = parts(&bucket, &settings);
    assert_eq!((parts.len(), parts[0].items.len(), &parts[0].begun[..]), (1, 1, &[][..]));
}

#[test]
fn items_of_a_table_are_priced_as_rows_of_the_whole() {
    let bucket = Bucket::default();
    let table = "id,kind,option,underlying,strike,maturity\n\
                 a,european,call,A,100,1\nb,european,call,A,NaN,1\na,european,call,A,100,1\nc,european,put,A,90,1\n";
    let market = r#"{"schema": 1, "seed": 9, "paths": 1000, "on_error": "row",
        "underlyings": {"A": {"spot": 100, "volatility": 0.2, "rate": 0}}}"#;
    let mut settings = range(&bucket, Format::Table, table, 2, 2);
    settings.work.pack.as_mut().unwrap().rows_per_item = 2;
    let failure = compute(
        &Settings { work: Work { common: vec!["market.json".into()], ..settings.work.clone() }, ..settings.clone() },
        None,
        &bucket,
    );
    assert_eq!(failure.unwrap_err().code, "common-data-missing");
    bucket.put("bu1/common/s/market.json", 1, market.as_bytes());
    settings.work.common = vec!["other.bin".into(), "market.json".into()];
    assert_eq!(compute(&settings, None, &bucket), Ok(Done::Recorded));
    for (index, rows) in [(0, 0..2), (1, 2..4)] {
        let item = &items(&bucket, &settings)[&index];
        let expected = kernel::price_rows(table.as_bytes(), &rows, Some(market.as_bytes()), 1).unwrap();
        assert_eq!(item.result, Some(ItemResult::inline(&expected.bytes, "application/json")));
        assert_eq!(item.row_errors, 1);
    }
    // What is no table is refused, and never echoed.
    let bucket = Bucket::default();
    let settings = range(&bucket, Format::Table, "engine payload 1\nx\n", 1, 1);
    compute(&settings, None, &bucket).unwrap();
    assert!(ends(&bucket, &settings)[0].starts_with("malformed-input: line 1, column 1: "));
}

#[test]
fn programs_share_the_common_data_and_each_has_its_log() {
    let bucket = Bucket::default();
    bucket.put("bu1/common/s/rates", 1, b"7");
    let mut settings = range(&bucket, Format::Table, "id\n1\n2\n3\n", 3, 3);
    settings.work.common = vec!["rates".into()];
    let script = "read h; read x; echo said $x >&2; [ $x = 2 ] && exit 3; cat $DESKGRID_COMMON/rates; echo $h $x";
    assert_eq!(compute(&settings, Some(&program(script)), &bucket), Ok(Done::Recorded));
    let expected = "program-failed: sh exited with code 3 (counted from the header of rows 2 to 2 of the table)";
    assert_eq!(ends(&bucket, &settings), ["7id 1\n", expected, "7id 3\n"]);
    let tails: Vec<_> = items(&bucket, &settings).into_values().map(|item| item.log_tail).collect();
    assert_eq!(tails, [None, Some("said 2\n".to_owned()), None]);
    assert_eq!(bucket.reads.borrow().iter().filter(|name| name.ends_with("rates")).count(), 1);
}

/// Programs that run at the same time write a file of the same name.
#[test]
fn programs_do_not_find_the_files_of_each_other() {
    let bucket = Bucket::default();
    let mut settings = lines(&bucket, "1\n2\n3\n4\n");
    settings.threads = 4;
    let script = "cat > t; for i in 1 2 3 4 5 6 7 8 9; do cat t > u; cat u > t; done; cat t";
    assert_eq!(compute(&settings, Some(&program(script)), &bucket), Ok(Done::Recorded));
    assert_eq!(ends(&bucket, &settings), ["1\n", "2\n", "3\n", "4\n"]);
}

#[test]
fn what_may_work_the_next_time_is_tried_again_after_the_others() {
    let bucket = Bucket::default();
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { threads: 1, ..lines(&bucket, "once\nalways\nslow\nnever\n") };
    let script = format!(
        "read x; echo $x >> {0}/order; case $x in once) mkdir {0}/first && exit 7;; always) exit 7;; slow) exec sleep 60;; \
         esac; echo $x",
        folder.path().display()
    );
    assert_eq!(compute(&settings, Some(&program(&script)), &bucket), Ok(Done::Recorded));
    let expected = [
        "once\n",
        "retries-exhausted: it failed 2 times, at last with program-failed: sh exited with code 7",
        "retries-exhausted: it failed 2 times, at last with timeout: sh ran longer than 1 s",
        "never\n",
    ];
    assert_eq!(ends(&bucket, &settings), expected);
    let order = std::fs::read_to_string(folder.path().join("order")).unwrap();
    assert_eq!(order, "once\nalways\nslow\nnever\nonce\nalways\nslow\n");
}

#[test]
fn a_program_that_stays_computes_all_items_of_a_thread() {
    let bucket = Bucket::default();
    bucket.put("bu1/common/s/rates", 1, b"7");
    let folder = tempfile::tempdir().unwrap();
    let mut settings = Settings { threads: 1, ..lines(&bucket, "a\nbad\ndies\nb\n") };
    settings.config.businesses.get_mut("bu1").unwrap().engine.retries = 5;
    settings.work.common = vec!["rates".into()];
    let script = format!(
        "rates=$(cat $DESKGRID_COMMON/rates); echo >> {}/starts; while read -r h; do l=${{h##*:}}; x=$(head -c ${{l%?}}); \
         echo said $x >&2; case $x in dies) exit 1;; bad) echo '{{\"error\":\"no\",\"permanent\":true}}';; \
         *) printf '{{\"length\":2}}\\n%s' $rates$x;; esac; done",
        folder.path().display()
    );
    let program = Program { resident: true, ..program(&script) };
    assert_eq!(compute(&settings, Some(&program), &bucket), Ok(Done::Recorded));
    let ended =
        "retries-exhausted: it failed 2 times, at last with program-ended: sh exited with code 1 before it answered";
    assert_eq!(ends(&bucket, &settings), ["7a", "program-failed: no", ended, "7b"]);
    let tails: Vec<_> = items(&bucket, &settings).into_values().map(|item| item.log_tail).collect();
    assert_eq!(tails, [None, Some("said bad\n".to_owned()), Some("said dies\n".to_owned()), None]);
    // Once at first, and once after the item that ended it: the second time it was the last one.
    assert_eq!(std::fs::read_to_string(folder.path().join("starts")).unwrap(), "\n\n");
}

#[test]
fn a_pack_that_does_not_fit_its_input_loses_nothing_silently() {
    let bucket = Bucket::default();
    let settings = range(&bucket, Format::Table, "id\n1\n2\n", 4, 4);
    compute(&settings, Some(&program("cat")), &bucket).unwrap();
    let missing = "item-missing: the pack has 4 items of 1 rows, but its input has 2 rows, and none for item";
    let expected =
        ["id\n1\n", "id\n2\n", &format!("{missing} 2; submit it again"), &format!("{missing} 3; submit it again")];
    assert_eq!(ends(&bucket, &settings), expected);
    let bucket = Bucket::default();
    let mut settings = range(&bucket, Format::Lines, "1\n2\n3\n4\n5\n", 3, 2);
    compute(&settings, Some(&program("cat")), &bucket).unwrap();
    assert_eq!(ends(&bucket, &settings), ["1\n", "2\n"]);
    settings.work = settings.work.of_range(2);
    compute(&settings, Some(&program("cat")), &bucket).unwrap();
    let message = "pack-mismatch: the input has 5 lines, but the pack describes 3 lines at most: 3 items of 1 lines";
    assert_eq!(ends(&bucket, &settings), [format!("{message}; submit it again")]);
}

#[test]
fn a_pod_goes_on_where_another_one_ended() {
    let bucket = Bucket::default();
    let settings = lines(&bucket, "a\nb\nc\nd\n");
    put_part(&bucket, &settings, 0, "pod-a", &[], &[0, 1, 2, 3]);
    put_part(&bucket, &settings, 1, "pod-a", &[(1, "theirs")], &[]);
    assert_eq!(compute(&other_pod(&settings), Some(&program("cat")), &bucket), Ok(Done::Recorded));
    assert_eq!(ends(&bucket, &settings), ["a\n", "theirs", "c\n", "d\n"]);
    // Each of the suspects is announced alone, when the one before it is recorded.
    let found = parts(&bucket, &settings);
    let announced: Vec<_> = found[2..].iter().map(|part| part.begun.clone()).collect();
    assert_eq!(announced, [vec![0], vec![2], vec![3], vec![]]);
    let ended: Vec<Vec<u32>> =
        found[2..].iter().map(|part| part.items.iter().map(|item| item.index).collect()).collect();
    assert_eq!(ended, [vec![], vec![0], vec![2], vec![3]]);
}

#[test]
fn a_part_that_cannot_be_read_counts_as_empty() {
    let bucket = Bucket::default();
    let settings = lines(&bucket, "a\nb\n");
    bucket.put(&settings.work.part(0), 1, b"{");
    bucket.put(&settings.work.part(1), 1, br#"{"schema": 99, "pod": "p", "cpu_seconds": 0, "items": []}"#);
    put_part(&bucket, &settings, 2, "pod-a", &[(1, "theirs")], &[]);
    let cat = program("cat");
    assert_eq!(compute(&settings, Some(&cat), &bucket), Ok(Done::Recorded));
    let texts = (3..).map_while(|number| bucket.text(&settings.work.part(number)));
    let found: Vec<Part> = texts.map(|text| serde_json::from_str(&text).unwrap()).collect();
    let items: Vec<u32> = found.iter().flat_map(|part| &part.items).map(|item| item.index).collect();
    assert_eq!(items, [0]);
}

#[test]
fn an_item_that_ended_two_pods_is_not_computed() {
    let bucket = Bucket::default();
    let settings = lines(&bucket, "a\nb\nc\n");
    put_part(&bucket, &settings, 0, "pod-x", &[], &[0, 1, 2]);
    put_part(&bucket, &settings, 1, "pod-y", &[], &[1]);
    put_part(&bucket, &settings, 2, "pod-z", &[], &[1]);
    let script = program("read x; [ $x = b ] && kill -9 $PPID; echo $x");
    assert_eq!(compute(&settings, Some(&script), &bucket), Ok(Done::Recorded));
    let ends = ends(&bucket, &settings);
    assert_eq!((&*ends[0], &*ends[2]), ("a\n", "c\n"));
    assert!(ends[1].starts_with("pod-killed: the pod ended twice while it computed only this item"), "{ends:?}");
}

#[test]
fn a_part_that_exists_is_read_and_counts() {
    let bucket = Bucket::default();
    let settings = lines(&bucket, "a\nb\nc\n");
    let theirs = [(settings.work.part(0), encoded("pod-b", &[(1, "theirs")], &[1, 2]))];
    bucket.rival.borrow_mut().extend(theirs);
    let work = settings.work.part(2);
    bucket.rival.borrow_mut().insert(work, encoded("pod-b", &[(2, "theirs too")], &[]));
    assert_eq!(compute(&settings, Some(&program("cat")), &bucket), Ok(Done::Recorded));
    assert_eq!(ends(&bucket, &settings), ["a\n", "theirs", "theirs too"]);
    let found = parts(&bucket, &settings);
    assert_eq!((&found[1].pod[..], &found[1].begun[..]), ("pod-a", &[0, 1, 2][..]), "it is announced in the next part");
    let mine: Vec<u32> =
        found.iter().filter(|part| part.pod == "pod-a").flat_map(|part| &part.items).map(|item| item.index).collect();
    assert_eq!(mine, [0], "what is recorded is not recorded again");
}

#[test]
fn large_results_are_in_one_object_beside_the_part() {
    let bucket = Bucket::default();
    let settings = lines(&bucket, "1\n30000\n2\n50000\n");
    let script = program("read x; head -c $x /dev/zero | tr '\\0' x");
    // A pod wrote the object and ended before its part.
    put_part(&bucket, &settings, 0, "pod-x", &[], &[]);
    bucket.put(&settings.work.part_data(2), 3, b"lost");
    assert_eq!(compute(&settings, Some(&script), &bucket), Ok(Done::Recorded));
    let expected = [1, 30_000, 2, 50_000].map(|length| "x".repeat(length));
    assert_eq!(ends(&bucket, &settings), expected);
    let indexes = |part: &Part| part.items.iter().map(|item| item.index).collect::<BTreeSet<u32>>();
    let found: Vec<BTreeSet<u32>> = parts(&bucket, &settings).iter().map(indexes).collect();
    assert_eq!(found, [[].into(), [].into(), [0, 2].into(), [1, 3].into()]);
    assert_eq!(bucket.text(&settings.work.part_data(3)).unwrap().len(), 80_000);
    let ItemResult::Object { content_type, .. } = items(&bucket, &settings)[&1].result.clone().unwrap() else {
        panic!("inline");
    };
    assert_eq!(content_type, "text/plain; charset=utf-8");
}

#[test]
fn more_results_than_fit_into_memory_are_written_meanwhile() {
    let bucket = Bucket::default();
    let settings = Settings { threads: 4, ..lines(&bucket, &"x\n".repeat(8)) };
    let script = program("head -c 3000000 /dev/zero");
    assert_eq!(compute(&settings, Some(&script), &bucket), Ok(Done::Recorded));
    let parts = parts(&bucket, &settings);
    assert!(parts.iter().all(|part| part.items.len() <= 3) && parts.len() > 3, "{parts:?}");
    let ends = ends(&bucket, &settings);
    let others: Vec<&String> = ends.iter().filter(|end| end.len() != 3_000_000).collect();
    assert!(others.is_empty() && ends.len() == 8, "{others:?}");
}

/// Waits until a file exists, and creates another one.
async fn answer(begun: &Path, go: &Path) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !begun.exists() {
        assert!(tokio::time::Instant::now() < deadline, "the item was never begun");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    std::fs::write(go, "").unwrap();
}

#[test]
fn a_pod_that_stops_records_what_ended_and_accuses_nobody() {
    let bucket = Bucket::default();
    let folder = tempfile::tempdir().unwrap();
    let (begun, go) = (folder.path().join("begun"), folder.path().join("go"));
    let mut settings = Settings { threads: 1, ..lines(&bucket, "a\nb\nc\n") };
    settings.config.businesses.get_mut("bu1").unwrap().engine.timeout_secs = 60;
    let script = format!("touch {}; while [ ! -e {} ]; do sleep 0.01; done; cat", begun.display(), go.display());
    let failure = block_on(run(&settings, Some(&program(&script)), &bucket, answer(&begun, &go))).unwrap_err();
    assert_eq!((failure.code, failure.permanent), ("stopped", false));
    assert_eq!(ends(&bucket, &settings), ["a\n"]);
    assert!(parts(&bucket, &settings).iter().any(|part| part.stopped));
    assert_eq!(compute(&other_pod(&settings), Some(&program("cat")), &bucket), Ok(Done::Recorded));
    assert_eq!(ends(&bucket, &settings), ["a\n", "b\n", "c\n"]);
    let announced: Vec<_> =
        parts(&bucket, &settings).into_iter().filter(|part| part.pod == "pod-b").map(|part| part.begun).collect();
    assert_eq!(announced[0], [1, 2], "all at once");
}

#[test]
fn the_kernel_does_not_delay_the_stop() {
    let bucket = Bucket::default();
    let settings = lines(&bucket, "a\nb\n");
    let failure = block_on(run(&settings, None, &bucket, std::future::ready(()))).unwrap_err();
    assert_eq!(failure.code, "stopped");
}

#[test]
fn a_missing_input_fails_the_range() {
    let bucket = Bucket::default();
    let settings = lines(&bucket, "a\nb\n");
    bucket.put("bu1/input/s/j", 8, b"newer");
    let failure = compute(&settings, None, &bucket).unwrap_err();
    assert_eq!((failure.code, failure.permanent), ("input-missing", true));
    assert_eq!(parts(&bucket, &settings), []);
}

#[test]
fn the_settings_of_the_business_apply_to_the_program_of_an_item() {
    let limit = Duration::from_secs(100);
    for (own, configured, expected) in [
        (None, Some(10), 10),
        (None, None, 100),
        (None, Some(1000), 100),
        (Some(5), Some(10), 5),
        (Some(500), None, 100),
    ] {
        let program = Program { timeout: own.map(Duration::from_secs), ..program("true") };
        let settings = contract::config::Program { timeout_secs: configured, ..Default::default() };
        let limited = program.with_limits(&settings, limit);
        assert_eq!(limited.timeout, Some(Duration::from_secs(expected)), "{own:?} {configured:?}");
    }
}
