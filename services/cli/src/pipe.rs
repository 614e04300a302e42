//! The daily verbs for a program that stays, such as the Python package: `deskgrid --serve-pipe`.
//!
//! Both sides write frames: the length of a header in 4 bytes and of a body in 8, both big-endian, the header, which is
//! JSON, and the body. A call has an id, and so has each frame of its answer; the last one has `exit` or `error`. Calls are
//! answered at the same time. The first frame, with the id 0, describes the environment or says why it cannot be used.
//! The program ends when its standard input ends.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io::{self, Write as _},
    rc::Rc,
    time::Duration,
};

use clap::{CommandFactory as _, Parser as _};
use contract::{
    Outcome,
    config::Business,
    exit, names,
    pack::{Format, Pack},
};
use futures::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, FuturesUnordered},
};
use serde::Deserialize;
use serde_json::{Value, json};
use sessions::{
    results,
    submit::{Existing, Fate, Input, Options, Source, Submitter, wait},
};
use tokio::io::{AsyncRead, AsyncReadExt as _, BufReader};
use tokio_util::sync::CancellationToken;

use crate::{
    args::Deskgrid,
    context::{Context, Opener},
    error::{self, Failure},
    output::{self, Output},
    program,
};

/// Maximum size of a header in bytes.
const HEADER_MAX: u32 = 256 * 1024 * 1024;
/// Content type of the lines that a program makes.
const LINES: &str = "text/plain; charset=utf-8";

/// A call.
#[derive(Debug, Deserialize)]
struct Request {
    id: u64,
    #[serde(flatten)]
    call: Call,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "call", rename_all = "lowercase")]
enum Call {
    /// Runs a daily verb. Its results are the body of the answer, or of a frame each when it is `live`.
    Verb {
        arguments: Vec<String>,
        #[serde(default)]
        live: bool,
    },
    /// Writes common data of a session: the body.
    Common { business: String, session: String, name: String },
    /// Submits the body as one Job of a new name; its lines are its items.
    Send {
        business: String,
        session: String,
        job: String,
        items: u32,
        #[serde(default)]
        common: Vec<String>,
        #[serde(default)]
        client: Option<String>,
    },
    /// Sends each outcome of these Jobs (id, generation and attempt) with its results, as soon as it is written, until all
    /// have ended.
    Follow {
        business: String,
        session: String,
        jobs: Vec<(String, i64, u32)>,
        #[serde(default)]
        seconds: Option<f64>,
    },
    /// Ends another call.
    Stop { target: u64 },
}

/// What all calls share.
struct Server {
    context: Context,
    /// By business, after its queue was checked.
    submitters: RefCell<BTreeMap<String, Submitter>>,
    /// Of the calls that are answered.
    stops: RefCell<BTreeMap<u64, CancellationToken>>,
}

/// Answers calls until standard input ends.
///
/// # Errors
/// When the environment cannot be opened, which the first frame reports too, or a frame is damaged.
pub(crate) async fn serve(opener: &Opener<'_>) -> anyhow::Result<u8> {
    let context = match opener.open().await {
        Ok(context) => context,
        Err(error) => {
            reply(&json!({"id": 0, "error": failure(&error)}), &[])?;
            return Ok(error::explain(&error).exit);
        }
    };
    let business = |business: &Business| json!({"pool": business.pool.is_some(), "command": business.engine.command});
    let businesses: BTreeMap<_, _> =
        context.config.businesses.iter().map(|(name, of)| (name.clone(), business(of))).collect();
    let environment = json!({"environment": context.config.environment, "businesses": businesses});
    reply(&json!({"id": 0, "exit": exit::DONE, "opened": environment}), &[])?;
    let server = Server { context, submitters: RefCell::default(), stops: RefCell::default() };
    let frames = stream::try_unfold(BufReader::new(tokio::io::stdin()), |mut input| async move {
        Ok::<_, anyhow::Error>(read(&mut input).await?.map(|frame| (frame, input)))
    });
    let mut frames = std::pin::pin!(frames);
    let mut answers = FuturesUnordered::new();
    loop {
        tokio::select! {
            // A read that is dropped here goes on with the next poll of the stream.
            frame = frames.try_next() => match frame? {
                Some((request, body)) => answers.push(server.answer(request, body)),
                None => return Ok(exit::DONE),
            },
            Some(answered) = answers.next() => answered?,
        }
    }
}

