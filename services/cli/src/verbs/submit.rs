//! `submit`: makes Jobs of one session from files, folders or standard input.

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::builder::RangedU64ValueParser;
use cloud::shutdown;
use contract::{
    config::Business,
    exit, names,
    pack::{self, Format, Pack},
};
use jiff::Timestamp;
use sessions::submit::{self, Existing, Fate, Input, Options, Source, Step, Submitter, session_name, wait};

use crate::{
    context::{Context, Opener},
    error::Failure,
    inputs,
    output::Output,
    packing::{self, Batch},
    tables, text,
};

mod report;

/// Paths repeated in the next command.
const PATHS_MAX: usize = 8;

/// Each file becomes one Job. Its job id is the name of the file, or its path within the submitted folder. More than 500
/// small files become items of one Job, or of a few. The same command can be run again: it sends only missing Jobs.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Files and folders (hidden files are left out); `-` is standard input
    #[arg(required_unless_present_any = ["table", "pack"])]
    paths: Vec<PathBuf>,
    /// Table of trades as CSV: one Job, whose items are its rows; its results are one table
    #[arg(long, value_name = "FILE", group = "split", conflicts_with_all = ["paths", "items", "pack"])]
    table: Option<PathBuf>,
    /// Rows of the table that each item has
    #[arg(long, value_name = "N", alias = "rows-per-task", requires = "table", conflicts_with_all = ["paths", "items", "pack"], default_value_t = 1, value_parser = RangedU64ValueParser::<u32>::new().range(1..))]
    rows_per_item: u32,
    /// File of lines, such as NDJSON, or a tar archive of files: one Job, whose items are its lines or files
    #[arg(long, value_name = "FILE", group = "split", conflicts_with_all = ["paths", "items"])]
    pack: Option<PathBuf>,
    /// Make a Job of each file, however many and small they are
    #[arg(long, conflicts_with = "split")]
    each: bool,
    /// File that every Job of the session reads, such as market data
    #[arg(long, value_name = "FILE")]
    common: Vec<PathBuf>,
    /// Business [default: the only one]
    #[arg(long, short, env = "BUSINESS_NAME")]
    business: Option<String>,
    /// Session [default: a new one with the time as its name]
    #[arg(long, short)]
    session: Option<String>,
    /// Name of the client that submits
    #[arg(long, env = "CLIENT_NAME")]
    client: Option<String>,
    /// Job id, for a single input
    #[arg(long)]
    job: Option<String>,
    /// Make so many items of each Job, which all read its whole input
    #[arg(long, value_name = "N", alias = "tasks", group = "split", value_parser = RangedU64ValueParser::<u32>::new().range(1..))]
    items: Option<u32>,
    /// Items that one pod computes [default: so many that all pods have work]
    #[arg(long, value_name = "N", requires = "split", value_parser = RangedU64ValueParser::<u32>::new().range(1..))]
    items_per_range: Option<u32>,
    /// Start these Jobs before those without priority
    #[arg(long)]
    priority: bool,
    /// Wait until every Job has an outcome; exit code 1 unless all succeeded
    #[arg(long, short)]
    wait: bool,
    /// Wait at most this long (`90s`, `10m`, `2h`) [default: 24h]
    #[arg(long, requires = "wait", value_parser = text::parse_duration)]
    timeout: Option<Duration>,
}

