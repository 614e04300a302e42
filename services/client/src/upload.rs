//! Uploads: a body is passed on to Cloud Storage as it comes, checked before when it is small, and never held whole.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use common::{
    config::Business,
    message, names, object,
    storage::{self, Incoming},
    submit::{Differs, Fate, Options, content_type},
};
use futures::{Stream, StreamExt as _};
use serde::Serialize;
use web::{Problem, Visitor};

use crate::{
    app::{Client, check_job},
    check::{self, CHECKED_MAX, Candidate, Market, Verdict},
};

/// What somebody uploads.
pub(crate) struct Upload<'a> {
    /// Business.
    pub(crate) business: &'a Business,
    /// Session.
    pub(crate) session: &'a str,
    /// Name of the input.
    pub(crate) job: &'a str,
    /// Content type, when the sender knows it.
    pub(crate) content_type: Option<&'a str>,
    /// Drained before the others.
    pub(crate) priority: bool,
    /// Rows for each task, when a table is to be split.
    pub(crate) rows_per_task: Option<u32>,
    /// The session's market data, if it came with the same request.
    pub(crate) market: Option<&'a [u8]>,
}

/// What became of an upload.
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

/// A body with a limit, and what went wrong with it.
pub(crate) struct Limited {
    body: futures::stream::BoxStream<'static, io::Result<Bytes>>,
    /// Size that the sender announced.
    expected: Option<u64>,
    trouble: Arc<Mutex<Option<Problem>>>,
    head: Vec<Bytes>,
    is_whole: bool,
}

impl Limited {
    /// A body of at most `max` bytes.
    ///
    /// # Errors
    /// When more are announced.
    pub(crate) fn new(
        body: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        expected: Option<u64>,
        max: u64,
    ) -> Result<Self, Problem> {
        if expected.is_some_and(|expected| expected > max) {
            return Err(too_large(max));
        }
        let trouble: Arc<Mutex<Option<Problem>>> = Arc::default();
        let noted = trouble.clone();
        let mut received = 0_u64;
        let body = body.map(move |piece| {
            let note = |problem| *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem);
            match piece {
                Ok(piece) => {
                    received += piece.len() as u64;
                    if received > max {
                        note(too_large(max));
                        return Err(io::Error::other("it is too large"));
                    }
                    Ok(piece)
                }
                Err(error) => {
                    note(
                        Problem::bad_request("The upload broke off")
                            .why(error.to_string())
                            .next("Nothing of it was submitted; send it again."),
                    );
                    Err(error)
                }
            }
        });
        Ok(Self { body: body.boxed(), expected, trouble, head: Vec::new(), is_whole: false })
    }

    /// All of it if it has at most `most` bytes; otherwise what was read goes first later on.
    ///
    /// # Errors
    /// When it breaks off or is too large.
    pub(crate) async fn whole(&mut self, most: usize) -> Result<Option<Bytes>, Problem> {
        let mut size = 0;
        while size <= most {
            match self.body.next().await {
                None => {
                    self.is_whole = true;
                    let mut all = BytesMut::with_capacity(size);
                    self.head.iter().for_each(|piece| all.extend_from_slice(piece));
                    let all = all.freeze();
                    self.head = vec![all.clone()];
                    return Ok(Some(all));
                }
                Some(Ok(piece)) => {
                    size += piece.len();
                    self.head.push(piece);
                }
                Some(Err(error)) => return Err(self.problem().unwrap_or_else(|| Problem::internal(error.into()))),
            }
        }
        Ok(None)
    }

    fn problem(&self) -> Option<Problem> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// What is passed on, and where its trouble will be found.
    fn incoming(self) -> (Incoming, Arc<Mutex<Option<Problem>>>) {
        let known =
            if self.is_whole { Some(self.head.iter().map(|piece| piece.len() as u64).sum()) } else { self.expected };
        let head = futures::stream::iter(self.head.into_iter().map(Ok));
        (Incoming::new(head.chain(self.body), known), self.trouble)
    }
}