impl Server {
    /// Answers one call.
    ///
    /// # Errors
    /// When standard output is closed.
    async fn answer(&self, request: Request, body: Vec<u8>) -> anyhow::Result<()> {
        let Request { id, call } = request;
        let stop = CancellationToken::new();
        self.stops.borrow_mut().insert(id, stop.clone());
        let done = tokio::select! {
            done = self.run(id, call, body) => done,
            () = stop.cancelled() => Err(Failure::new("stopped", "the call was stopped").into()),
        };
        self.stops.borrow_mut().remove(&id);
        match done {
            Ok((mut header, body)) => {
                header["id"] = id.into();
                reply(&header, &body)
            }
            Err(error) => reply(&json!({"id": id, "error": failure(&error)}), &[]),
        }
    }

    /// Runs a call, and returns the last frame of its answer.
    async fn run(&self, id: u64, call: Call, body: Vec<u8>) -> anyhow::Result<(Value, Vec<u8>)> {
        match call {
            Call::Verb { arguments, live } => self.verb(id, arguments, live).await,
            Call::Common { business, session, name } => {
                let submitter = self.submitter(&business).await?;
                let input = Input { job: name, source: Source::Bytes(body.into()), content_type: String::new() };
                submitter.place_common(&input, &session).await?;
                Ok((json!({"exit": exit::DONE}), Vec::new()))
            }
            Call::Send { business, session, job, items, common, client } => {
                let at_once = self.context.business(Some(&business))?.ranges_at_once();
                let pack = Pack::new(Format::Lines, items, 1, at_once);
                let options = Options { session, client, pack: Some(pack), priority: false, common };
                let generation = self.send(&business, job, &options, body).await?;
                Ok((json!({"exit": exit::DONE, "generation": generation}), Vec::new()))
            }
            Call::Follow { business, session, jobs, seconds } => {
                let limit = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                let business = self.context.business(Some(&business))?;
                let followed = self.follow(id, business, &session, jobs, limit).await;
                Ok((followed?, Vec::new()))
            }
            Call::Stop { target } => {
                if let Some(stop) = self.stops.borrow().get(&target) {
                    stop.cancel();
                }
                Ok((json!({"exit": exit::DONE}), Vec::new()))
            }
        }
    }

    /// Runs a daily verb as the command line does.
    async fn verb(&self, id: u64, arguments: Vec<String>, live: bool) -> anyhow::Result<(Value, Vec<u8>)> {
        let words = ["deskgrid", "--json", "--quiet"].map(str::to_owned).into_iter().chain(arguments);
        let parsed = Deskgrid::try_parse_from(words).map_err(|error| Failure::of_usage(&error))?;
        let Some(verb) = parsed.verb else { return Err(Failure::usage("a call needs a verb").into()) };
        let context = &self.context;
        let opener = Opener::new(|| Box::pin(async { Ok(context.clone()) }));
        let written: Rc<RefCell<Vec<u8>>> = Rc::default();
        let results = Rc::clone(&written);
        let sink = move |bytes: &[u8]| {
            if live {
                // The last frame fails too when nobody reads.
                let _ = reply(&json!({"id": id}), bytes);
            } else {
                results.borrow_mut().extend_from_slice(bytes);
            }
        };
        let output = Output::new(&parsed.globals);
        let code = output::with_sink(sink, verb.run(&opener, Deskgrid::command, &output)).await?;
        Ok((json!({"exit": code}), written.take()))
    }

    /// Submits one Job, and returns the generation of its input.
    async fn send(&self, business: &str, job: String, options: &Options, body: Vec<u8>) -> anyhow::Result<i64> {
        let refused = |what: &str, why: String| Failure::usage(what).why(why);
        names::check_session(&options.session)
            .map_err(|error| refused("this is not a valid session name", error.to_string()))?;
        names::check_job(&job).map_err(|error| refused("this is not a valid job id", error.to_string()))?;
        if let Some(Err(why)) = options.pack.as_ref().map(Pack::check) {
            return Err(refused("this is outside the limits of a pack", why).into());
        }
        let submitter = self.submitter(business).await?;
        let input = Input { job, source: Source::Bytes(body.into()), content_type: LINES.to_owned() };
        let stop = CancellationToken::new();
        let mut sent = submitter.run(vec![input], options, &Existing::default(), &stop, |_, _| {}).await;
        match sent.jobs.pop() {
            Some((_, Fate::Submitted { generation, .. } | Fate::Settled { generation })) => Ok(generation),
            Some((_, Fate::Failed(error))) => Err(error),
            Some((_, Fate::NotTried | Fate::Uploaded { .. })) | None => {
                Err(Failure::new("stopped", "stopped before the Job was submitted").into())
            }
        }
    }

