//! Inputs that are right, inputs that are wrong in every way, and inputs that are noise.

use proptest::prelude::*;

use super::{
    book::{Book, OnError},
    json,
    parameters::{Measure, OptionType, Sampling},
    problem::Problem,
    read::{self, Format},
};
use crate::payoff::{Asian, Averaging, Barrier, Basket, BasketType, European, Monitoring, Payoff};

mod tables;

/// Reads a book that stands alone.
fn parse(bytes: &[u8]) -> Result<Book, Vec<Problem>> {
    read::parse(bytes, Format::Json, None)
}

const GOOD: &str = r#"{
  "schema": 1,
  "description": "a book",
  "seed": 18446744073709551615,
  "paths": 1e5,
  "measures": ["price", "delta"],
  "underlyings": {
    "ACME": {"spot": 100, "volatility": 0.2, "rate": 0.03, "dividend_yield": 0.01},
    "OTHER": {"spot": 50.5, "volatility": 0.3, "rate": -0.005}
  },
  "correlation": [{"between": ["ACME", "OTHER"], "value": -0.4}],
  "trades": [
    {"id": "t1", "kind": "european", "option": "call", "underlying": "ACME", "strike": 105.0, "maturity": 1.0, "quantity": -10},
    {"id": "t2", "kind": "asian", "option": "put", "underlying": "OTHER", "strike": 95.0, "maturity": 0.5,
     "averaging": "geometric", "observations": 26}
  ]
}
"#;

#[test]
fn a_good_book_is_read() {
    let book = parse(GOOD.as_bytes()).unwrap();
    assert_eq!((book.seed, book.paths, &book.measures[..]), (u64::MAX, 100_000, &[Measure::Delta][..]));
    assert_eq!(book.underlyings[1].1.dividend_yield, 0.0);
    assert_eq!((book.correlation[0].between, book.correlation[0].value), ([0, 1], -0.4));
    let (first, second) = (&book.trades[0], &book.trades[1]);
    assert_eq!(
        (first.quantity, first.payoff.clone(), first.option),
        (-10.0, Payoff::European(European), OptionType::Call)
    );
    assert_eq!((second.quantity, &second.underlyings[..]), (1.0, &[1][..]));
    assert_eq!(second.payoff, Payoff::Asian(Asian { averaging: Averaging::Geometric, observations: 26 }));
    let marked = format!("\u{feff}{GOOD}");
    assert_eq!(parse(marked.as_bytes()).unwrap(), book);
}

/// The good book with one thing changed, and the first problem that must be found.
fn check(from: &str, to: &str, expected: &str) {
    assert_eq!(GOOD.matches(from).count(), 1, "{from}");
    let problems = parse(GOOD.replace(from, to).as_bytes()).expect_err(to);
    assert_eq!(problems[0].to_string(), expected, "all: {problems:#?}");
}

