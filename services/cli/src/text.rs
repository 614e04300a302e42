//! Durations, sizes, counts and tables as people read them.

use std::{borrow::Cow, time::Duration};

use comfy_table::{ContentArrangement, Table, presets};
use sessions::{Cause, jobs::Job};

pub use inspect::text::{age, bytes, duration};

/// Characters of a cell that a table shows: a terminal holds no more, and a very long word takes minutes to wrap.
const CELL_MAX: usize = 2_000;
/// Characters of a terminal for each column, of which a table is made to fit.
const COLUMN_MIN: usize = 5;

/// `1 Job`, `2 Jobs`.
pub fn count(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

/// `, 2 row errors`, or nothing.
pub(crate) fn row_errors(count: usize) -> String {
    if count == 0 { String::new() } else { format!(", {}", self::count(count, "row error")) }
}

/// A number of at most six significant digits; whole numbers keep all of theirs.
pub(crate) fn number(number: &serde_json::Number) -> String {
    let Some(value) = number.as_f64().filter(|_| number.is_f64()) else { return number.to_string() };
    let scientific = format!("{value:.5e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let short = |digits: &str| digits.trim_end_matches('0').trim_end_matches('.').to_owned();
    match usize::try_from(5 - exponent) {
        Ok(0) => format!("{value:.0}"),
        Ok(decimals @ 1..=10) => short(&format!("{value:.decimals$}")),
        Ok(_) | Err(_) => format!("{}e{exponent}", short(digits)),
    }
}

/// The first few of many: `a, b, c and 7 more`.
pub fn some<'a>(items: impl IntoIterator<Item = &'a str>, max: usize) -> String {
    let items: Vec<&str> = items.into_iter().collect();
    if items.len() <= max {
        return items.join(", ");
    }
    format!("{} and {} more", items[..max].join(", "), items.len() - max)
}

/// What the counts of these Jobs count: items, when one of them is a pack.
pub(crate) fn unit(jobs: &[Job]) -> &'static str {
    if jobs.iter().any(|job| job.items.is_some()) { "item" } else { "Job" }
}

/// A cause of failures: how many Jobs, state, reason, log line and examples.
pub(crate) fn cause(cause: &Cause) -> String {
    let Cause { state, code, count, message, line, examples } = cause;
    let mut page = format!("{count} {state}, {code}: {message}");
    if !line.is_empty() && line != message {
        page.push_str(&format!("\n  log: {line}"));
    }
    let more = count.saturating_sub(examples.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    page.push_str(&format!("\n  {}{more}", examples.join(", ")));
    page
}

/// Text without control characters, which a terminal would obey, and without characters that reverse the direction of
/// what follows; each is replaced by its number. Lines and tabs stay.
pub fn clean(text: &str) -> Cow<'_, str> {
    without(text, |c| is_obeyed(c) && !matches!(c, '\n' | '\t'), |c| c.escape_default().to_string())
}

/// JSON with an escape for each such character; the encoder leaves those beyond ASCII as they are.
pub(crate) fn escape_json(json: &str) -> Cow<'_, str> {
    // The line breaks of an indented document are not part of a text.
    without(json, |c| is_obeyed(c) && c != '\n', |c| format!("\\u{:04x}", u32::from(c)))
}

fn is_obeyed(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn without(text: &str, is_bad: impl Fn(char) -> bool, replace: impl Fn(char) -> String) -> Cow<'_, str> {
    if !text.contains(&is_bad) {
        return text.into();
    }
    text.chars().map(|c| if is_bad(c) { replace(c) } else { c.to_string() }).collect::<String>().into()
}

/// A name in a colour that depends only on the name, when `colour` is set.
pub(crate) fn tint(name: &str, colour: bool) -> String {
    if !colour {
        return name.to_owned();
    }
    let sum = name.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    let codes = [31, 32, 33, 34, 35, 36, 91, 92, 93, 94, 95, 96];
    format!("\x1b[{}m{name}\x1b[0m", codes[sum as usize % codes.len()])
}

/// A line of a difference in the colour of its mark, when `colour` is set.
pub(crate) fn paint_change(line: &str, colour: bool) -> String {
    let code = match line.trim_start().chars().next() {
        _ if !colour => return line.to_owned(),
        Some('+') => 32,
        Some('-' | '!') => 31,
        Some('~') => 33,
        Some('@' | '=' | '?') => 36,
        _ => return line.to_owned(),
    };
    format!("\x1b[{code}m{line}\x1b[0m")
}

