//! Finds the input files of paths on the command line, and the names of their Jobs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use contract::names;
use sessions::submit::{Input, Source, collisions, content_type};

use crate::{error::Failure, text};

/// The path that means standard input.
pub(crate) const STDIN: &str = "-";
/// Collisions that an error lists.
const COLLISIONS_MAX: usize = 5;

/// The inputs of the paths. The job id of a file is its name, or its path within the submitted folder. Folders are read
/// in order of name, without hidden files. `spool` is a file with the contents of standard input, and `name` is the job
/// id of a single input.
///
/// # Errors
/// When a file does not exist, a name is not a valid job id, no file is found, or two inputs have the same job id.
pub(crate) fn collect(paths: &[PathBuf], name: Option<&str>, spool: Option<&Path>) -> anyhow::Result<Vec<Input>> {
    let mut found: Vec<(PathBuf, Input)> = Vec::new();
    for path in paths {
        if path.as_os_str() == STDIN {
            let job = name.unwrap_or("stdin");
            let spooled = spool.context("read standard input")?;
            add(&mut found, path, spooled, job)?;
            continue;
        }
        let metadata = fs::metadata(path).map_err(|error| {
            Failure::new("no-such-file", format!("cannot read {}", path.display())).why(error.to_string())
        })?;
        if metadata.is_dir() {
            let before = found.len();
            walk(path, path, &mut Vec::new(), &mut found)?;
            if found.len() == before {
                return Err(Failure::new("nothing-to-submit", format!("no files in {}", path.display()))
                    .why("it is empty, or has only hidden files")
                    .into());
            }
        } else if metadata.is_file() {
            let own = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| not_text(path))?;
            add(&mut found, path, path, name.unwrap_or(own))?;
        } else {
            return Err(Failure::new("not-a-file", format!("{} is neither a file nor a folder", path.display()))
                .next("pipe it to standard input, and give - as the path")
                .into());
        }
    }
    let (shown, inputs): (Vec<PathBuf>, Vec<Input>) = found.into_iter().unzip();
    if name.is_some() && inputs.len() != 1 {
        return Err(Failure::usage(format!("--job takes one input, but there are {}", inputs.len())).into());
    }
    let clashes = collisions(&inputs);
    if !clashes.is_empty() {
        let lines: Vec<String> = clashes
            .iter()
            .take(COLLISIONS_MAX)
            .map(|clash| {
                let (first, second) = (shown[clash.positions.0].display(), shown[clash.positions.1].display());
                format!("{first} and {second} are both called {:?}", clash.job)
            })
            .collect();
        return Err(Failure::new(
            "name-collision",
            format!("{} with more than one input", text::count(clashes.len(), "job id")),
        )
        .why(lines.join("\n"))
        .next("submit the folder that holds them, so that their paths differ, or submit them in two sessions")
        .into());
    }
    Ok(inputs)
}

/// The common data of the session: files that every Job reads.
///
/// # Errors
/// When a file does not exist, or two files have the same name.
pub(crate) fn common(paths: &[PathBuf]) -> anyhow::Result<Vec<Input>> {
    if let Some(path) = paths.iter().find(|path| path.as_os_str() == STDIN || path.is_dir()) {
        return Err(Failure::usage(format!("--common takes files, but {} is not a file", path.display())).into());
    }
    let common = collect(paths, None, None)?;
    // Messages list the names with commas between them.
    match common.iter().find(|input| input.job.contains(',')) {
        Some(input) => {
            Err(Failure::usage(format!("the name of common data must not contain a comma: {}", input.job)).into())
        }
        None => Ok(common),
    }
}

