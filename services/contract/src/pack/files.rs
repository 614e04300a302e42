//! Packs of files: tar archives. Their regular files are the items, in their order; folders are left out, and an archive
//! with anything else is refused.

use std::{
    cell::Cell,
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
    io::{self, Read, Write},
    ops::Range,
};

use tar::{Archive, Builder, EntryType, Header};

use super::Pack;
use crate::names;

/// Maximum number of files of a pack.
pub const FILES_MAX: u32 = 1_000_000;
/// Entries are aligned to so many bytes.
const BLOCK: u64 = 512;
/// Maximum size of what describes an entry, in bytes: a damaged archive must not fill the memory with a name.
const DESCRIPTION_MAX: u64 = 1024 * 1024;
/// Bytes that show how a file is compressed.
const HEAD: usize = 6;
/// How compressed files begin, and what compressed them.
const COMPRESSED: [(&[u8], &str); 5] = [
    (&[0x1f, 0x8b], "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ", "xz"),
    (b"BZh", "bzip2"),
    (b"PK\x03\x04", "zip"),
];

/// A file of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path in the archive, without `./` before it.
    pub name: String,
    /// Where it begins in the archive, with all that describes it, in bytes.
    pub start: u64,
    /// Where its contents are, in bytes.
    pub contents: Range<u64>,
}

/// Reads an archive, or with `is_part` some consecutive files of one; returns where its last file ends, in bytes.
///
/// # Errors
/// Why it cannot be a pack, as a phrase after "the archive".
pub fn read(archive: impl Read, is_part: bool, found: impl FnMut(File)) -> Result<u64, String> {
    let limit = Cell::new(DESCRIPTION_MAX);
    let mut input = Input { inner: archive, bytes: 0, limit: &limit, head: Vec::new() };
    let (mut end, mut last) = (0, None);
    let ended = read_entries(&mut input, &limit, &mut end, &mut last, found);
    let cut_off = |last: &str| Err(format!("is cut off at {last:?}; submit a complete one"));
    match (ended, last) {
        (Err(Problem::Refused(why)), _) => Err(why),
        (Err(Problem::Damaged(error)), Some(last)) if error.to_string().contains("EOF") => cut_off(&last),
        (Err(Problem::Damaged(error)), Some(last)) => Err(format!("cannot be read after {last:?}: {error}")),
        (Err(Problem::Damaged(error)), None) => {
            match COMPRESSED.iter().find(|(head, _)| input.head.starts_with(head)) {
                Some((_, by)) => Err(format!("is compressed with {by}; decompress it, and submit it again")),
                None => Err(format!("is not a tar archive, or is cut off: {error}")),
            }
        }
        (Ok(()), None) => Err("has no files".to_owned()),
        // A complete archive ends with zeros, which were read.
        (Ok(()), Some(last)) if !is_part && input.bytes <= end => cut_off(&last),
        (Ok(()), Some(_)) => Ok(end),
    }
}

