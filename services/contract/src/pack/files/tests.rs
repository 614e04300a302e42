use proptest::prelude::*;

use super::*;
use crate::pack::{Format, Layout};

/// An archive of these files.
fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes, files.iter().cloned().map(Ok)).unwrap();
    bytes
}

fn file(name: &str, contents: &[u8]) -> (String, Vec<u8>) {
    (name.to_owned(), contents.to_vec())
}

/// Names and contents of the files in a part of an archive.
fn files(bytes: &[u8], is_part: bool) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut found = Vec::new();
    read(bytes, is_part, |file| found.push(file))?;
    let contents = |span: &Range<u64>| bytes[span.start as usize..span.end as usize].to_vec();
    Ok(found.into_iter().map(|file| (file.name, contents(&file.contents))).collect())
}

/// An archive whose only entry has this type and name.
fn entry(kind: EntryType, name: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    header.set_size(0);
    header.set_cksum();
    let mut builder = Builder::new(Vec::new());
    builder.append(&header, io::empty()).unwrap();
    builder.into_inner().unwrap()
}

#[track_caller]
fn check_refused(bytes: &[u8], expected: &str) {
    let why = files(bytes, false).unwrap_err();
    assert!(why.contains(expected), "{why}");
}

#[test]
fn files_are_found_with_their_names_and_folders_are_left_out() {
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    let mut builder = Builder::new(Vec::new());
    let mut folder = Header::new_gnu();
    folder.set_entry_type(EntryType::Directory);
    folder.set_size(0);
    builder.append_data(&mut folder, "d", io::empty()).unwrap();
    for (name, contents) in [("./a.json", "1"), (&long, ""), ("d/é", "three")] {
        let mut header = Header::new_ustar();
        if name.len() > 100 {
            builder.append_pax_extensions([("path", name.as_bytes()), ("mtime", b"1.5")]).unwrap();
        }
        header.set_size(contents.len() as u64);
        header.as_mut_bytes()[..name.len().min(100)].copy_from_slice(&name.as_bytes()[..name.len().min(100)]);
        header.set_cksum();
        builder.append(&header, contents.as_bytes()).unwrap();
    }
    let bytes = builder.into_inner().unwrap();
    assert_eq!(files(&bytes, false), Ok(vec![file("a.json", b"1"), file(&long, b""), file("d/é", b"three")]));
}

#[test]
fn what_cannot_be_a_pack_is_refused_with_the_reason() {
    for (kind, expected) in [
        (EntryType::Symlink, "has \"x\", which is a symbolic link; a pack has regular files only"),
        (EntryType::Link, "a hard link"),
        (EntryType::Char, "a device"),
        (EntryType::Fifo, "a named pipe"),
        (EntryType::new(b'V'), "an entry of the type 'V'"),
    ] {
        check_refused(&entry(kind, b"x"), expected);
    }
    let mut sparse = Builder::new(Vec::new());
    sparse.append_pax_extensions([("GNU.sparse.major", &b"1"[..])]).unwrap();
    let sparse = [sparse.into_inner().unwrap()[..1024].to_vec(), entry(EntryType::Regular, b"x")].concat();
    check_refused(&sparse, "a sparse file");
    for (name, expected) in [
        (&b"/etc/passwd"[..], "has the file \"/etc/passwd\": the name of a file has no empty"),
        (b"../x", "'..'"),
        (b"a\x1b[2J", "no control characters"),
        (b"\xff", "is not UTF-8"),
    ] {
        check_refused(&entry(EntryType::Regular, name), expected);
    }
    check_refused(&archive(&[file("n", b""), file(&"n".repeat(1025), b"")]), "1 to 1024 bytes");
    check_refused(&archive(&[file("a", b"1"), file("b", b"2"), file("a", b"3")]), "two files with the name \"a\"");
    check_refused(&archive(&[]), "has no files");
    check_refused(&entry(EntryType::Directory, b"d/"), "has no files");
    check_refused(&entry(EntryType::Regular, b"d/"), "has no files");
    check_refused(b"", "has no files");
    check_refused(b"{}\n", "is not a tar archive, or is cut off");
    check_refused(&[b'{'; 1024], "is not a tar archive");
    check_refused(b"\x1f\x8b\x08rest", "is compressed with gzip; decompress it");
    check_refused(&[&b"\x28\xb5\x2f\xfd"[..], &[7; 1024]].concat(), "is compressed with zstd");
    let mut long = Builder::new(Vec::new());
    long.append_pax_extensions([("comment", &vec![b'x'; 3_000_000][..])]).unwrap();
    check_refused(&long.into_inner().unwrap(), "the description of an entry is too long");
    let mut damaged = archive(&[file("a", b"1"), file("b", b"2")]);
    damaged[1024] ^= 1;
    check_refused(&damaged, "cannot be read after \"a\": archive header checksum mismatch");
}

fn some_files() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let name = "[a-zé]{1,9}(/[a-z ]{1,60}){0,3}";
    let contents = prop::collection::vec(any::<u8>(), 0..1200);
    prop::collection::btree_map(name, contents, 1..9).prop_map(|files| files.into_iter().collect())
}

proptest! {
    /// Every range of a pack has its files in its part of the archive.
    #[test]
    fn the_ranges_of_an_archive_have_its_files(expected in some_files(), items_per_range in 1u32..5) {
        let bytes = archive(&expected);
        prop_assert_eq!(files(&bytes, false), Ok(expected.clone()));
        let items = u32::try_from(expected.len()).unwrap();
        let pack = Pack { format: Format::Files, items, items_per_range, rows_per_item: 1 };
        let layout = Layout { starts: starts(&pack, &bytes[..]).unwrap(), pack: pack.clone() };
        for first in pack.ranges() {
            let span = layout.span(first).unwrap();
            let part = &bytes[span.offset as usize..(span.offset + span.length) as usize];
            let range = pack.range(first).unwrap();
            prop_assert_eq!(files(part, true), Ok(expected[range.start as usize..range.end as usize].to_vec()));
        }
        let more = Pack { items: items + 1, ..pack };
        prop_assert!(starts(&more, &bytes[..]).unwrap_err().contains("but the pack describes"));
    }

    /// An archive that is cut off anywhere is refused; only the zeros at its end may miss in part.
    #[test]
    fn an_archive_that_is_cut_off_is_refused(expected in some_files(), at in any::<prop::sample::Index>()) {
        let bytes = archive(&expected);
        let end = bytes.len() - 1024;
        let cut = &bytes[..at.index(end + 1)];
        prop_assert!(files(cut, false).is_err());
        prop_assert_eq!(files(&bytes[..end + 512], false), Ok(expected));
    }

    /// Any bytes are read to a result.
    #[test]
    fn any_bytes_have_a_result(expected in some_files(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)) {
        let mut bytes = archive(&expected);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(found) = files(&bytes, false) {
            prop_assert!(found.len() <= expected.len());
        }
    }
}
