//! Container images without a container daemon: what goes into one, how it becomes an OCI image, and how that gets into
//! a registry or an archive.
//!
//! An image is a function of its program, the catalogue's entry and the crates it was locked to: the same source gives
//! the same digest, whoever builds it, wherever and whenever.

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
