use super::*;

/// What `rows` makes of a result: `row measure value standard_error error` each, as CSV without session and job.
fn check(body: &str, expected: &[&str]) {
    assert_eq!(lines(&rows("s", "j", "", size(body), body.as_bytes())), expected, "{body}");
}

fn lines(rows: &[Row]) -> Vec<String> {
    rows.iter().map(|row| csv_line(row.cells()[2..].iter().map(String::as_str))).collect()
}

fn size(body: &str) -> i64 {
    i64::try_from(body.len()).unwrap()
}

const PRICES: &str = r#"{"kernel":"monte-carlo","schema":1,"seed":1,"paths":10,"trades":[
    {"id":"t1","price":10.45,"standard_error":0.01,"value":104.5,"delta":0.63,"delta_standard_error":0.002,"paths":10},
    {"id":"t,2","error":"expired"}],
    "portfolio":{"value":104.5,"standard_error":0.1,"trades":1}}"#;

#[test]
fn prices_have_their_standard_errors_beside_them() {
    check(
        PRICES,
        &[
            "t1,delta,0.63,0.002,",
            "t1,price,10.45,0.01,",
            "t1,value,104.5,,",
            "\"t,2\",,,,expired",
            "portfolio,value,104.5,0.1,",
        ],
    );
}

#[test]
fn greeks_are_rows_of_their_own() {
    check(
        r#"{"kernel":"monte-carlo","trades":[{"id":"b","price":1.5,"standard_error":0.1,"value":-3.0,
            "value_standard_error":0.2,"delta[A]":0.5,"delta[A]_standard_error":0.01,"theta":-2.0,
            "theta_standard_error":0.3,"paths":10},{"id":"x","error":"line 3, column 7: trades[1].strike: wrong"}],
            "portfolio":{"value":-3.0,"standard_error":0.2,"trades":1,"errors":1}}"#,
        &[
            "b,delta[A],0.5,0.01,",
            "b,price,1.5,0.1,",
            "b,theta,-2.0,0.3,",
            "b,value,-3.0,0.2,",
            "x,,,,\"line 3, column 7: trades[1].strike: wrong\"",
            "portfolio,value,-3.0,0.2,",
        ],
    );
}

