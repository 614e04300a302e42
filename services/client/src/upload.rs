//! Uploads: a body is streamed to Cloud Storage and never held in full; a small one is checked first.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::bail;
use axum::http::StatusCode;
use bytes::Bytes;
use cloud::storage;
use contract::{
    config::Business,
    names, object,
    pack::{Format, ITEMS_MAX, Pack},
};
use serde::Serialize;
use sessions::submit::{Differs, Fate, Options, content_type};
use web::{Problem, Visitor};

use crate::{
    app::{Client, check_job},
    check::{self, Candidate, MAX_CHECKED, Market, Verdict},
    limited::{Limited, size},
};

/// How long an upload waits for a permit.
const PERMIT_TIMEOUT: Duration = Duration::from_secs(60);

/// An upload.
pub(crate) struct Upload<'a> {
    /// Business.
    pub(crate) business: &'a Business,
    /// Session.
    pub(crate) session: &'a str,
    /// Name of the input.
    pub(crate) job: &'a str,
    /// Content type, when the sender knows it.
    pub(crate) content_type: Option<&'a str>,
    /// Runs before inputs without priority.
    pub(crate) priority: bool,
    /// Rows of each item, when a table is a pack.
    pub(crate) rows_per_item: Option<u32>,
    /// The session's market data, if it came with the same request.
    pub(crate) market: Option<&'a [u8]>,
}

/// An input to check.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checkable<'a> {
    /// Name.
    pub(crate) name: &'a str,
    /// Content type.
    pub(crate) kind: &'a str,
    /// All of its bytes.
    pub(crate) bytes: &'a Bytes,
    /// It is a table whose rows are divided between items.
    pub(crate) is_split: bool,
}

/// The result of an upload.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Uploaded {
    /// Session.
    pub(crate) session: String,
    /// Name.
    pub(crate) job: String,
    /// `submitted`, `repeated` (the same input was there) or `settled` (its Job has ended already).
    pub(crate) fate: &'static str,
    /// One line for a person.
    pub(crate) summary: String,
}

impl Uploaded {
    /// # Errors
    /// When it was not submitted.
    pub(crate) fn new(session: &str, job: &str, fate: Fate) -> anyhow::Result<Self> {
        let (fate, summary) = match fate {
            Fate::Submitted { repeated: false, .. } => ("submitted", "submitted"),
            Fate::Submitted { .. } => ("repeated", "the same input exists; its message was published again"),
            Fate::Settled { .. } => {
                ("settled", "not sent: this session already has the outcome of an input of this name")
            }
            Fate::NotTried | Fate::Uploaded { .. } => bail!("submit {job}: other inputs failed before it"),
            Fate::Failed(error) => return Err(error),
        };
        Ok(Self { session: session.to_owned(), job: job.to_owned(), fate, summary: summary.to_owned() })
    }
}

