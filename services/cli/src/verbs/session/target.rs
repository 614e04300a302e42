//! The session that a verb works on, and its state.

use std::collections::BTreeMap;

use cloud::controls;
use contract::{config::Business, control::Control, names};
use sessions::jobs::Job;

use crate::{context::Context, error::Failure, output::Output, text, view};

/// The session that a verb works on.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct SessionArgs {
    /// Session
    pub(super) session: String,
    /// Business [default: the only one]
    #[arg(long, short, env = "BUSINESS_NAME")]
    pub(super) business: Option<String>,
}

/// The state of a session.
pub(super) struct Session<'a> {
    pub(super) business: &'a Business,
    pub(super) name: &'a str,
    /// Each Job once, in its latest attempt at its latest input.
    pub(super) jobs: Vec<Job>,
    pub(super) control: Option<Control>,
    /// Its name and business, as a command takes them.
    pub(super) scope: String,
}

impl SessionArgs {
    /// Reads the state of the session.
    ///
    /// # Errors
    /// When there is no such session, unless it `may_be_new`.
    pub(super) async fn read<'a>(
        &'a self,
        context: &'a Context,
        output: &Output,
        may_be_new: bool,
    ) -> anyhow::Result<Session<'a>> {
        names::check_session(&self.session).map_err(|error| {
            Failure::usage(format!("{:?} is not a valid session name", self.session)).why(error.to_string())
        })?;
        let business = context.business(self.business.as_deref())?;
        let jobs = sessions::latest(view::jobs(context, business, Some(&self.session), output).await?);
        let (control, _) = controls::read(&context.store, business, &self.session).await?;
        if jobs.is_empty() && control.is_none() && !may_be_new {
            return Err(self.missing(context, business).await?.into());
        }
        let scope = format!("{} --business {}", text::shell(&self.session), business.name);
        Ok(Session { business, name: &self.session, jobs, control, scope })
    }

    /// The error that there is no such session; names some that exist.
    ///
    /// # Errors
    /// When the sessions cannot be read.
    pub(super) async fn missing(&self, context: &Context, business: &Business) -> anyhow::Result<Failure> {
        let jobs = view::jobs(context, business, None, &Output::default()).await?;
        let known = sessions::summaries(&business.name, jobs, &BTreeMap::new());
        let failure = Failure::new("no-such-session", format!("there is no session {:?}", self.session))
            .on(format!("business {}", business.name));
        if known.is_empty() {
            return Ok(failure.next(format!("cargo xtask{} submit FILE", context.flag)));
        }
        let known = text::some(known.iter().map(|summary| summary.session.as_str()), 5);
        Ok(failure.next(format!("use an existing session: {known}")))
    }
}

/// The person that a control object names as the one who decided.
pub(super) fn operator() -> String {
    let user = contract::config::variables().remove("USER").filter(|user| !user.is_empty());
    user.unwrap_or_else(|| "somebody".to_owned())
}