    /// What submits to a business; its queue is checked once.
    async fn submitter(&self, business: &str) -> anyhow::Result<Submitter> {
        if let Some(submitter) = self.submitters.borrow().get(business) {
            return Ok(submitter.clone());
        }
        let of = self.context.business(Some(business))?;
        self.context.check_queue(of).await?;
        let publisher = self.context.connection.base_publisher().await?;
        let submitter = Submitter::new(self.context.store.clone(), &publisher, of.clone());
        self.submitters.borrow_mut().insert(business.to_owned(), submitter.clone());
        Ok(submitter)
    }

    /// Sends the outcomes of Jobs with their results, and returns the last frame.
    async fn follow(
        &self,
        id: u64,
        business: &Business,
        session: &str,
        jobs: Vec<(String, i64, u32)>,
        limit: Option<Duration>,
    ) -> anyhow::Result<Value> {
        let store = &self.context.store;
        let (sender, mut found) = tokio::sync::mpsc::unbounded_channel();
        let waiting = async {
            // The receiver ends when the sender is dropped with this block.
            let sender = sender;
            let found = |outcome: &Outcome| {
                let _ = sender.send(outcome.clone());
            };
            // A call that is stopped is dropped.
            wait(store, business, session, jobs, limit, &CancellationToken::new(), found).await
        };
        let sending = async {
            while let Some(mut outcome) = found.recv().await {
                let contents = results::contents(store, business, &outcome).await?;
                let lengths: Vec<Option<usize>> =
                    contents.iter().map(|body| body.as_ref().map(|bytes| bytes.len())).collect();
                outcome.items.iter_mut().for_each(|item| item.result = None);
                outcome.result = None;
                let body: Vec<u8> = contents.into_iter().flatten().flatten().collect();
                reply(&json!({"id": id, "outcome": outcome, "lengths": lengths}), &body)?;
            }
            anyhow::Ok(())
        };
        let (waited, ()) = tokio::try_join!(waiting, sending)?;
        Ok(json!({"exit": exit::DONE, "missing": waited.missing}))
    }
}

/// An error as JSON, with commands of this program.
fn failure(error: &anyhow::Error) -> Value {
    let failure = error::explain(error);
    let text = serde_json::to_string(&failure).unwrap_or_default();
    serde_json::from_str(&program::with_own_commands(&text)).unwrap_or_else(|_| json!({"what": failure.what}))
}

/// Reads a frame; `None` at the end.
async fn read(input: &mut (impl AsyncRead + Unpin)) -> anyhow::Result<Option<(Request, Vec<u8>)>> {
    let header = match input.read_u32().await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        length => length?,
    };
    anyhow::ensure!(header <= HEADER_MAX, "a header has at most {HEADER_MAX} bytes, not {header}");
    let body = input.read_u64().await?;
    let (mut header, mut bytes) = (vec![0; header as usize], Vec::new());
    input.read_exact(&mut header).await?;
    input.take(body).read_to_end(&mut bytes).await?;
    anyhow::ensure!(bytes.len() as u64 == body, "standard input ended in the middle of a frame");
    Ok(Some((serde_json::from_slice(&header)?, bytes)))
}

/// Writes a frame.
///
/// # Errors
/// When standard output is closed.
fn reply(header: &Value, body: &[u8]) -> anyhow::Result<()> {
    let header = header.to_string();
    let mut stdout = io::stdout().lock();
    stdout.write_all(&u32::try_from(header.len())?.to_be_bytes())?;
    stdout.write_all(&(body.len() as u64).to_be_bytes())?;
    stdout.write_all(header.as_bytes())?;
    stdout.write_all(body)?;
    Ok(stdout.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(header: &str, body: &[u8]) -> anyhow::Result<Option<(Request, Vec<u8>)>> {
        let lengths = (u32::try_from(header.len()).unwrap().to_be_bytes(), (body.len() as u64).to_be_bytes());
        let bytes = [&lengths.0[..], &lengths.1, header.as_bytes(), body].concat();
        read(&mut &bytes[..]).await
    }

    #[tokio::test]
    async fn a_frame_has_a_call_and_bytes() {
        let call = r#"{"id": 7, "call": "send", "business": "b", "session": "s", "job": "j", "items": 2}"#;
        let (request, body) = check(call, b"a\nb\n").await.unwrap().unwrap();
        assert!(matches!(request, Request { id: 7, call: Call::Send { items: 2, .. } }), "{request:?}");
        assert_eq!(&body[..], b"a\nb\n");
        assert!(read(&mut &b""[..]).await.unwrap().is_none());
        assert!(check(r#"{"id": 1, "call": "dance"}"#, b"").await.is_err());
        assert!(read(&mut &[0, 0, 0, 2, 0, 0][..]).await.is_err());
    }
}