impl Client {
    /// Waits until one more upload may start.
    ///
    /// # Errors
    /// When that takes too long.
    pub(crate) async fn upload_permit(&self) -> Result<tokio::sync::SemaphorePermit<'_>, Problem> {
        match tokio::time::timeout(PERMIT_TIMEOUT, self.uploading.acquire()).await {
            Ok(permit) => permit.map_err(|error| Problem::internal(error.into())),
            Err(_) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Too many uploads are in progress")
                .next("Send it again in a minute.")
                .retry_after(60)),
        }
    }

    /// Bytes that an input of this name may have: the built-in kernel has a lower limit.
    pub(crate) fn max_bytes(&self, business: &Business, job: &str) -> u64 {
        let is_priced = business.engine.command.is_empty() && kernel::asked(&[], job, content_type(job)).is_some();
        if is_priced { self.uploads.max_bytes.min(kernel::price::INPUT_MAX as u64) } else { self.uploads.max_bytes }
    }

    /// Checks an input if possible, writes it to the bucket, and publishes its message.
    ///
    /// # Errors
    /// Why it was refused; nothing is submitted then.
    pub(crate) async fn submit(
        &self,
        visitor: &Visitor,
        upload: Upload<'_>,
        mut body: Limited,
    ) -> Result<Uploaded, Refused> {
        check_job(upload.job)?;
        let _permit = self.upload_permit().await?;
        let business = upload.business;
        web::check_intake(&self.clients.intake, business).await?;
        let shared = self.shared(business, upload.session).await?;
        let kind = upload.content_type.filter(|kind| is_kind(kind)).unwrap_or_else(|| content_type(upload.job));
        let begins = body.begins().await?;
        let is_read = business.engine.command.is_empty() && kernel::asked(&begins, upload.job, kind).is_some();
        // An input that is not checked is streamed at once.
        let whole = if is_read || upload.rows_per_item.is_some() { body.whole(MAX_CHECKED).await? } else { None };
        if let Some(bytes) = &whole {
            let input = Checkable { name: upload.job, kind, bytes, is_split: upload.rows_per_item.is_some() };
            let verdict = self.check(business, input, upload.market, !shared.is_empty()).await?;
            if let Verdict::Wrong { .. } = verdict {
                return Err(Refused::Wrong(verdict));
            }
        }
        let pack = pack(upload.rows_per_item, whole.as_deref(), business)?;
        let options = Options {
            session: upload.session.to_owned(),
            client: Some(names::label_value(&visitor.name)),
            pack,
            priority: upload.priority && business.priority_subscription.is_some(),
            common: shared,
        };
        let work = options.work(business, upload.job);
        work.check_message().map_err(|refusal| Problem::bad_request(refusal.message))?;
        let (incoming, failure) = body.incoming();
        let submitted = self.submitter(business)?.submit_incoming(upload.job, kind, &incoming, &options).await;
        let fate = submitted.map_err(|error| refused(error, &failure))?;
        let uploaded = Uploaded::new(upload.session, upload.job, fate).map_err(|error| refused(error, &failure))?;
        tracing::info!(
            visitor = visitor.name,
            business = business.name,
            session = upload.session,
            job = upload.job,
            fate = uploaded.fate,
            "submitted"
        );
        Ok(uploaded)
    }

    /// Writes data that every Job of a session reads to the bucket.
    ///
    /// # Errors
    /// Why it was refused; nothing is written then.
    pub(crate) async fn share(
        &self,
        visitor: &Visitor,
        business: &Business,
        session: &str,
        name: &str,
        body: Limited,
    ) -> Result<Uploaded, Problem> {
        check_job(name)?;
        if name.contains(',') {
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "bad-name",
                "Shared data cannot have a comma in its name",
            )
            .next("Rename the file."));
        }
        let _permit = self.upload_permit().await?;
        web::check_intake(&self.clients.intake, business).await?;
        let (incoming, failure) = body.incoming();
        let placed =
            self.submitter(business)?.place_incoming_common(name, content_type(name), &incoming, session).await;
        placed.map_err(|error| refused(error, &failure))?;
        tracing::info!(visitor = visitor.name, business = business.name, session, name, "shared data");
        let (session, job) = (session.to_owned(), name.to_owned());
        Ok(Uploaded { session, job, fate: "shared", summary: "shared with every input of the session".to_owned() })
    }

    /// Names of the data that a session's Jobs share.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub(crate) async fn shared(&self, business: &Business, session: &str) -> Result<Vec<String>, Problem> {
        let prefix = object::common_prefix(&business.name, session);
        let listed = self.clients.quick.list(&business.bucket, &prefix).await;
        let listed = listed.map_err(|error| Problem::unavailable("Cloud Storage does not answer", &error))?;
        let names = listed.iter().filter_map(|object| object.name.strip_prefix(&prefix));
        Ok(names.filter(|name| !name.is_empty() && !name.contains(',')).map(str::to_owned).collect())
    }

    /// Checks an input: large ones one at a time, small ones together.
    ///
    /// # Errors
    /// Only for an error of this program.
    pub(crate) async fn check(
        &self,
        business: &Business,
        input: Checkable<'_>,
        market: Option<&[u8]>,
        has_shared: bool,
    ) -> Result<Verdict, Problem> {
        let share = u32::try_from(input.bytes.len().clamp(1, MAX_CHECKED)).unwrap_or(u32::MAX);
        let _room = self.checking.acquire_many(share).await.map_err(|error| Problem::internal(error.into()))?;
        let Checkable { name, kind, bytes, is_split } = input;
        let (business, bytes) = (business.clone(), bytes.clone());
        let (name, kind, market) = (name.to_owned(), kind.to_owned(), market.map(Bytes::copy_from_slice));
        let checked = tokio::task::spawn_blocking(move || {
            let market = match &market {
                Some(bytes) => Market::Bytes(bytes),
                None if has_shared => Market::Elsewhere,
                None => Market::None,
            };
            check::check(&business, Candidate { name: &name, content_type: &kind, bytes: &bytes, market, is_split })
        });
        checked.await.map_err(|error| Problem::internal(error.into()))
    }
}

