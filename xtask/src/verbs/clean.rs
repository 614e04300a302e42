//! `clean`: removes what was generated, and what killed demos left, but nothing that is in use; or what has ended of a
//! business.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use cli::{error::Failure, output::Output};
use contract::exit;
use nix::{sys::signal::kill, unistd::Pid};
use serde::Serialize;

use crate::{context, globals::Globals};

mod business;

/// Arguments of `clean`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What has ended of this business: its Kubernetes Jobs and pods that have their outcome
    #[arg(long, short)]
    business: Option<String>,
    /// What has ended of all businesses
    #[arg(long, conflicts_with = "business")]
    all: bool,
    /// Only of this session
    #[arg(long, short)]
    session: Option<String>,
    /// Objects of Jobs that ended, too
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    objects: Vec<Part>,
    /// Only show what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// A part of a business's objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Part {
    /// Inputs that were kept because their Job did not succeed
    Input,
    /// Results
    Output,
    /// Outcomes of Jobs whose input is gone
    Outcome,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
            Self::Outcome => "outcome",
        }
    }
}

/// Folders of generated files.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Found {
    removed: Vec<PathBuf>,
    in_use: Vec<PathBuf>,
}

/// Removes what has ended of a business when one is named; else the generated folders that nothing uses, which
/// `provision` and `deploy` write anew.
///
/// # Errors
/// When something cannot be checked or removed.
pub(crate) async fn run(globals: &Globals, args: &Args, output: &Output) -> anyhow::Result<u8> {
    if args.business.is_some() || args.all {
        return business::run(&context::open(globals).await?, args, output).await;
    }
    if args.session.is_some() || !args.objects.is_empty() {
        return Err(Failure::usage("it is not said of which business")
            .next("name one with --business, or --all")
            .into());
    }
    let found = clean(&context::root().join(context::GENERATED), args.dry_run)?;
    if output.json {
        output.document(&found)?;
        return Ok(exit::DONE);
    }
    let verb = if args.dry_run { "would remove" } else { "removed" };
    for folder in &found.removed {
        output.note(format_args!("{verb} {}", folder.display()));
    }
    for folder in &found.in_use {
        output.note(format_args!("in use: {}", folder.display()));
    }
    Ok(exit::DONE)
}

fn clean(generated: &Path, dry_run: bool) -> anyhow::Result<Found> {
    let mut found = Found::default();
    let entries = match std::fs::read_dir(generated) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        entries => entries.with_context(|| format!("read the folder {}", generated.display()))?,
    };
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    for folder in folders {
        if is_used(&folder)? {
            found.in_use.push(folder);
            continue;
        }
        if !dry_run {
            std::fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
        }
        found.removed.push(folder);
    }
    Ok(found)
}

/// Whether a laptop cloud runs in a folder, or the demo that it is of.
fn is_used(folder: &Path) -> anyhow::Result<bool> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let demo = name.strip_prefix("demo-").and_then(|pid| pid.parse().ok());
    if demo.is_some_and(|pid| kill(Pid::from_raw(pid), None).is_ok()) {
        return Ok(true);
    }
    // A demo has its environment file elsewhere, and so what is generated for it beside that.
    for lock in [folder.join("cloud.lock"), folder.join("generated").join(&name).join("cloud.lock")] {
        let file = match File::open(&lock) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            file => file.with_context(|| format!("open {}", lock.display()))?,
        };
        if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nothing_uses_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let [idle, busy, demo] =
            ["idle", "busy", &format!("demo-{}", std::process::id())].map(|n| folder.path().join(n));
        for path in [&idle, &busy, &demo] {
            std::fs::create_dir(path).unwrap();
            File::create(path.join("cloud.lock")).unwrap();
        }
        let lock = File::open(busy.join("cloud.lock")).unwrap();
        lock.lock().unwrap();
        let expected = Found { removed: vec![idle.clone()], in_use: vec![busy.clone(), demo] };
        assert_eq!(clean(folder.path(), true).unwrap(), expected);
        assert!(idle.exists());
        assert_eq!(clean(folder.path(), false).unwrap(), expected);
        assert!(!idle.exists() && busy.exists());
        assert_eq!(clean(&folder.path().join("none"), false).unwrap(), Found::default());
    }
}