fn too_large(max: u64) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "This upload is too large")
        .why(format!("an upload may have {}", size(max)))
        .next("Split it into several inputs, or have its session share the data that all of them read.")
}

/// A size for people.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = usize::from(unit > 0 && value.fract() > 0.0);
    format!("{value:.decimals$} {}", UNITS[unit])
}

impl Client {
    /// Most bytes that an input of this name may have: the built-in kernel has a limit of its own.
    pub(crate) fn max_bytes(&self, business: &Business, job: &str) -> u64 {
        let is_priced = business.engine.command.is_empty() && kernel::asked(&[], job, content_type(job)).is_some();
        if is_priced { self.uploads.max_bytes.min(kernel::price::INPUT_MAX as u64) } else { self.uploads.max_bytes }
    }

    /// Checks an input if that is possible, brings it into the bucket, and publishes its message.
    ///
    /// # Errors
    /// What is wrong with it; then nothing is submitted.
    pub(crate) async fn submit(
        &self,
        visitor: &Visitor,
        upload: Upload<'_>,
        mut body: Limited,
    ) -> Result<Uploaded, Refused> {
        check_job(upload.job)?;
        let _one_of_few = self.uploading.acquire().await.map_err(|error| Problem::internal(error.into()))?;
        let business = upload.business;
        let shared = self.shared(business, upload.session).await?;
        let whole = body.whole(CHECKED_MAX).await?;
        let kind = upload.content_type.filter(|kind| is_kind(kind)).unwrap_or_else(|| content_type(upload.job));
        if let Some(bytes) = &whole {
            let verdict = self.check(business, upload.job, kind, bytes, upload.market, !shared.is_empty()).await?;
            if let Verdict::Wrong { .. } = verdict {
                return Err(Refused::Wrong(verdict));
            }
        }
        let tasks = tasks(upload.rows_per_task, whole.as_deref())?;
        let options = Options {
            session: upload.session.to_owned(),
            client: Some(names::label_value(&visitor.name)),
            tasks,
            rows_per_task: tasks.and(upload.rows_per_task),
            priority: upload.priority && business.priority_subscription.is_some(),
            common: shared,
        };
        let (incoming, trouble) = body.incoming();
        let submitted = self.submitter(business)?.submit_incoming(upload.job, kind, &incoming, &options).await;
        let fate = submitted.map_err(|error| refused(error, &trouble))?;
        let (fate, summary) = match fate {
            Fate::Submitted { repeated: false, .. } => ("submitted", "submitted"),
            Fate::Submitted { .. } => ("repeated", "the same input was there already; asked for it once more"),
            Fate::Settled { .. } => ("settled", "this session has the outcome of an input of this name already"),
            Fate::NotTried | Fate::Uploaded { .. } | Fate::Failed(_) => ("failed", "not submitted"),
        };
        tracing::info!(
            visitor = visitor.name,
            business = business.name,
            session = upload.session,
            job = upload.job,
            fate,
            "submitted"
        );
        let (session, job) = (upload.session.to_owned(), upload.job.to_owned());
        Ok(Uploaded { session, job, fate, summary: summary.to_owned() })
    }

    /// Brings data that every Job of a session reads into the bucket.
    ///
    /// # Errors
    /// What is wrong with it; then nothing is written.
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
        let _one_of_few = self.uploading.acquire().await.map_err(|error| Problem::internal(error.into()))?;
        let (incoming, trouble) = body.incoming();
        let placed =
            self.submitter(business)?.place_incoming_common(name, content_type(name), &incoming, session).await;
        placed.map_err(|error| refused(error, &trouble))?;
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

