//! Lines of CSV for people, who open them in a spreadsheet.

/// Characters with which a spreadsheet begins to execute a cell, as OWASP lists them.
const BEGIN_FORMULAS: &str = "=+-@\t\r\n＝＋－＠";

/// One line of CSV (RFC 4180) without its end. A cell that a spreadsheet would execute begins with a single quote,
/// unless it is a number.
pub fn csv_line<'a>(cells: impl IntoIterator<Item = &'a str>) -> String {
    let quoted = cells.into_iter().map(|cell| {
        let guard = if cell.starts_with(|first| BEGIN_FORMULAS.contains(first)) && !is_number(cell) { "'" } else { "" };
        if cell.contains(['"', ',', '\t', '\n', '\r']) {
            format!("\"{guard}{}\"", cell.replace('"', "\"\""))
        } else {
            format!("{guard}{cell}")
        }
    });
    quoted.collect::<Vec<_>>().join(",")
}

fn is_number(cell: &str) -> bool {
    cell.parse::<f64>().is_ok() && cell.chars().all(|character| "+-.0123456789eE".contains(character))
}
