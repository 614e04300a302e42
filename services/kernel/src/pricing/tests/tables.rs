//! Tables of trades with market data beside them, and books in which a trade may fail alone.

use super::*;
use crate::{Input, Share, price, price_book};

const MARKET: &str = r#"{
  "schema": 1, "seed": 5, "paths": 2000, "sampling": "sobol", "measures": ["delta"], "on_error": "fail",
  "underlyings": {
    "ACME": {"spot": 100, "volatility": 0.2, "rate": 0.03},
    "OTHER": {"spot": 50, "volatility": 0.3, "rate": 0.03}
  },
  "correlation": [{"between": ["ACME", "OTHER"], "value": 0.5}]
}"#;
const TABLE: &str = "\
id,kind,option,underlying,strike,maturity,quantity,averaging,observations,underlyings,weights,basket_type
e,european,call,ACME,105,1,-10,,,,,
\"a, 2\",asian,put,OTHER,+5e1,.5,,geometric,12,,,\r

007,basket,call,,0,1,,,,ACME;OTHER,1; -2,weighted-sum
";

fn table(text: &str, market: &str) -> Result<Book, Vec<Problem>> {
    read::parse(text.as_bytes(), Format::Csv, Some(market.as_bytes()))
}

#[test]
fn a_table_is_read_with_its_market() {
    let book = table(TABLE, MARKET).unwrap();
    assert_eq!((book.seed, book.paths, book.sampling), (5, 2000, Sampling::Sobol));
    let ids: Vec<&str> = book.trades.iter().map(|trade| trade.id.as_str()).collect();
    assert_eq!(ids, ["e", "a, 2", "007"]);
    assert_eq!(book.trades[0].quantity, -10.0);
    assert_eq!((book.trades[1].strike, book.trades[1].maturity, book.trades[1].option), (50.0, 0.5, OptionType::Put));
    assert_eq!(book.trades[1].payoff, Payoff::Asian(Asian { averaging: Averaging::Geometric, observations: 12 }));
    assert_eq!(book.trades[2].underlyings, [0, 1]);
    let Payoff::Basket(Basket { basket_type, weights, .. }) = &book.trades[2].payoff else { panic!("no basket") };
    assert_eq!((*basket_type, &weights[..]), (BasketType::WeightedSum, &[1.0, -2.0][..]));
    // With a mark of its encoding, and the columns in another order.
    assert_eq!(table(&format!("\u{feff}{TABLE}"), MARKET).unwrap(), book);
    let other = "strike,maturity,option,id,kind,underlying,quantity\n105,1,call,e,european,ACME,-10\n";
    assert_eq!(table(other, MARKET).unwrap().trades[..], book.trades[..1]);
    assert!(crate::is_table(TABLE.as_bytes()) && crate::is_table(other.as_bytes()));
    assert!(!crate::is_table(b"engine payload 1") && !crate::is_table(b"id\n7\n"));
}

/// The columns are the fields of every kind of payoff, each once.
#[test]
fn an_unknown_column_is_named_with_all_that_are_known() {
    assert_eq!(
        table(&TABLE.replace("id,kind", "whatever,kind"), MARKET).unwrap_err()[0].message,
        "unknown column; known are id, kind, option, underlying, strike, maturity, quantity, averaging, observations, \
         barrier, barrier_type, monitoring, underlyings, weights, basket_type"
    );
}

/// The table with one thing changed, and the first problem that must be found.
fn check(from: &str, to: &str, expected: &str) {
    assert_eq!(TABLE.matches(from).count(), 1, "{from}");
    let problems = table(&TABLE.replace(from, to), MARKET).expect_err(to);
    assert_eq!(problems[0].to_string(), expected, "all: {problems:#?}");
}

