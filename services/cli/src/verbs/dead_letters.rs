//! `dead-letters`: failed Jobs and refused messages that wait for a decision.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Context as _;
use contract::{config::Business, exit};
use jiff::Timestamp;
use serde_json::json;
use sessions::{
    dead_letters::{self, Correction, DeadLetter, Replayer},
    jobs,
};

use crate::{
    attempts::{self, ResourceArgs},
    change::Change,
    context::{Context, Opener},
    error::Failure,
    limit::Limit,
    output::Output,
    text,
};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Verb {
    /// List dead letters, the oldest first
    List(ListArgs),
    /// Replay dead letters: a new attempt in the same session, or the refused message again
    Replay(ReplayArgs),
    /// Discard dead letters: remove them from the list; outcomes and inputs stay
    Discard(DiscardArgs),
}

/// Filters of dead letters.
#[derive(Clone, Debug, clap::Args)]
struct Filter {
    /// Business [default: the only one]
    #[arg(long, short, env = "BUSINESS_NAME")]
    business: Option<String>,
    /// Only of this session (`refused` for messages without one)
    #[arg(long, short)]
    session: Option<String>,
    /// Only with these reason codes
    #[arg(long, value_delimiter = ',', value_name = "CODE")]
    reason: Vec<String>,
}

#[derive(Clone, Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    filter: Filter,
    /// Also list discarded dead letters
    #[arg(long)]
    discarded: bool,
    #[command(flatten)]
    limit: Limit,
}

/// The dead letters that a verb changes.
#[derive(Clone, Debug, clap::Args)]
struct Named {
    /// Job ids, or ids of refused messages
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    jobs: Vec<String>,
    /// All that match --session and --reason
    #[arg(long)]
    all: bool,
}

#[derive(Clone, Debug, clap::Args)]
struct ReplayArgs {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    filter: Filter,
    /// Replace the input, or the data of the message, with this file
    #[arg(long, value_name = "FILE", conflicts_with = "all")]
    file: Option<PathBuf>,
    /// Set an attribute of the refused message; NAME= removes it
    #[arg(long, value_name = "NAME=VALUE", value_parser = attribute)]
    attribute: Vec<(String, String)>,
    #[command(flatten)]
    resources: ResourceArgs,
    #[command(flatten)]
    change: Change,
}

#[derive(Clone, Debug, clap::Args)]
struct DiscardArgs {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    filter: Filter,
    /// Also delete their inputs; they cannot be replayed then
    #[arg(long)]
    delete_inputs: bool,
    #[command(flatten)]
    change: Change,
}

/// Runs a verb of `dead-letters`.
pub(crate) async fn run(opener: &Opener<'_>, args: &Args, output: &Output) -> anyhow::Result<u8> {
    let context = opener.open().await?;
    match &args.verb {
        Verb::List(args) => list(&context, args, output).await,
        Verb::Replay(args) => replay(&context, args, output).await,
        Verb::Discard(args) => discard(&context, args, output).await,
    }
}

impl Filter {
    async fn read(&self, context: &Context, business: &Business, discarded: bool) -> anyhow::Result<Vec<DeadLetter>> {
        let session = self.session.as_deref();
        let objects = jobs::list(&context.store, business, session).await?;
        let mut letters = dead_letters::among(&business.name, session, &objects, discarded);
        letters.retain(|letter| self.reason.is_empty() || self.reason.contains(&letter.code));
        Ok(letters)
    }
}

impl Named {
    /// Selects the named dead letters.
    ///
    /// # Errors
    /// When a name is unknown.
    fn select(&self, letters: Vec<DeadLetter>, flag: &str) -> anyhow::Result<Vec<DeadLetter>> {
        if let Some(unknown) = self.jobs.iter().find(|job| !letters.iter().any(|letter| letter.job == **job)) {
            return Err(Failure::new("no-such-job", format!("there is no dead letter {unknown:?}"))
                .next(format!("cargo xtask{flag} dead-letters list"))
                .into());
        }
        Ok(letters.into_iter().filter(|letter| self.all || self.jobs.contains(&letter.job)).collect())
    }
}

async fn list(context: &Context, args: &ListArgs, output: &Output) -> anyhow::Result<u8> {
    let mut letters = Vec::new();
    for business in context.businesses(args.filter.business.as_deref())? {
        letters.extend(args.filter.read(context, business, args.discarded).await?);
    }
    letters.sort_by_key(|letter| letter.since);
    args.limit.cut(&mut letters, output);
    if output.json {
        output.document(&letters)?;
    } else if letters.is_empty() {
        output.note("no dead letters");
    } else {
        output.line(table(&letters, Timestamp::now()))?;
        output.note("`dead-letters replay JOB` runs one again, `dead-letters discard JOB` removes it from the list");
    }
    Ok(exit::DONE)
}

