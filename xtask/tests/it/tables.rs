//! A table of trades as one Job, as a person submits it.

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
    laptop.ok(&format!("{submit} --rows-per-task 3"));

    let tasks = laptop.ok("kubectl get jobs -n bu1 -l session=risk -o jsonpath={.items[0].spec.completions}");
    let trades: Vec<&str> = table.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).skip(1).collect();
    assert_eq!(tasks.trim().parse::<usize>().unwrap(), trades.len().div_ceil(3));

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
}