/// Reads entries, and notes the name of the last file and where it ends.
fn read_entries(
    input: &mut impl Read,
    limit: &Cell<u64>,
    end: &mut u64,
    last: &mut Option<String>,
    mut found: impl FnMut(File),
) -> Result<(), Problem> {
    let (mut names, hasher) = (HashSet::new(), RandomState::new());
    for entry in Archive::new(input).entries()? {
        let mut entry = entry?;
        let begin = entry.raw_file_position();
        limit.set(begin.saturating_add(entry.size()).saturating_add(DESCRIPTION_MAX));
        let mut extensions = entry.pax_extensions()?.into_iter().flatten().flatten();
        let is_sparse = extensions.any(|extension| extension.key_bytes().starts_with(b"GNU.sparse."));
        let (kind, path) = (entry.header().entry_type(), entry.path_bytes());
        // Old programs mark folders by their names alone.
        if kind.is_dir() || kind.is_pax_global_extensions() || (kind.is_file() && path.ends_with(b"/")) {
            continue;
        }
        let shown = String::from_utf8_lossy(&path);
        let refused = |why: String| Err(Problem::Refused(why));
        if is_sparse || !matches!(kind, EntryType::Regular | EntryType::Continuous) {
            let kind = if is_sparse { EntryType::GNUSparse } else { kind };
            return refused(format!("has {shown:?}, which is {}; a pack has regular files only", called(kind)));
        }
        let Ok(name) = std::str::from_utf8(&path) else {
            return refused(format!("has the file {shown:?}, whose name is not UTF-8"));
        };
        let name = name.trim_start_matches("./");
        if let Err(error) = names::check_file(name) {
            return refused(format!("has the file {shown:?}: {error}"));
        }
        if !names.insert(hasher.hash_one(name)) {
            return refused(format!("has two files with the name {name:?}"));
        }
        if names.len() > FILES_MAX as usize {
            return refused(format!("has more than {FILES_MAX} files; divide it into several"));
        }
        let (name, contents) = (name.to_owned(), begin..begin.saturating_add(entry.size()));
        let start = std::mem::replace(end, contents.end.next_multiple_of(BLOCK));
        *last = Some(name.clone());
        found(File { name, start, contents });
    }
    Ok(())
}

/// An entry that is no file, for people.
fn called(kind: EntryType) -> String {
    match kind {
        EntryType::Symlink => "a symbolic link".to_owned(),
        EntryType::Link => "a hard link to another file".to_owned(),
        EntryType::Char | EntryType::Block => "a device".to_owned(),
        EntryType::Fifo => "a named pipe".to_owned(),
        EntryType::GNUSparse => "a sparse file".to_owned(),
        other => format!("an entry of the type {:?}", char::from(other.as_byte())),
    }
}

/// Where the ranges of a pack begin in its archive, and the end of the last one, in bytes.
///
/// # Errors
/// As [`read`], and when the archive does not have the files that the pack describes.
pub fn starts(pack: &Pack, archive: impl Read) -> Result<Vec<u64>, String> {
    let (mut files, mut starts) = (0_u32, Vec::new());
    let end = read(archive, false, |file| {
        if files.is_multiple_of(pack.items_per_range) {
            starts.push(file.start);
        }
        files += 1;
    })?;
    if files != pack.items {
        return Err(format!("has {files} files, but the pack describes {}; submit it again", pack.items));
    }
    starts.push(end);
    Ok(starts)
}

/// Writes an archive that depends on these names and contents alone.
///
/// # Errors
/// When it cannot be written, or a file cannot be read.
pub fn write<C: AsRef<[u8]>>(
    archive: impl Write,
    files: impl IntoIterator<Item = io::Result<(String, C)>>,
) -> io::Result<()> {
    let mut builder = Builder::new(archive);
    for file in files {
        let (name, contents) = file?;
        let mut header = Header::new_gnu();
        header.set_size(contents.as_ref().len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        builder.append_data(&mut header, name, contents.as_ref())?;
    }
    builder.into_inner()?.flush()
}

enum Problem {
    /// It is an archive that cannot be a pack.
    Refused(String),
    /// It cannot be read.
    Damaged(io::Error),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Damaged(error)
    }
}

/// Counts bytes up to a limit, and keeps the first.
struct Input<'l, R> {
    inner: R,
    bytes: u64,
    limit: &'l Cell<u64>,
    head: Vec<u8>,
}

impl<R: Read> Read for Input<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.bytes > self.limit.get() {
            return Err(io::Error::other("the description of an entry is too long"));
        }
        let length = self.inner.read(into)?;
        self.bytes += length as u64;
        let missing = HEAD.saturating_sub(self.head.len()).min(length);
        self.head.extend(into.iter().take(missing));
        Ok(length)
    }
}

#[cfg(test)]
mod tests;
