//! Container images without a container daemon: the files of an image, the OCI image that holds them, and its way into
//! a registry or an archive.
//!
//! An image is a function of its program, its entry in the catalogue and the locked crates: the same source and
//! compiler give the same digest on every machine.

mod archive;
mod assemble;
mod authorities;
mod blob;
mod catalogue;
mod layer;
mod program;
mod registry;
mod sbom;
mod source;
mod workspace;

pub use archive::{Archive, write as write_archive};
pub use assemble::{Image, Recipe, assemble};
pub use blob::Blob;
pub use catalogue::{CATALOGUE, Spec, find};
pub use layer::{Entry, Node};
pub use program::{LIBRARY_FOLDERS, Program};
pub use registry::{Login, Registry, RegistryError, docker_login};
pub use sbom::{Part, spdx};
pub use source::{LIMIT_BYTES, Source};