async fn replay(context: &Context, args: &ReplayArgs, output: &Output) -> anyhow::Result<u8> {
    let business = context.business(args.filter.business.as_deref())?;
    let contents = match &args.file {
        None => None,
        Some(path) => {
            let read = std::fs::read(path);
            let read = read.map_err(|error| {
                Failure::new("no-such-file", "cannot read the corrected file")
                    .on(path.display().to_string())
                    .why(error.to_string())
            });
            Some(read?.into())
        }
    };
    let letters = args.named.select(args.filter.read(context, business, true).await?, &context.flag)?;
    if args.file.is_some() && letters.len() > 1 {
        return Err(Failure::usage("one file can correct only one dead letter")
            .why(format!("{} dead letters have the name {:?}", letters.len(), args.named.jobs))
            .next("select one with --session")
            .into());
    }
    let correction = Correction {
        contents,
        attributes: args.attribute.iter().cloned().collect::<BTreeMap<_, _>>(),
        resources: args.resources.resources(business)?,
    };
    // Discarded dead letters are replayed only by name.
    let letters: Vec<DeadLetter> =
        letters.into_iter().filter(|letter| !args.named.all || letter.discarded.is_none()).collect();
    output.note(format_args!("replaying {} of {}", text::count(letters.len(), "dead letter"), business.name));
    if args.change.dry_run {
        return show(&letters, output);
    }
    args.change.confirm(context, "replay them?")?;
    context.check_queue(business).await?;
    let publisher = context.connection.base_publisher().await?;
    let replayer = Replayer::new(context.store.clone(), &publisher, business.clone());
    let (replayer, correction) = (&replayer, &correction);
    let replays =
        letters.iter().map(|letter| async move { (letter.job.clone(), replayer.replay(letter, correction).await) });
    let done = attempts::send("replayed", replays.collect(), output).await;
    attempts::report(&done, output, true)
}

async fn discard(context: &Context, args: &DiscardArgs, output: &Output) -> anyhow::Result<u8> {
    let business = context.business(args.filter.business.as_deref())?;
    let letters = args.named.select(args.filter.read(context, business, false).await?, &context.flag)?;
    let inputs = letters.iter().filter(|letter| letter.input.is_some()).count();
    output.note(format_args!(
        "discarding {} of {}; outcomes are kept, {} {}",
        text::count(letters.len(), "dead letter"),
        business.name,
        text::count(inputs, "input"),
        if args.delete_inputs { "deleted" } else { "kept" }
    ));
    if args.change.dry_run {
        return show(&letters, output);
    }
    args.change.confirm(context, "discard them?")?;
    let mut marked = 0;
    for letter in &letters {
        let done = dead_letters::discard(&context.store, business, letter, args.delete_inputs).await;
        marked += usize::from(done.with_context(|| format!("discard {}", letter.job))?);
    }
    if output.json {
        output.document(&json!({"business": business.name, "discarded": marked}))?;
    }
    Ok(exit::DONE)
}

fn show(letters: &[DeadLetter], output: &Output) -> anyhow::Result<u8> {
    if output.json {
        output.document(&letters)?;
    } else if !letters.is_empty() {
        output.line(table(letters, Timestamp::now()))?;
    }
    Ok(exit::DONE)
}

fn table(letters: &[DeadLetter], now: Timestamp) -> String {
    let header = ["business", "session", "job", "state", "reason", "age", "attempts", "input", "discarded"];
    text::table(
        &header,
        letters.iter().map(|letter| {
            vec![
                letter.business.clone(),
                letter.session.clone(),
                letter.job.clone(),
                letter.state.to_string(),
                letter.code.clone(),
                text::age(letter.since, now),
                (letter.attempt + 1).to_string(),
                if letter.is_message() {
                    "in the message"
                } else if letter.input.is_some() {
                    "kept"
                } else {
                    "gone"
                }
                .to_owned(),
                letter.discarded.clone().unwrap_or_default(),
            ]
        }),
    )
}

fn attribute(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    if name.is_empty() { Err("expected NAME=VALUE".to_owned()) } else { Ok((name.to_owned(), value.to_owned())) }
}
