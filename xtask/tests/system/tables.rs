//! A table of trades as one pack, as a person submits it.

use crate::laptop::Laptop;

#[test]
fn a_table_is_priced_in_parts_and_joined_again() {
    let laptop = Laptop::start("project = \"test-desk\"\n[businesses.bu1]\n[businesses.bu1.engine]\ncpu = \"100m\"\n");
    laptop.ok("xtask provision");
    laptop.ok("xtask deploy");
    let table = include_str!("../../../examples/trades.csv");
    std::fs::write(laptop.folder().join("trades.csv"), table).unwrap();
    std::fs::write(laptop.folder().join("market.json"), include_str!("../../../examples/market.json")).unwrap();
    let submit = "xtask submit --wait --business bu1 --session risk --table trades.csv --common market.json";
    laptop.ok(&format!("{submit} --rows-per-item 3"));

    let trades: Vec<&str> = table.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).skip(1).collect();
    let jobs = laptop.ok("xtask jobs --session risk --json");
    let jobs: serde_json::Value = serde_json::from_str(&jobs).unwrap();
    assert_eq!(jobs[0]["items"]["succeeded"], trades.len().div_ceil(3));

    let results = laptop.ok("xtask results --session risk --business bu1 --format csv");
    let mut rows: Vec<&str> = Vec::new();
    for line in results.lines().skip(1) {
        let row = line.split(',').nth(2).unwrap();
        if rows.last() != Some(&row) && trades.iter().any(|trade| trade.split(',').next() == Some(row)) {
            rows.push(row);
        }
    }
    let wanted: Vec<&str> = trades.iter().filter_map(|trade| trade.split(',').next()).collect();
    assert_eq!(rows, wanted, "every trade once, in the table's order:\n{results}");

    // The same in one piece gives the same numbers: a trade's random numbers follow from its id.
    laptop.ok(&submit.replace("--session risk", "--session whole"));
    let whole = laptop.ok("xtask results --session whole --business bu1 --format csv");
    let numbers = |text: &str| -> Vec<String> {
        let cells = |line: &str| line.split(',').skip(2).map(str::to_owned).collect::<Vec<_>>().join(",");
        text.lines().map(cells).filter(|line| !line.starts_with("portfolio") && !line.starts_with(",")).collect()
    };
    assert_eq!(numbers(&results), numbers(&whole));

    // Rows with an error are counted, and have the lines of the table.
    let header = table.lines().next().unwrap();
    let row = |id: &str, strike: &str, underlying: &str| format!("{id},european,call,{underlying},{strike},1,,,,,,,,,");
    let broken =
        [header, &row("good", "6000", "SPX"), &row("nan", "NaN", "SPX"), &row("unknown", "1", "NONE")].join("\r");
    std::fs::write(laptop.folder().join("trades.csv"), broken).unwrap();
    let broken = submit.replace("--session risk", "--session broken --rows-per-item 1");
    let submitted = String::from_utf8(laptop.run(&broken).stderr).unwrap();
    assert!(
        submitted.contains("2 rows will not be priced: nan: line 3") && submitted.contains(", 2 row errors"),
        "{submitted}"
    );
    laptop.shows("xtask jobs --session broken", "succeeded, 3 of 3 items, 2 row errors");
    let errors = laptop.shows("xtask results --session broken --business bu1 --format csv", "nan,,,,\"line 3, column ");
    assert!(errors.contains("unknown,,,,\"line 4, column "), "{errors}");
    assert!(errors.contains("missing in this sum: 2 of 3 trades"), "{errors}");
    let strict = laptop.run("xtask results --session broken --business bu1 --strict");
    assert_eq!(strict.status.code(), Some(1));
}
