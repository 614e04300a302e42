//! Which kernel an input asks for, and what the small ones answer.

use super::*;

#[test]
fn books_and_tables_are_priced_and_anything_else_echoed() {
    for (bytes, name, content_type, kernel) in [
        (&b" \n{"[..], "", "", Kernel::Pricing(Format::Json)),
        (b"[1]", "a/b", "text/plain", Kernel::Pricing(Format::Json)),
        (b"\xEF\xBB\xBF{}", "", "", Kernel::Pricing(Format::Json)),
        (b"x", "a/b.json", "", Kernel::Pricing(Format::Json)),
        (b"x", "a/b.JSON", "", Kernel::Pricing(Format::Json)),
        (b"", "", "application/json; charset=utf-8", Kernel::Pricing(Format::Json)),
        (b"x", "a/b.csv", "", Kernel::Pricing(Format::Csv)),
        (b"x", "a/b", "text/csv; charset=utf-8", Kernel::Pricing(Format::Csv)),
        (b"kind,id,option\n", "", "", Kernel::Pricing(Format::Csv)),
        (b"\xEF\xBB\xBFid,kind", "a", "application/octet-stream", Kernel::Pricing(Format::Csv)),
        (b"1,2,3\n", "", "", Kernel::Echo),
        (b"", "", "", Kernel::Echo),
        (b"engine payload 1", "bu1/input/inline/1", "application/octet-stream", Kernel::Echo),
        (b"\xff\x00", "data.bin", "", Kernel::Echo),
    ] {
        assert_eq!(
            select_kernel(Input { bytes, name, content_type, market: None }),
            kernel,
            "{bytes:?} {name} {content_type}"
        );
    }
}

#[test]
fn bytes_that_are_no_text_are_not_echoed() {
    let input = Input { bytes: b"\xff", name: "", content_type: "", market: None };
    let output = compute(input, Share::ALL, 1).unwrap();
    let result: serde_json::Value = serde_json::from_slice(&output.bytes).unwrap();
    assert_eq!(result["payload"], serde_json::Value::Null);
    assert_eq!(result["bytes"], 1);
    assert_eq!(result["sha256"], "a8100ae6aa1940d0b663bb31cd466142ebbdbd5187131b92d93818987832eb89");
}

#[test]
fn a_value_that_is_no_number_is_permanent() {
    let text = r#"{"schema": 1, "seed": 1, "paths": 10,
      "underlyings": {"A": {"spot": 1e15, "volatility": 10, "rate": 2}},
      "trades": [{"id": "t", "kind": "european", "option": "call", "underlying": "A", "strike": 1e-15,
        "maturity": 200, "quantity": 1e15}]}"#;
    let input = Input { bytes: text.as_bytes(), name: "", content_type: "", market: None };
    // Whether such a book overflows depends on its paths; it must be a number or a clear error.
    match compute(input, Share::ALL, 1) {
        Ok(output) => assert!(!String::from_utf8(output.bytes).unwrap().contains("null")),
        Err(failure) => assert_eq!(failure.code, "numeric-overflow"),
    }
}

#[test]
fn the_market_data_is_found_among_the_common_data() {
    for (names, expected) in [
        (&[][..], Some(None)),
        (&["curves.json"], Some(Some("curves.json"))),
        (&["a.bin", "2026/market.json"], Some(Some("2026/market.json"))),
        (&["a.bin", "b.bin"], None),
    ] {
        assert_eq!(market(names.iter().copied()).ok(), expected, "{names:?}");
    }
}