#[test]
fn wrong_cells_are_named_with_line_and_column() {
    for (from, to, expected) in [
        ("105", "abc", r#"line 2, column 22: trades[0].strike: expected a positive number, found "abc""#),
        ("105", "-1", "line 2, column 22: trades[0].strike: expected a positive number, found -1"),
        ("105", "inf", r#"line 2, column 22: trades[0].strike: expected a positive number, found "inf""#),
        ("105", "", "line 2, column 1: trades[0].strike: this field is missing"),
        ("105", "1,05", "line 2, column 1: trades[0]: expected 12 cells, as in the first line, found 13"),
        (
            "105",
            "\"105",
            "line 2, column 22: trades[0]: no separator or end of the line follows this cell's closing quote; a quote within is doubled",
        ),
        ("ACME;OTHER", "\"ACME;OTHER", "line 5, column 25: trades[2]: this cell has no closing quote"),
        (
            "\"a, 2\"",
            "\"a, 2\"x",
            "line 3, column 1: trades[1]: no separator or end of the line follows this cell's closing quote; a quote within is doubled",
        ),
        (
            "european",
            "europen",
            r#"line 2, column 3: trades[0].kind: expected "european" or "asian" or "barrier" or "basket", found "europen"; did you mean "european"?"#,
        ),
        (
            ",ACME,",
            ",ACNE,",
            r#"line 2, column 17: trades[0].underlying: "ACNE" is not one of the underlyings; did you mean "ACME"?"#,
        ),
        (
            "ACME;OTHER",
            "ACME;OTHR",
            r#"line 5, column 30: trades[2].underlyings[1]: "OTHR" is not one of the underlyings; did you mean "OTHER"?"#,
        ),
        (
            "1; -2",
            "1;x",
            "line 5, column 38: trades[2].weights[1]: expected a number from -1000000000000000 to 1000000000000000, found \"x\"",
        ),
        (
            "-10,,,",
            "-10,geometric,,",
            "line 2, column 32: trades[0].averaging: unknown field; known here are id, kind, option, underlying, strike, \
             maturity, quantity",
        ),
        ("\"a, 2\"", "e", r#"line 3, column 1: trades[1].id: "e" is the id of trades[0] already"#),
        (",strike,", ",strik,", r#"line 1, column 27: strik: unknown column; did you mean "strike"?"#),
        (",quantity,", ",strike,", "line 1, column 43: strike: this column is there twice"),
        ("id,kind", "kind", "line 1, column 1: id: this column is missing"),
    ] {
        check(from, to, expected);
    }
    assert_eq!(
        read::parse(TABLE.as_bytes(), Format::Csv, None).unwrap_err()[0].message,
        "a table of trades needs market data beside it, see the session's common data"
    );
    assert_eq!(table("id,kind,option,strike,maturity\n", MARKET).unwrap_err()[0].field, "trades");
}

#[test]
fn wrong_market_data_is_named_as_such() {
    for (from, to, expected) in [
        (
            "\"spot\": 50",
            "\"spot\": 0",
            "market.json, line 5, column 23: underlyings.OTHER.spot: expected a positive number, found 0",
        ),
        ("\"seed\": 5, ", "", "market.json, line 1, column 1: seed: this field is missing"),
        (
            "\"schema\": 1",
            "\"trades\": [], \"schema\": 1",
            "market.json, line 2, column 3: trades: unknown field; known here are schema, description, day_count, seed, \
             paths, sampling, measures, on_error, underlyings, correlation",
        ),
    ] {
        assert_eq!(MARKET.matches(from).count(), 1, "{from}");
        assert_eq!(table(TABLE, &MARKET.replace(from, to)).unwrap_err()[0].to_string(), expected);
    }
}

#[test]
fn a_book_takes_from_the_market_what_it_does_not_say() {
    let trades = r#""trades": [{"id": "t", "kind": "european", "option": "call", "underlying": "ACME", "strike": 1, "maturity": 1}]"#;
    let parse =
        |text: &str, market: Option<&str>| read::parse(text.as_bytes(), Format::Json, market.map(str::as_bytes));
    let book = parse(&format!(r#"{{"schema": 1, "paths": 7, {trades}}}"#), Some(MARKET)).unwrap();
    assert_eq!((book.seed, book.paths, book.sampling), (5, 7, Sampling::Sobol));
    assert_eq!(book.underlyings[0].1.spot, 100.0);
    let own = r#""underlyings": {"ACME": {"spot": 1, "volatility": 0.1, "rate": 0}}"#;
    let book = parse(&format!(r#"{{"schema": 1, {own}, {trades}}}"#), Some(MARKET)).unwrap();
    assert_eq!((book.underlyings.len(), book.underlyings[0].1.spot, book.correlation.len()), (1, 1.0, 0));
    let alone = parse(&format!(r#"{{"schema": 1, {trades}}}"#), None).unwrap_err();
    let fields: Vec<&str> = alone.iter().map(|problem| problem.field.as_str()).collect();
    assert!(["seed", "paths", "underlyings"].iter().all(|field| fields.contains(field)), "{fields:?}");
}

#[test]
fn a_trade_may_fail_alone() {
    let market = MARKET.replace("\"fail\"", "\"row\"");
    let text = TABLE.replace("105", "-1").replace("007,basket", ",basket");
    let book = table(&text, &market).unwrap();
    assert_eq!((book.on_error, book.trades.len(), book.broken.len()), (OnError::Row, 1, 2));
    let input = Input { bytes: text.as_bytes(), format: Format::Csv, market: Some(market.as_bytes()) };
    let result =
        |share| -> serde_json::Value { serde_json::from_slice(&price(input, share, 1).unwrap().bytes).unwrap() };
    let whole = result(Share::ALL);
    let lines = whole["trades"].as_array().unwrap();
    assert_eq!(lines[0]["id"], "e");
    assert_eq!(lines[0]["error"], "line 2, column 22: trades[0].strike: expected a positive number, found -1");
    assert!(lines[1]["price"].as_f64().unwrap() > 0.0 && lines[1]["delta_standard_error"].as_f64().unwrap() > 0.0);
    assert_eq!(lines[2]["id"], "trades[2]");
    assert_eq!(whole["portfolio"]["errors"], 2);
    assert_eq!(whole["portfolio"]["trades"], 1);
    // The items of a pack have the same lines between them, those in error too.
    let parts: Vec<serde_json::Value> = (0..2).map(|index| result(Share { index, count: 2 })).collect();
    assert_eq!(parts[0]["trades"], serde_json::json!([lines[0], lines[2]]));
    assert_eq!(parts[1]["trades"], serde_json::json!([lines[1]]));
    // What is no table at all fails as a whole.
    assert!(table(&TABLE.replace("id,kind", "id,knd"), &market).is_err());
}

#[test]
fn monitoring_is_told_apart() {
    let text = "id,kind,option,underlying,strike,maturity,barrier,barrier_type,monitoring,observations\n\
                a,barrier,call,ACME,100,1,120,up-and-out,continuous,\n\
                b,barrier,call,ACME,100,1,120,down-and-in,discrete,12\n\
                c,barrier,call,ACME,100,1,80,down-and-out,shifted,250\n";
    let found: Vec<(bool, bool, Monitoring)> = (table(text, MARKET).unwrap().trades.iter())
        .map(|trade| match trade.payoff {
            Payoff::Barrier(Barrier { barrier_type, monitoring, .. }) => {
                (barrier_type.up, barrier_type.knock_in, monitoring)
            }
            _ => panic!("no barrier"),
        })
        .collect();
    assert_eq!(
        found,
        [
            (true, false, Monitoring::Continuous),
            (false, true, Monitoring::Discrete { observations: 12 }),
            (false, false, Monitoring::Shifted { observations: 250 }),
        ]
    );
}

/// Items that are read together have the results that each would have alone.
#[test]
fn items_have_the_bytes_of_their_rows() {
    let header = "id,kind,option,underlying,strike,maturity\n";
    let mut table = header.to_owned();
    for number in 0..60 {
        let (id, strike) = match number {
            7 => (3, "95"),
            20..=45 => (number, "NaN"),
            _ => (number, "90"),
        };
        table.push_str(&format!("t{id},european,call,ACME,{strike},1\n"));
    }
    let row = MARKET.replace("\"fail\"", "\"row\"");
    let broken = MARKET.replace("\"paths\": 2000,", "");
    let renamed = table.replace("id,kind", "id,knd");
    let latin_1 = [table.as_bytes(), b"\xe9"].concat();
    for (table, market) in [
        (table.as_bytes(), &*row),
        (table.as_bytes(), MARKET),
        (table.as_bytes(), &broken),
        (renamed.as_bytes(), MARKET),
        (&latin_1, MARKET),
        (header.as_bytes(), MARKET),
    ] {
        for (rows, size) in [(0..60, 1), (6..60, 6), (12..62, 25), (58..70, 4), (0..60, 100), (3..3, 1)] {
            let items = crate::read_items(table, &rows, size, Some(market.as_bytes()));
            assert_eq!(items.len(), rows.len().div_ceil(size).max(1));
            for (number, item) in items.iter().enumerate() {
                let start = rows.start + number * size;
                let alone = start..rows.end.min(start + size).max(start);
                let expected = crate::price_rows(table, &alone, Some(market.as_bytes()), 1);
                let found = item.as_ref().map_err(Clone::clone).and_then(|book| price_book(book, Share::ALL, 1));
                assert_eq!(found, expected, "{alone:?}");
            }
        }
    }
}

proptest! {
    /// A byte of a good table or its market replaced, and the end cut off: an error names a line of the right text.
    #[test]
    fn damaged_tables_never_panic(at in 0..TABLE.len(), byte in any::<u8>(), length in 0..=TABLE.len(), row in any::<bool>()) {
        let mut bytes = TABLE.as_bytes().to_vec();
        bytes[at] = byte;
        bytes.truncate(length);
        let market = if row { MARKET.replace("\"fail\"", "\"row\"") } else { MARKET.to_owned() };
        match read::parse(&bytes, Format::Csv, Some(market.as_bytes())) {
            Ok(book) => prop_assert!(!book.trades.is_empty() || !book.broken.is_empty()),
            Err(problems) => {
                prop_assert!(!problems.is_empty());
                for problem in problems {
                    prop_assert!((1..=6).contains(&problem.line) && problem.column >= 1 && !problem.message.is_empty());
                    prop_assert!(problem.source.is_empty());
                }
            }
        }
    }

    #[test]
    fn damaged_markets_never_panic(at in 0..MARKET.len(), byte in any::<u8>(), length in 0..=MARKET.len()) {
        let mut bytes = MARKET.as_bytes().to_vec();
        bytes[at] = byte;
        bytes.truncate(length);
        if let Err(problems) = read::parse(TABLE.as_bytes(), Format::Csv, Some(&bytes)) {
            prop_assert!(!problems.is_empty());
        }
    }

    #[test]
    fn noise_is_no_table(text in "[a-z\",;\n\r0-9.é-]{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = crate::is_table(&bytes);
        let _ = crate::is_table(text.as_bytes());
        let problems = table(&text, MARKET);
        prop_assert!(problems.is_err());
        prop_assert!(read::parse(&bytes, Format::Csv, Some(MARKET.as_bytes())).is_err());
        // The same noise as rows of a right table.
        let rows = format!("id,kind,option,strike,maturity\n{text}");
        if let Err(problems) = table(&rows, MARKET) {
            prop_assert!(problems.iter().all(|problem| problem.line >= 1));
        }
    }

    /// Every cell that holds quotes, commas or line breaks is read as it was written.
    #[test]
    fn quoted_cells_are_read_back(id in "[ -~é\n]{1,20}") {
        prop_assume!(!id.trim().is_empty());
        let text = format!("id,kind,option,underlying,strike,maturity\n\"{}\",european,call,ACME,1,1\n", id.replace('"', "\"\""));
        let book = table(&text, MARKET).unwrap();
        prop_assert_eq!(&book.trades[0].id, id.trim());
    }

    /// Numbers as they come: priced, or refused with line and column, in JSON and in CSV alike.
    #[test]
    fn numbers_of_any_size_are_priced_or_refused(
        spot in any::<f64>(), volatility in any::<f64>(), strike in any::<f64>(), maturity in any::<f64>(),
        kind in 0..4_usize,
    ) {
        let rest = [
            "european,,,,", "asian,arithmetic,3,,", "barrier,,2,120,discrete", "barrier,,,120,continuous"
        ][kind];
        let barrier_type = if kind >= 2 { "up-and-out" } else { "" };
        let market = format!(
            r#"{{"schema": 1, "seed": 1, "paths": 20, "measures": ["delta", "gamma", "vega", "rho", "theta"],
            "underlyings": {{"A": {{"spot": {spot:?}, "volatility": {volatility:?}, "rate": 0.03}}}}}}"#
        );
        let text = format!(
            "id,option,underlying,strike,maturity,barrier_type,kind,averaging,observations,barrier,monitoring\n\
             t,call,A,{strike:?},{maturity:?},{barrier_type},{rest}\n"
        );
        let input = Input { bytes: text.as_bytes(), format: Format::Csv, market: Some(market.as_bytes()) };
        match price(input, Share::ALL, 1) {
            Ok(priced) => prop_assert!(!String::from_utf8(priced.bytes).unwrap().contains("null")),
            Err(refusal) => prop_assert!(
                refusal.code == "numeric-overflow" || refusal.message.contains("line "), "{}", refusal.message
            ),
        }
    }
}

/// The table as other programs write it.
#[test]
fn tables_are_read_whoever_wrote_them() {
    let plain = "id,kind,option,underlying,strike,maturity\na,european,call,ACME,105,1\nb,asian,put,OTHER,50,0.5\n";
    let plain = plain.replace("b,asian", "b,european");
    let expected = table(&plain, MARKET).unwrap();
    let utf_16 = |text: &str, order: fn(u16) -> [u8; 2]| -> Vec<u8> {
        std::iter::once(0xFEFF).chain(text.encode_utf16()).flat_map(order).collect()
    };
    for bytes in [
        plain.replace('\n', ",\n").into_bytes(),
        format!("{plain},,,,,\n").into_bytes(),
        format!("{plain},,,,\n   \n,\n").into_bytes(),
        plain.replace('\n', "\r").into_bytes(),
        plain.replace('\n', "\r\n").into_bytes(),
        plain.replace(',', ";").into_bytes(),
        plain.replace(',', "\t").into_bytes(),
        plain.replace(',', "|").into_bytes(),
        format!("sep=;\r\n{}", plain.replace(',', ";")).into_bytes(),
        format!("sep=,\n{plain}").into_bytes(),
        utf_16(&plain, u16::to_le_bytes),
        utf_16(&plain.replace(',', "\t"), u16::to_be_bytes),
        plain.replace("id,kind,option", "ID, Kind ,OPTION").into_bytes(),
    ] {
        assert_eq!(crate::asked(&bytes, "", ""), Some(Format::Csv), "{:?}", String::from_utf8_lossy(&bytes));
        let book = read::parse(&bytes, Format::Csv, Some(MARKET.as_bytes())).unwrap();
        assert_eq!(book, expected, "{:?}", String::from_utf8_lossy(&bytes));
    }
    // A quote within a cell that does not begin with one is a character.
    let inches = plain.replace("a,european", "5\" pipe,european");
    assert_eq!(table(&inches, MARKET).unwrap().trades.len(), 2);
    let spaced = "id,kind,option,underlying,strike,maturity,Barrier,Barrier Type,monitoring\n\
                  a,barrier,call,ACME,105,1,120,up-and-out,continuous\n";
    assert_eq!(table(spaced, MARKET).unwrap().trades.len(), 1);
}

#[test]
fn what_is_no_table_is_refused_where_it_is_wrong() {
    let header = "id,kind,option,underlying,strike,maturity";
    for (text, expected) in [
        (
            format!("{header},\ra,european,call,ACME,105,1,x"),
            "line 2, column 28: trades[0]: this cell is in a column without a name",
        ),
        (
            format!("{header}\ra,european,call,ACME,NaN,1"),
            r#"line 2, column 22: trades[0].strike: expected a positive number, found "NaN""#,
        ),
        (
            format!("{}\na;european;call;ACME;1,5;1", header.replace(',', ";")),
            r#"line 2, column 22: trades[0].strike: expected a positive number, found "1,5""#,
        ),
        (
            format!("{header}\na,european,call,ACME,105,-1"),
            "line 2, column 26: trades[0].maturity: expected a number from 0 to 200, found -1",
        ),
        (
            format!("{header}\nportfolio,european,call,ACME,105,1"),
            r#"line 2, column 1: trades[0].id: "portfolio" is the name of the sum over all trades"#,
        ),
    ] {
        assert_eq!(table(&text, MARKET).unwrap_err()[0].to_string(), expected);
    }
    let half = [&b"\xFF\xFE"[..], b"i\0d\0,"].concat();
    let problems = read::parse(&half, Format::Csv, Some(MARKET.as_bytes())).unwrap_err();
    assert_eq!(problems[0].to_string(), "line 1, column 3: this byte is not UTF-16 text");
}

/// A trade with another's id, or that of the sum, is one that is wrong; what stands for it is no other's id.
#[test]
fn ids_are_of_one_trade_each() {
    let market = MARKET.replace("\"fail\"", "\"row\"");
    let text = "id,kind,option,underlying,strike,maturity\na,european,call,ACME,105,1\na,european,put,ACME,105,1\n\
                portfolio,european,put,ACME,105,1\n";
    let book = table(text, &market).unwrap();
    let ids: Vec<&str> = book.broken.iter().map(|broken| broken.id.as_str()).collect();
    assert_eq!((book.trades.len(), ids), (1, vec!["trades[1]", "trades[2]"]));
}

/// A row whose standard error cannot be trusted has an error, and fails a book in which any error does.
#[test]
fn a_price_without_an_error_is_no_price() {
    let text = "id,kind,option,underlying,strike,maturity\na,european,call,ACME,105,1\nb,european,call,ACME,90,0\n";
    let one = MARKET.replace("2000", "1");
    let input = |market| Input { bytes: text.as_bytes(), format: Format::Csv, market: Some(market) };
    let refusal = price(input(one.as_bytes()), Share::ALL, 1).unwrap_err();
    assert_eq!(refusal.code, "no-standard-error");
    let row = one.replace("\"fail\"", "\"row\"");
    let result: serde_json::Value =
        serde_json::from_slice(&price(input(row.as_bytes()), Share::ALL, 1).unwrap().bytes).unwrap();
    assert_eq!(
        result["trades"][0]["error"],
        "trades[0]: price of \"a\": it has too few independent paths for a standard error; ask for more paths"
    );
    assert_eq!((&result["trades"][1]["price"], &result["trades"][1]["standard_error"]), (&10.0.into(), &0.0.into()));
    assert_eq!(result["portfolio"]["errors"], 1);
}

/// A shifted barrier where the approximation does not hold, and what is priced instead.
#[test]
fn shifted_barriers_that_do_not_hold_are_refused() {
    let header = "id,kind,option,underlying,strike,maturity,barrier,barrier_type,monitoring,observations\n";
    for (row, is_read) in [
        ("a,barrier,put,ACME,100,1,90,down-and-out,shifted,1", false),
        ("a,barrier,call,ACME,100,1,100,down-and-out,shifted,52", false),
        ("a,barrier,call,ACME,100,1,110,down-and-out,shifted,4", false),
        ("a,barrier,put,ACME,100,1,90,down-and-out,shifted,52", true),
    ] {
        let read = table(&format!("{header}{row}\n"), MARKET);
        assert_eq!(read.is_ok(), is_read, "{row}");
        if let Err(problems) = read {
            assert!(problems[0].message.ends_with("use \"discrete\"") && problems[0].column > 30, "{}", problems[0]);
        }
    }
}

/// However a table is cut, its items accept and refuse what the whole table would, with the lines of the whole.
#[test]
fn a_split_table_is_read_as_a_whole_one() {
    let row = |id: &str, strike: &str| format!("{id},european,call,ACME,{strike},1\n");
    let table = ["id,kind,option,underlying,strike,maturity\n".to_owned()]
        .into_iter()
        .chain([
            row("a", "90"),
            row("b", "NaN"),
            "\"c\n".into(),
            row("a", "95"),
            row("portfolio", "96"),
            row("b", "97"),
        ])
        .collect::<String>();
    let market = MARKET.replace("\"fail\"", "\"row\"");
    let split = |size: usize, market: &str| -> Vec<_> {
        let parts = (0..6_usize.div_ceil(size)).map(|item| size * item..size * (item + 1));
        parts.map(|rows| read::parse_rows(table.as_bytes(), &rows, Some(market.as_bytes()))).collect()
    };
    let whole = self::table(&table, &market).unwrap();
    let lines: Vec<&str> = whole.broken.iter().map(|broken| broken.error.split(',').next().unwrap()).collect();
    assert_eq!((whole.trades.len(), lines), (1, vec!["line 3", "line 4", "line 5", "line 6", "line 7"]));
    let wrong: Vec<String> = self::table(&table, MARKET).unwrap_err().iter().map(ToString::to_string).collect();
    for size in [1, 2, 4, 6, 7] {
        let books: Vec<Book> = split(size, &market).into_iter().map(Result::unwrap).collect();
        assert_eq!(books.iter().flat_map(|book| book.trades.clone()).collect::<Vec<_>>(), whole.trades);
        assert_eq!(books.iter().flat_map(|book| book.broken.clone()).collect::<Vec<_>>(), whole.broken);
        let problems = split(size, MARKET).into_iter().filter_map(Result::err).flatten();
        assert_eq!(problems.map(|problem| problem.to_string()).collect::<Vec<_>>(), wrong);
    }
    let beyond = read::parse_rows(table.as_bytes(), &(6..9), Some(MARKET.as_bytes())).unwrap_err();
    assert_eq!(beyond[0].message, "expected at least one trade");
    let ids: Vec<usize> = read::check_ids(table.as_bytes()).unwrap_err().iter().map(|problem| problem.line).collect();
    assert_eq!(ids, [5, 6, 7]);
}