/// Adds every file under `folder`; `above` are the real paths of the folders around it.
fn walk(root: &Path, folder: &Path, above: &mut Vec<PathBuf>, found: &mut Vec<(PathBuf, Input)>) -> anyhow::Result<()> {
    let context = || format!("read the folder {}", folder.display());
    let real = fs::canonicalize(folder).with_context(context)?;
    if above.contains(&real) {
        return Err(Failure::new("folder-loop", format!("{} contains a link to itself", folder.display())).into());
    }
    above.push(real);
    let mut entries = fs::read_dir(folder)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(context)?
        .into_iter()
        .map(|entry| entry.path())
        .collect::<Vec<_>>();
    entries.sort();
    for path in entries {
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        let metadata = fs::metadata(&path).with_context(|| format!("read {}", path.display()))?;
        if metadata.is_dir() {
            walk(root, &path, above, found)?;
        } else if metadata.is_file() {
            let relative = path.strip_prefix(root).unwrap_or(&path);
            let job = relative.to_str().ok_or_else(|| not_text(&path))?.to_owned();
            add(found, &path, &path, &job)?;
        }
    }
    above.pop();
    Ok(())
}

fn add(found: &mut Vec<(PathBuf, Input)>, shown: &Path, file: &Path, job: &str) -> anyhow::Result<()> {
    names::check_job(job).map_err(|error| {
        Failure::usage(format!("{job:?} is not a valid job id")).on(shown.display().to_string()).why(error.to_string())
    })?;
    let input = Input {
        job: job.to_owned(),
        source: Source::File(file.to_owned()),
        content_type: content_type(job).to_owned(),
    };
    found.push((shown.to_owned(), input));
    Ok(())
}

fn not_text(path: &Path) -> Failure {
    Failure::usage(format!("the name of {} is not UTF-8, so it is not a valid job id", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files in a new folder.
    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        folder
    }

    /// Job ids found behind paths in the folder, or the code of the failure.
    fn check(folder: &tempfile::TempDir, paths: &[&str], name: Option<&str>) -> Result<Vec<String>, Failure> {
        let paths: Vec<PathBuf> =
            paths.iter().map(|p| if *p == "-" { p.into() } else { folder.path().join(p) }).collect();
        let spool = folder.path().join("b.json");
        collect(&paths, name, Some(&spool))
            .map(|inputs| inputs.into_iter().map(|input| input.job).collect())
            .map_err(|error| error.downcast::<Failure>().unwrap())
    }

    #[test]
    fn folders_are_walked_in_order_and_hidden_files_left_out() {
        let folder = folder(&["b.json", "a/z.json", "a/b.json", ".hidden", ".git/x"]);
        assert_eq!(check(&folder, &["."], None).unwrap(), ["a/b.json", "a/z.json", "b.json"]);
        assert_eq!(check(&folder, &["b.json", "a/z.json"], None).unwrap(), ["b.json", "z.json"]);
        assert_eq!(check(&folder, &["-"], None).unwrap(), ["stdin"]);
        assert_eq!(check(&folder, &["-"], Some("book")).unwrap(), ["book"]);
        assert_eq!(check(&folder, &["b.json"], Some("x/y.json")).unwrap(), ["x/y.json"]);
    }

    #[test]
    fn a_collision_names_both() {
        let folder = folder(&["b.json", "a/b.json"]);
        let failure = check(&folder, &["b.json", "a"], None).unwrap_err();
        let why = failure.why.unwrap();
        assert_eq!(failure.code, "name-collision");
        assert!(why.contains("/b.json and ") && why.contains("/a/b.json are both"), "{why}");
    }

    #[test]
    fn invalid_inputs_are_errors() {
        let folder = folder(&["b.json", "empty/.hidden", "a\nb"]);
        for (paths, name, code) in [
            (&["missing"][..], None, "no-such-file"),
            (&["empty"], None, "nothing-to-submit"),
            (&["a\nb"], None, "usage"),
            (&["b.json"], Some("../x"), "usage"),
            (&["b.json", "empty/.hidden"], Some("x"), "usage"),
        ] {
            assert_eq!(check(&folder, paths, name).unwrap_err().code, code, "{paths:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_loop_of_links_ends() {
        let folder = folder(&["a/b.json"]);
        std::os::unix::fs::symlink(folder.path(), folder.path().join("a/up")).unwrap();
        assert_eq!(check(&folder, &["."], None).unwrap_err().code, "folder-loop");
    }
}