#[test]
fn wrong_fields_are_named_with_line_and_column() {
    for (from, to, expected) in [
        ("105.0", "\"abc\"", r#"line 13, column 88: trades[0].strike: expected a positive number, found "abc""#),
        ("105.0", "-1", "line 13, column 88: trades[0].strike: expected a positive number, found -1"),
        ("105.0", "0", "line 13, column 88: trades[0].strike: expected a positive number, found 0"),
        ("105.0", "1e999", "line 13, column 88: trades[0].strike: expected a positive number, found 1e999"),
        (
            "105.0",
            "1e16",
            "line 13, column 88: trades[0].strike: expected a positive number up to 1000000000000000, found 1e16",
        ),
        ("105.0", "null", "line 13, column 88: trades[0].strike: expected a positive number, found null"),
        ("105.0", "[]", "line 13, column 88: trades[0].strike: expected a positive number, found a list"),
        (
            "\"maturity\": 1.0",
            "\"maturity\": true",
            "line 13, column 107: trades[0].maturity: expected a number from 0 to 200, found true",
        ),
        (
            "\"strike\": 105.0",
            "\"strik\": 105.0",
            r#"line 13, column 78: trades[0].strik: unknown field; did you mean "strike"?"#,
        ),
        (
            "\"quantity\": -10",
            "\"colour\": 1",
            "line 13, column 112: trades[0].colour: unknown field; known here are id, kind, option, underlying, strike, maturity, quantity",
        ),
        ("\"strike\": 105.0, ", "", "line 13, column 5: trades[0].strike: this field is missing"),
        (
            "\"european\"",
            "\"europaean\"",
            r#"line 13, column 26: trades[0].kind: expected "european" or "asian" or "barrier" or "basket", found "europaean"; did you mean "european"?"#,
        ),
        ("\"call\"", "1", r#"line 13, column 48: trades[0].option: expected "call" or "put", found 1"#),
        ("\"t2\"", "\"t1\"", r#"line 14, column 12: trades[1].id: "t1" is the id of trades[0] already"#),
        ("\"t2\"", "\"\"", "line 14, column 12: trades[1].id: expected a text that is not empty"),
        ("\"t2\"", "7", "line 14, column 12: trades[1].id: expected a text that is not empty, found 7"),
        (
            "\"underlying\": \"OTHER\"",
            "\"underlying\": \"OTHR\"",
            r#"line 14, column 66: trades[1].underlying: "OTHR" is not one of the underlyings; did you mean "OTHER"?"#,
        ),
        ("26}", "0}", "line 15, column 48: trades[1].observations: expected an integer from 1 to 10000, found 0"),
        (
            "26}",
            "10001}",
            "line 15, column 48: trades[1].observations: expected an integer from 1 to 10000, found 10001",
        ),
        ("26}", "2.5}", "line 15, column 48: trades[1].observations: expected an integer from 1 to 10000, found 2.5"),
        (
            "\"geometric\"",
            "\"harmonic\"",
            r#"line 15, column 19: trades[1].averaging: expected "arithmetic" or "geometric", found "harmonic""#,
        ),
        ("1e5", "2e9", "line 5, column 12: paths: expected an integer from 1 to 1000000000, found 2e9"),
        ("1e5", "0", "line 5, column 12: paths: expected an integer from 1 to 1000000000, found 0"),
        (
            "18446744073709551615",
            "-1",
            "line 4, column 11: seed: expected an integer from 0 to 18446744073709551615, found -1",
        ),
        (
            "\"schema\": 1,",
            "\"schema\": 2,",
            "line 2, column 13: schema: expected 1, the schema version that this engine reads",
        ),
        ("\"schema\": 1,", "", "line 1, column 1: schema: this field is missing"),
        (
            "\"volatility\": 0.2",
            "\"volatility\": -0.2",
            "line 8, column 41: underlyings.ACME.volatility: expected a number from 0 to 10, found -0.2",
        ),
        ("-0.4", "1.5", "line 11, column 59: correlation[0].value: expected a number from -1 to 1, found 1.5"),
        (
            "[\"ACME\", \"OTHER\"]",
            "[\"ACME\"]",
            "line 11, column 31: correlation[0].between: expected two names of underlyings",
        ),
        (
            "[\"ACME\", \"OTHER\"]",
            "[\"ACME\", 3]",
            "line 11, column 40: correlation[0].between[1]: expected a name in quotes, found 3",
        ),
        (
            "\"delta\"",
            "\"gama\"",
            r#"line 6, column 25: measures[1]: expected "price" or "delta" or "gamma" or "vega" or "rho" or "theta", found "gama"; did you mean "gamma"?"#,
        ),
        (
            "\"description\": \"a book\"",
            "\"day_count\": \"30/360\"",
            r#"line 3, column 16: day_count: expected "ACT/365F", found "30/360""#,
        ),
        (
            "\"description\": \"a book\"",
            "\"samplng\": 1",
            r#"line 3, column 3: samplng: unknown field; did you mean "sampling"?"#,
        ),
        (
            "\"description\": \"a book\"",
            "\"sampling\": \"sobol\", \"on_error\": \"rows\"",
            r#"line 3, column 36: on_error: expected "fail" or "row", found "rows"; did you mean "row"?"#,
        ),
        (
            "[\"ACME\", \"OTHER\"]",
            "[\"ACME\", \"ACME\"]",
            "line 11, column 31: correlation[0].between: expected two different underlyings",
        ),
        ("\"a book\"", "3", "line 3, column 18: description: expected a text, found 3"),
        ("105.0", "abc", "line 13, column 88: trades[0].strike: expected a value, found abc (text stands in quotes)"),
        ("105.0,", "105.0", "line 13, column 94: trades[0].strike: expected ',' or '}', found '\"'"),
        ("105.0", "1_000", "line 13, column 89: trades[0].strike: expected the end of the number, found '_'"),
        ("105.0", ".5", "line 13, column 88: trades[0].strike: expected a value, found '.'"),
        (
            "\"a book\"",
            "\"a book",
            "line 3, column 26: description: a line break or control character inside a text; is a quote missing?",
        ),
        ("\"a book\"", r#""\q""#, r"line 3, column 19: description: this escape is none of JSON's"),
        ("\"description\"", "\"schema\"", "line 3, column 3: schema: this field is there twice"),
        ("26}\n  ]", "26},\n  ]", "line 16, column 3: trades[2]: expected a value, found ']'"),
        ("\n  ]\n}\n", "", "line 15, column 51: trades[1]: expected ',' or ']', found the end of the text"),
        ("\n  ]\n}\n", "\n  ]\n}\nx", "line 18, column 1: expected the end of the text, found 'x'"),
        ("\"a book\"", "\"é\", \"x\": ]", "line 3, column 28: x: expected a value, found ']'"),
    ] {
        check(from, to, expected);
    }
}

#[test]
fn several_problems_are_reported_in_order() {
    let text = GOOD
        .replace("105.0", "\"abc\"")
        .replace("\"maturity\": 0.5", "\"maturity\": -0.5")
        .replace("1e5", "0")
        .replace("\"put\"", "\"putt\"");
    let fields: Vec<String> = parse(text.as_bytes()).unwrap_err().into_iter().map(|problem| problem.field).collect();
    assert_eq!(fields, ["paths", "trades[0].strike", "trades[1].option", "trades[1].maturity"]);
}

#[test]
fn an_underlying_that_is_wrong_is_blamed_once() {
    let text = GOOD.replace("\"spot\": 100", "\"spot\": 0");
    let problems = parse(text.as_bytes()).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:#?}");
}

#[test]
fn whole_texts_that_are_no_book() {
    for (text, expected) in [
        (&b"[1, 2]"[..], "line 1, column 1: expected an object in {}, found a list"),
        (b"", "line 1, column 1: expected a value, found the end of the text"),
        (b"{\"a\": \"\xff\"}", "line 1, column 8: this byte is not UTF-8 text"),
        (b"{}\n\n{", "line 3, column 1: expected the end of the text, found '{'"),
    ] {
        assert_eq!(parse(text).unwrap_err()[0].to_string(), expected);
    }
    let deep = "[".repeat(1_000_000);
    assert!(parse(deep.as_bytes()).unwrap_err()[0].message.contains("levels deep"));
    let many = format!("[{}0]", "0,".repeat(4_000_001));
    assert!(parse(many.as_bytes()).unwrap_err()[0].message.contains("values"));
    let trades = format!("{{\"schema\": 1, \"trades\": [{}0]}}", "0,".repeat(100_000));
    assert!(parse(trades.as_bytes()).unwrap_err().iter().any(|problem| problem.message.contains("at most 100000")));
    // However much is wrong, only so much is gathered.
    let wrong = format!("{{\"schema\": 1, \"trades\": [{}0]}}", "0,".repeat(1_000));
    assert!(parse(wrong.as_bytes()).unwrap_err().len() <= 20);
}

#[test]
fn large_books_are_read_quickly_enough() {
    let trade = |i: u32| {
        format!(r#"{{"id":"t{i}","kind":"european","option":"call","underlying":"A","strike":1,"maturity":1}}"#)
    };
    let trades: Vec<String> = (0..100_000).map(trade).collect();
    let text = format!(
        r#"{{"schema":1,"seed":1,"paths":1,"underlyings":{{"A":{{"spot":1,"volatility":0.1,"rate":0}}}},"trades":[{}]}}"#,
        trades.join(",")
    );
    assert_eq!(parse(text.as_bytes()).unwrap().trades.len(), 100_000);
}

proptest! {
    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
    }

    /// A byte of a good book replaced, and its end cut off.
    #[test]
    fn damaged_books_never_panic(at in 0..GOOD.len(), byte in any::<u8>(), length in 0..=GOOD.len()) {
        let mut bytes = GOOD.as_bytes().to_vec();
        bytes[at] = byte;
        bytes.truncate(length);
        if let Err(problems) = parse(&bytes) {
            prop_assert!(!problems.is_empty());
        }
    }

    /// What is JSON is the same here as for serde_json.
    #[test]
    fn json_is_what_serde_takes_for_json(text in r#"[\[\]{},:"\\ubn0-9eE.+ \-truefalsn]{0,24}"#) {
        let ours = json::parse(&text);
        let theirs = serde_json::from_str::<serde_json::Value>(&text);
        match (&ours, &theirs) {
            // Ours are numbers as spelled and keys only once.
            (Err(error), Ok(_)) => prop_assert!(error.message.contains("twice"), "{error:?}"),
            (Ok(_), Err(error)) => prop_assert!(error.to_string().contains("out of range"), "{error}"),
            _ => {}
        }
    }
}

/// The good book with its second trade replaced, and what is wrong with it, if anything.
fn check_trade(trade: &str, expected: Option<&str>) {
    let start = GOOD.find("{\"id\": \"t2\"").unwrap();
    let text = format!("{}{trade}\n  ]\n}}\n", &GOOD[..start]);
    let found = parse(text.as_bytes()).err().map(|problems| problems[0].to_string());
    assert_eq!(found.as_deref(), expected, "{trade}");
}

#[test]
fn barriers_and_baskets_are_checked() {
    let barrier = |rest: &str| {
        format!(
            r#"{{"id": "b", "kind": "barrier", "option": "call", "underlying": "ACME", "strike": 1, "maturity": 1, {rest}}}"#
        )
    };
    let basket = |rest: &str| {
        format!(r#"{{"id": "b", "kind": "basket", "option": "call", "strike": 0, "maturity": 1, {rest}}}"#)
    };
    let two = r#""underlyings": ["ACME", "ACME"], "weights": [1, 1], "basket_type": "best-of""#;
    for (trade, expected) in [
        (barrier(r#""barrier": 9, "barrier_type": "up-and-out", "monitoring": "continuous""#), None),
        (barrier(r#""barrier": 9, "barrier_type": "down-and-in", "monitoring": "discrete", "observations": 3"#), None),
        (
            barrier(r#""barrier": 9, "barrier_type": "up-and-out", "monitoring": "continuous", "observations": 3"#),
            Some(
                "line 14, column 176: trades[1].observations: unknown field; known here are id, kind, option, underlying, \
                 strike, maturity, quantity, barrier, barrier_type, monitoring",
            ),
        ),
        (
            barrier(r#""barrier": 9, "barrier_type": "up-and-over", "monitoring": "continuous""#),
            Some(
                "line 14, column 134: trades[1].barrier_type: expected \"up-and-out\" or \"up-and-in\" or \
                 \"down-and-out\" or \"down-and-in\", found \"up-and-over\"; did you mean \"up-and-out\"?",
            ),
        ),
        (
            barrier(r#""barrier": 9, "barrier_type": "up-and-out", "monitoring": "discrete""#),
            Some("line 14, column 5: trades[1].observations: this field is missing"),
        ),
        (
            basket(two),
            Some("line 14, column 96: trades[1].underlyings: \"ACME\" is there twice; give it one weight instead"),
        ),
        (
            basket(r#""underlyings": ["ACME", "OTHER"], "weights": [1, 1], "basket_type": "best-of""#),
            Some(
                "line 14, column 96: trades[1].underlyings: expected underlyings of one currency, but the rate of \
                 \"ACME\" is 0.03 and that of \"OTHER\" -0.005",
            ),
        ),
        (
            basket(r#""underlyings": ["ACME"], "weights": [1, 1], "basket_type": "best-of""#),
            Some("line 14, column 117: trades[1].weights: expected one for each of the 1 underlyings, found 2"),
        ),
        (
            basket(r#""underlyings": ["ACME"], "weights": ["x"], "basket_type": "best-of""#),
            Some(
                "line 14, column 118: trades[1].weights[0]: expected a number from -1000000000000000 to \
                 1000000000000000, found \"x\"",
            ),
        ),
        (basket(r#""underlyings": ["ACME"], "weights": [1], "basket_type": "worst-of""#), None),
    ] {
        check_trade(&trade, expected);
    }
}

#[test]
fn correlations_that_cannot_be_are_refused() {
    let text = |first: f64, second: f64, third: &str, measures: &str| {
        format!(
            r#"{{"schema": 1, "seed": 1, "paths": 10, "measures": [{measures}],
"underlyings": {{"A": {{"spot": 1, "volatility": 0.1, "rate": 0}}, "B": {{"spot": 1, "volatility": 0.1, "rate": 0}},
 "C": {{"spot": 1, "volatility": 0.1, "rate": 0}}}},
"correlation": [{{"between": ["A", "B"], "value": {first}}}, {{"between": ["C", "B"], "value": {second}}}{third}],
"trades": [{{"id": "t", "kind": "basket", "option": "put", "strike": 1, "maturity": 1, "underlyings": ["A", "B", "C"],
 "weights": [1, 1, 1], "basket_type": "weighted-sum"}}]}}"#
        )
    };
    let third = r#", {"between": ["A", "C"], "value": -0.9}"#;
    let refused = |text: String| parse(text.as_bytes()).unwrap_err()[0].to_string();
    assert_eq!(
        refused(text(0.9, 0.9, third, "")),
        "line 5, column 102: trades[0].underlyings: the correlation matrix of A, B, C is not positive semi-definite, so \
         no prices can move like that"
    );
    assert_eq!(
        refused(text(0.9, 0.9, "", "")),
        "line 5, column 102: trades[0].underlyings: there is no correlation between \"A\" and \"C\""
    );
    // Two that move as one: prices and slopes, but no curvature.
    let one = r#", {"between": ["A", "C"], "value": 0.5}"#;
    assert!(parse(text(1.0, 0.5, one, "\"delta\"").as_bytes()).is_ok());
    assert!(
        refused(text(1.0, 0.5, one, "\"gamma\"")).contains("gamma needs correlations whose matrix can be inverted")
    );
    let again = r#", {"between": ["B", "A"], "value": 0.5}"#;
    assert_eq!(
        refused(text(1.0, 0.5, again, "")),
        "line 4, column 105: correlation[2].between: this pair is that of correlation[0] already"
    );
}