#[test]
fn what_another_program_wrote_is_shown_as_well_as_can_be() {
    check(r#"{"kernel":"echo","payload":"engine payload 1","bytes":16}"#, &[",payload,engine payload 1,,"]);
    check(r#"{"pv":1.5,"pv_standard_error":0.25,"note":"x"}"#, &[",pv,1.5,0.25,"]);
    check(
        "id,name,pv,pv_standard_error,error\nt1,\"a \"\"b\"\", c\",1.5,0.1,\n\"t,2\",,,,no such day\n",
        &["t1,pv,1.5,0.1,", "\"t,2\",,,,no such day"],
    );
    check(r#"[{"id": "t1", "pv": 2}, {"id": 7, "pv": 3}]"#, &["t1,pv,2,,", "7,pv,3,,"]);
    check("42", &[",value,42,,"]);
    check("hello\n", &[",text,hello,,"]);
    check("two\nlines", &[",bytes,9,,"]);
    check("[info] computed", &[",text,[info] computed,,"]);
    check("[1,2]", &[",text,\"[1,2]\",,"]);
    check("", &[",bytes,0,,"]);
    check(&"x".repeat(500), &[",bytes,500,,"]);
}

#[test]
fn numbers_keep_every_digit() {
    check(
        r#"{"a":0.1,"b":12345678901234567890,"c":1e-300}"#,
        &[",a,0.1,,", ",b,12345678901234567890,,", ",c,1e-300,,"],
    );
}

#[test]
fn items_are_joined_and_their_portfolios_summed() {
    let part = |id: &str, value: f64, error: f64| {
        let body = serde_json::json!({"kernel": "monte-carlo", "trades": [{"id": id, "price": value}],
            "portfolio": {"value": value, "standard_error": error, "trades": 1}})
        .to_string();
        rows("s", "j", "", size(&body), body.as_bytes())
    };
    let joined = join(vec![part("a", 1.0, 3.0), part("b", 2.5, 4.0)]);
    assert_eq!(lines(&joined), ["a,price,1.0,,", "b,price,2.5,,", "portfolio,value,3.5,5.0,"]);
}

#[test]
fn a_sum_names_what_is_missing_in_it() {
    let part = rows("s", "j", "", size(PRICES), PRICES.as_bytes());
    let sum = |parts: Vec<Vec<Row>>| lines(&join(parts)).pop().unwrap();
    let one = "missing in this sum: 1 of 2 trades, which have an error";
    assert_eq!(sum(vec![part.clone()]), format!("portfolio,value,104.5,0.1,\"{one}\""));
    let lost = vec![Row { error: Some("result-gone".into()), ..row("s", "j", "1", "") }];
    assert_eq!(
        sum(vec![part, lost]),
        format!("portfolio,value,104.5,0.1,\"{one}; 1 of 2 items, which have no result that can be read\"")
    );
}

#[test]
fn each_file_of_a_pack_has_rows_and_a_sum_as_a_job_of_its_own() {
    let work = contract::testing::work("bu1", "s", "books.tar");
    let file = |index, name: &str, result: &str| Item {
        name: Some(name.to_owned()),
        result: Some(ItemResult::inline(result.as_bytes(), "application/json")),
        ..Item::without_result(index, State::Succeeded, Reason::default())
    };
    let reason = Reason { code: "malformed-input".to_owned(), message: "no strike".to_owned() };
    let failed = Item { name: Some("bad".to_owned()), ..Item::without_result(2, State::Failed, reason) };
    let items = [file(0, "a/x.json", PRICES), file(1, "y", "1.5"), failed, file(3, "z.json", PRICES)];
    let found = join(items.iter().map(|item| item_rows(&work, item, None)).collect());
    // As the client joins what is joined already.
    assert_eq!(join(vec![found[..5].to_vec(), found[5..].to_vec()]), found);
    let found: Vec<String> = found.iter().map(|row| csv_line(row.cells()[1..].iter().map(String::as_str))).collect();
    assert_eq!(
        found[4],
        "books.tar/a/x.json,portfolio,value,104.5,0.1,\"missing in this sum: 1 of 2 trades, which have an error\""
    );
    assert_eq!(found[5], "books.tar/y,,value,1.5,,");
    assert_eq!(found[6], "books.tar/bad,,,,,failed: malformed-input: no strike");
    assert!(found[7].starts_with("books.tar/z.json,t1,") && found.len() == 12, "{found:?}");
}

#[test]
fn what_is_no_number_is_a_row_with_its_line() {
    check(
        "[{\"id\": \"a\", \"pv\": 1.5, \"note\": \"NaN, \\\"x\\\"\"},\n {\"id\": \"b\", \"pv\": NaN},\n\
         {\"id\": \"c\", \"pv\": -Infinity, \"delta\": +.5},\n{\"id\": \"d\", \"pv\": 1e400}, {\"pv\": null}, 7]",
        &[
            "a,pv,1.5,,",
            "b,pv,,,line 2: pv: NaN is not a number",
            "c,delta,0.5,,",
            "c,pv,,,line 3: pv: -Infinity is not a number",
            "d,pv,,,line 4: pv: 1e400 is not a number",
            "4,pv,,,pv: null is not a number",
            ",,,,\"element 6 of the result is 7, not an object\"",
        ],
    );
    check(
        "{\"pv\": 1.5, \"pv_standard_error\": NaN,\n\"delta\": nan}",
        &[",delta,,,line 2: delta: nan is not a number", ",pv,1.5,,line 1: pv_standard_error: NaN is not a number"],
    );
    check(
        "\u{feff}ID; pv;note\r\na;+1.5;x\r\nb;.5;y\rc;nan;z\nd;n/a;\ne;1.25;w;9\n\"f\" g;1;\nh;;\n;2;\n;;\n",
        &[
            "a,pv,1.5,,",
            "b,pv,0.5,,",
            "c,pv,,,line 4: pv: nan is not a number",
            "d,pv,,,line 5: pv: n/a is not a number",
            "e,pv,1.25,,",
            ",,,,\"line 6: 4 cells, but the first line has 3\"",
            ",,,,line 7: no separator or end of the line follows this cell's closing quote; a quote within is doubled",
            "h,,,,line 8: there is no value in this row",
            "line 9,pv,2,,",
        ],
    );
    check("id,pv\na,\"1\nb,2\n", &[",,,,line 2: this cell has no closing quote", "b,pv,2,,"]);
    check("\u{feff}{\"pv\": 2}", &[",pv,2,,"]);
    check(
        "{\"id\": \"a\", \"pv\": 1}\n{\"id\": \"b\", \"pv\": NaN}\n",
        &["a,pv,1,,", "b,pv,,,line 2: pv: NaN is not a number"],
    );
    check("{\"pv\": 2,\n", &[",,,,the result is not JSON: EOF while parsing a value at line 1 column 9"]);
    // Names are no numbers that lack, also when one looks like a number.
    check("id,name,pv\na,x,1\nb,7,2\nc,y,3\n", &["a,pv,1,,", "b,name,7,,", "b,pv,2,,", "c,pv,3,,"]);
    check("id,name\na,x\nb,y\n", &["a,name,x,,", "b,name,y,,"]);
    let utf_16: Vec<u8> = "\u{feff}id\tpv\r\na\t1\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(lines(&rows("s", "j", "", 0, &utf_16)), ["a,pv,1,,"]);
}

#[test]
fn a_cell_that_a_spreadsheet_would_execute_begins_with_a_quote() {
    assert_eq!(
        csv_line(["=1+1", "@x", "+1.5", "-1e-3", "-1+2", "+x", "\tx", "\r=x", "-", "a=b", "-inf"]),
        "'=1+1,'@x,+1.5,-1e-3,'-1+2,'+x,\"'\tx\",\"'\r=x\",'-,a=b,'-inf"
    );
}

#[test]
fn cells_with_separators_are_quoted() {
    assert_eq!(csv_line(["a", "b,c", "say \"x\"", "two\nlines", ""]), "a,\"b,c\",\"say \"\"x\"\"\",\"two\nlines\",");
}

#[test]
fn the_latest_attempt_of_the_latest_input_wins() {
    let names = [
        "bu1/outcome/s/a/5-0.json",
        "bu1/outcome/s/a/5-10.json",
        "bu1/outcome/s/a/5-9.json",
        "bu1/outcome/s/a/4-11.json",
        "bu1/outcome/s/b/1-0.json",
        "bu1/outcome/refused/77.json",
        "bu1/outcome/s/p/6-0-5.json",
        "bu1/outcome/s/p/7-0.json",
        "bu1/outcome/s/p/7-0-0.json",
        "bu1/outcome/s/p/7-0-1.json",
        "bu1/outcome/s/p/7-1000-0.json",
        "bu1/outcome/s/p/7-900-0.json",
        "bu1/outcome/s/p/7-layout.json",
        "bu1/outcome/s/readme",
    ];
    let picked = latest("bu1", names);
    assert_eq!(
        picked,
        Latest {
            jobs: [
                &["bu1/outcome/s/a/5-10.json"][..],
                &["bu1/outcome/s/b/1-0.json"],
                &["bu1/outcome/s/p/7-0-1.json", "bu1/outcome/s/p/7-900-0.json", "bu1/outcome/s/p/7-1000-0.json"],
                &["bu1/outcome/refused/77.json"],
            ]
            .map(|names| names.iter().map(|name| (*name).to_owned()).collect())
            .into(),
            superseded: 6,
        }
    );
}

#[test]
fn a_failed_job_is_a_row_with_its_error() {
    let business = contract::testing::business("bu1");
    let outcome = Outcome::new("bu1", State::Failed, "malformed-input", "line 3: strike is negative");
    let row = failed(&business, &outcome, "bu1/outcome/s/a/5-0.json");
    assert_eq!(row.cells(), ["s", "a", "", "", "", "", "failed: malformed-input: line 3: strike is negative"]);
}