/// Why an upload was not submitted.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Its contents can never be computed.
    Wrong(Verdict),
    /// Something else.
    Problem(Problem),
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// The pack that a table is.
fn pack(rows_per_item: Option<u32>, whole: Option<&[u8]>, business: &Business) -> Result<Option<Pack>, Problem> {
    let Some(rows) = rows_per_item else { return Ok(None) };
    let Some(bytes) = whole else {
        return Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "table-too-large",
            "This table is too large to be split here",
        )
        .why(format!("its rows are counted first, up to {}", size(MAX_CHECKED as u64)))
        .next("Submit it with `cargo xtask submit --table`, or without splitting it."));
    };
    match Pack::items_for(kernel::table::rows(bytes), rows) {
        Some(0) => Err(Problem::bad_request("The table has no rows")),
        Some(items) => Ok(Some(Pack::new(Format::Table, items, rows, business.ranges_at_once()))),
        None => Err(Problem::bad_request(format!("That would be more than {ITEMS_MAX} items"))
            .next("Give each item more rows.")),
    }
}

/// A content type that may be passed on: it comes from the sender.
fn is_kind(kind: &str) -> bool {
    let plain = |character: char| character.is_ascii_alphanumeric() || " !#$&-^_.+/;=\"".contains(character);
    kind.len() <= 100 && kind.contains('/') && kind.chars().all(plain) && kind != "application/octet-stream"
}

/// The answer to a failed submission.
pub(crate) fn refused(error: anyhow::Error, failure: &Mutex<Option<Problem>>) -> Problem {
    if let Some(problem) = failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return problem;
    }
    if let Some(differs) = error.downcast_ref::<Differs>() {
        return Problem::new(StatusCode::CONFLICT, "name-taken", "The session has another input of this name")
            .why(differs.to_string())
            .next("Choose another name or another session.");
    }
    if storage::is_denied(&error) {
        tracing::error!("failed to {error:#}");
        return Problem::new(StatusCode::BAD_GATEWAY, "denied", "Google Cloud denied the submission")
            .why(format!("{error:#}"))
            .next("Ask the operator of Deskgrid: `cargo xtask doctor` shows what is missing.");
    }
    Problem::unavailable("The input could not be submitted", &error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_of_a_table_are_items() {
        let business = contract::testing::business("bu1");
        let pack = |rows, table: &[u8]| super::pack(rows, Some(table), &business).map_err(|problem| problem.code);
        let made = pack(Some(2), b"id\na\nb\nc\n").unwrap().unwrap();
        assert_eq!((made.format, made.items, made.rows_per_item), (Format::Table, 2, 2));
        assert_eq!(pack(None, b"id\na\n"), Ok(None));
        assert!(pack(Some(1), b"id\n").is_err() && super::pack(Some(1), None, &business).is_err());
    }

    #[test]
    fn a_content_type_is_passed_on_only_when_it_is_one() {
        assert!(is_kind("text/csv; charset=utf-8"));
        for bad in ["", "text", "text/x\r\ny: z", "application/octet-stream", "text/<b>"] {
            assert!(!is_kind(bad), "{bad}");
        }
    }
}
