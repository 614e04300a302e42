//! The results of Jobs as one table: on standard output or in a file, as text, CSV or JSON.

use std::{
    ffi::OsStr,
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::ValueEnum;
use contract::{config::Business, exit, object};
use futures::{StreamExt as _, TryStreamExt as _};
use sessions::results::{self, COLUMNS, Latest, PORTFOLIO, Row, Totals};

use crate::{
    context::{Context, Opener},
    destination::Destination,
    error::Failure,
    output::Output,
    text,
};

/// Jobs read at a time.
const READS: usize = 16;
/// Results of every size are read.
const NO_LIMIT: usize = usize::MAX;

/// Where the table goes, and in which format.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TargetArgs {
    /// Format [default: by the extension of --output; a table on a terminal, else csv]
    #[arg(long, short, value_enum)]
    format: Option<Format>,
    /// Write to a file (.csv, .json or .txt), which appears only when it is complete; `-` is standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Exit with 1 when any row has an error
    #[arg(long)]
    strict: bool,
}

/// Formats of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// Comma-separated values with a header
    Csv,
    /// One array of objects
    Json,
}

/// Prints the results of a session, or of all sessions, as one table.
///
/// # Errors
/// When no Job has ended, or the results cannot be read or written.
pub(crate) async fn print(
    opener: &Opener<'_>,
    business: Option<&str>,
    session: Option<&str>,
    target: &TargetArgs,
    output: &Output,
) -> anyhow::Result<u8> {
    let format = target.format(output.json, std::io::stdout().is_terminal())?;
    let context = opener.open().await?;
    let business = context.business(business)?;
    let prefix = object::outcome_prefix(&business.name, session);
    let objects = context.store.list(&business.bucket, &prefix).await?;
    let latest = results::latest(&business.name, objects.iter().map(|object| object.name.as_str()));
    if latest.jobs.is_empty() {
        let of = session.map(|session| format!(" in session {session}")).unwrap_or_default();
        return Err(Failure::new("no-results", format!("no Job of {} has ended{of}", business.name))
            .next(format!("cargo xtask{} jobs --business {}", context.flag, business.name))
            .into());
    }
    let written = match target.output.as_deref().filter(|path| *path != Path::new("-")) {
        None => write(&context, business, &latest, format, |bytes| output.write(bytes)).await?,
        Some(path) => {
            let mut destination = Destination::open(path)?;
            let context_of_write = || format!("write {}", path.display());
            let put = |bytes: &[u8]| destination.file().write_all(bytes).with_context(context_of_write);
            let written = write(&context, business, &latest, format, put).await?;
            destination.finish().with_context(context_of_write)?;
            output.note(format_args!("wrote {}", path.display()));
            written
        }
    };
    let Written { totals, incomplete } = written;
    output.note(format_args!(
        "{} of {}{}",
        text::count(totals.rows, "row"),
        text::count(latest.jobs.len(), "Job"),
        text::row_errors(totals.errors)
    ));
    for sum in incomplete {
        output.warn(sum);
    }
    if latest.superseded > 0 {
        output.note(format_args!("{} earlier attempts are left out; the latest one counts", latest.superseded));
    }
    Ok(if target.strict && totals.errors + totals.incomplete > 0 { exit::FAILED } else { exit::DONE })
}

impl TargetArgs {
    /// # Errors
    /// When the name of the file stands for a format that cannot be written.
    fn format(&self, json: bool, is_terminal: bool) -> anyhow::Result<Format> {
        let by_path = match self
            .output
            .as_deref()
            .and_then(Path::extension)
            .and_then(OsStr::to_str)
            .map(str::to_lowercase)
            .as_deref()
        {
            Some("json") => Some(Format::Json),
            Some("txt") => Some(Format::Table),
            Some("csv") => Some(Format::Csv),
            Some(other) if self.format.is_none() => {
                return Err(Failure::usage(format!("results cannot be written as .{other}"))
                    .why("the formats are csv (.csv), json (.json) and table (.txt)")
                    .next("give the file one of these extensions, or choose the format with --format")
                    .into());
            }
            _ => None,
        };
        Ok(match self.format.or(json.then_some(Format::Json)).or(by_path) {
            Some(format) => format,
            None if is_terminal && self.output.is_none() => Format::Table,
            None => Format::Csv,
        })
    }
}