/// Submits, and waits when asked to.
pub(crate) async fn run(opener: &Opener<'_>, args: &Args, output: &Output) -> anyhow::Result<u8> {
    if let Some(session) = &args.session {
        names::check_session(session).map_err(|error| {
            Failure::usage(format!("{session:?} is not a valid session name")).why(error.to_string())
        })?;
    }
    let paths: Vec<PathBuf> = args.paths.iter().chain(&args.table).chain(&args.pack).cloned().collect();
    let spool = spool(&paths)?;
    let inputs = inputs::collect(&paths, args.job.as_deref(), spool.as_ref().map(|file| file.path()))?;
    let common = inputs::common(&args.common)?;
    let size: u64 = inputs.iter().map(|input| size(&input.source)).sum();

    let context = opener.open().await?;
    let business = context.business(args.business.as_deref())?;
    if args.priority && business.priority_subscription.is_none() {
        return Err(Failure::usage(format!("{} has no subscription for priority", business.name))
            .next(format!(
                "submit without --priority, or set `priority = true` of {} in the environment file, then cargo xtask{} \
                 provision and deploy",
                business.name, context.flag
            ))
            .into());
    }
    let pack = pack(args, &inputs, &common, business, output)?;
    let stop = shutdown::on_signal()?;
    let session = args
        .session
        .clone()
        .unwrap_or_else(|| session_name(Timestamp::now(), &format!("{}-{}", std::process::id(), business.name)));
    let options = Options {
        session: session.clone(),
        client: args.client.clone().filter(|client| !client.is_empty()).or_else(user),
        pack,
        priority: args.priority,
        common: common.iter().map(|input| input.job.clone()).collect(),
    };
    if let Err(refusal) = options.work(business, "").check_message() {
        return Err(Failure::usage("Pub/Sub does not accept the options of these Jobs")
            .why(refusal.message)
            .next("pass fewer or shorter names of common data and of the client; one --common FILE may be an archive")
            .into());
    }
    context.check_queue(business).await?;
    let publisher = context.connection.base_publisher().await?;
    let submitter = Submitter::new(context.store.clone(), &publisher, business.clone());
    // An earlier run of this command may have sent Jobs of a session that was given.
    let existing = match &args.session {
        Some(session) => tokio::select! {
            existing = submitter.existing(session) => existing?,
            () = stop.cancelled() => return Err(Failure::new("stopped", "stopped before anything was submitted").into()),
        },
        None => Existing::default(),
    };
    let batches = if args.each || options.pack.is_some() {
        vec![Batch::Apart(inputs, options.pack.clone())]
    } else {
        packing::batches(inputs, &args.paths, |job| existing.step(job) != Step::Upload)?
    };
    if let Some(note) = packing::note(&batches) {
        output.note(note);
    }
    for input in &common {
        submitter.place_common(input, &session).await?;
    }
    let total = batches.iter().map(|batch| batch.jobs().len()).sum();
    output.detail(format_args!(
        "submitting {} ({}) to {} in session {session}",
        text::count(total, "Job"),
        text::bytes(size),
        business.name
    ));

    let started = Instant::now();
    let mut progress = output.progress("submitted", total);
    let (mut done, mut failed) = (0, 0);
    let stopping = tokio::spawn({
        let (stop, output) = (stop.clone(), *output);
        async move {
            stop.cancelled().await;
            output.note("stopping; started uploads are finished");
        }
    });
    let (mut sent, mut packs) = (submit::Report { jobs: Vec::new(), stopped: false }, BTreeMap::new());
    for batch in batches {
        if sent.stopped {
            sent.jobs.extend(batch.jobs().into_iter().map(|job| (job, Fate::NotTried)));
            continue;
        }
        let options = Options { pack: pack_of(&batch, business), ..options.clone() };
        packs.extend(options.pack.iter().flat_map(|pack| batch.jobs().into_iter().map(|job| (job, pack.clone()))));
        let (inputs, _archive) = batch.into_inputs()?;
        let of_batch = submitter
            .run(inputs, &options, &existing, &stop, |_, fate| {
                done += 1;
                failed += usize::from(matches!(fate, Fate::Failed(_)));
                progress.set(done, &if failed > 0 { format!("{failed} failed") } else { String::new() });
            })
            .await;
        sent.stopped = of_batch.stopped;
        sent.jobs.extend(of_batch.jobs);
    }
    stopping.abort();
    drop(progress);
    let mut report = report::Report {
        environment: &context.config.environment,
        business: &business.name,
        session: &session,
        flag: &context.flag,
        packs: &packs,
        sent: &sent,
        seconds: started.elapsed().as_secs_f64(),
        size,
        command: next_command(&context, args, &session, &business.name),
        waited: None,
    };
    report.print_submitted(output, args.wait);
    if !args.wait || !sent.is_complete() {
        report.print(output)?;
        return report.result();
    }

    let expected: Vec<_> = sent.expected().into_iter().map(|(job, generation)| (job, generation, 0)).collect();
    let limit = Some(args.timeout.unwrap_or(super::WAIT_LIMIT));
    let items = |job: &str| packs.get(job).map_or(1, |pack| pack.items as usize);
    let mut progress = output.progress("settled", expected.iter().map(|(job, ..)| items(job)).sum());
    let (mut done, mut unsuccessful) = (0, 0);
    let waited = wait(&context.store, business, &session, expected, limit, &stop, |outcome| {
        // A pack that was not split has one outcome for all of its items.
        let counts = outcome.counts();
        let of_all = outcome.work.as_ref().map_or(1, |work| items(&work.job));
        let weight = if outcome.items.is_empty() { of_all } else { 1 };
        done += counts.total() as usize * weight;
        unsuccessful += (counts.total() - counts.succeeded) as usize * weight;
        progress.set(done, &if unsuccessful > 0 { format!("{unsuccessful} did not succeed") } else { String::new() });
    })
    .await?;
    drop(progress);
    report.seconds = started.elapsed().as_secs_f64();
    report.waited = Some(waited);
    report.print_waited(output);
    report.print(output)?;
    let all_succeeded = report.waited.as_ref().is_some_and(report::all_succeeded);
    Ok(if all_succeeded { exit::DONE } else { exit::FAILED })
}

