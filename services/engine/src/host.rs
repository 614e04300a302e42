//! `engine program`: runs a desk's own program in a container of its own, for `engine serve` beside it. Each connection
//! computes one item after another; when it is closed in the middle of one, the item's processes are killed.

use std::{cell::Cell, io::ErrorKind, path::Path, pin::pin, time::Duration};

use anyhow::Context as _;
use futures::{StreamExt as _, stream::FuturesUnordered};
use kernel::Share;
use tokio::{
    io::AsyncReadExt as _,
    net::{UnixListener, UnixStream},
    signal::unix::{SignalKind, signal},
};

use crate::{
    compute::Output,
    config,
    failure::Failure,
    input::Done,
    log::LogTail,
    process,
    program::{Position, Program},
    resident::{Folders, Residents, run_apart},
    run,
    socket::{self, Reply, Request},
};

/// Runs `program` and returns the exit code.
pub fn main(program: &Program) -> u8 {
    run::block_on(async |variables| {
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let work_dir = config::work_dir(variables);
        tokio::select! {
            ended = serve(program, &work_dir) => ended?,
            _ = terminate.recv() => {}
        }
        Ok(Done::Released)
    })
}

/// Runs the program for each request. When this is dropped, all processes are killed.
///
/// # Errors
/// When connections cannot be accepted. It does not end otherwise.
pub(crate) async fn serve(program: &Program, work_dir: &Path) -> anyhow::Result<()> {
    let (path, _folder) = socket::path(work_dir)?;
    match std::fs::remove_file(&path) {
        // The container was restarted.
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).context("remove the former socket"),
        _ => {}
    }
    let listener = UnixListener::bind(&path).with_context(|| format!("listen on {}", path.display()))?;
    let host = Host { program, work_dir, residents: Residents::default(), cpu_seconds: Cell::new(0.0) };
    let mut connections = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => connections.push(host.serve(accepted.context("accept a connection")?.0)),
            Some(ended) = connections.next() => {
                if let Err(error) = ended {
                    tracing::info!("lost a connection to the engine: {error:#}");
                }
            }
        }
        // Each connection computes one item at a time.
        host.residents.set_limit(connections.len());
    }
}

struct Host<'h> {
    program: &'h Program,
    work_dir: &'h Path,
    residents: Residents,
    /// CPU time that was reported.
    cpu_seconds: Cell<f64>,
}

impl Host<'_> {
    /// Computes one item after another.
    async fn serve(&self, stream: UnixStream) -> anyhow::Result<()> {
        let (mut from, mut to) = stream.into_split();
        while let Some((request, input)) = socket::read::<Request>(&mut from).await? {
            socket::write(&mut to, &Reply::Begun, &[]).await?;
            let (log, mut lines) = LogTail::of_program();
            let mut computing = pin!(self.compute(&request, &input, &log));
            let computed = loop {
                tokio::select! {
                    computed = &mut computing => break computed,
                    Some(line) = lines.recv() => socket::write(&mut to, &Reply::Line(line), &[]).await?,
                    // Nobody needs the result.
                    _ = from.read_u8() => return Ok(()),
                }
            };
            while let Ok(line) = lines.try_recv() {
                socket::write(&mut to, &Reply::Line(line), &[]).await?;
            }
            let cpu_seconds = process::cpu_seconds();
            let cpu_seconds = cpu_seconds - self.cpu_seconds.replace(cpu_seconds);
            let (reply, bytes) = match computed {
                Ok(Output { bytes, content_type, .. }) => (Reply::Result { content_type, cpu_seconds }, bytes),
                Err(Failure { permanent, code, message }) => {
                    (Reply::Failure { permanent, code: code.to_owned(), message, cpu_seconds }, Vec::new())
                }
            };
            socket::write(&mut to, &reply, &bytes).await?;
        }
        Ok(())
    }

    async fn compute(&self, request: &Request, input: &[u8], log: &LogTail) -> Result<Output, Failure> {
        let Request { index, count, name, common, program, timeout_secs } = request;
        let program = self.program.with_limits(program, Duration::from_secs((*timeout_secs).into()));
        let common = self.work_dir.join(common);
        let folders = Folders { work: self.work_dir, common: &common };
        let position = Position { share: Share { index: *index, count: *count }, name: name.as_deref() };
        run_apart(&program, &self.residents, folders, input, position, log).await
    }
}
