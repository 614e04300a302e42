//! `dead-letters`: what failed or was refused and nobody has dealt with yet.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Context as _;
use contract::{config::Business, exit};
use jiff::Timestamp;
use serde_json::json;
use sessions::{
    dead_letters::{self, Correction, DeadLetter, Replayer},
    jobs,
};

use super::session::{Change, More, carry_out, tell};
use crate::{
    context::{Context, Opener},
    error::Failure,
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
    /// Try again: another attempt in the same session, or the refused message once more
    Replay(ReplayArgs),
    /// Say that nothing more is to be done about them; outcomes and inputs stay
    Discard(DiscardArgs),
}

/// Which dead letters.
#[derive(Clone, Debug, clap::Args)]
struct Which {
    /// Business [default: the only one]
    #[arg(long, short, env = "BUSINESS_NAME")]
    business: Option<String>,
    /// Only of this session (`refused` for messages that never had one)
    #[arg(long, short)]
    session: Option<String>,
    /// Only with these reason codes
    #[arg(long, value_delimiter = ',', value_name = "CODE")]
    reason: Vec<String>,
}

#[derive(Clone, Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    which: Which,
    /// Those that were discarded too
    #[arg(long)]
    discarded: bool,
    /// Show at most so many
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

/// Those named: Job ids, or ids of refused messages.
#[derive(Clone, Debug, clap::Args)]
struct Named {
    /// Job ids, or ids of refused messages
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    jobs: Vec<String>,
    /// All, of the session and with the reason codes that are given
    #[arg(long)]
    all: bool,
}

#[derive(Clone, Debug, clap::Args)]
struct ReplayArgs {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    which: Which,
    /// Corrected bytes, in the place of the input or of the message's data
    #[arg(long, value_name = "FILE", conflicts_with = "all")]
    file: Option<PathBuf>,
    /// Set an attribute of the refused message; without a value it is taken away
    #[arg(long, value_name = "NAME=VALUE", value_parser = attribute)]
    attribute: Vec<(String, String)>,
    #[command(flatten)]
    more: More,
    #[command(flatten)]
    change: Change,
}

#[derive(Clone, Debug, clap::Args)]
struct DiscardArgs {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    which: Which,
    /// Delete their inputs too, which cannot be tried again then
    #[arg(long)]
    delete_inputs: bool,
    #[command(flatten)]
    change: Change,
}

/// Runs one of them.
pub(crate) async fn run(opener: &Opener<'_>, args: &Args, output: &Output) -> anyhow::Result<u8> {
    let context = opener.open().await?;
    match &args.verb {
        Verb::List(args) => list(&context, args, output).await,
        Verb::Replay(args) => replay(&context, args, output).await,
        Verb::Discard(args) => discard(&context, args, output).await,
    }
}

impl Which {
    async fn look(&self, context: &Context, business: &Business, discarded: bool) -> anyhow::Result<Vec<DeadLetter>> {
        let session = self.session.as_deref();
        let objects = jobs::list(&context.store, business, session).await?;
        let mut letters = dead_letters::among(&business.name, session, &objects, discarded);
        letters.retain(|letter| self.reason.is_empty() || self.reason.contains(&letter.code));
        Ok(letters)
    }
}

impl Named {
    /// The dead letters that are meant.
    ///
    /// # Errors
    /// When one is named that is none.
    fn among(&self, letters: Vec<DeadLetter>, flag: &str) -> anyhow::Result<Vec<DeadLetter>> {
        if let Some(unknown) = self.jobs.iter().find(|job| !letters.iter().any(|letter| letter.job == **job)) {
            return Err(Failure::new("no-such-job", format!("there is no dead letter {unknown:?}"))
                .next(format!("cargo xtask{flag} dead-letters list shows them"))
                .into());
        }
        Ok(letters.into_iter().filter(|letter| self.all || self.jobs.contains(&letter.job)).collect())
    }
}

async fn list(context: &Context, args: &ListArgs, output: &Output) -> anyhow::Result<u8> {
    let mut letters = Vec::new();
    for business in context.businesses(args.which.business.as_deref())? {
        letters.extend(args.which.look(context, business, args.discarded).await?);
    }
    letters.sort_by_key(|letter| letter.since);
    let total = letters.len();
    letters.truncate(args.limit);
    if output.json {
        output.document(&letters)?;
    } else if letters.is_empty() {
        output.note("no dead letters");
    } else {
        output.line(table(&letters, Timestamp::now()))?;
        output.note(format_args!(
            "{} of {total}; `dead-letters replay JOB` tries one again, `dead-letters discard JOB` strikes it off",
            letters.len()
        ));
    }
    Ok(exit::DONE)
}

async fn replay(context: &Context, args: &ReplayArgs, output: &Output) -> anyhow::Result<u8> {
    let business = context.business(args.which.business.as_deref())?;
    let contents = match &args.file {
        None => None,
        Some(path) => {
            let read = std::fs::read(path);
            let read = read.map_err(|error| {
                Failure::new("no-such-file", "cannot read the corrected bytes")
                    .on(path.display().to_string())
                    .why(error.to_string())
            });
            Some(read?.into())
        }
    };
    let letters = args.named.among(args.which.look(context, business, true).await?, &context.flag)?;
    if args.file.is_some() && letters.len() > 1 {
        return Err(Failure::usage("one file can correct only one dead letter")
            .why(format!("{} are named {:?}", letters.len(), args.named.jobs))
            .next("name its session with --session")
            .into());
    }
    let correction = Correction {
        contents,
        attributes: args.attribute.iter().cloned().collect::<BTreeMap<_, _>>(),
        more: args.more.resources(business)?,
    };
    // One that was given up is replayed only by its name.
    let letters: Vec<DeadLetter> =
        letters.into_iter().filter(|letter| !args.named.all || letter.discarded.is_none()).collect();
    output.note(format_args!("{} of {} to be tried again", text::count(letters.len(), "dead letter"), business.name));
    if args.change.dry_run {
        return show(&letters, output);
    }
    args.change.agree(context, "try them again?")?;
    let publisher = context.connection.base_publisher().await?;
    let replayer = Replayer::new(context.store.clone(), &publisher, business.clone());
    let (replayer, correction) = (&replayer, &correction);
    let replays =
        letters.iter().map(|letter| async move { (letter.job.clone(), replayer.replay(letter, correction).await) });
    let done = carry_out("replayed", replays.collect(), output).await;
    tell(&done, output, true)
}

async fn discard(context: &Context, args: &DiscardArgs, output: &Output) -> anyhow::Result<u8> {
    let business = context.business(args.which.business.as_deref())?;
    let letters = args.named.among(args.which.look(context, business, false).await?, &context.flag)?;
    let inputs = letters.iter().filter(|letter| letter.input.is_some()).count();
    output.note(format_args!(
        "{} of {} struck off; the outcomes stay, {} {}",
        text::count(letters.len(), "dead letter"),
        business.name,
        text::count(inputs, "input"),
        if args.delete_inputs { "deleted" } else { "kept" }
    ));
    if args.change.dry_run {
        return show(&letters, output);
    }
    args.change.agree(context, "strike them off?")?;
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
    if name.is_empty() { Err("want NAME=VALUE".to_owned()) } else { Ok((name.to_owned(), value.to_owned())) }
}
