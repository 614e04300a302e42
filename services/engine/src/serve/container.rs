//! The desk's own program in the container beside the engine.
//!
//! An item whose program ends the container is found: after the container ended, each item that was in progress is
//! computed once more while the container computes nothing else, and fails when the container ends again.

use std::{
    cell::{Cell, RefCell},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::{
    net::UnixStream,
    sync::{RwLock, watch},
    time::{sleep, timeout},
};

use crate::{
    compute::Output,
    failure::Failure,
    log::LogTail,
    program::{OUTPUT_GRACE, STOP_GRACE},
    socket::{self, Reply, Request},
};

/// How long the container may take to start.
const START_MAX: Duration = Duration::from_secs(60);
/// How long it may take to start once more: the kubelet waits up to five minutes before.
const RESTART_MAX: Duration = Duration::from_secs(330);
/// Pause between two tries to connect.
const PAUSE: Duration = Duration::from_millis(100);
/// The container answers so much later than an item's time limit, or never.
const LATE_MAX: Duration = STOP_GRACE.saturating_add(OUTPUT_GRACE).saturating_add(OUTPUT_GRACE);

/// Reason codes of failures that the container reports; what is not among them is [`PROGRAM_FAILED`].
const CODES: [&str; 9] = [
    "cannot-start",
    "engine-error",
    "malformed-answer",
    "output-held-open",
    "output-too-large",
    crate::resident::ENDED,
    "program-killed",
    crate::failure::STOPPED,
    "timeout",
];
const PROGRAM_FAILED: &str = "program-failed";

/// The container, and the connections to it that compute nothing.
#[derive(Debug)]
pub(super) struct Container {
    path: PathBuf,
    _folder: Option<std::fs::File>,
    idle: RefCell<Vec<UnixStream>>,
    /// Items share it, but for one that is computed alone.
    gate: RwLock<()>,
    /// Number of items that are computed alone, or will be.
    suspects: watch::Sender<usize>,
    /// CPU time of all items, as far as the container reported it.
    cpu_seconds: Cell<f64>,
}

/// Why there is no result.
enum NoResult {
    /// The container ended in the middle of the item.
    Lost,
    Failed(Failure),
}

/// Counts an item as long as this lives.
struct Suspect<'c>(&'c watch::Sender<usize>);

impl<'c> Suspect<'c> {
    fn new(suspects: &'c watch::Sender<usize>) -> Self {
        suspects.send_modify(|count| *count += 1);
        Self(suspects)
    }
}

impl Drop for Suspect<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl From<Failure> for NoResult {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Container {
    /// Waits until the container can be used.
    pub(super) async fn start(work_dir: &Path) -> Result<Self, Failure> {
        let (path, folder) = socket::path(work_dir)?;
        let (idle, gate, cpu_seconds) = (RefCell::default(), RwLock::default(), Cell::default());
        let container = Self { path, _folder: folder, idle, gate, suspects: watch::Sender::default(), cpu_seconds };
        let stream = container.connect(START_MAX).await?;
        container.idle.borrow_mut().push(stream);
        Ok(container)
    }

    /// CPU time of all items until now.
    pub(super) fn cpu_seconds(&self) -> f64 {
        self.cpu_seconds.get()
    }

    /// Tells how many items are computed alone, or will be.
    pub(super) fn suspects(&self) -> watch::Receiver<usize> {
        self.suspects.subscribe()
    }

    /// Computes an item; `seconds` is set to how long that took. When this is dropped, the container kills its processes.
    pub(super) async fn compute(
        &self,
        request: &Request,
        input: &[u8],
        log: &LogTail,
        seconds: &mut f64,
    ) -> Result<Output, Failure> {
        let mut ended = {
            let _shared = self.gate.read().await;
            self.exchange(request, input, log, seconds).await
        };
        if matches!(ended, Err(NoResult::Lost)) {
            tracing::info!(item = request.index, "the program's container ended: computing the item alone");
            let _suspect = Suspect::new(&self.suspects);
            let _alone = self.gate.write().await;
            ended = self.exchange(request, input, log, seconds).await;
        }
        ended.map_err(|no_result| match no_result {
            NoResult::Failed(failure) => failure,
            NoResult::Lost => {
                let message = "the program's container ended twice while it computed this item, the second time only \
                               this item; did it run out of memory?";
                Failure::permanent("pod-killed", message)
            }
        })
    }