/// The pack that each input of a batch is, if it is one.
fn pack_of(batch: &Batch, business: &Business) -> Option<Pack> {
    match batch {
        Batch::Apart(_, pack) => pack.clone(),
        // It has at most `FILES_MAX` files.
        Batch::Archive { files, .. } => {
            let items = u32::try_from(files.len()).unwrap_or(u32::MAX);
            Some(Pack::new(Format::Files, items, 1, business.ranges_at_once()))
        }
    }
}

/// The pack that each input is, if the options say so.
fn pack(
    args: &Args,
    inputs: &[Input],
    common: &[Input],
    business: &Business,
    output: &Output,
) -> anyhow::Result<Option<Pack>> {
    let (format, items, rows_per_item) = match (inputs, args.items) {
        ([input], _) if args.table.is_some() => {
            let table = tables::check(input, args.rows_per_item, business, common)?;
            if let Some(warning) = tables::warning(&table.row_errors) {
                output.warn(warning);
            }
            (Format::Table, table.items, args.rows_per_item)
        }
        ([input], _) if let Some(path) = &args.pack => match tables::is_archive(path, input)? {
            true => (Format::Files, tables::files(input)?, 1),
            false => (Format::Lines, tables::lines(input, business)?, 1),
        },
        (_, Some(items)) => (Format::Whole, items, 1),
        (_, None) => return Ok(None),
    };
    let mut pack = Pack::new(format, items, rows_per_item, business.ranges_at_once());
    pack.items_per_range = args.items_per_range.unwrap_or(pack.items_per_range);
    pack.check().map_err(|why| {
        Failure::usage("this is outside the limits of a pack")
            .why(why)
            .next(format!("divide it into several Jobs; --items-per-range takes 1 to {}", pack::ITEMS_PER_RANGE_MAX))
    })?;
    Ok(Some(pack))
}

/// The command that submits the missing Jobs, or waits again.
fn next_command(context: &Context, args: &Args, session: &str, business: &str) -> String {
    let mut words = vec!["submit".to_owned(), "--business".into(), business.into(), "--session".into(), session.into()];
    for (flag, value) in [
        ("--client", args.client.clone()),
        ("--job", args.job.clone()),
        ("--items", args.items.map(|number| number.to_string())),
        ("--items-per-range", args.items_per_range.map(|number| number.to_string())),
        ("--pack", args.pack.as_ref().map(|path| path.to_string_lossy().into_owned())),
    ] {
        if let Some(value) = value {
            words.extend([flag.to_owned(), text::shell(&value)]);
        }
    }
    words.extend(args.each.then(|| "--each".to_owned()));
    words.extend(args.priority.then(|| "--priority".to_owned()));
    words.extend(args.wait.then(|| "--wait".to_owned()));
    if let Some(table) = &args.table {
        words.extend(["--table".to_owned(), text::shell(&table.to_string_lossy())]);
        words.extend(["--rows-per-item".to_owned(), args.rows_per_item.to_string()]);
    }
    words.extend(args.common.iter().flat_map(|path| ["--common".to_owned(), text::shell(&path.to_string_lossy())]));
    if args.paths.len() <= PATHS_MAX {
        words.extend(args.paths.iter().map(|path| text::shell(&path.to_string_lossy())));
    } else {
        words.push(format!("PATHS (the same {})", args.paths.len()));
    }
    format!("cargo xtask{} {}", context.flag, words.join(" "))
}

