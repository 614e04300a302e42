//! One layer: a compressed tar file, which is the same for the same files.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
};

use flate2::{Compression, GzBuilder};
use oci_spec::image::MediaType;

use crate::blob::{Blob, sha256};

/// A node of the file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A folder.
    Folder,
    /// A file.
    File(Vec<u8>),
    /// A symbolic link to this path.
    Link(String),
}

/// A file, folder or link of an image; everything belongs to root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path without a leading slash.
    pub path: String,
    /// Permissions.
    pub mode: u32,
    /// Its node.
    pub node: Node,
}

impl Entry {
    /// A file that everybody may read.
    pub fn file(path: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), mode: 0o644, node: Node::File(content.into()) }
    }

    /// A program that everybody may run.
    pub fn program(path: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), mode: 0o755, node: Node::File(content.into()) }
    }

    /// A folder.
    pub fn folder(path: impl Into<String>, mode: u32) -> Self {
        Self { path: path.into(), mode, node: Node::Folder }
    }
}

/// A layer, ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) blob: Blob,
    /// Digest of the tar file before it was compressed.
    pub(crate) diff_id: String,
    /// Bytes of the files in it.
    pub(crate) size: u64,
}

impl Layer {
    /// Packs these, and the folders above them.
    pub(crate) fn pack(entries: Vec<Entry>) -> io::Result<Self> {
        let mut all: BTreeMap<String, (u32, Node)> = BTreeMap::new();
        for entry in entries {
            for (slash, _) in entry.path.match_indices('/') {
                all.entry(entry.path[..slash].to_owned()).or_insert((0o755, Node::Folder));
            }
            all.insert(entry.path, (entry.mode, entry.node));
        }
        let size = all.values().map(|(_, node)| if let Node::File(content) = node { content.len() as u64 } else { 0 });
        let size = size.sum();
        let tar = tar(&all)?;
        let diff_id = sha256(&tar);
        Ok(Self { blob: Blob::new(MediaType::ImageLayerGzip, gzip(&tar)?), diff_id, size })
    }
}

fn tar(all: &BTreeMap<String, (u32, Node)>) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, (mode, node)) in all {
        let mut header = tar::Header::new_gnu();
        header.set_mode(*mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        match node {
            Node::Folder => {
                header.set_entry_type(tar::EntryType::Directory);
                tar.append_data(&mut header, format!("{path}/"), io::empty())?;
            }
            Node::File(content) => {
                header.set_size(content.len() as u64);
                tar.append_data(&mut header, path, content.as_slice())?;
            }
            Node::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                tar.append_link(&mut header, path, target)?;
            }
        }
    }
    tar.into_inner()
}

/// Compresses without a time and without a name of this system.
pub(crate) fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut packer = GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::default());
    packer.write_all(bytes)?;
    packer.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn the_same_files_are_the_same_layer_in_any_order() {
        let files = [
            Entry::file("etc/passwd", "nobody"),
            Entry::program("usr/bin/tool", "program"),
            Entry::folder("tmp", 0o1777),
            Entry { path: "lib".to_owned(), mode: 0o777, node: Node::Link("usr/lib".to_owned()) },
        ];
        let layer = Layer::pack(files.to_vec()).unwrap();
        let reversed = Layer::pack(files.iter().rev().cloned().collect()).unwrap();
        assert_eq!(layer.blob, reversed.blob);
        assert_eq!(layer.size, 13);
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(layer.blob.bytes.as_slice()).read_to_end(&mut bytes).unwrap();
        assert_eq!(sha256(&bytes), layer.diff_id);
        let mut tar = tar::Archive::new(bytes.as_slice());
        let found: Vec<_> = tar
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                assert_eq!((header.uid().unwrap(), header.mtime().unwrap()), (0, 0));
                (entry.path().unwrap().display().to_string(), header.mode().unwrap())
            })
            .collect();
        let expected = [
            ("etc/", 0o755),
            ("etc/passwd", 0o644),
            ("lib", 0o777),
            ("tmp/", 0o1777),
            ("usr/", 0o755),
            ("usr/bin/", 0o755),
            ("usr/bin/tool", 0o755),
        ];
        assert_eq!(found, expected.map(|(path, mode)| (path.to_owned(), mode)));
    }
}
