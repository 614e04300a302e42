//! `results`: one tidy table of everything a session computed.

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

/// Columns: session, job, row, measure, value, standard_error, error. A Job without a result is a row with its error.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Only this session
    #[arg(long, short)]
    pub(crate) session: Option<String>,
    /// Business [default: the only one]
    #[arg(long, short, env = "BUSINESS_NAME")]
    pub(crate) business: Option<String>,
    /// Form [default: by the extension of --output; a table on a terminal, else csv]
    #[arg(long, short, value_enum)]
    pub(crate) format: Option<Format>,
    /// Write to a file, which appears only when it is complete
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// Forms of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// Comma-separated values with a header
    Csv,
    /// One array of objects
    Json,
}

/// Prints the results.
pub(crate) async fn run(opener: &Opener<'_>, args: &Args, output: &Output) -> anyhow::Result<u8> {
    let format = format(args.format, output.json, args.output.as_deref(), std::io::stdout().is_terminal());
    let context = opener.open().await?;
    let business = context.business(args.business.as_deref())?;
    let prefix = object::outcome_prefix(&business.name, args.session.as_deref());
    let objects = context.store.list(&business.bucket, &prefix).await?;
    let latest = results::latest(&business.name, objects.iter().map(|object| object.name.as_str()));
    if latest.outcomes.is_empty() {
        let of = args.session.as_ref().map(|session| format!(" in session {session}")).unwrap_or_default();
        return Err(Failure::new("no-results", format!("no Job of {} has ended{of}", business.name))
            .next(format!("cargo xtask{} jobs --business {}", context.flag, business.name))
            .into());
    }
    let rows = match &args.output {
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

/// The form to write in.
fn format(asked: Option<Format>, json: bool, path: Option<&Path>, terminal: bool) -> Format {
    let by_path = path.and_then(Path::extension).map(|extension| match extension.to_str() {
        Some("json") => Format::Json,
        Some("txt") => Format::Table,
        _ => Format::Csv,
    });
    match asked.or(json.then_some(Format::Json)).or(by_path) {
        Some(format) => format,
        None if terminal && path.is_none() => Format::Table,
        None => Format::Csv,
    }
}

/// Reads the results and writes them as they come; gives the number of rows.
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
        Format::Json => format!("{}\n{}", if first { "" } else { "," }, serde_json::to_string(row)?),
        Format::Csv | Format::Table => format!("{}\n", results::csv_line(row.cells().iter().map(String::as_str))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_follows_what_was_asked_then_the_file_then_the_terminal() {
        let path = |name: &'static str| Some(Path::new(name));
        assert_eq!(format(Some(Format::Csv), true, path("a.json"), true), Format::Csv);
        assert_eq!(format(None, true, None, true), Format::Json);
        assert_eq!(format(None, false, path("a.json"), true), Format::Json);
        assert_eq!(format(None, false, path("a"), true), Format::Csv);
        assert_eq!(format(None, false, None, true), Format::Table);
        assert_eq!(format(None, false, None, false), Format::Csv);
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