/// Standard input as a file, when a path is `-`: it is read more than once, and may be large.
fn spool(paths: &[PathBuf]) -> anyhow::Result<Option<tempfile::NamedTempFile>> {
    match paths.iter().filter(|path| path.as_os_str() == inputs::STDIN).count() {
        0 => return Ok(None),
        1 => {}
        _ => return Err(Failure::usage("standard input can be one Job, not several").into()),
    }
    let mut file = tempfile::NamedTempFile::new().context("make a file for standard input")?;
    let copied = std::io::copy(&mut std::io::stdin().lock(), &mut file).context("read standard input")?;
    file.flush().context("write standard input to a file")?;
    if copied == 0 {
        return Err(Failure::new("nothing-to-submit", "standard input is empty")
            .why("the program before the pipe may have failed")
            .next("to submit an empty input, pass the path of a file with no contents")
            .into());
    }
    Ok(Some(file))
}

fn size(source: &Source) -> u64 {
    match source {
        Source::File(path) => path.metadata().map(|metadata| metadata.len()).unwrap_or_default(),
        Source::Bytes(bytes) => bytes.len() as u64,
    }
}

fn user() -> Option<String> {
    contract::config::variables().remove("USER").filter(|user| !user.is_empty())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &[&str]) -> Result<Args, clap::Error> {
        Command::try_parse_from([&["submit"], words].concat()).map(|command| command.args)
    }

    fn packed(words: &[&str], contents: &str) -> Result<Option<Pack>, Failure> {
        let input = Input {
            job: "a".to_owned(),
            source: Source::Bytes(contents.as_bytes().to_vec().into()),
            content_type: String::new(),
        };
        let mut business = contract::testing::business("bu1");
        business.engine.command = vec!["./price".to_owned()];
        let args = parse(words).unwrap();
        pack(&args, &[input], &[], &business, &Output::default()).map_err(|error| error.downcast().unwrap())
    }

    #[test]
    fn an_input_is_a_pack_as_the_options_say() {
        let check = |words: &[&str], contents: &str, format, items, rows_per_item| {
            let pack = packed(words, contents).unwrap().unwrap();
            assert_eq!((pack.format, pack.items, pack.rows_per_item), (format, items, rows_per_item), "{words:?}");
        };
        check(&["--table", "t.csv"], "id\na\nb\nc\n", Format::Table, 3, 1);
        check(&["--table", "t.csv", "--rows-per-item", "2"], "id\na\nb\nc\n", Format::Table, 2, 2);
        check(&["--table", "t.csv", "--rows-per-task", "2"], "id\na\nb\nc\n", Format::Table, 2, 2);
        check(&["--pack", "a.ndjson"], "{}\n{}\n", Format::Lines, 2, 1);
        check(&["--items", "7", "a"], "x", Format::Whole, 7, 1);
        check(&["--tasks", "7", "a"], "x", Format::Whole, 7, 1);
        assert_eq!(packed(&["a"], "x").unwrap(), None);
        let ranges = packed(&["--items", "7", "--items-per-range", "3", "a"], "x").unwrap().unwrap();
        assert_eq!(ranges.ranges().collect::<Vec<_>>(), [0, 3, 6]);
    }

    #[test]
    fn a_pack_outside_the_limits_is_wrong_usage() {
        for words in [
            &["--items", "10000001", "a"][..],
            &["--items", "5", "--items-per-range", "1001", "a"],
            &["--items", "100001", "--items-per-range", "1", "a"],
        ] {
            assert_eq!(packed(words, "x").unwrap_err().code, "usage", "{words:?}");
        }
        assert_eq!(packed(&["--pack", "a"], "").unwrap_err().code, "nothing-to-submit");
        for words in [
            &["--items", "0", "a"][..],
            &["--items", "5", "--items-per-range", "0", "a"],
            &["--table", "t", "--pack", "p"],
            &["--pack", "p", "a"],
            &["--table", "t", "--items", "2"],
            &["--items-per-range", "2", "a"],
            &["--rows-per-item", "2", "a"],
            &[],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }
}
