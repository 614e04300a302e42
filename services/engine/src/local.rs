//! `engine try`: standard input to standard output, with no cloud.

use std::{
    io::{Read as _, Write as _},
    path::Path,
};

use anyhow::Context as _;
use cloud::telemetry;
use contract::{exit, labels};

use crate::{
    compute::{self, Input, Output},
    config,
    failure::Failure,
    program::{self, Program},
    resident,
};

/// Runs `try` and returns the exit code.
pub fn main(program: Option<Program>) -> u8 {
    telemetry::init("warn");
    let ended = compute(program.as_ref()).and_then(|output| {
        let mut out = std::io::stdout().lock();
        match out.write_all(&output.bytes).and_then(|()| out.flush()) {
            // The reader of the pipe needs no more of the result.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            written => Ok(written.context("write the result")?),
        }
    });
    match ended {
        Ok(()) => exit::DONE,
        Err(failure) => {
            let kind = if failure.permanent { "permanent" } else { "may be retried" };
            // If standard error cannot be written, the exit code still reports the failure.
            let _ = writeln!(std::io::stderr(), "error ({kind}): {failure}");
            failure.exit_code()
        }
    }
}

fn compute(program: Option<&Program>) -> Result<Output, Failure> {
    let variables = config::variables();
    let position = config::local_position(&variables)?;
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes).context("read standard input")?;
    let Some(program) = program else {
        let market = variables.get(labels::ENV_COMMON).map(|folder| market(Path::new(folder))).transpose()?.flatten();
        let name = position.name.unwrap_or_default();
        let input = Input { bytes: &bytes, name, content_type: "", market: market.as_deref() };
        return compute::compute(input, position.share, config::threads(&variables)?);
    };
    let mut scratch = program::Scratch::new(&config::work_dir(&variables))?;
    if let Some(folder) = variables.get(labels::ENV_COMMON) {
        scratch.set_common(folder.into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(resident::run_once(program, &scratch, &bytes, position))
}

/// The market data in a folder of common data.
fn market(folder: &Path) -> Result<Option<Vec<u8>>, Failure> {
    let context = || format!("read the common data in {}", folder.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(context)? {
        let entry = entry.with_context(context)?;
        if entry.file_type().with_context(context)?.is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort_unstable();
    let Some(name) = compute::market(names.iter().map(String::as_str))? else { return Ok(None) };
    Ok(Some(std::fs::read(folder.join(name)).with_context(context)?))
}
