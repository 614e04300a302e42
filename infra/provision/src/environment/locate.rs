//! Finds and reads the environment file that a person means.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::{Environment, Overrides, Place, Problem, Problems, parse, read};

/// Name of the environment that is never taken by default.
pub const LOCAL: &str = "local";

/// The file that `--env` means: a path when it ends in `.toml`, else a name in `directory`; without one, the only
/// environment that is not `local`.
///
/// # Errors
/// When there is no such file, or no single one to take by default; names those there are.
pub fn locate(directory: &Path, desired: Option<&str>) -> anyhow::Result<PathBuf> {
    if let Some(path) = desired.filter(|desired| desired.ends_with(".toml")) {
        let path = PathBuf::from(path);
        if !path.is_file() {
            bail!("there is no file {}", path.display());
        }
        return Ok(path);
    }
    let names = names(directory)?;
    let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let name = match desired {
        Some(desired) if names.iter().any(|name| name == desired) => desired,
        Some(desired) => {
            let words: Vec<&str> = names.iter().map(String::as_str).collect();
            let hint = read::did_you_mean(desired, &words).map(|hint| format!("; {hint}")).unwrap_or_default();
            bail!("there is no environment {desired:?} in {}{hint} (there is: {known})", directory.display());
        }
        None => match names.iter().filter(|name| *name != LOCAL).collect::<Vec<_>>().as_slice() {
            [only] => only.as_str(),
            [] => bail!("there is no environment but {LOCAL:?} in {}; name it with --env", directory.display()),
            _ => bail!("there are several environments in {}: {known}; name one with --env", directory.display()),
        },
    };
    Ok(directory.join(format!("{name}.toml")))
}

/// Reads and checks an environment file.
///
/// # Errors
/// When the file cannot be read; or a [`super::Problems`] with everything that is wrong with it.
pub fn load(path: &Path, overrides: &Overrides) -> anyhow::Result<Environment> {
    let bytes = std::fs::read(path).with_context(|| format!("read the environment file {}", path.display()))?;
    let file = path.display().to_string();
    let text = String::from_utf8(bytes).map_err(|error| {
        let (at, bytes) = (error.utf8_error().valid_up_to(), error.as_bytes());
        let message = format!("the byte {:#04x} is not UTF-8", bytes[at]);
        let help = Some("save the file as UTF-8".to_owned());
        let problem = Problem { place: Place::File(at..at + char::REPLACEMENT_CHARACTER.len_utf8()), message, help };
        Problems::new(&file, &String::from_utf8_lossy(bytes), vec![problem])
    })?;
    let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let mut environment = parse(name, &file, &text, overrides)?;
    environment.path = Some(path.to_owned());
    Ok(environment)
}

fn names(directory: &Path) -> anyhow::Result<Vec<String>> {
    let entries = std::fs::read_dir(directory).with_context(|| format!("read the folder {}", directory.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("read the folder {}", directory.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "toml")
            && let Some(stem) = path.file_stem().and_then(|stem| stem.to_str())
        {
            names.push(stem.to_owned());
        }
    }
    names.sort();
    Ok(names)
}
