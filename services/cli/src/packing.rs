//! Makes packs of many small files: as Jobs of their own, each would cost objects and a message.

use std::{
    fs,
    io::{self, BufWriter},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use contract::{
    names,
    pack::{Pack, files},
};
use sessions::submit::{Input, Source, content_type};

use crate::{error::Failure, text};

/// So many small files are Jobs of their own; more become items of packs.
const APART_MAX: usize = 500;
/// Size of a small file in bytes.
const SMALL_BYTES: u64 = 64 * 1024;
/// Size of all files of a pack in bytes.
const PACK_BYTES: u64 = 256 * 1024 * 1024;

/// Inputs that are submitted with the same options.
#[derive(Debug)]
pub(crate) enum Batch {
    /// Each input is a Job, and may be a pack.
    Apart(Vec<Input>, Option<Pack>),
    /// These files are the items of one Job.
    Archive {
        /// Its id.
        job: String,
        /// Its items.
        files: Vec<Input>,
    },
}

impl Batch {
    /// The ids of its Jobs.
    pub(crate) fn jobs(&self) -> Vec<String> {
        match self {
            Self::Apart(inputs, _) => inputs.iter().map(|input| input.job.clone()).collect(),
            Self::Archive { job, .. } => vec![job.clone()],
        }
    }

    /// Its inputs. An archive is a file that is deleted with the second value.
    ///
    /// # Errors
    /// When a file cannot be read, or the archive cannot be written.
    pub(crate) fn into_inputs(self) -> anyhow::Result<(Vec<Input>, Option<tempfile::NamedTempFile>)> {
        let (job, some) = match self {
            Self::Apart(inputs, _) => return Ok((inputs, None)),
            Self::Archive { job, files } => (job, files),
        };
        let archive = tempfile::NamedTempFile::new().context("make a file for an archive")?;
        let contents = some.into_iter().map(|Input { job, source, .. }| match source {
            Source::File(path) => fs::read(&path)
                .map(|bytes| (job, bytes.into()))
                .map_err(|error| io::Error::new(error.kind(), format!("read {}: {error}", path.display()))),
            Source::Bytes(bytes) => Ok((job, bytes)),
        });
        files::write(BufWriter::new(archive.as_file()), contents)
            .with_context(|| format!("write the archive {job}"))?;
        let source = Source::File(archive.path().to_owned());
        let content_type = content_type(&job).to_owned();
        Ok((vec![Input { job, source, content_type }], Some(archive)))
    }
}

/// Divides inputs into batches: small files become archives when there are many, unless the session has one of them
/// already. Another run with the same files makes the same archives.
///
/// # Errors
/// When an archive would have the name of another input.
pub(crate) fn batches(
    inputs: Vec<Input>,
    paths: &[PathBuf],
    is_known: impl Fn(&str) -> bool,
) -> anyhow::Result<Vec<Batch>> {
    let size = |input: &Input| match &input.source {
        Source::File(path) => path.metadata().map_or(u64::MAX, |metadata| metadata.len()),
        Source::Bytes(bytes) => bytes.len() as u64,
    };
    let inputs: Vec<(u64, Input)> = inputs.into_iter().map(|input| (size(&input), input)).collect();
    let small = || inputs.iter().filter(|(size, _)| *size <= SMALL_BYTES);
    if small().count() <= APART_MAX || small().any(|(_, input)| is_known(&input.job)) {
        return Ok(vec![Batch::Apart(inputs.into_iter().map(|(_, input)| input).collect(), None)]);
    }
    let (mut archives, mut bytes) = (vec![Vec::new()], 0);
    let (mut apart, limit) = (Vec::new(), files::FILES_MAX as usize);
    for (size, input) in inputs {
        if size > SMALL_BYTES {
            apart.push(input);
            continue;
        }
        bytes += size;
        if bytes > PACK_BYTES || archives.last().is_some_and(|last| last.len() == limit) {
            archives.push(Vec::new());
            bytes = size;
        }
        archives.last_mut().into_iter().for_each(|last| last.push(input.clone()));
    }
    let (name, several) = (name(paths), archives.len() > 1);
    let job = |number: usize| if several { format!("{name}-{number}.tar") } else { format!("{name}.tar") };
    let archives = (1..).zip(archives).map(|(number, files)| Batch::Archive { job: job(number), files });
    let mut batches: Vec<Batch> = archives.collect();
    for taken in batches.iter().flat_map(Batch::jobs) {
        if apart.iter().any(|input| input.job == taken) {
            return Err(Failure::new("name-collision", format!("{taken:?} is also the name of a pack of small files"))
                .next("rename the file, or make a Job of each file with --each")
                .into());
        }
    }
    if !apart.is_empty() {
        batches.push(Batch::Apart(apart, None));
    }
    Ok(batches)
}

/// What `submit` says about packs that it makes; `None` when it makes none.
pub(crate) fn note(batches: &[Batch]) -> Option<String> {
    let archives = || batches.iter().filter(|batch| matches!(batch, Batch::Archive { .. }));
    let files = |batch: &Batch| if let Batch::Archive { files, .. } = batch { files.len() } else { 0 };
    let names: Vec<String> = archives().flat_map(Batch::jobs).collect();
    (!names.is_empty()).then(|| {
        format!(
            "{} of at most {} KiB become items of {} ({}), which needs fewer objects and messages; --each makes a Job of each",
            text::count(archives().map(files).sum(), "file"),
            SMALL_BYTES / 1024,
            text::count(names.len(), "Job"),
            text::some(names.iter().map(String::as_str), 3)
        )
    })
}

/// The name of the folder that is submitted.
fn name(paths: &[PathBuf]) -> String {
    let folder = match paths {
        [folder] => folder.canonicalize().ok().filter(|folder| folder.is_dir()),
        _ => None,
    };
    let name = folder.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
    let is_valid = |name: &&str| names::check_job(&format!("{name}-999999.tar")).is_ok();
    name.filter(is_valid).unwrap_or("files").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs of these sizes, called by their numbers.
    fn inputs(sizes: impl IntoIterator<Item = usize>) -> Vec<Input> {
        let all = Source::Bytes(vec![b'x'; 65_537].into());
        let some = |size: usize| match &all {
            Source::Bytes(bytes) => Source::Bytes(bytes.slice(..size)),
            Source::File(_) => panic!("{all:?}"),
        };
        let input = |(number, size): (usize, usize)| Input {
            job: format!("d/{number}.json"),
            source: some(size),
            content_type: String::new(),
        };
        sizes.into_iter().enumerate().map(input).collect()
    }

    fn check(sizes: impl IntoIterator<Item = usize>, expected: &[(&str, usize)]) {
        let batches = batches(inputs(sizes), &[], |_| false).unwrap();
        let found: Vec<(String, usize)> = batches
            .iter()
            .map(|batch| match batch {
                Batch::Apart(inputs, None) => ("apart".to_owned(), inputs.len()),
                Batch::Archive { job, files } => (job.clone(), files.len()),
                Batch::Apart(..) => panic!("{batch:?}"),
            })
            .collect();
        assert_eq!(found.iter().map(|(job, files)| (&**job, *files)).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn more_than_500_small_files_are_items_and_all_others_are_jobs() {
        check([1; 500], &[("apart", 500)]);
        check([1; 501], &[("files.tar", 501)]);
        check([65_537; 501], &[("apart", 501)]);
        check([1; 500].into_iter().chain([65_537]), &[("apart", 501)]);
        check([65_536; 501].into_iter().chain([65_537]), &[("files.tar", 501), ("apart", 1)]);
        check([65_536; 4097], &[("files-1.tar", 4096), ("files-2.tar", 1)]);
    }

    #[test]
    fn what_a_session_has_as_jobs_stays_jobs_and_names_are_those_of_the_folder() {
        let known = batches(inputs([1; 501]), &[], |job| job == "d/7.json").unwrap();
        assert!(matches!(&known[..], [Batch::Apart(inputs, None)] if inputs.len() == 501));
        assert_eq!(note(&known), None);
        let folder = tempfile::tempdir().unwrap();
        let books = folder.path().join("books");
        fs::create_dir(&books).unwrap();
        let some = batches(inputs([1; 501]), &[books.join(".")], |_| false).unwrap();
        assert_eq!(some[0].jobs(), ["books.tar"]);
        let note = note(&some).unwrap();
        assert!(note.starts_with("501 files of at most ") && note.contains("items of 1 Job (books.tar)"), "{note}");
        let mut taken = inputs([1; 501].into_iter().chain([65_537]));
        taken[501].job = "files.tar".to_owned();
        let failure = batches(taken, &[], |_| false).unwrap_err().downcast::<Failure>().unwrap();
        assert_eq!(failure.code, "name-collision");
    }

    #[test]
    fn an_archive_is_the_same_for_the_same_files() {
        let bytes = || {
            let batch = batches(inputs([3; 501]), &[], |_| false).unwrap().remove(0);
            let (inputs, archive) = batch.into_inputs().unwrap();
            assert_eq!((&*inputs[0].job, &*inputs[0].content_type), ("files.tar", "application/x-tar"));
            fs::read(archive.unwrap().path()).unwrap()
        };
        let archive = bytes();
        let mut found = Vec::new();
        files::read(&archive[..], false, |file| found.push(file.name)).unwrap();
        assert_eq!((found.len(), &*found[500]), (501, "d/500.json"));
        assert_eq!(archive, bytes());
    }
}
