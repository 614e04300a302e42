//! The examples that come with the repository do what their page says.

use std::{fs, path::PathBuf};

use crate::try_engine;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

#[test]
fn every_pricing_example_has_prices() {
    let mut count = 0;
    for entry in fs::read_dir(folder().join("pricing")).unwrap() {
        let path = entry.unwrap().path();
        let (code, out, log) = try_engine(&[], &fs::read(&path).unwrap());
        assert_eq!(code, 0, "{}: {log}", path.display());
        let result: serde_json::Value = serde_json::from_str(&out).unwrap();
        for trade in result["trades"].as_array().unwrap() {
            let (price, error) = (trade["price"].as_f64().unwrap(), trade["standard_error"].as_f64().unwrap());
            // Every example is a meaningful one: a price that is known to a few percent.
            assert!(price > 0.0 && error > 0.0 && error < 0.05 * price, "{}: {trade}", path.display());
        }
        count += 1;
    }
    assert!(count >= 20);
}

#[test]
fn the_malformed_example_names_line_and_field() {
    let (code, out, log) = try_engine(&[], &fs::read(folder().join("malformed.json")).unwrap());
    assert_eq!((code, out.as_str()), (10, ""));
    assert!(
        log.contains(r#"line 20, column 17: trades[1].strike: expected a positive number, found "ninety-five""#),
        "{log}"
    );
}

#[test]
fn the_python_example_is_wrapped() {
    if std::process::Command::new("python3").arg("--version").output().is_err() {
        eprintln!("skipped: there is no python3");
        return;
    }
    let folder = folder().join("wrap-python");
    let script = folder.join("price.py");
    let command = ["--permanent-exit-codes", "2", "--", "python3", script.to_str().unwrap()];
    let (code, out, log) = try_engine(&command, &fs::read(folder.join("trades.csv")).unwrap());
    assert_eq!(code, 0, "{log}");
    let result: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(result["trades"].as_array().unwrap().len(), 4);
    // Black and Scholes's price of the first one.
    assert!((result["trades"][0]["price"].as_f64().unwrap() - 9.413_403_383_853_016).abs() < 1e-9, "{out}");
    let (code, _, log) =
        try_engine(&command, b"id,option,spot,strike,rate,volatility,maturity\nt1,call,100,x,0,0.2,1\n");
    assert!(code == 10 && log.contains("line 2"), "{code} {log}");
}
