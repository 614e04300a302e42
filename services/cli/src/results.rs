//! The results of Jobs as one table: on standard output or in a file, as text, CSV or JSON.

use std::{
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::ValueEnum;
use contract::{config::Business, exit, object};
use futures::{StreamExt as _, TryStreamExt as _};
use sessions::results::{self, COLUMNS, Latest, Row};

use crate::{
    context::{Context, Opener},
    error::Failure,
    output::Output,
    text,
};

/// Jobs read at a time.
const READS: usize = 16;

/// Where the table goes, and in which format.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TargetArgs {
    /// Format [default: by the extension of --output; a table on a terminal, else csv]
    #[arg(long, short, value_enum)]
    format: Option<Format>,
    /// Write to a file, which appears only when it is complete
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
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
    let format = target.format(output.json, std::io::stdout().is_terminal());
    let context = opener.open().await?;
    let business = context.business(business)?;
    let prefix = object::outcome_prefix(&business.name, session);
    let objects = context.store.list(&business.bucket, &prefix).await?;
    let latest = results::latest(&business.name, objects.iter().map(|object| object.name.as_str()));
    if latest.outcomes.is_empty() {
        let of = session.map(|session| format!(" in session {session}")).unwrap_or_default();
        return Err(Failure::new("no-results", format!("no Job of {} has ended{of}", business.name))
            .next(format!("cargo xtask{} jobs --business {}", context.flag, business.name))
            .into());
    }
    let rows = match &target.output {
        None => write(&context, business, &latest, format, |bytes| output.write(bytes)).await?,
        Some(path) => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let mut file = tempfile::NamedTempFile::new_in(folder)
                .with_context(|| format!("make a file in {}", folder.display()))?;
            let rows = write(&context, business, &latest, format, |bytes| Ok(file.write_all(bytes)?)).await?;
            file.persist(path).with_context(|| format!("write {}", path.display()))?;
            output.note(format_args!("wrote {}", path.display()));
            rows
        }
    };
    output.note(format_args!("{} of {}", text::count(rows, "row"), text::count(latest.outcomes.len(), "Job")));
    if latest.superseded > 0 {
        output.note(format_args!("{} earlier attempts are left out; the latest one counts", latest.superseded));
    }
    Ok(exit::DONE)
}

impl TargetArgs {
    fn format(&self, json: bool, is_terminal: bool) -> Format {
        let by_path = self.output.as_deref().and_then(Path::extension).map(|extension| match extension.to_str() {
            Some("json") => Format::Json,
            Some("txt") => Format::Table,
            _ => Format::Csv,
        });
        match self.format.or(json.then_some(Format::Json)).or(by_path) {
            Some(format) => format,
            None if is_terminal && self.output.is_none() => Format::Table,
            None => Format::Csv,
        }
    }
}

/// Reads the results, writes them one by one, and returns the number of rows.
async fn write(
    context: &Context,
    business: &Business,
    latest: &Latest,
    format: Format,
    mut sink: impl FnMut(&[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<usize> {
    let reads: Vec<_> = latest.outcomes.iter().map(|name| results::read(&context.store, business, name)).collect();
    let mut stream = futures::stream::iter(reads).buffered(READS);
    let mut count = 0;
    let mut shown: Vec<Row> = Vec::new();
    sink(start(format).as_bytes())?;
    while let Some(rows) = stream.try_next().await? {
        for row in rows {
            match format {
                Format::Table => shown.push(row),
                Format::Csv | Format::Json => sink(record(format, &row, count == 0)?.as_bytes())?,
            }
            count += 1;
        }
    }
    match format {
        Format::Table => {
            let table = text::table(&COLUMNS, shown.iter().map(|row| row.cells().to_vec()));
            sink(format!("{table}\n").as_bytes())?;
        }
        Format::Json => sink(b"\n]\n")?,
        Format::Csv => {}
    }
    Ok(count)
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
            let target = TargetArgs { format, output: path.map(PathBuf::from) };
            assert_eq!(target.format(json, is_terminal), expected);
        };
        check(Some(Format::Csv), Some("a.json"), true, true, Format::Csv);
        check(None, None, true, true, Format::Json);
        check(None, Some("a.json"), false, true, Format::Json);
        check(None, Some("a"), false, true, Format::Csv);
        check(None, None, false, true, Format::Table);
        check(None, None, false, false, Format::Csv);
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