    async fn exchange(
        &self,
        request: &Request,
        input: &[u8],
        log: &LogTail,
        seconds: &mut f64,
    ) -> Result<Output, NoResult> {
        let limit = Duration::from_secs(request.timeout_secs.into()) + LATE_MAX;
        let waiting = Instant::now();
        loop {
            let mut stream = match self.take() {
                Some(stream) => stream,
                None => self.connect(RESTART_MAX).await?,
            };
            let (began, mut is_begun) = (Instant::now(), false);
            let replied = timeout(limit, self.read_reply(&mut stream, request, input, log, &mut is_begun)).await;
            *seconds = began.elapsed().as_secs_f64();
            match replied {
                Err(_) => {
                    return Err(Failure::transient("timeout", "the program's container did not answer in time").into());
                }
                Ok(Err(error)) if is_begun => {
                    tracing::debug!("lost the connection to the program: {error:#}");
                    return Err(NoResult::Lost);
                }
                // It was ending already, so this item is not the cause.
                Ok(Err(_)) if waiting.elapsed() < RESTART_MAX => sleep(PAUSE).await,
                Ok(Err(error)) => {
                    let message = format!("the program's container ends before it computes: {error:#}");
                    return Err(Failure::transient("cannot-start", message).into());
                }
                Ok(Ok(ended)) => {
                    self.idle.borrow_mut().push(stream);
                    return Ok(ended?);
                }
            }
        }
    }

    /// Gives the container an item, and reads lines until its end. `is_begun` is set when it begins to compute.
    async fn read_reply(
        &self,
        stream: &mut UnixStream,
        request: &Request,
        input: &[u8],
        log: &LogTail,
        is_begun: &mut bool,
    ) -> anyhow::Result<Result<Output, Failure>> {
        socket::write(stream, request, input).await?;
        loop {
            let (reply, bytes) = socket::read(stream).await?.context("read the reply of the program's container")?;
            match reply {
                Reply::Begun => *is_begun = true,
                Reply::Line(line) => log.line(&line),
                Reply::Result { content_type, cpu_seconds } => {
                    self.cpu_seconds.update(|all| all + cpu_seconds);
                    return Ok(Ok(Output::of_program(bytes.into(), content_type).await?));
                }
                Reply::Failure { permanent, code, message, cpu_seconds } => {
                    self.cpu_seconds.update(|all| all + cpu_seconds);
                    let code = CODES.into_iter().find(|known| *known == code).unwrap_or(PROGRAM_FAILED);
                    return Ok(Err(Failure { permanent, code, message }));
                }
            }
        }
    }

    /// A connection that is still one.
    fn take(&self) -> Option<UnixStream> {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|stream| {
            let read = stream.try_read(&mut [0]);
            read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
        });
        idle.pop()
    }

    async fn connect(&self, limit: Duration) -> Result<UnixStream, Failure> {
        let began = Instant::now();
        loop {
            match UnixStream::connect(&self.path).await {
                Ok(stream) => return Ok(stream),
                Err(error) if began.elapsed() >= limit => {
                    let message = format!("the program's container did not start in {} s: {error}", limit.as_secs());
                    return Err(Failure::transient("cannot-start", message));
                }
                Err(_) => sleep(PAUSE).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn a_container_that_ends_before_it_begins_an_item_does_not_blame_it() {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(socket::path(folder.path()).unwrap().0).unwrap();
        let host = async {
            let mut lost = 0;
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                if socket::read::<Request>(&mut stream).await.unwrap().is_none() {
                    continue;
                }
                lost += 1;
                if lost < 4 {
                    continue;
                }
                let result = Reply::Result { content_type: "text/plain".to_owned(), cpu_seconds: 0.0 };
                socket::write(&mut stream, &Reply::Begun, &[]).await.unwrap();
                socket::write(&mut stream, &result, b"1").await.unwrap();
            }
        };
        let request = Request {
            index: 0,
            count: 1,
            name: None,
            common: PathBuf::new(),
            program: Default::default(),
            timeout_secs: 60,
        };
        let computed = async {
            let container = Container::start(folder.path()).await.unwrap();
            container.compute(&request, b"", &LogTail::new(1, "s", "j", 0), &mut 0.0).await
        };
        let computed = tokio::select! { () = host => unreachable!(), computed = computed => computed };
        assert_eq!(computed.unwrap().bytes, b"1");
    }
}
