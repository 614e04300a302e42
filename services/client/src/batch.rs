//! Many small inputs with one request: they are checked, then submitted as the command line does.

use std::{collections::BTreeMap, sync::Mutex};

use bytes::Bytes;
use contract::{config::Business, names};
use futures::{StreamExt as _, TryStreamExt as _};
use sessions::submit::{Input, Options, Source, content_type};
use web::{Problem, Visitor};

use crate::{
    app::{Client, check_job},
    check::Verdict,
    upload::{Checkable, Refused, Uploaded, refused},
};

/// Inputs that are checked at the same time.
const CHECKS: usize = 4;

/// Inputs to submit together.
pub(crate) struct Batch<'a> {
    /// Business.
    pub(crate) business: &'a Business,
    /// Session.
    pub(crate) session: &'a str,
    /// Each runs before inputs without priority.
    pub(crate) priority: bool,
    /// Contents by name.
    pub(crate) files: BTreeMap<String, Bytes>,
}

/// The result for each input, by its name.
pub(crate) type Results = BTreeMap<String, Result<Uploaded, Refused>>;

impl Client {
    /// Checks the inputs, and submits those that can be computed.
    ///
    /// # Errors
    /// When none of them can be submitted.
    pub(crate) async fn submit_batch(&self, visitor: &Visitor, batch: Batch<'_>) -> Result<Results, Problem> {
        let Batch { business, session, priority, files } = batch;
        web::check_intake(&self.clients.intake, business).await?;
        let common = self.shared(business, session).await?;
        let has_shared = !common.is_empty();
        let checks = futures::stream::iter(files).map(|(job, bytes)| async move {
            if let Err(problem) = check_job(&job) {
                return Ok((job, bytes, Err(Refused::Problem(problem))));
            }
            let input = Checkable { name: &job, kind: content_type(&job), bytes: &bytes, is_split: false };
            let verdict = match self.check(business, input, None, has_shared).await? {
                wrong @ Verdict::Wrong { .. } => Err(Refused::Wrong(wrong)),
                _ => Ok(()),
            };
            Ok::<_, Problem>((job, bytes, verdict))
        });
        let checked: Vec<_> = checks.buffered(CHECKS).try_collect().await?;
        let (mut inputs, mut results) = (Vec::new(), Results::new());
        for (job, bytes, verdict) in checked {
            match verdict {
                Ok(()) => {
                    let content_type = content_type(&job).to_owned();
                    inputs.push(Input { job, source: Source::Bytes(bytes), content_type });
                }
                Err(refused) => drop(results.insert(job, Err(refused))),
            }
        }
        let options = Options {
            session: session.to_owned(),
            client: Some(names::label_value(&visitor.name)),
            pack: None,
            priority: priority && business.priority_subscription.is_some(),
            common,
        };
        let submitter = self.submitter(business)?;
        let unavailable = |error: anyhow::Error| Problem::unavailable("Cloud Storage does not answer", &error);
        let existing = submitter.existing(session).await.map_err(unavailable)?;
        let report = submitter.run(inputs, &options, &existing, &self.site.stop, |_, _| {}).await;
        for (job, fate) in report.jobs {
            let result = Uploaded::new(session, &job, fate);
            results.insert(job, result.map_err(|error| Refused::Problem(refused(error, &Mutex::default()))));
        }
        let submitted = results.values().filter(|result| result.is_ok()).count();
        tracing::info!(visitor = visitor.name, business = business.name, session, submitted, "submitted together");
        Ok(results)
    }
}
