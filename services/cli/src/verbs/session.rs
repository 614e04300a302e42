//! `session`: everything one does with the Jobs of a session together.

use std::collections::BTreeMap;

use cloud::controls;
use contract::{config::Business, control::Control, names};
use sessions::jobs::Job;

use crate::{
    agree,
    context::{Context, Opener},
    error::Failure,
    output::Output,
    text, view,
};

mod close;
mod decide;
mod failures;
mod list;
mod results;
mod retry;
mod wait;

pub(crate) use retry::{More, carry_out, tell};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Verb {
    /// List sessions: how their Jobs stand, how old the oldest that waits is
    List(list::Args),
    /// Wait until every Job of a session has its outcome; exit 1 unless all succeeded
    Wait(wait::Args),
    /// Stop a session: what runs is stopped, what waits never starts; inputs are kept
    Cancel(decide::CancelArgs),
    /// Start no more Jobs of a session; those that run go on
    Pause(decide::PauseArgs),
    /// End a session's pause
    Resume(decide::ResumeArgs),
    /// Try again what did not succeed, in the same session
    Retry(retry::Args),
    /// Why Jobs of a session did not succeed, grouped by cause
    Failures(failures::Args),
    /// Print a session's results as one tidy table
    Results(results::Args),
    /// Delete what all Jobs of a session shared, once nothing of it waits or runs
    Close(close::Args),
}

/// The session that a verb works on.
#[derive(Clone, Debug, clap::Args)]
struct Of {
    /// Session
    session: String,
    /// Business [default: the only one]
    #[arg(long, short, env = "BUSINESS_NAME")]
    business: Option<String>,
}

/// What verbs take that change something.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct Change {
    /// Do not ask before changing anything
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Only show what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}

impl Change {
    /// Has the person agree. On a laptop cloud nothing is asked.
    ///
    /// # Errors
    /// When nobody is there, or the answer is not yes.
    pub(crate) fn agree(&self, context: &Context, question: &str) -> anyhow::Result<()> {
        if self.yes || context.is_laptop { Ok(()) } else { agree::to(question) }
    }
}

/// Runs one of them.
pub(crate) async fn run(opener: &Opener<'_>, args: &Args, output: &Output) -> anyhow::Result<u8> {
    match &args.verb {
        Verb::List(args) => list::run(opener, args, output).await,
        Verb::Wait(args) => wait::run(opener, args, output).await,
        Verb::Cancel(args) => decide::cancel(opener, args, output).await,
        Verb::Pause(args) => decide::pause(opener, args, output).await,
        Verb::Resume(args) => decide::resume(opener, args, output).await,
        Verb::Retry(args) => retry::run(opener, args, output).await,
        Verb::Failures(args) => failures::run(opener, args, output).await,
        Verb::Results(args) => results::run(opener, args, output).await,
        Verb::Close(args) => close::run(opener, args, output).await,
    }
}

/// A session as it stands.
struct Seen<'a> {
    business: &'a Business,
    session: &'a str,
    /// Each Job once, in its latest attempt at its latest input.
    jobs: Vec<Job>,
    control: Option<Control>,
    /// How a command names it.
    scope: String,
}

impl Of {
    /// Looks how the session stands.
    ///
    /// # Errors
    /// When there is no such session, unless it `may_be_new`.
    async fn look<'a>(&'a self, context: &'a Context, output: &Output, may_be_new: bool) -> anyhow::Result<Seen<'a>> {
        names::check_session(&self.session).map_err(|error| {
            Failure::usage(format!("{:?} cannot be a session", self.session)).why(error.to_string())
        })?;
        let business = context.business(self.business.as_deref())?;
        let jobs = sessions::latest(view::jobs(context, business, Some(&self.session), output).await?);
        let (control, _) = controls::read(&context.store, business, &self.session).await?;
        if jobs.is_empty() && control.is_none() && !may_be_new {
            return Err(self.missing(context, business).await?.into());
        }
        let scope = format!("{} --business {}", text::shell(&self.session), business.name);
        Ok(Seen { business, session: &self.session, jobs, control, scope })
    }

    async fn missing(&self, context: &Context, business: &Business) -> anyhow::Result<Failure> {
        let jobs = view::jobs(context, business, None, &Output::default()).await?;
        let known = sessions::summaries(&business.name, jobs, &BTreeMap::new());
        let failure = Failure::new("no-such-session", format!("there is no session {:?}", self.session))
            .on(format!("business {}", business.name));
        if known.is_empty() {
            return Ok(failure.next(format!("cargo xtask{} submit FILE", context.flag)));
        }
        let known = text::some(known.iter().map(|summary| summary.session.as_str()), 5);
        Ok(failure.next(format!("there is {known}")))
    }
}

/// Who decides, as the control object names them.
fn operator() -> String {
    let user = contract::config::variables().remove("USER").filter(|user| !user.is_empty());
    user.unwrap_or_else(|| "somebody".to_owned())
}
