use contract::testing::business;

use super::*;

const MARKET: &str = include_str!("../../../../examples/market.json");
const TRADES: &str = include_str!("../../../../examples/trades.csv");
const MALFORMED: &str = include_str!("../../../../examples/malformed.json");
const BOOK: &str = include_str!("../../../../examples/pricing/03-collar.json");

fn verdict(name: &str, bytes: &str, market: Market<'_>) -> Verdict {
    check(&business("bu1"), Candidate { name, content_type: "", bytes: bytes.as_bytes(), market, is_split: false })
}

#[test]
fn the_examples_are_good_and_the_malformed_one_names_line_and_field() {
    for (name, bytes, market) in
        [("03-collar.json", BOOK, Market::None), ("trades.csv", TRADES, Market::Bytes(MARKET.as_bytes()))]
    {
        let found = verdict(name, bytes, market);
        assert!(matches!(&found, Verdict::Good { broken, .. } if broken.is_empty()), "{name}: {found:?}");
    }
    let Verdict::Wrong { problems, .. } = verdict("malformed.json", MALFORMED, Market::None) else { panic!() };
    let line = MALFORMED.lines().nth(problems[0].line - 1).unwrap();
    assert!(problems[0].field.ends_with("strike") && line.contains("strike"), "{problems:?}");
    assert_eq!(problems[0].text, line.trim_end());
}

#[test]
fn a_table_needs_market_data_and_names_its_row() {
    let found = verdict("t.csv", TRADES, Market::None);
    assert!(
        matches!(&found, Verdict::Wrong { problems, .. } if problems[0].message.contains("market data")),
        "{found:?}"
    );
    let broken = TRADES.replacen(",call,", ",cal,", 1);
    let found = verdict("t.csv", &broken, Market::Bytes(MARKET.as_bytes()));
    let is_row = |text: &String| text.starts_with("spx-call: line 2, column ");
    assert!(
        matches!(&found, Verdict::Good { broken, .. } if broken.iter().all(is_row) && broken.len() == 1),
        "{found:?}"
    );
    let strict = MARKET.replacen("\"row\"", "\"fail\"", 1);
    let found = verdict("t.csv", &broken, Market::Bytes(strict.as_bytes()));
    let line = broken.lines().position(|line| line.contains(",cal,")).unwrap() + 1;
    let Verdict::Wrong { problems, .. } = found else { panic!("{found:?}") };
    assert_eq!((problems[0].line, problems[0].field.as_str()), (line, "trades[0].option"));
    // What is wrong with the market data is said of the market data.
    let market = MARKET.replacen("seed", "sed", 1);
    let Verdict::Wrong { problems, .. } = verdict("t.csv", TRADES, Market::Bytes(market.as_bytes())) else { panic!() };
    assert_eq!(problems[0].source, kernel::MARKET);
}

#[test]
fn what_cannot_be_known_is_not_refused() {
    let mut own = business("bu1");
    own.engine.command = vec!["./price".to_owned()];
    let candidate = Candidate { name: "x.json", content_type: "", bytes: b"{", market: Market::None, is_split: false };
    assert!(matches!(check(&own, candidate), Verdict::Unchecked { .. }));
    assert!(matches!(check(&business("bu1"), candidate), Verdict::Wrong { .. }));
    for (name, bytes, market) in
        [("a.txt", "engine payload 1", Market::None), ("a", "", Market::None), ("t.csv", TRADES, Market::Elsewhere)]
    {
        assert!(matches!(verdict(name, bytes, market), Verdict::Unchecked { .. }), "{name}");
    }
    let large = format!("{{\"x\": \"{}\"}}", "y".repeat(MAX_CHECKED));
    assert!(matches!(verdict("large.json", &large, Market::None), Verdict::Unchecked { .. }));
}

/// Also where the market data is not known, and however lines end.
#[test]
fn a_table_with_an_id_twice_is_refused_with_its_line() {
    let twice = format!("{TRADES}{}", TRADES.lines().nth(1).unwrap());
    let strict = MARKET.replacen("\"row\"", "\"fail\"", 1);
    for (text, market) in [
        (twice.clone(), Market::Elsewhere),
        (twice.clone(), Market::Bytes(strict.as_bytes())),
        (twice.replace('\n', "\r"), Market::Elsewhere),
        (TRADES.replacen("\nspx-call", "\nportfolio", 1), Market::Elsewhere),
    ] {
        for is_split in [false, true] {
            let bytes = text.as_bytes();
            let found = check(&business("bu1"), Candidate { name: "t.csv", content_type: "", bytes, market, is_split });
            let Verdict::Wrong { problems, .. } = found else { panic!("{found:?}") };
            assert!(problems[0].field.ends_with(".id"), "{problems:?}");
            let line = text.split(['\r', '\n']).nth(problems[0].line - 1).unwrap();
            assert_eq!(problems[0].text, line.chars().take(LINE_SHOWN).collect::<String>());
        }
    }
}

/// What is split must be a table, and is never only described.
#[test]
fn a_split_text_that_is_no_table_is_refused() {
    let candidate =
        Candidate { name: "t.txt", content_type: "", bytes: b"a,b\n1,2\n", market: Market::Elsewhere, is_split: true };
    let found = check(&business("bu1"), candidate);
    let Verdict::Wrong { problems, .. } = found else { panic!("{found:?}") };
    assert_eq!((problems[0].line, problems[0].column, problems[0].text.as_str()), (1, 1, "a,b"));
}

#[test]
fn a_compressed_table_is_not_split() {
    let bytes = &[0x1f, 0x8b, 8];
    let candidate = Candidate { name: "t.csv", content_type: "", bytes, market: Market::Elsewhere, is_split: true };
    let mut own = business("bu1");
    own.engine.command = vec!["./price".to_owned()];
    let expected = Verdict::Wrong { summary: pack::COMPRESSED.to_owned(), problems: vec![] };
    assert_eq!([check(&own, candidate), check(&business("bu1"), candidate)], [expected.clone(), expected]);
}

#[test]
fn a_problem_in_a_long_line_shows_the_place() {
    let text = format!("{{\"description\": \"{}\", \"sead\": 1}}", "x".repeat(500));
    let Verdict::Wrong { problems, .. } = verdict("a.json", &text, Market::None) else { panic!() };
    let typo = problems.iter().find(|problem| problem.field.contains("sead")).unwrap();
    assert!(typo.text.starts_with('…') && typo.text.contains("sead"), "{typo:?}");
}