/// A word, quoted for a shell where necessary.
pub fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A table without lines, as kubectl prints it, that fits the terminal unless that is too narrow for its columns.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    table_of_width(header, rows, Table::new().width())
}

fn table_of_width(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>, width: Option<u16>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    // A terminal that does not know its size says 0.
    if let Some(width) = width.filter(|width| usize::from(*width) >= COLUMN_MIN * header.len()) {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    table.set_header(header.iter().map(|name| name.to_uppercase()));
    for row in rows {
        // A line break in a cell would look like another row.
        table.add_row(row.iter().map(|cell| clean(shortened(cell).as_ref()).replace('\n', "\\n").replace('\t', " ")));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// The beginning of a text that is too long for a table.
fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(CELL_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

/// A duration as people write it: `90s`, `10m`, `1h30m`; a plain number is seconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let error = || format!("{text:?} is not a duration such as 90s, 10m or 1h30m");
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let duration: jiff::SignedDuration = text.parse().map_err(|_| error())?;
    Duration::try_from(duration).map_err(|_| error())
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn durations_have_at_most_two_units() {
        for (millis, wanted) in
            [(-5, "0ms"), (12, "12ms"), (3250, "3.2s"), (65_000, "1m05s"), (7_800_000, "2h10m"), (273_600_000, "3d4h")]
        {
            assert_eq!(duration(SignedDuration::from_millis(millis)), wanted);
        }
    }

    #[test]
    fn numbers_have_at_most_six_significant_digits() {
        for (json, shown) in [
            ("10392.581234567891", "10392.6"),
            ("0.1", "0.1"),
            ("-3.0", "-3"),
            ("0.0", "0"),
            ("999999.7", "1e6"),
            ("123456.4", "123456"),
            ("0.00001234567890", "0.0000123457"),
            ("0.0000012345678", "1.23457e-6"),
            ("1.234567890123456e300", "1.23457e300"),
            ("12345678901234567890", "12345678901234567890"),
        ] {
            assert_eq!(number(&json.parse().unwrap()), shown);
        }
    }

    #[test]
    fn a_table_in_a_terminal_without_a_width_has_a_line_for_each_row() {
        let print = |width| table_of_width(&["session", "job"], [vec!["20261129".into(), "a long name".into()]], width);
        for width in [None, Some(0), Some(3), Some(200)] {
            assert_eq!(print(width), "SESSION   JOB\n20261129  a long name", "{width:?}");
        }
        assert!(print(Some(15)).lines().count() > 2);
    }

    #[test]
    fn sizes_counts_and_words() {
        assert_eq!((bytes(512), bytes(1536)), ("512 B".to_owned(), "1.5 KiB".to_owned()));
        assert_eq!((count(1, "Job"), count(0, "Job")), ("1 Job".to_owned(), "0 Jobs".to_owned()));
        assert_eq!(some(["a", "b", "c"], 2), "a, b and 1 more");
        assert_eq!(
            (shell("a/b.json"), shell("it's"), shell("")),
            ("a/b.json".into(), r"'it'\''s'".into(), "''".into())
        );
    }

    #[test]
    fn what_a_terminal_would_obey_is_shown_as_its_number() {
        for (text, expected) in [
            ("plain é 日本\n\ttab", "plain é 日本\n\ttab"),
            ("\u{1b}[31mred\r\u{7}\0\u{7f}", r"\u{1b}[31mred\r\u{7}\u{0}\u{7f}"),
            ("\u{9b}31m \u{202e}fdp.exe", r"\u{9b}31m \u{202e}fdp.exe"),
        ] {
            assert_eq!(clean(text), expected);
        }
        let document = serde_json::json!({"id": "\u{1b}\u{9b}\u{7f}é\n"});
        let json = serde_json::to_string_pretty(&document).unwrap();
        assert_eq!(escape_json(&json), "{\n  \"id\": \"\\u001b\\u009b\\u007fé\\n\"\n}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escape_json(&json)).unwrap(), document);
        let table = table(&["id"], [vec!["a\u{1b}[2J\nrow\tb".to_owned()]]);
        assert_eq!(table, "ID\na\\u{1b}[2J\\nrow b");
    }

    #[test]
    fn a_table_shows_the_beginning_of_a_very_long_cell() {
        let started = std::time::Instant::now();
        let table = table_of_width(&["id", "value"], [vec!["x".repeat(10_000_000), "1".to_owned()]], Some(80));
        assert!(table.len() < 2 * CELL_MAX && table.contains('…'), "{}", table.len());
        assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5400)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "x", "-5s", "10 parsecs"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