    /// Checks an input, one at a time.
    ///
    /// # Errors
    /// Only when this program is at fault.
    pub(crate) async fn check(
        &self,
        business: &Business,
        name: &str,
        kind: &str,
        bytes: &Bytes,
        market: Option<&[u8]>,
        has_shared: bool,
    ) -> Result<Verdict, Problem> {
        let _alone = self.checking.acquire().await.map_err(|error| Problem::internal(error.into()))?;
        let (business, bytes) = (business.clone(), bytes.clone());
        let (name, kind, market) = (name.to_owned(), kind.to_owned(), market.map(Bytes::copy_from_slice));
        let checked = tokio::task::spawn_blocking(move || {
            let market = match &market {
                Some(bytes) => Market::Bytes(bytes),
                None if has_shared => Market::Elsewhere,
                None => Market::None,
            };
            check::check(&business, Candidate { name: &name, content_type: &kind, bytes: &bytes, market })
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

/// Into how many tasks a table is split.
fn tasks(rows_per_task: Option<u32>, whole: Option<&[u8]>) -> Result<Option<u32>, Problem> {
    let Some(rows) = rows_per_task else { return Ok(None) };
    let Some(bytes) = whole else {
        return Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "table-too-large",
            "This table is too large to be split here",
        )
        .why(format!("its rows are counted first, up to {}", size(CHECKED_MAX as u64)))
        .next("Submit it with `cargo xtask submit --table`, or without splitting it."));
    };
    match common::table::tasks(common::table::rows(bytes), rows) {
        Some(0) => Err(Problem::bad_request("The table has no rows")),
        Some(tasks) if tasks <= message::TASKS_MAX => Ok(Some(tasks)),
        _ => Err(Problem::bad_request(format!("That would be more than {} tasks", message::TASKS_MAX))
            .next("Give each task more rows.")),
    }
}

/// A content type that may be passed on: it comes from the sender.
fn is_kind(kind: &str) -> bool {
    let plain = |character: char| character.is_ascii_alphanumeric() || " !#$&-^_.+/;=\"".contains(character);
    kind.len() <= 100 && kind.contains('/') && kind.chars().all(plain) && kind != "application/octet-stream"
}

/// What a failed submission is for whoever sent it.
fn refused(error: anyhow::Error, trouble: &Mutex<Option<Problem>>) -> Problem {
    if let Some(problem) = trouble.lock().unwrap_or_else(PoisonError::into_inner).take() {
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
            .next("Whoever deployed Deskgrid can put it right: `cargo xtask doctor` shows what is missing.");
    }
    Problem::unavailable("The input could not be submitted", &error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(sizes: &[usize]) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        futures::stream::iter(sizes.iter().map(|size| Ok(Bytes::from(vec![b'x'; *size]))).collect::<Vec<_>>())
    }

    #[tokio::test]
    async fn a_small_body_is_known_whole_and_a_large_one_passes_in_order() {
        let mut small = Limited::new(pieces(&[3, 4]), None, 100).unwrap();
        assert_eq!(small.whole(10).await.unwrap().unwrap().len(), 7);
        assert_eq!(small.incoming().0.rest().await.unwrap().0, 7);
        let mut large = Limited::new(pieces(&[8, 8, 8]), None, 100).unwrap();
        assert_eq!(large.whole(10).await.unwrap(), None);
        assert_eq!(large.incoming().0.rest().await.unwrap().0, 24);
    }

    #[tokio::test]
    async fn what_is_too_large_is_refused_when_announced_and_when_it_comes() {
        let refused = Limited::new(pieces(&[1]), Some(101), 100).err().unwrap();
        assert_eq!((refused.status, refused.code), (StatusCode::PAYLOAD_TOO_LARGE, "too-large"));
        let mut liar = Limited::new(pieces(&[60, 60]), Some(10), 100).unwrap();
        assert_eq!(liar.whole(1000).await.unwrap_err().code, "too-large");
        let (incoming, trouble) = Limited::new(pieces(&[60, 60]), None, 100).unwrap().incoming();
        assert!(incoming.rest().await.is_err());
        assert_eq!(trouble.lock().unwrap().take().unwrap().code, "too-large");
    }

    #[test]
    fn sizes_and_kinds() {
        for (bytes, text) in [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (5 << 30, "5 GiB")] {
            assert_eq!(size(bytes), text);
        }
        assert!(is_kind("text/csv; charset=utf-8"));
        for bad in ["", "text", "text/x\r\ny: z", "application/octet-stream", "text/<b>"] {
            assert!(!is_kind(bad), "{bad}");
        }
    }
}