/// The rows that were written.
#[derive(Default)]
struct Written {
    totals: Totals,
    /// The sums in which something is missing, and what.
    incomplete: Vec<String>,
}

/// The cells of a row for people: numbers without the digits that nobody reads.
pub(crate) fn shown(row: &Row) -> [String; 7] {
    let mut cells = row.cells();
    if let Some(serde_json::Value::Number(number)) = &row.value {
        cells[4] = text::number(number);
    }
    if let Some(error) = &row.standard_error {
        cells[5] = text::number(error);
    }
    cells
}

/// Reads the results and writes them one by one.
async fn write(
    context: &Context,
    business: &Business,
    latest: &Latest,
    format: Format,
    mut sink: impl FnMut(&[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<Written> {
    let reads: Vec<_> =
        latest.jobs.iter().map(|outcomes| results::read(&context.store, business, outcomes, NO_LIMIT)).collect();
    let mut stream = futures::stream::iter(reads).buffered(READS);
    let mut written = Written::default();
    let mut table: Vec<[String; 7]> = Vec::new();
    sink(start(format).as_bytes())?;
    while let Some(rows) = stream.try_next().await? {
        for (number, row) in (written.totals.rows..).zip(&rows) {
            match format {
                Format::Table => table.push(shown(row)),
                Format::Csv | Format::Json => sink(record(format, row, number == 0)?.as_bytes())?,
            }
            if let Some(error) = row.error.as_ref().filter(|_| row.row == PORTFOLIO && row.value.is_some()) {
                written.incomplete.push(format!("{PORTFOLIO} of {}: {error}", row.job));
            }
        }
        written.totals = written.totals.plus(Totals::of(&rows));
    }
    match format {
        Format::Table => {
            let table = text::table(&COLUMNS, table.into_iter().map(Vec::from));
            sink(format!("{table}\n").as_bytes())?;
        }
        Format::Json => sink(b"\n]\n")?,
        Format::Csv => {}
    }
    Ok(written)
}

fn start(format: Format) -> String {
    match format {
        Format::Table => String::new(),
        Format::Csv => format!("{}\n", results::csv_line(COLUMNS)),
        Format::Json => "[".to_owned(),
    }
}

fn record(format: Format, row: &Row, first: bool) -> anyhow::Result<String> {
    Ok(match format {
        Format::Json => {
            format!("{}\n{}", if first { "" } else { "," }, text::escape_json(&serde_json::to_string(row)?))
        }
        Format::Csv | Format::Table => format!("{}\n", results::csv_line(row.cells().iter().map(String::as_str))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_follows_the_option_then_the_file_then_the_terminal() {
        let check = |format, path: Option<&str>, json, is_terminal, expected| {
            let target = TargetArgs { format, output: path.map(PathBuf::from), strict: false };
            assert_eq!(target.format(json, is_terminal).unwrap(), expected);
        };
        check(Some(Format::Csv), Some("a.json"), true, true, Format::Csv);
        check(None, None, true, true, Format::Json);
        check(None, Some("a.json"), false, true, Format::Json);
        check(None, Some("a"), false, true, Format::Csv);
        check(None, None, false, true, Format::Table);
        check(None, None, false, false, Format::Csv);
    }

    #[test]
    fn a_file_of_another_format_is_refused_with_those_that_there_are() {
        let target = TargetArgs { format: None, output: Some("x.xlsx".into()), strict: false };
        let failure = target.format(false, false).unwrap_err().downcast::<Failure>().unwrap();
        assert_eq!(failure.what, "results cannot be written as .xlsx");
        assert!(failure.why.unwrap().contains("csv (.csv), json (.json)"));
    }

    #[test]
    fn json_is_one_array() {
        let row = Row {
            session: "s".into(),
            job: "j".into(),
            row: String::new(),
            measure: "m".into(),
            value: Some(serde_json::json!(1.5)),
            standard_error: None,
            error: None,
        };
        let text = format!(
            "{}{}{}\n]\n",
            start(Format::Json),
            record(Format::Json, &row, true).unwrap(),
            record(Format::Json, &row, false).unwrap()
        );
        let parsed: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed.len(), 2);
        assert_eq!(parsed[0]["value"], 1.5);
    }
}
