//! The examples that come with the repository do what their page says.

use std::{fs, path::PathBuf, process::Command};

use crate::{engine, run, try_engine};

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
    if Command::new("python3").arg("--version").output().is_err() {
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
    // By the program that stays, the same.
    let stays = folder.join("resident.py");
    let stays = ["--resident", "--", "python3", stays.to_str().unwrap()];
    let (code, again, log) = try_engine(&stays, &fs::read(folder.join("trades.csv")).unwrap());
    assert_eq!((code, again), (0, out.clone()), "{log}");
    let (code, _, log) = try_engine(&stays, b"id,option\nt1,call\n");
    assert!(code == 10 && log.contains("KeyError('spot')"), "{code} {log}");
    // Black and Scholes's price of the first one.
    assert!((result["trades"][0]["price"].as_f64().unwrap() - 9.413_403_383_853_016).abs() < 1e-9, "{out}");
    let (code, _, log) =
        try_engine(&command, b"id,option,spot,strike,rate,volatility,maturity\nt1,call,100,x,0,0.2,1\n");
    assert!(code == 10 && log.contains("line 2"), "{code} {log}");
}

#[test]
fn the_table_is_priced_with_its_market_data() {
    // The folder of common data, as in a session.
    let common = tempfile::tempdir().unwrap();
    fs::copy(folder().join("market.json"), common.path().join("market.json")).unwrap();
    let price = |index: &str, count: &str| {
        let mut command = engine(&["try"]);
        command.env("DESKGRID_COMMON", common.path()).env("DESKGRID_INDEX", index).env("DESKGRID_COUNT", count);
        let output = run(command, &fs::read(folder().join("trades.csv")).unwrap());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let whole = price("0", "1");
    let trades = whole["trades"].as_array().unwrap();
    assert_eq!(trades.len(), 9);
    for trade in trades {
        let (price, error) = (trade["price"].as_f64().unwrap(), trade["standard_error"].as_f64().unwrap());
        assert!(price > 0.0 && error > 0.0 && error < 0.05 * price, "{trade}");
        let measures = trade.as_object().unwrap().keys();
        assert!(measures.clone().any(|name| name.starts_with("gamma")), "{trade}");
    }
    assert!(trades[7]["delta[GOLD]"].as_f64().unwrap() > 0.0, "{}", trades[7]);
    // Cut into tasks, the same bytes.
    for index in 0..4 {
        let part = price(&index.to_string(), "4");
        let expected: Vec<_> = trades.iter().skip(index).step_by(4).cloned().collect();
        assert_eq!(part["trades"].as_array().unwrap(), &expected);
    }
    let (code, _, log) = try_engine(&[], &fs::read(folder().join("trades.csv")).unwrap());
    assert!(code == 10 && log.contains("needs market data"), "{code} {log}");
}

#[test]
fn the_compiled_example_is_wrapped() {
    let built = tempfile::tempdir().unwrap();
    let (source, program) = (folder().join("wrap-c/price.c"), built.path().join("price"));
    let compiler =
        Command::new("cc").args(["-O2", "-Wall", "-Werror", "-o"]).args([&program, &source]).arg("-lm").output();
    let Ok(compiled) = compiler else {
        eprintln!("skipped: there is no cc");
        return;
    };
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let command = ["--permanent-exit-codes", "2", "--", program.to_str().unwrap()];
    let (code, out, log) = try_engine(&command, &fs::read(folder().join("wrap-c/trades.txt")).unwrap());
    assert_eq!(code, 0, "{log}");
    let result: serde_json::Value = serde_json::from_str(&out).unwrap();
    // Black and Scholes's price, as the Python example has it.
    assert!((result["trades"][0]["price"].as_f64().unwrap() - 9.413_403_383_853_016).abs() < 1e-9, "{out}");
    let (code, _, log) = try_engine(&command, b"t1 call 100 x\n");
    assert!(code == 10 && log.contains("line 1"), "{code} {log}");
    let limited = ["--max-output-bytes", "10", "--", program.to_str().unwrap()];
    let (code, _, log) = try_engine(&limited, &fs::read(folder().join("wrap-c/trades.txt")).unwrap());
    assert!(code == 10 && log.contains("more than 10 bytes"), "{code} {log}");
}
